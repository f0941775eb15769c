//! Is a batch that is not good in every part refused, and changes nothing?

use c2c::relay::{About, Relay, Request, Step};
use c2c::wire::{Batch, Cursor, Item, batch::Compression, cursor::Digest};
use c2c_log_format::Payload;
use c2c_log_format::checksum::crc32;
use c2c_log_format::payload::{MessageSent, Target};
use serde_json::{Value, json};

use super::crash::chance;
use tempfile::TempDir;

const LOG: [u8; 16] = [7; 16];
const HEADER_BYTES: usize = 128;
/// Mutations of each kind, the same ones each time.
const MUTATIONS: usize = 4_000;

fn message(sequence: u64) -> Item {
    let sent = Payload::MessageSent(MessageSent {
        message_id: format!("m-{sequence}"),
        from: "ann".into(),
        from_mailbox: "ann".into(),
        to: "bob@two".into(),
        body: format!("text {sequence}"),
        sent_us: 5,
        target: Target::Outbox { alias: "bob".into(), host: "two".into() },
        tag: None,
        reply_to: None,
        expires_us: None,
        deferrable: false,
        source: None,
        origin: None,
    });
    Item::new(LOG, sequence, 7, &sent)
}

fn batch(after: Cursor, sequences: std::ops::Range<u64>) -> Batch {
    let mut batch = Batch::after(after);
    for sequence in sequences {
        let item = message(sequence);
        let place = item.origin();
        batch.push(item, place);
    }
    batch
}

/// A relay where credentials are ignored: what keeps a bad batch out is the batch itself.
struct Desk {
    relay: Relay,
    _dir: TempDir,
}

impl Desk {
    fn open() -> Self {
        let (broker, dir) = super::broker_inside();
        let about = About { storage: "memory", names: vec!["relay".into()], ..About::default() };
        let relay = Relay::new(broker, None, None, about, 0).expect("a relay");
        let mut desk = Self { relay, _dir: dir };
        for (alias, node) in [("ann", "one"), ("bob", "two")] {
            let body = json!({ "node_id": node, "session_id": alias, "alias": alias,
                "replicated": true });
            assert_eq!(desk.ask("/register", body.to_string().into_bytes()).0, 200);
        }
        desk
    }

    fn ask(&mut self, target: &str, body: Vec<u8>) -> (u16, Value) {
        let request =
            Request { method: "POST".into(), target: target.into(), body, ..Request::default() };
        match self.relay.answer(request, "") {
            Step::Answer(answer) => {
                (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
            }
            Step::Wait(_) => panic!("{target} waits"),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> (u16, Value) {
        self.ask("/push?node_id=one", bytes.to_vec())
    }

    /// Pushes what must be refused with a code, and leaves the log as it is.
    fn refuses(&mut self, bytes: &[u8], what: &str) {
        let before = self.relay.head();
        let (status, answer) = self.push(bytes);
        let code = answer["error_code"].as_str().unwrap_or_default();
        assert!((400..500).contains(&status) && !code.is_empty(), "{what}: {status} {answer}");
        assert_eq!(self.relay.head(), before, "{what}");
    }
}

/// Puts the checksums right, as somebody with bad intent would.
fn reseal(bytes: &mut [u8]) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    let content = crc32(&bytes[HEADER_BYTES..]).to_le_bytes();
    bytes[120..124].copy_from_slice(&content);
    let header = crc32(&bytes[..124]).to_le_bytes();
    bytes[124..128].copy_from_slice(&header);
}

#[test]
fn a_mutated_or_cut_batch_is_refused_and_the_good_one_taken_after_all() {
    super::on_each_store(|| {
        let mut desk = Desk::open();
        let mut seed = 1;
        for compression in [Compression::None, Compression::Zstd] {
            let good = batch(Cursor::start(LOG), 1..6).encode(compression).expect("a batch");
            for round in 0..MUTATIONS {
                let mut bytes = good.clone();
                match chance(&mut seed) % 4 {
                    0 => bytes.truncate(chance(&mut seed) as usize % good.len()),
                    1 => bytes.push(chance(&mut seed) as u8),
                    _ => {
                        for _ in 0..=chance(&mut seed) % 3 {
                            let at = chance(&mut seed) as usize % bytes.len();
                            bytes[at] ^= 1 << (chance(&mut seed) % 8);
                        }
                    }
                }
                if bytes != good {
                    desk.refuses(&bytes, &format!("{compression:?} {round}"));
                }
            }
        }
        let good = batch(Cursor::start(LOG), 1..6).encode(Compression::None).expect("a batch");
        assert_eq!(desk.push(&good).0, 200);
    });
}

#[test]
fn a_batch_mutated_under_good_checksums_brings_no_event_that_nobody_wrote() {
    let mut seed = 2;
    let good = batch(Cursor::start(LOG), 1..6).encode(Compression::None).expect("a batch");
    let mut taken = 0;
    for round in 0..MUTATIONS {
        let mut bytes = good.clone();
        let at = chance(&mut seed) as usize % bytes.len();
        bytes[at] ^= 1 << (chance(&mut seed) % 8);
        reseal(&mut bytes);
        let mut desk = Desk::open();
        let before = desk.relay.head();
        let (status, answer) = desk.push(&bytes);
        if status == 200 {
            // Only the header's places can differ and be believed: whose log it is, and how far.
            taken += 1;
            assert!(at < HEADER_BYTES, "{round}: byte {at} {answer}");
        } else {
            assert!(!answer["error_code"].as_str().unwrap_or_default().is_empty(), "{answer}");
            assert_eq!(desk.relay.head(), before, "{round}: byte {at}");
        }
    }
    assert!(taken < MUTATIONS / 4, "{taken}");
}

#[test]
fn a_replayed_reordered_or_foreign_batch_is_refused() {
    super::on_each_store(|| {
        let mut desk = Desk::open();
        let first = batch(Cursor::start(LOG), 1..4);
        let bytes = first.encode(Compression::None).expect("a batch");
        assert_eq!(desk.push(&bytes).0, 200);
        desk.refuses(&bytes, "a replay");
        let later = batch(message(9).origin(), 10..12).encode(Compression::None).expect("a batch");
        desk.refuses(&later, "a batch that comes too early");
        // The same place with another event there.
        let other = Cursor { digest: Digest([9; 32]), ..first.upto() };
        let forged = batch(other, 4..6).encode(Compression::None).expect("a batch");
        desk.refuses(&forged, "another past");
        // An event of a log that the batch was not read from.
        let mut foreign = Batch::after(first.upto());
        let item = Item { log: [8; 16], ..message(4) };
        foreign.push(item, message(4).origin());
        desk.refuses(&foreign.encode(Compression::None).expect("a batch"), "a foreign event");
        let next = batch(first.upto(), 4..6).encode(Compression::Zstd).expect("a batch");
        assert_eq!(desk.push(&next).0, 200);
    });
}
