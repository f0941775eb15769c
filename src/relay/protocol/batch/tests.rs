//! Tests of the batch encoding: a batch is decoded exactly as encoded, or rejected.

use c2c_log_format::Payload;
use c2c_log_format::payload::{MessageSent, SessionHeartbeat, Target};
use quickcheck::{Arbitrary, Gen};

use super::*;
use crate::platform::test_seed::check;

const LOG: [u8; 16] = [7; 16];
const OTHER: [u8; 16] = [9; 16];

fn item(log: [u8; 16], sequence: u64, text: &str) -> WireItem {
    let sent = Payload::MessageSent(MessageSent {
        from_mailbox: "alice".into(),
        sent_us: 5,
        ..MessageSent::new(
            format!("m-{sequence}"),
            "alice",
            "bob@there",
            Target::Outbox { alias: "bob".into(), host: "there".into() },
            text,
        )
    });
    WireItem::new(log, sequence, 1_700_000_000_000_000, &sent)
}

/// The same item with another sequence and a matching digest.
fn with_sequence(item: &WireItem, sequence: u64) -> WireItem {
    with_digest(WireItem { head: EventHead { sequence, ..item.head }, ..item.clone() })
}

fn with_digest(item: WireItem) -> WireItem {
    let event = Event { head: item.head, payload: &item.payload };
    WireItem { digest: Digest::of(&event, item.time_us), ..item }
}

fn sample() -> WireBatch {
    let mut batch = WireBatch::after(WireCursor { log: LOG, sequence: 3, digest: Digest([3; 32]) });
    let own = item(LOG, 5, "one");
    batch.push(own.clone(), own.origin());
    let foreign = item(OTHER, 900, "relayed");
    batch.push(foreign, WireCursor { log: LOG, sequence: 6, digest: Digest([6; 32]) });
    let own = item(LOG, 8, &"long ".repeat(9));
    batch.push(own.clone(), own.origin());
    batch
}

fn encode_both(batch: &WireBatch) -> [Vec<u8>; 2] {
    [Compression::None, Compression::Zstd]
        .map(|compression| batch.encode(compression).expect("encoded"))
}

/// Recomputes both checksums, as an attacker would.
fn reseal(bytes: &mut [u8]) {
    let content = crc32(&bytes[HEADER_BYTES..]);
    put(bytes, 120, &content.to_le_bytes());
    let header = crc32(&bytes[..124]);
    put(bytes, 124, &header.to_le_bytes());
}

#[test]
fn batches_round_trip_with_and_without_compression() {
    let [plain, compressed] = encode_both(&sample());
    assert!(compressed.len() < plain.len(), "{} {}", compressed.len(), plain.len());
    for bytes in [plain, compressed] {
        assert_eq!(WireBatch::decode(&bytes), Ok(sample()));
    }
    let empty = WireBatch::after(WireCursor::start(LOG));
    for bytes in encode_both(&empty) {
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(WireBatch::decode(&bytes), Ok(empty.clone()));
    }
}

