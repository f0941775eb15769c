//! Damage tests: damaged bytes cost only the frames they are in, and never yield a wrong frame.

use c2c_log_format::event::events;
use c2c_log_format::frame::{NewFrame, Seal};
use c2c_log_format::limits::{FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use c2c_log_format::payload::{DndChanged, MessageSent, Payload, SessionHeartbeat, Target};
use c2c_log_format::scan::{FramePosition, ScanDamage, Scanned, Scanner};
use c2c_log_format::segment::{OpenReason, SegmentHeader};
use c2c_log_format::verdict::{Evidence, Verdict, judge};

const TIME_US: u64 = 1_700_000_000_000_000;
const FREE_BYTES: usize = 256;

/// A frame as written: its range, its sequences and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WrittenFrame {
    offset: usize,
    len: usize,
    sequence: u64,
    last: u64,
    body: Vec<u8>,
}

struct Sample {
    header: SegmentHeader,
    bytes: Vec<u8>,
    frames: Vec<WrittenFrame>,
}

fn message(n: u64, body: &str) -> Payload {
    Payload::MessageSent(MessageSent {
        from_mailbox: "alice".into(),
        sent_us: TIME_US + n,
        ..MessageSent::new(format!("m-{n}"), "alice", "bob", Target::Mailbox("bob".into()), body)
    })
}

fn batches() -> Vec<Vec<Payload>> {
    let heartbeat = Payload::SessionHeartbeat(SessionHeartbeat {
        session_id: "s".into(),
        mailbox: "bob".into(),
    });
    let dnd =
        Payload::DndChanged(DndChanged { mailbox: "bob".into(), on: true, until_us: Some(7) });
    vec![
        vec![message(1, "one")],
        vec![message(2, "two, longer than the first"), message(3, "three")],
        vec![heartbeat],
        vec![dnd],
        vec![message(6, "")],
        vec![message(7, "the last one")],
    ]
}

/// Creates a segment of six frames, followed by a seal or by zeros.
fn sample(sealed: bool) -> Sample {
    let header = SegmentHeader {
        log_id: [7; 16],
        base: 1,
        durable: 0,
        previous_base: 0,
        previous_digest: [0; 32],
        previous_frame: 0,
        salt: 0x5a17_5a17,
        created_us: TIME_US,
        boot_id: [9; 16],
        reason: OpenReason::First,
    };
    let mut bytes = header.encode().to_vec();
    let mut frames = Vec::new();
    let (mut sequence, mut previous_frame) = (1, 0);
    for batch in batches() {
        let mut body = Vec::new();
        for (at, payload) in (sequence..).zip(&batch) {
            payload.head(at).encode(&payload.encode(), &mut body);
        }
        let offset = bytes.len();
        let count = batch.len() as u16;
        previous_frame = NewFrame {
            sequence,
            time_us: TIME_US,
            count,
            durable: true,
            seal: false,
            durable_sequence: sequence - 1,
            previous_frame,
            body: &body,
        }
        .encode(header.salt, &mut bytes);
        let last = sequence + u64::from(count) - 1;
        frames.push(WrittenFrame { offset, len: bytes.len() - offset, sequence, last, body });
        sequence = last + 1;
    }
    if sealed {
        let seal = Seal {
            frames: frames.len() as u64,
            last: sequence - 1,
            from_us: TIME_US,
            to_us: TIME_US,
            digest: [3; 32],
        };
        let body = seal.encode();
        let offset = bytes.len();
        NewFrame {
            sequence,
            time_us: TIME_US,
            count: 0,
            durable: true,
            seal: true,
            durable_sequence: sequence - 1,
            previous_frame,
            body: &body,
        }
        .encode(header.salt, &mut bytes);
        let len = bytes.len() - offset;
        frames.push(WrittenFrame {
            offset,
            len,
            sequence,
            last: sequence - 1,
            body: body.to_vec(),
        });
    } else {
        bytes.resize(bytes.len() + FREE_BYTES, 0);
    }
    Sample { header, bytes, frames }
}

/// Scans a segment and returns its valid frames and its damage, checking every event on the way.
fn scan(bytes: &[u8], header: &SegmentHeader) -> (Vec<WrittenFrame>, Vec<ScanDamage>) {
    let position = FramePosition {
        offset: SEGMENT_HEADER_BYTES,
        sequence: header.base,
        previous_frame: header.previous_frame,
    };
    let rest = bytes.get(SEGMENT_HEADER_BYTES..).unwrap_or(&[]);
    let (mut frames, mut damages) = (Vec::new(), Vec::new());
    for (pieces, piece) in Scanner::new(rest, header.salt, position).enumerate() {
        assert!(pieces < 100, "the scan does not terminate");
        match piece {
            Scanned::Frame { offset, header, body } => {
                let events = events(body, header.sequence, header.count);
                let valid = events.filter(Result::is_ok).count();
                assert_eq!(
                    valid,
                    usize::from(header.count),
                    "a valid frame contains invalid events"
                );
                frames.push(WrittenFrame {
                    offset,
                    len: header.frame_len(),
                    sequence: header.sequence,
                    last: header.last_sequence(),
                    body: body.to_vec(),
                });
            }
            Scanned::Damage(damage) => damages.push(damage),
        }
    }
    (frames, damages)
}

fn facts(damage: &ScanDamage) -> Evidence {
    Evidence { unused: false, followed: damage.followed, sealed: false, proven: false }
}

