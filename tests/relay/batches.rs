//! Invalid batches: a relay rejects each one and changes nothing.

use c2c::relay::protocol::{WireBatch, WireCursor, WireItem, batch::Compression, cursor::Digest};
use c2c::relay::server::{RelayProfile, RelayRequest, RelayService, Step};
use c2c_log_format::Payload;
use c2c_log_format::checksum::crc32;
use c2c_log_format::payload::{MessageSent, Target};
use serde_json::{Value, json};

use tempfile::TempDir;

use crate::harness::runs_slow;
use crate::support::random::{Random, seed};

const LOG: [u8; 16] = [7; 16];
const HEADER_BYTES: usize = 128;

/// Mutations of a batch in one test.
fn mutations() -> usize {
    if runs_slow() { 4_000 } else { 500 }
}

fn message(sequence: u64) -> WireItem {
    let sent = Payload::MessageSent(MessageSent {
        from_mailbox: "ann".into(),
        sent_us: 5,
        ..MessageSent::new(
            format!("m-{sequence}"),
            "ann",
            "bob@two",
            Target::Outbox { alias: "bob".into(), host: "two".into() },
            format!("text {sequence}"),
        )
    });
    WireItem::new(LOG, sequence, 7, &sent)
}

fn batch(after: WireCursor, sequences: std::ops::Range<u64>) -> WireBatch {
    let mut batch = WireBatch::after(after);
    for sequence in sequences {
        let item = message(sequence);
        let place = item.origin();
        batch.push(item, place);
    }
    batch
}

/// A relay that ignores credentials: only its content can make it reject a batch.
struct InProcessRelay {
    relay: RelayService,
    _dir: TempDir,
}

impl InProcessRelay {
    fn open() -> Self {
        let (broker, dir) = super::broker_in_process();
        let about = RelayProfile {
            storage: "memory",
            names: vec!["relay".into()],
            ..RelayProfile::default()
        };
        let relay = RelayService::new(broker, None, None, about, 0).expect("a relay");
        let mut server = Self { relay, _dir: dir };
        for (alias, node) in [("ann", "one"), ("bob", "two")] {
            let body = json!({ "node_id": node, "session_id": alias, "alias": alias,
                "replicated": true });
            assert_eq!(server.request("/register", body.to_string().into_bytes()).0, 200);
        }
        server
    }

    fn request(&mut self, target: &str, body: Vec<u8>) -> (u16, Value) {
        let request = RelayRequest {
            method: "POST".into(),
            target: target.into(),
            body,
            ..RelayRequest::default()
        };
        match self.relay.answer(request, "") {
            Step::Answer(answer) => {
                (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
            }
            Step::Pending(_) => panic!("the request to {target} is pending"),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> (u16, Value) {
        self.request("/push?node_id=one", bytes.to_vec())
    }

    /// Pushes a batch that must be rejected with an error code and leave the log unchanged.
    fn rejects(&mut self, bytes: &[u8], what: &str) {
        let before = self.relay.head();
        let (status, answer) = self.push(bytes);
        let code = answer["error_code"].as_str().unwrap_or_default();
        assert!((400..500).contains(&status) && !code.is_empty(), "{what}: {status} {answer}");
        assert_eq!(self.relay.head(), before, "{what}");
    }
}

/// Recomputes the checksums, as an attacker would.
fn reseal(bytes: &mut [u8]) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    let content = crc32(&bytes[HEADER_BYTES..]).to_le_bytes();
    bytes[120..124].copy_from_slice(&content);
    let header = crc32(&bytes[..124]).to_le_bytes();
    bytes[124..128].copy_from_slice(&header);
}

fn a_mutated_or_truncated_batch_is_rejected_and_the_valid_one_accepted_later() {
    super::on_each_store(|| {
        let mut server = InProcessRelay::open();
        let mut random = Random::new(seed("relay::batches", 1));
        for compression in [Compression::None, Compression::Zstd] {
            let good = batch(WireCursor::start(LOG), 1..6).encode(compression).expect("a batch");
            for round in 0..mutations() {
                let mut bytes = good.clone();
                match random.below(4) {
                    0 => bytes.truncate(random.below(good.len())),
                    1 => bytes.push(random.below(256) as u8),
                    _ => {
                        for _ in 0..=random.below(3) {
                            let at = random.below(bytes.len());
                            bytes[at] ^= 1 << (random.below(8));
                        }
                    }
                }
                if bytes != good {
                    server.rejects(&bytes, &format!("{compression:?} {round}"));
                }
            }
        }
        let good = batch(WireCursor::start(LOG), 1..6).encode(Compression::None).expect("a batch");
        assert_eq!(server.push(&good).0, 200);
    });
}

fn a_mutated_batch_with_valid_checksums_adds_no_forged_event() {
    let mut random = Random::new(seed("relay::batches", 2));
    let good = batch(WireCursor::start(LOG), 1..6).encode(Compression::None).expect("a batch");
    let mut accepted = 0;
    for round in 0..mutations() {
        let mut bytes = good.clone();
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << (random.below(8));
        reseal(&mut bytes);
        let mut server = InProcessRelay::open();
        let before = server.relay.head();
        let (status, answer) = server.push(&bytes);
        if status == 200 {
            // Only fields of the header can change unnoticed: the log id and the positions.
            accepted += 1;
            assert!(at < HEADER_BYTES, "{round}: byte {at} {answer}");
        } else {
            assert!(!answer["error_code"].as_str().unwrap_or_default().is_empty(), "{answer}");
            assert_eq!(server.relay.head(), before, "{round}: byte {at}");
        }
    }
    assert!(accepted < mutations() / 4, "{accepted}");
}

fn a_replayed_reordered_or_foreign_batch_is_rejected() {
    super::on_each_store(|| {
        let mut server = InProcessRelay::open();
        let first = batch(WireCursor::start(LOG), 1..4);
        let bytes = first.encode(Compression::None).expect("a batch");
        assert_eq!(server.push(&bytes).0, 200);
        server.rejects(&bytes, "a replay");
        let later = batch(message(9).origin(), 10..12).encode(Compression::None).expect("a batch");
        server.rejects(&later, "a batch beyond the next position");
        // The same position with another event.
        let other = WireCursor { digest: Digest([9; 32]), ..first.end() };
        let forged = batch(other, 4..6).encode(Compression::None).expect("a batch");
        server.rejects(&forged, "another history");
        // An event of a log that the batch was not read from.
        let mut foreign = WireBatch::after(first.end());
        let item = WireItem { log: [8; 16], ..message(4) };
        foreign.push(item, message(4).origin());
        server.rejects(&foreign.encode(Compression::None).expect("a batch"), "a foreign event");
        let next = batch(first.end(), 4..6).encode(Compression::Zstd).expect("a batch");
        assert_eq!(server.push(&next).0, 200);
    });
}

crate::harness::tests! {
    fast:
        a_mutated_or_truncated_batch_is_rejected_and_the_valid_one_accepted_later,
        a_mutated_batch_with_valid_checksums_adds_no_forged_event,
        a_replayed_reordered_or_foreign_batch_is_rejected;
}