#[test]
fn truncated_and_overlong_batches_are_rejected() {
    for bytes in encode_both(&sample()) {
        for cut in 0..bytes.len() {
            assert!(WireBatch::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let longer = [bytes, vec![0]].concat();
        assert_eq!(WireBatch::decode(&longer), Err(BatchError::Length));
    }
}

#[test]
fn a_batch_with_a_flipped_bit_is_rejected() {
    for mut bytes in encode_both(&sample()) {
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(WireBatch::decode(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_flipped_bit_under_valid_checksums_never_changes_an_event() {
    let mut bytes = encode_both(&sample())[0].clone();
    for bit in HEADER_BYTES * 8..bytes.len() * 8 {
        let mut forged = bytes.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        reseal(&mut forged);
        // Only the log id of an item has no second check; keys decide who may name which log.
        if let Ok(batch) = WireBatch::decode(&forged) {
            let same = |(left, right): (&WireItem, &WireItem)| {
                (&left.head, &left.payload, left.time_us)
                    == (&right.head, &right.payload, right.time_us)
            };
            assert!(batch.items().iter().zip(sample().items()).all(same), "bit {bit}");
        }
    }
    // The same for the fields of the header.
    for bit in 0..124 * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        reseal(&mut bytes);
        if let Ok(batch) = WireBatch::decode(&bytes) {
            assert_eq!(batch.items(), sample().items(), "bit {bit}");
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn events_out_of_order_or_beyond_the_end_are_rejected() {
    let good = sample();
    let assert_rejected = |change: &dyn Fn(&mut WireBatch)| {
        let mut batch = good.clone();
        change(&mut batch);
        for bytes in encode_both(&batch) {
            assert!(matches!(WireBatch::decode(&bytes), Err(BatchError::Order(_))));
        }
    };
    assert_rejected(&|batch| batch.items.swap(0, 2));
    assert_rejected(&|batch| batch.items[2] = with_sequence(&batch.items[2], 9));
    assert_rejected(&|batch| batch.end.sequence = 2);
    assert_rejected(&|batch| batch.items[0] = with_sequence(&batch.items[0], 9));
    assert_rejected(&|batch| batch.end = batch.start);
    assert_rejected(&|batch| batch.end = WireCursor { digest: Digest([1; 32]), ..batch.start });
}

#[test]
fn retried_events_and_several_items_of_one_event_are_accepted() {
    let mut batch = sample();
    batch.items.insert(0, item(LOG, 2, "retried"));
    batch.items.insert(2, item(LOG, 5, "derived from the same event"));
    for bytes in encode_both(&batch) {
        assert_eq!(WireBatch::decode(&bytes).expect("a batch").items(), batch.items());
    }
}

#[test]
fn records_swapped_under_valid_checksums_are_rejected() {
    let bytes = encode_both(&sample())[0].clone();
    let first = sample().items[0].record_bytes();
    let second = sample().items[1].record_bytes();
    let content = &bytes[HEADER_BYTES..];
    let mut swapped = [
        &bytes[..HEADER_BYTES],
        &content[first..first + second],
        &content[..first],
        &content[first + second..],
    ]
    .concat();
    reseal(&mut swapped);
    assert!(matches!(WireBatch::decode(&swapped), Err(BatchError::Order(_))));
}

#[test]
fn a_small_batch_cannot_decompress_into_a_large_one() {
    let bomb = zstd::bulk::compress(&vec![0; 64 * 1024 * 1024], 3).expect("compressed");
    let mut header = encode_both(&sample())[1][..HEADER_BYTES].to_vec();
    put(&mut header, 112, &(bomb.len() as u32).to_le_bytes());
    for (claimed, expected) in [
        (64 * 1024 * 1024, BatchError::TooLarge),
        (u32::MAX, BatchError::TooLarge),
        (1024, BatchError::Compression),
    ] {
        put(&mut header, 116, &claimed.to_le_bytes());
        let mut bytes = [header.clone(), bomb.clone()].concat();
        reseal(&mut bytes);
        assert_eq!(WireBatch::decode(&bytes), Err(expected), "{claimed}");
    }
}

#[test]
fn a_batch_is_full_when_it_reaches_its_target_size() {
    let mut batch = WireBatch::after(WireCursor::start(LOG));
    while !batch.is_full() {
        let next = item(LOG, batch.end().sequence + 1, &"x".repeat(100_000));
        batch.push(next.clone(), next.origin());
    }
    assert!(batch.items().len() <= REPLICATION_BYTES / 100_000 + 1);
    let bytes = batch.encode(Compression::None).expect("encoded");
    assert_eq!(bytes.len(), HEADER_BYTES + batch.bytes);
    // The largest message still fits into a nearly full batch, even if all of it is escaped.
    let large = "\u{1}".repeat(c2c_core::limits::BODY_BYTES_MAX);
    let next = item(LOG, batch.end().sequence + 1, &large);
    batch.push(next.clone(), next.origin());
    let bytes = batch.encode(Compression::Zstd).expect("encoded");
    assert_eq!(WireBatch::decode(&bytes).expect("decoded"), batch);
}

/// Arbitrary events of one log, some of which are not replicated.
#[derive(Debug, Clone)]
struct Events(Vec<(u8, String)>);

impl Arbitrary for Events {
    fn arbitrary(g: &mut Gen) -> Self {
        Self(Arbitrary::arbitrary(g))
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        Box::new(self.0.shrink().map(Self))
    }
}

impl Events {
    fn batch(&self) -> WireBatch {
        let mut batch = WireBatch::after(WireCursor::start(LOG));
        for (choice, text) in &self.0 {
            let sequence = batch.end().sequence + 1;
            let heartbeat = Payload::SessionHeartbeat(SessionHeartbeat {
                session_id: text.clone(),
                mailbox: text.clone(),
            });
            let mut next = item(LOG, sequence, text);
            match choice % 4 {
                0 => next.payload = heartbeat.encode(),
                // An unknown kind is replicated like any other.
                1 => next.head.kind = 60_000 + u16::from(*choice),
                2 => {
                    batch.skip_to(next.origin());
                    continue;
                }
                _ => {}
            }
            let next = with_digest(next);
            batch.push(next.clone(), next.origin());
        }
        batch
    }
}

#[test]
fn arbitrary_batches_round_trip() {
    fn property(events: Events) -> bool {
        let batch = events.batch();
        encode_both(&batch).iter().all(|bytes| WireBatch::decode(bytes).as_ref() == Ok(&batch))
    }
    check(property as fn(Events) -> bool);
}

#[test]
fn arbitrary_bytes_never_panic_the_decoder() {
    fn property(bytes: Vec<u8>, events: Events, at: usize) -> bool {
        let _ = WireBatch::decode(&bytes);
        // The same below a valid header and valid checksums.
        let batch = events.batch();
        let mut forged = encode_both(&batch)[0].clone();
        let at = HEADER_BYTES + at % (forged.len() - HEADER_BYTES + 1);
        let end = (at + bytes.len()).min(forged.len());
        forged[at..end].copy_from_slice(&bytes[..end - at]);
        reseal(&mut forged);
        WireBatch::decode(&forged).map_or(true, |decoded| decoded.items.len() == batch.items.len())
    }
    check(property as fn(Vec<u8>, Events, usize) -> bool);
}