#[test]
fn an_undamaged_segment_is_read_in_full() {
    for sealed in [false, true] {
        let Sample { header, bytes, frames } = sample(sealed);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        assert_eq!(scan(&bytes, &header), (frames, Vec::new()));
    }
}

#[test]
fn a_truncated_segment_loses_only_the_frames_after_the_cut() {
    for sealed in [false, true] {
        let Sample { header, bytes, frames } = sample(sealed);
        for cut in 0..bytes.len() {
            let left = &bytes[..cut];
            assert_eq!(SegmentHeader::decode(left).is_ok(), cut >= SEGMENT_HEADER_BYTES);
            let (read, damages) = scan(left, &header);
            let whole = frames.iter().filter(|frame| frame.offset + frame.len <= cut);
            assert_eq!(read, whole.cloned().collect::<Vec<_>>(), "cut at {cut}");
            assert!(damages.len() <= 1, "cut at {cut}: {damages:?}");
            // A torn tail: nothing follows it, and nothing proves that it was acknowledged.
            for damage in &damages {
                assert_eq!(judge(facts(damage)), Verdict::Torn, "cut at {cut}: {damage:?}");
                assert_eq!(damage.first, read.last().map_or(1, |frame| frame.last + 1));
            }
        }
    }
}

#[test]
fn a_segment_zeroed_from_a_cut_on_loses_only_the_frames_after_the_cut() {
    let Sample { header, bytes, frames } = sample(false);
    for cut in SEGMENT_HEADER_BYTES..bytes.len() {
        let mut torn = bytes.clone();
        torn[cut..].fill(0);
        let (read, damages) = scan(&torn, &header);
        // If the bytes after the cut were zero already, nothing was lost.
        let unchanged = |frame: &&WrittenFrame| {
            let range = frame.offset..frame.offset + frame.len;
            torn[range.clone()] == bytes[range]
        };
        assert_eq!(
            read,
            frames.iter().filter(unchanged).cloned().collect::<Vec<_>>(),
            "cut at {cut}"
        );
        assert!(damages.len() <= 1, "cut at {cut}: {damages:?}");
    }
}

#[test]
fn a_flipped_bit_loses_exactly_the_frame_that_contains_it() {
    for sealed in [false, true] {
        let Sample { header, bytes, frames } = sample(sealed);
        let mut flipped = bytes.clone();
        for at in SEGMENT_HEADER_BYTES..bytes.len() {
            for bit in 0..8 {
                flipped[at] ^= 1 << bit;
                let (read, damages) = scan(&flipped, &header);
                flipped[at] ^= 1 << bit;
                let hit =
                    |frame: &WrittenFrame| (frame.offset..frame.offset + frame.len).contains(&at);
                let spared: Vec<_> = frames.iter().filter(|frame| !hit(frame)).cloned().collect();
                assert_eq!(read, spared, "byte {at}, bit {bit}");
                assert_eq!(damages.len(), 1, "byte {at}, bit {bit}: {damages:?}");
                let Some(frame) = frames.iter().find(|frame| hit(frame)) else { continue };
                let (damage, is_last) = (&damages[0], frames.last() == Some(frame));
                assert_eq!(damage.offset, frame.offset, "byte {at}, bit {bit}");
                assert_eq!(damage.first, frame.sequence, "byte {at}, bit {bit}");
                assert_eq!(damage.followed, !is_last, "byte {at}, bit {bit}");
                if at >= frame.offset + FRAME_HEADER_BYTES || !is_last {
                    assert_eq!(damage.last, Some(frame.last), "byte {at}, bit {bit}");
                }
                if !is_last {
                    assert_eq!(judge(facts(damage)), Verdict::Corrupt);
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_a_segment_header_is_detected() {
    let Sample { header, bytes, .. } = sample(false);
    let mut flipped = bytes[..SEGMENT_HEADER_BYTES].to_vec();
    assert_eq!(SegmentHeader::decode(&flipped), Ok(header));
    for at in 0..SEGMENT_HEADER_BYTES {
        for bit in 0..8 {
            flipped[at] ^= 1 << bit;
            assert!(SegmentHeader::decode(&flipped).is_err(), "byte {at}, bit {bit}");
            flipped[at] ^= 1 << bit;
        }
    }
}

#[test]
fn decoding_a_damaged_batch_never_panics() {
    let frame = &sample(false).frames[1];
    let count = (frame.last - frame.sequence + 1) as u16;
    let decode = |body: &[u8]| {
        let mut seen = 0;
        for event in events(body, frame.sequence, count) {
            seen += 1;
            if let Ok(event) = event {
                let _ = Payload::decode(event.head.kind, event.payload);
            }
        }
        assert!(seen <= count);
    };
    for cut in 0..frame.body.len() {
        decode(&frame.body[..cut]);
    }
    let mut flipped = frame.body.clone();
    for at in 0..flipped.len() {
        for bit in 0..8 {
            flipped[at] ^= 1 << bit;
            decode(&flipped);
            flipped[at] ^= 1 << bit;
        }
    }
}

#[test]
fn a_missing_frame_is_reported_with_its_sequences() {
    let Sample { header, bytes, frames } = sample(false);
    for missing in 1..frames.len() - 1 {
        let mut without = bytes.clone();
        let frame = &frames[missing];
        without.drain(frame.offset..frame.offset + frame.len);
        let (read, damages) = scan(&without, &header);
        assert_eq!(read.len(), frames.len() - 1);
        assert_eq!(damages.len(), 1, "{damages:?}");
        assert_eq!((damages[0].first, damages[0].last), (frame.sequence, Some(frame.last)));
        assert!(damages[0].followed);
    }
}
