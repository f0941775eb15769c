//! Test vectors: this crate writes and reads the hex blocks of SPEC.md.

use c2c_log_format::checkpoint::CheckpointHeader;
use c2c_log_format::checksum::{crc32, sha256};
use c2c_log_format::event::events;
use c2c_log_format::frame::{self, FrameHeader, NewFrame};
use c2c_log_format::limits::{CHECKPOINT_HEADER_BYTES, FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use c2c_log_format::payload::{MessageSent, Payload, Target};
use c2c_log_format::scan::FramePosition;
use c2c_log_format::segment::{OpenReason, SegmentHeader};

const TIME_US: u64 = 1_700_000_000_000_000;
const SALT: u32 = 0x0102_0304;

fn log_id() -> [u8; 16] {
    std::array::from_fn(|at| at as u8)
}

fn boot_id() -> [u8; 16] {
    std::array::from_fn(|at| 0x10 + at as u8)
}

fn spec() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../SPEC.md");
    std::fs::read_to_string(path).expect("SPEC.md is beside the crate")
}

/// Returns the bytes of the block of SPEC.md that starts with "```hex LABEL".
fn block(label: &str) -> Vec<u8> {
    let spec = spec();
    let opening = format!("```hex {label}");
    let lines = spec.lines().skip_while(|line| *line != opening).skip(1);
    let digits: String = lines
        .take_while(|line| *line != "```")
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect();
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex digits")).collect()
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    bytes.chunks(16).map(line).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check(label: &str, encoded: &[u8]) {
    let written = block(label);
    assert!(written == encoded, "SPEC.md, block {label}, should be\n\n{}\n", hex(encoded));
}

fn segment_header() -> SegmentHeader {
    SegmentHeader {
        log_id: log_id(),
        base: 1,
        durable: 0,
        previous_base: 0,
        previous_digest: [0; 32],
        previous_frame: 0,
        salt: SALT,
        created_us: TIME_US,
        boot_id: boot_id(),
        reason: OpenReason::First,
    }
}

fn message() -> Payload {
    Payload::MessageSent(MessageSent {
        from_mailbox: "alice".into(),
        sent_us: TIME_US,
        ..MessageSent::new("m-1", "alice", "bob", Target::Mailbox("bob".into()), "hello")
    })
}

fn event() -> Vec<u8> {
    let mut out = Vec::new();
    message().head(1).encode(&message().encode(), &mut out);
    out
}

#[test]
fn segment_headers_match_the_specification() {
    let encoded = segment_header().encode();
    check("segment-header", &encoded[..128]);
    let mut written = block("segment-header");
    written.resize(SEGMENT_HEADER_BYTES, 0);
    assert_eq!(SegmentHeader::decode(&written), Ok(segment_header()));
}

#[test]
fn events_match_the_specification() {
    check("event", &event());
    let written = block("event");
    let mut read = events(&written, 1, 1);
    let event = read.next().expect("one event").expect("a valid event");
    assert_eq!(event.head, message().head(1));
    let decoded = Payload::decode(event.head.kind, event.payload).expect("a known kind");
    assert_eq!(decoded.expect("valid JSON"), message());
    assert!(read.next().is_none());
}

#[test]
fn frames_match_the_specification() {
    let body = event();
    let mut encoded = Vec::new();
    let new = NewFrame {
        sequence: 1,
        time_us: TIME_US,
        count: 1,
        durable: true,
        seal: false,
        durable_sequence: 0,
        previous_frame: 0,
        body: &body,
    };
    let crc = new.encode(SALT, &mut encoded);
    check("frame", &encoded);
    let written = block("frame");
    let header = FrameHeader::decode(&written, SALT).expect("a valid header");
    assert_eq!((header.sequence, header.count, header.time_us), (1, 1, TIME_US));
    assert_eq!((header.durable, header.seal, header.durable_sequence), (true, false, 0));
    assert_eq!((header.previous_frame, header.crc), (0, crc));
    assert_eq!(header.frame_len(), written.len());
    assert_eq!(frame::body(&written, &header), Ok(&body[..]));
    assert_eq!(&written[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + body.len()], body);
}

#[test]
fn checkpoint_headers_match_the_specification() {
    let header = CheckpointHeader {
        projection: 1,
        log_id: log_id(),
        sequence: 1,
        segment: 1,
        position: FramePosition { offset: 4360, sequence: 2, previous_frame: 0x0a0b_0c0d },
        rows_len: 64,
        index_len: 32,
        index_crc: crc32(&[0; 32]),
        digest: sha256(&[0; 64]),
        time_us: TIME_US,
    };
    check("checkpoint-header", &header.encode());
    let mut written = block("checkpoint-header");
    written.resize(CHECKPOINT_HEADER_BYTES + 64 + 32, 0);
    assert_eq!(CheckpointHeader::decode(&written), Ok(header));
}

#[test]
fn the_specification_lists_every_event_kind() {
    let spec = spec();
    for (number, name) in Payload::KINDS {
        let row = format!("| {number} | `{name}` |");
        assert!(spec.contains(&row), "SPEC.md section 5 lacks {row}");
    }
}
