//! Round-trip tests: every structure decodes to the value that was encoded.

mod random;

use c2c_log_format::checkpoint::CheckpointHeader;
use c2c_log_format::event::{EventHead, events};
use c2c_log_format::frame::{self, FrameHeader, NewFrame, Seal};
use c2c_log_format::id::{
    NameError, RESERVED_ALIASES, check_alias, check_message_id, check_name, fold,
};
use c2c_log_format::limits::{MESSAGE_ID_BYTES_MAX, NAME_CHARS_MAX};
use c2c_log_format::payload::{
    InboxClaimed, LegacyImported, MessageSent, Origin, Payload, Process, Receipt, ReceiptsRecorded,
    RoomCreated, RoomLabelled, RoomRange, SessionRegistered, Target,
};
use c2c_log_format::scan::FramePosition;
use c2c_log_format::segment::{OpenReason, SegmentHeader, file_name, parse_file_name};
use quickcheck::{Arbitrary, Gen, TestResult};
use random::properties;

/// Wrapper that lets this file implement `Arbitrary` for the types of the crate.
#[derive(Debug, Clone)]
struct Any<T>(T);

fn any<T: Arbitrary>(g: &mut Gen) -> T {
    T::arbitrary(g)
}

fn array<const N: usize>(g: &mut Gen) -> [u8; N] {
    std::array::from_fn(|_| any(g))
}

/// A sequence far enough from the maximum for a batch to follow.
fn sequence(g: &mut Gen) -> u64 {
    any::<u64>(g) / 2 + 1
}

fn process(g: &mut Gen) -> Process {
    Process { pid: any(g), start: any(g), boot: any(g), ns: any(g) }
}

fn origin(g: &mut Gen) -> Origin {
    Origin { log: any(g), sequence: any(g), node: any(g), digest: any(g) }
}

fn maybe<T>(g: &mut Gen, make: impl Fn(&mut Gen) -> T) -> Option<T> {
    any::<bool>(g).then(|| make(g))
}

impl Arbitrary for Any<SegmentHeader> {
    fn arbitrary(g: &mut Gen) -> Self {
        let reasons = [
            OpenReason::First,
            OpenReason::Rotation,
            OpenReason::Recovery,
            OpenReason::FailedSync,
            OpenReason::Restored,
        ];
        Self(SegmentHeader {
            log_id: array(g),
            base: any(g),
            durable: any(g),
            previous_base: any(g),
            previous_digest: array(g),
            previous_frame: any(g),
            salt: any(g),
            created_us: any(g),
            boot_id: array(g),
            reason: reasons[any::<usize>(g) % reasons.len()],
        })
    }
}

impl Arbitrary for Any<Payload> {
    fn arbitrary(g: &mut Gen) -> Self {
        let target = match any::<u8>(g) % 4 {
            0 => Target::Mailbox(any(g)),
            1 => Target::Room { room_id: any(g), label: any(g), skipped: any(g) },
            2 => Target::DeadLetter {
                mailbox: any(g),
                alias: any(g),
                reason: any::<String>(g).into(),
            },
            _ => Target::Outbox { alias: any(g), host: any(g) },
        };
        Self(match any::<u8>(g) % 7 {
            0 => Payload::SessionRegistered(SessionRegistered {
                session_id: any(g),
                alias: any(g),
                mailbox: any(g),
                node_id: any(g),
                process: maybe(g, process),
                client_type: any(g),
                role: any(g),
                cwd: any(g),
                tmux_location: any(g),
                takeover_from: any(g),
                imported_from: any(g),
                build: any(g),
            }),
            1 => Payload::InboxClaimed(InboxClaimed {
                claim: any(g),
                mailbox: any(g),
                messages: any(g),
                rooms: vec![RoomRange { room_id: any(g), upto: any(g), count: any(g) }],
                process: maybe(g, process),
                surface: any(g),
                manual: any(g),
                until_us: any(g),
            }),
            2 => Payload::RoomCreated(RoomCreated {
                room_id: any(g),
                created_by: any(g),
                visibility: any::<String>(g).into(),
                invited: any(g),
            }),
            3 => Payload::LegacyImported(LegacyImported {
                file: any(g),
                stamp: any(g),
                entries: any(g),
            }),
            4 => Payload::ReceiptsRecorded(ReceiptsRecorded {
                receipts: vec![Receipt {
                    message_id: any(g),
                    sender: any(g),
                    origin: origin(g),
                    level: any::<String>(g).into(),
                    by: any(g),
                    at_us: any(g),
                    code: any(g),
                }],
                origin: maybe(g, origin),
            }),
            5 => Payload::RoomLabelled(RoomLabelled { room_id: any(g), labels: any(g) }),
            _ => Payload::MessageSent(MessageSent {
                message_id: any(g),
                from: any(g),
                from_mailbox: any(g),
                to: any(g),
                body: any::<String>(g).into(),
                sent_us: any(g),
                target,
                tag: any(g),
                reply_to: any(g),
                expires_us: any(g),
                deferrable: any(g),
                source: any(g),
                origin: maybe(g, origin),
            }),
        })
    }
}

