//! Does a batch arrive whole or not at all?

use c2c_log_format::Payload;
use c2c_log_format::payload::{MessageSent, SessionHeartbeat, Target};
use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::*;

const LOG: [u8; 16] = [7; 16];
const OTHER: [u8; 16] = [9; 16];

fn item(log: [u8; 16], sequence: u64, text: &str) -> Item {
    let sent = Payload::MessageSent(MessageSent {
        message_id: format!("m-{sequence}"),
        from: "alice".into(),
        from_mailbox: "alice".into(),
        to: "bob@there".into(),
        body: text.into(),
        sent_us: 5,
        target: Target::Outbox { alias: "bob".into(), host: "there".into() },
        tag: None,
        reply_to: None,
        expires_us: None,
        deferrable: false,
        source: None,
        origin: None,
    });
    Item::new(log, sequence, 1_700_000_000_000_000, &sent)
}

/// An item under another sequence, as if it had been so from the start.
fn moved(item: &Item, sequence: u64) -> Item {
    stamped(Item { head: EventHead { sequence, ..item.head }, ..item.clone() })
}

fn stamped(item: Item) -> Item {
    let event = Event { head: item.head, payload: &item.payload };
    Item { digest: Digest::of(&event, item.time_us), ..item }
}

fn sample() -> Batch {
    let mut batch = Batch::after(Cursor { log: LOG, sequence: 3, digest: Digest([3; 32]) });
    let own = item(LOG, 5, "one");
    batch.push(own.clone(), own.origin());
    let foreign = item(OTHER, 900, "relayed");
    batch.push(foreign, Cursor { log: LOG, sequence: 6, digest: Digest([6; 32]) });
    let own = item(LOG, 8, &"long ".repeat(9));
    batch.push(own.clone(), own.origin());
    batch
}

fn both(batch: &Batch) -> [Vec<u8>; 2] {
    [Compression::None, Compression::Zstd].map(|how| batch.encode(how).expect("encoded"))
}

/// Puts the two checksums right, as somebody with bad intent would.
fn reseal(bytes: &mut [u8]) {
    let content = crc32(&bytes[HEADER_BYTES..]);
    put(bytes, 120, &content.to_le_bytes());
    let header = crc32(&bytes[..124]);
    put(bytes, 124, &header.to_le_bytes());
}

#[test]
fn a_batch_reads_back_plain_and_compressed() {
    let [plain, packed] = both(&sample());
    assert!(packed.len() < plain.len(), "{} {}", packed.len(), plain.len());
    for bytes in [plain, packed] {
        assert_eq!(Batch::decode(&bytes), Ok(sample()));
    }
    let empty = Batch::after(Cursor::start(LOG));
    for bytes in both(&empty) {
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(Batch::decode(&bytes), Ok(empty.clone()));
    }
}

