//! What do damaged bytes cost? Never more than the frames they lie in, and never a wrong one.

use c2c_log_format::event::events;
use c2c_log_format::frame::{NewFrame, Seal};
use c2c_log_format::limits::{FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use c2c_log_format::payload::{DndChanged, MessageSent, Payload, SessionHeartbeat, Target};
use c2c_log_format::scan::{Damage, Piece, Place, Scanner};
use c2c_log_format::segment::{Reason, SegmentHeader};
use c2c_log_format::verdict::{Facts, Verdict, judge};

const TIME_US: u64 = 1_700_000_000_000_000;
const FREE_BYTES: usize = 256;

/// Where a frame lies, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Original {
    offset: usize,
    len: usize,
    sequence: u64,
    last: u64,
    body: Vec<u8>,
}

struct Sample {
    header: SegmentHeader,
    bytes: Vec<u8>,
    frames: Vec<Original>,
}

fn message(n: u64, body: &str) -> Payload {
    Payload::MessageSent(MessageSent {
        message_id: format!("m-{n}"),
        from: "alice".into(),
        from_mailbox: "alice".into(),
        to: "bob".into(),
        body: body.into(),
        sent_us: TIME_US + n,
        target: Target::Mailbox("bob".into()),
        tag: None,
        reply_to: None,
        expires_us: None,
        deferrable: false,
        source: None,
        origin: None,
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

/// A segment of six frames, then zeros; sealed after the frames if wanted.
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
        reason: Reason::First,
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
        frames.push(Original { offset, len: bytes.len() - offset, sequence, last, body });
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
        frames.push(Original { offset, len, sequence, last: sequence - 1, body: body.to_vec() });
    } else {
        bytes.resize(bytes.len() + FREE_BYTES, 0);
    }
    Sample { header, bytes, frames }
}

/// What a scan found; reads every event of every frame on the way.
fn scan(bytes: &[u8], header: &SegmentHeader) -> (Vec<Original>, Vec<Damage>) {
    let place = Place {
        offset: SEGMENT_HEADER_BYTES,
        sequence: header.base,
        previous_frame: header.previous_frame,
    };
    let rest = bytes.get(SEGMENT_HEADER_BYTES..).unwrap_or(&[]);
    let (mut frames, mut damages) = (Vec::new(), Vec::new());
    for (pieces, piece) in Scanner::new(rest, header.salt, place).enumerate() {
        assert!(pieces < 100, "the scan does not end");
        match piece {
            Piece::Frame { offset, header, body } => {
                let good = events(body, header.sequence, header.count);
                let good = good.filter(|event| event.is_ok()).count();
                assert_eq!(good, usize::from(header.count), "a good frame holds bad events");
                frames.push(Original {
                    offset,
                    len: header.frame_len(),
                    sequence: header.sequence,
                    last: header.last_sequence(),
                    body: body.to_vec(),
                });
            }
            Piece::Damage(damage) => damages.push(damage),
        }
    }
    (frames, damages)
}

fn facts(damage: &Damage) -> Facts {
    Facts { unused: false, followed: damage.followed, sealed: false, proven: false }
}

#[test]
fn an_undamaged_segment_reads_back() {
    for sealed in [false, true] {
        let Sample { header, bytes, frames } = sample(sealed);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        assert_eq!(scan(&bytes, &header), (frames, Vec::new()));
    }
}

#[test]
fn a_cut_costs_only_what_lay_behind_it() {
    for sealed in [false, true] {
        let Sample { header, bytes, frames } = sample(sealed);
        for cut in 0..bytes.len() {
            let left = &bytes[..cut];
            assert_eq!(SegmentHeader::decode(left).is_ok(), cut >= SEGMENT_HEADER_BYTES);
            let (found, damages) = scan(left, &header);
            let whole = frames.iter().filter(|frame| frame.offset + frame.len <= cut);
            assert_eq!(found, whole.cloned().collect::<Vec<_>>(), "cut at {cut}");
            assert!(damages.len() <= 1, "cut at {cut}: {damages:?}");
            // A torn tail: nothing follows it, nothing proves it.
            for damage in &damages {
                assert_eq!(judge(facts(damage)), Verdict::Torn, "cut at {cut}: {damage:?}");
                assert_eq!(damage.first, found.last().map_or(1, |frame| frame.last + 1));
            }
        }
    }
}

#[test]
fn a_cut_filled_with_zeros_costs_only_what_lay_behind_it() {
    let Sample { header, bytes, frames } = sample(false);
    for cut in SEGMENT_HEADER_BYTES..bytes.len() {
        let mut torn = bytes.clone();
        torn[cut..].fill(0);
        let (found, damages) = scan(&torn, &header);
        // The bytes after the cut may have been zero before: then nothing was lost.
        let kept = |frame: &&Original| {
            let range = frame.offset..frame.offset + frame.len;
            torn[range.clone()] == bytes[range]
        };
        assert_eq!(found, frames.iter().filter(kept).cloned().collect::<Vec<_>>(), "cut at {cut}");
        assert!(damages.len() <= 1, "cut at {cut}: {damages:?}");
    }
}

#[test]
fn a_flipped_bit_costs_exactly_the_frame_it_is_in() {
    for sealed in [false, true] {
        let Sample { header, bytes, frames } = sample(sealed);
        let mut flipped = bytes.clone();
        for at in SEGMENT_HEADER_BYTES..bytes.len() {
            for bit in 0..8 {
                flipped[at] ^= 1 << bit;
                let (found, damages) = scan(&flipped, &header);
                flipped[at] ^= 1 << bit;
                let hit = |frame: &Original| (frame.offset..frame.offset + frame.len).contains(&at);
                let spared: Vec<_> = frames.iter().filter(|frame| !hit(frame)).cloned().collect();
                assert_eq!(found, spared, "byte {at}, bit {bit}");
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
fn a_flipped_bit_in_a_segment_header_is_noticed() {
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
fn a_damaged_batch_never_panics() {
    let frame = &sample(false).frames[1];
    let count = (frame.last - frame.sequence + 1) as u16;
    let ends = |body: &[u8]| {
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
        ends(&frame.body[..cut]);
    }
    let mut flipped = frame.body.clone();
    for at in 0..flipped.len() {
        for bit in 0..8 {
            flipped[at] ^= 1 << bit;
            ends(&flipped);
            flipped[at] ^= 1 << bit;
        }
    }
}

#[test]
fn a_frame_that_is_gone_is_named() {
    let Sample { header, bytes, frames } = sample(false);
    for gone in 1..frames.len() - 1 {
        let mut without = bytes.clone();
        let frame = &frames[gone];
        without.drain(frame.offset..frame.offset + frame.len);
        let (found, damages) = scan(&without, &header);
        assert_eq!(found.len(), frames.len() - 1);
        assert_eq!(damages.len(), 1, "{damages:?}");
        assert_eq!((damages[0].first, damages[0].last), (frame.sequence, Some(frame.last)));
        assert!(damages[0].followed);
    }
}