impl Arbitrary for Any<EventHead> {
    fn arbitrary(g: &mut Gen) -> Self {
        Self(EventHead {
            kind: any(g),
            must_understand: any(g),
            schema: any(g),
            sequence: 0,
            scope: any(g),
            actor: any(g),
            message: any(g),
        })
    }
}

impl Arbitrary for Any<CheckpointHeader> {
    fn arbitrary(g: &mut Gen) -> Self {
        let sequence = sequence(g);
        Self(CheckpointHeader {
            projection: any(g),
            log_id: array(g),
            sequence,
            segment: any(g),
            position: FramePosition {
                offset: any(g),
                sequence: sequence + 1,
                previous_frame: any(g),
            },
            rows_len: u64::from(any::<u8>(g)),
            index_len: u64::from(any::<u8>(g)),
            index_crc: any(g),
            digest: array(g),
            time_us: any(g),
        })
    }
}

/// The arbitrary fields of a frame, except for its body.
#[derive(Debug, Clone)]
struct FrameFields {
    sequence: u64,
    time_us: u64,
    count: u16,
    durable: bool,
    durable_sequence: u64,
    previous_frame: u32,
    salt: u32,
}

impl Arbitrary for FrameFields {
    fn arbitrary(g: &mut Gen) -> Self {
        Self {
            sequence: sequence(g),
            time_us: any(g),
            count: any(g),
            durable: any(g),
            durable_sequence: any(g),
            previous_frame: any(g),
            salt: any(g),
        }
    }
}

properties! {
    fn segment_headers_round_trip(header: Any<SegmentHeader>) -> bool {
        SegmentHeader::decode(&header.0.encode()) == Ok(header.0)
    }

    fn segment_file_names_round_trip(base: u64) -> bool {
        parse_file_name(&file_name(base)) == Some(base)
    }

    fn other_file_names_are_not_segment_names(name: String) -> bool {
        parse_file_name(&name).is_none_or(|base| file_name(base) == name)
    }

    fn frames_round_trip(fields: FrameFields, body: Vec<u8>, after: Vec<u8>) -> bool {
        let new = NewFrame {
            sequence: fields.sequence,
            time_us: fields.time_us,
            count: fields.count,
            durable: fields.durable,
            seal: fields.count == 0,
            durable_sequence: fields.durable_sequence,
            previous_frame: fields.previous_frame,
            body: &body,
        };
        let mut bytes = Vec::new();
        let crc = new.encode(fields.salt, &mut bytes);
        let len = bytes.len();
        bytes.extend(after);
        let expected = FrameHeader {
            sequence: fields.sequence,
            time_us: fields.time_us,
            count: fields.count,
            durable: fields.durable,
            seal: fields.count == 0,
            durable_sequence: fields.durable_sequence,
            previous_frame: fields.previous_frame,
            body_len: body.len() as u32,
            body_crc: c2c_log_format::checksum::crc32(&body),
            crc,
        };
        FrameHeader::decode(&bytes, fields.salt) == Ok(expected)
            && expected.frame_len() == len
            && len % 8 == 0
            && frame::body(&bytes, &expected) == Ok(&body[..])
            && FrameHeader::decode(&bytes, fields.salt ^ 1).is_err()
    }

    fn decoding_arbitrary_bytes_never_panics(bytes: Vec<u8>, salt: u32) -> bool {
        let _ = SegmentHeader::decode(&bytes);
        let _ = CheckpointHeader::decode(&bytes);
        let _ = Seal::decode(&bytes);
        if let Ok(header) = FrameHeader::decode(&bytes, salt) {
            let _ = frame::body(&bytes, &header);
        }
        events(&bytes, 1, 3).count() <= 3
    }

    fn seals_round_trip(frames: u64, last: u64, from_us: u64, to_us: u64) -> bool {
        let seal = Seal { frames, last, from_us, to_us, digest: [frames as u8; 32] };
        Seal::decode(&seal.encode()) == Ok(seal)
    }

    fn batches_round_trip(rows: Vec<(Any<EventHead>, Vec<u8>)>, first: u32) -> bool {
        let first = u64::from(first) + 1;
        let rows: Vec<(EventHead, Vec<u8>)> = (first..)
            .zip(rows)
            .map(|(sequence, (head, payload))| (EventHead { sequence, ..head.0 }, payload))
            .collect();
        let mut body = Vec::new();
        for (head, payload) in &rows {
            head.encode(payload, &mut body);
        }
        let read: Result<Vec<_>, _> = events(&body, first, rows.len() as u16).collect();
        let read = read.map(|read| read.iter().map(|e| (e.head, e.payload.to_vec())).collect());
        read == Ok(rows)
    }

    fn a_batch_with_a_gap_is_rejected(heads: Vec<Any<EventHead>>, first: u32) -> TestResult {
        if heads.len() < 2 {
            return TestResult::discard();
        }
        let mut body = Vec::new();
        for (at, head) in heads.iter().enumerate() {
            let sequence = u64::from(first) + 2 * at as u64;
            EventHead { sequence, ..head.0 }.encode(b"{}", &mut body);
        }
        let all = events(&body, u64::from(first), heads.len() as u16).collect::<Vec<_>>();
        TestResult::from_bool(all.len() == 2 && all[0].is_ok() && all[1].is_err())
    }

    fn payloads_round_trip(payload: Any<Payload>) -> bool {
        let payload = payload.0;
        let decoded = Payload::decode(payload.kind(), &payload.encode());
        decoded.is_some_and(|decoded| decoded.is_ok_and(|decoded| decoded == payload))
    }

    fn unknown_kinds_are_not_an_error(kind: u16, json: Vec<u8>) -> bool {
        let known = Payload::KINDS.iter().any(|(number, _)| *number == kind);
        known || Payload::decode(kind, &json).is_none()
    }

    fn checkpoint_headers_round_trip(header: Any<CheckpointHeader>) -> bool {
        let mut bytes = header.0.encode().to_vec();
        bytes.resize(bytes.len() + (header.0.rows_len + header.0.index_len) as usize, 0);
        CheckpointHeader::decode(&bytes) == Ok(header.0)
    }

    fn a_name_is_valid_exactly_if_it_matches_the_grammar(name: String) -> bool {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let valid = !name.is_empty()
            && name.chars().count() <= NAME_CHARS_MAX
            && !name.starts_with('.')
            && name.chars().all(allowed);
        check_name(&name).is_ok() == valid
    }

    fn a_message_id_is_valid_exactly_if_it_matches_the_grammar(id: String) -> bool {
        let valid = !id.is_empty()
            && id.len() <= MESSAGE_ID_BYTES_MAX
            && id.bytes().all(|byte| (0x21..0x7f).contains(&byte));
        check_message_id(&id).is_ok() == valid
    }
}