#[test]
fn a_cut_batch_is_refused_wherever_it_was_cut() {
    for bytes in both(&sample()) {
        for cut in 0..bytes.len() {
            assert!(Batch::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let longer = [bytes, vec![0]].concat();
        assert_eq!(Batch::decode(&longer), Err(BatchError::Length));
    }
}

#[test]
fn a_flipped_bit_refuses_the_batch() {
    for mut bytes in both(&sample()) {
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Batch::decode(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_flipped_bit_under_good_checksums_is_never_taken_for_the_event() {
    let mut bytes = both(&sample())[0].clone();
    for bit in HEADER_BYTES * 8..bytes.len() * 8 {
        let mut forged = bytes.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        reseal(&mut forged);
        // Only the log id of an origin has no second check; who may name it is a matter of keys.
        if let Ok(batch) = Batch::decode(&forged) {
            let same = |(one, other): (&Item, &Item)| {
                (&one.head, &one.payload, one.time_us)
                    == (&other.head, &other.payload, other.time_us)
            };
            assert!(batch.items().iter().zip(sample().items()).all(same), "bit {bit}");
        }
    }
    // The header's own numbers, under a good checksum.
    for bit in 0..124 * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        reseal(&mut bytes);
        if let Ok(batch) = Batch::decode(&bytes) {
            assert_eq!(batch.items(), sample().items(), "bit {bit}");
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn events_swapped_or_beyond_the_stretch_are_refused() {
    let good = sample();
    let refused = |change: &dyn Fn(&mut Batch)| {
        let mut batch = good.clone();
        change(&mut batch);
        for bytes in both(&batch) {
            assert!(matches!(Batch::decode(&bytes), Err(BatchError::Order(_))));
        }
    };
    refused(&|batch| batch.items.swap(0, 2));
    refused(&|batch| batch.items[2] = moved(&batch.items[2], 9));
    refused(&|batch| batch.upto.sequence = 2);
    refused(&|batch| batch.items[0] = moved(&batch.items[0], 9));
    refused(&|batch| batch.upto = batch.after);
    refused(&|batch| batch.upto = Cursor { digest: Digest([1; 32]), ..batch.after });
}

#[test]
fn an_event_that_waited_comes_again_and_one_may_leave_as_several() {
    let mut batch = sample();
    batch.items.insert(0, item(LOG, 2, "waited"));
    batch.items.insert(2, item(LOG, 5, "and what follows from it"));
    for bytes in both(&batch) {
        assert_eq!(Batch::decode(&bytes).expect("a batch").items(), batch.items());
    }
}

#[test]
fn records_swapped_under_good_checksums_are_refused() {
    let bytes = both(&sample())[0].clone();
    let first = sample().items[0].record_bytes();
    let second = sample().items[1].record_bytes();
    let content = &bytes[HEADER_BYTES..];
    let (one, two, rest) =
        (&content[..first], &content[first..first + second], &content[first + second..]);
    let mut swapped = [&bytes[..HEADER_BYTES], two, one, rest].concat();
    reseal(&mut swapped);
    assert!(matches!(Batch::decode(&swapped), Err(BatchError::Order(_))));
}

#[test]
fn a_small_batch_cannot_unpack_into_a_large_one() {
    let bomb = zstd::bulk::compress(&vec![0; 64 * 1024 * 1024], 3).expect("packed");
    let mut header = both(&sample())[1][..HEADER_BYTES].to_vec();
    put(&mut header, 112, &(bomb.len() as u32).to_le_bytes());
    for (claimed, expected) in [
        (64 * 1024 * 1024, BatchError::TooLarge),
        (u32::MAX, BatchError::TooLarge),
        (1024, BatchError::Compression),
    ] {
        put(&mut header, 116, &claimed.to_le_bytes());
        let mut bytes = [header.clone(), bomb.clone()].concat();
        reseal(&mut bytes);
        assert_eq!(Batch::decode(&bytes), Err(expected), "{claimed}");
    }
}

#[test]
fn a_batch_is_full_by_bytes_or_by_events() {
    let mut batch = Batch::after(Cursor::start(LOG));
    while !batch.is_full() {
        let next = item(LOG, batch.upto().sequence + 1, &"x".repeat(100_000));
        batch.push(next.clone(), next.origin());
    }
    assert!(batch.items().len() <= REPLICATION_BYTES / 100_000 + 1);
    let bytes = batch.encode(Compression::None).expect("encoded");
    assert_eq!(bytes.len(), HEADER_BYTES + batch.bytes);
    // The largest message, all of it escaped, still fits into a batch that is nearly full.
    let large = "\u{1}".repeat(crate::limits::BODY_BYTES_MAX);
    let next = item(LOG, batch.upto().sequence + 1, &large);
    batch.push(next.clone(), next.origin());
    let bytes = batch.encode(Compression::Zstd).expect("encoded");
    assert_eq!(Batch::decode(&bytes).expect("decoded"), batch);
}

/// Any run of events of one log, some of them left out.
#[derive(Debug, Clone)]
struct Stretch(Vec<(u8, String)>);

impl Arbitrary for Stretch {
    fn arbitrary(g: &mut Gen) -> Self {
        Self(Arbitrary::arbitrary(g))
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        Box::new(self.0.shrink().map(Self))
    }
}

impl Stretch {
    fn batch(&self) -> Batch {
        let mut batch = Batch::after(Cursor::start(LOG));
        for (what, text) in &self.0 {
            let sequence = batch.upto().sequence + 1;
            let heartbeat = Payload::SessionHeartbeat(SessionHeartbeat {
                session_id: text.clone(),
                mailbox: text.clone(),
            });
            let mut next = item(LOG, sequence, text);
            match what % 4 {
                0 => next.payload = heartbeat.encode(),
                // A kind that this program does not know travels all the same.
                1 => next.head.kind = 60_000 + u16::from(*what),
                2 => {
                    batch.pass(next.origin());
                    continue;
                }
                _ => {}
            }
            let next = stamped(next);
            batch.push(next.clone(), next.origin());
        }
        batch
    }
}

#[test]
fn whatever_is_sent_is_what_arrives() {
    fn property(stretch: Stretch) -> bool {
        let batch = stretch.batch();
        both(&batch).iter().all(|bytes| Batch::decode(bytes).as_ref() == Ok(&batch))
    }
    QuickCheck::new().quickcheck(property as fn(Stretch) -> bool);
}

#[test]
fn no_bytes_make_the_reader_panic() {
    fn property(bytes: Vec<u8>, stretch: Stretch, at: usize) -> bool {
        let _ = Batch::decode(&bytes);
        // The same below a good header and good checksums.
        let batch = stretch.batch();
        let mut forged = both(&batch)[0].clone();
        let at = HEADER_BYTES + at % (forged.len() - HEADER_BYTES + 1);
        let end = (at + bytes.len()).min(forged.len());
        forged[at..end].copy_from_slice(&bytes[..end - at]);
        reseal(&mut forged);
        Batch::decode(&forged).map_or(true, |read| read.items.len() == batch.items.len())
    }
    QuickCheck::new().quickcheck(property as fn(Vec<u8>, Stretch, usize) -> bool);
}