#[test]
fn names_outside_the_limits_are_rejected() {
    assert_eq!(check_name(""), Err(NameError::Empty));
    assert_eq!(check_name(".hidden"), Err(NameError::LeadingDot));
    assert_eq!(check_name("a/b"), Err(NameError::Character('/')));
    assert_eq!(check_name("a b"), Err(NameError::Character(' ')));
    assert_eq!(check_name(&"a".repeat(NAME_CHARS_MAX)), Ok(()));
    assert_eq!(check_name(&"a".repeat(NAME_CHARS_MAX + 1)), Err(NameError::TooLong));
    assert_eq!(check_message_id(&"m".repeat(MESSAGE_ID_BYTES_MAX)), Ok(()));
    assert_eq!(
        check_message_id(&"m".repeat(MESSAGE_ID_BYTES_MAX + 1)),
        Err(NameError::LongMessageId)
    );
}

#[test]
fn reserved_aliases_are_rejected_in_any_case() {
    for alias in RESERVED_ALIASES {
        assert_eq!(check_name(alias), Ok(()));
        assert_eq!(check_alias(alias), Err(NameError::Reserved));
        assert_eq!(check_alias(&alias.to_ascii_uppercase()), Err(NameError::Reserved));
    }
    assert_eq!(check_alias("alice"), Ok(()));
    assert_eq!(fold("Alice-2"), "alice-2");
}

#[test]
fn extreme_numbers_do_not_overflow_the_decoders() {
    let header = CheckpointHeader {
        projection: 1,
        log_id: [0; 16],
        sequence: u64::MAX - 1,
        segment: 1,
        position: FramePosition { offset: 0, sequence: u64::MAX, previous_frame: 0 },
        rows_len: u64::MAX,
        index_len: 1,
        index_crc: 0,
        digest: [0; 32],
        time_us: 0,
    };
    assert!(CheckpointHeader::decode(&header.encode()).is_err());
    let last = CheckpointHeader { sequence: u64::MAX, rows_len: 0, index_len: 0, ..header };
    assert!(CheckpointHeader::decode(&last.encode()).is_err());
    let mut body = Vec::new();
    let head = Any::<EventHead>::arbitrary(&mut Gen::from_size_and_seed(1, 1)).0;
    EventHead { sequence: u64::MAX, ..head }.encode(b"{}", &mut body);
    assert_eq!(events(&body, u64::MAX, 1).filter(Result::is_ok).count(), 1);
}

#[test]
fn unknown_payload_fields_are_ignored() {
    let json = br#"{"mailbox":"bob","on":true,"colour":"green"}"#;
    let decoded = Payload::decode(104, json).expect("a known kind").expect("readable");
    assert_eq!(decoded.name(), "dnd_changed");
}
