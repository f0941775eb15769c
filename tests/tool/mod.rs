//! `c2c-log` on log directories.

mod archive;
mod copy;

#[cfg(feature = "sqlite")]
mod sqlite;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use c2c::log::{Directory, Durability, Log, Options, read_segment};
use c2c_log_format::limits::SEGMENT_HEADER_BYTES;
use c2c_log_format::payload::RootMoved;
use c2c_log_format::scan::Scanned;
use c2c_log_format::segment::SegmentHeader;
use c2c_log_format::{Payload, Sequence};

use crate::support::{World, run};

const SEGMENT_BYTES: u64 = 64 * 1024;

/// A log of three segments of 64 KiB under a root.
fn three_segments(world: &World) -> Vec<(Sequence, Vec<u8>)> {
    let directory = world.root().join("log");
    let options = Options { segment_bytes: SEGMENT_BYTES, ..Options::default() };
    let mut log = Log::open(Arc::new(Directory::new(&directory)), options);
    let mut number = 0;
    while log.bases().expect("list").len() < 3 || number % 100 != 0 {
        let text = format!("{number} {}", "y".repeat(number % 301));
        log.lock().expect("lock");
        let event = Payload::RootMoved(RootMoved { to: text });
        let last = log.append(&[event], 1, Durability::Promised).expect("append").last;
        log.unlock();
        if number % 50 == 0 {
            log.wait_durable(last).expect("sync");
        }
        number += 1;
    }
    let last = log.head();
    log.wait_durable(last).expect("sync");
    let bases = log.bases().expect("list");
    bases.into_iter().map(|base| (base, read(&directory, base))).collect()
}

fn read(directory: &Path, base: Sequence) -> Vec<u8> {
    fs::read(directory.join(c2c_log_format::segment::file_name(base))).expect("segment")
}

/// Valid frames by offset.
type Frames = Vec<(usize, Sequence)>;

fn scan(bytes: &[u8]) -> Option<(Frames, Vec<(usize, usize)>)> {
    let header = SegmentHeader::decode(bytes).ok()?;
    let (mut frames, mut damages) = (Vec::new(), Vec::new());
    for piece in read_segment(bytes, &header) {
        match piece {
            Scanned::Frame { offset, header, .. } => frames.push((offset, header.sequence)),
            Scanned::Damage(damage) => damages.push((damage.offset, damage.len)),
        }
    }
    Some((frames, damages))
}

fn flip_every_bit(bytes: &mut [u8], from: usize, to: usize) {
    let (frames, damages) = scan(bytes).expect("a good segment");
    assert!(damages.is_empty());
    for at in from..to {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            let found = scan(bytes);
            bytes[at] ^= 1 << bit;
            let Some((kept, damages)) = found else {
                assert!(
                    at < SEGMENT_HEADER_BYTES,
                    "only a flip in the header makes the segment unreadable"
                );
                continue;
            };
            assert!(at >= SEGMENT_HEADER_BYTES, "a flip in the header at {at} was not detected");
            assert_eq!(damages.len(), 1, "one damaged range for byte {at} bit {bit}");
            let (offset, len) = damages[0];
            assert!(
                (offset..offset + len).contains(&at),
                "byte {at} is reported as {offset}+{len}"
            );
            let lost: Vec<_> = frames.iter().filter(|frame| !kept.contains(frame)).collect();
            assert!(lost.len() <= 1, "byte {at} bit {bit} lost {} frames", lost.len());
            assert!(
                kept.iter().all(|frame| frames.contains(frame)),
                "a frame that was never written"
            );
            if let Some((start, _)) = lost.first() {
                assert_eq!(*start, offset, "the lost frame is the damaged one");
            }
        }
    }
}

fn every_flipped_bit_of_three_segments_is_detected_and_loses_at_most_one_frame() {
    let world = World::new();
    let segments = three_segments(&world);
    assert_eq!(segments.len(), 3);
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for (_, bytes) in &segments {
            for worker in 0..workers {
                let (from, to) =
                    (bytes.len() * worker / workers, bytes.len() * (worker + 1) / workers);
                scope.spawn(move || flip_every_bit(&mut bytes.clone(), from, to));
            }
        }
    });
}

fn verify_names_segment_offset_and_sequence_of_a_flip() {
    let mut world = World::new();
    let segments = three_segments(&world);
    world.may_be_damaged = true;
    let directory = world.root().join("log");
    let clean = run(world.log_tool(&["verify"]));
    assert_eq!(clean.status, 0, "{}{}", clean.out, clean.err);
    for (number, (base, bytes)) in segments.iter().enumerate() {
        let path = directory.join(c2c_log_format::segment::file_name(*base));
        let (frames, _) = scan(bytes).expect("a good segment");
        // The body of a frame in the middle: one event is lost.
        let (offset, sequence) = frames[frames.len() / 2];
        let mut flipped = bytes.clone();
        flipped[offset + 60] ^= 0x10;
        fs::write(&path, &flipped).expect("write");
        let verified = run(world.log_tool(&["verify", "--json"]));
        fs::write(&path, bytes).expect("write");
        assert_eq!(verified.status, 2, "segment {number}: {}", verified.out);
        let report = verified.json();
        let finding = &report["findings"][0];
        assert_eq!(finding["segment"], c2c_log_format::segment::file_name(*base));
        assert_eq!(finding["offset"], offset as u64);
        assert_eq!(finding["first"], sequence);
        assert_eq!(finding["last"], sequence);
    }
    let clean = run(world.log_tool(&["verify"]));
    assert_eq!(clean.status, 0, "{}{}", clean.out, clean.err);
}

fn a_torn_tail_is_distinguished_from_damage_and_can_be_repaired() {
    let mut world = World::new();
    world.register(&["ada", "bob"]);
    world.run("ada", &["send", "bob", "kept"]).ok();
    world.may_be_damaged = true;
    let path = world.root().join("log").join(c2c_log_format::segment::file_name(1));
    let mut bytes = fs::read(&path).expect("segment");
    let (frames, _) = scan(&bytes).expect("a good segment");
    let (offset, _) = *frames.last().expect("frames");
    // Half a frame after the end: an interrupted write that was never acknowledged.
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("content") / 8 * 8 + 8;
    let part = bytes[offset..offset + 40].to_vec();
    bytes[end..end + 40].copy_from_slice(&part);
    fs::write(&path, &bytes).expect("write");
    assert_eq!(run(world.log_tool(&["verify"])).status, 1);
    let plan = run(world.log_tool(&["repair"]));
    assert_eq!(fs::read(&path).expect("segment"), bytes, "a plan changes nothing: {}", plan.out);
    run(world.log_tool(&["repair", "--accept"])).ok();
    assert_eq!(run(world.log_tool(&["verify"])).status, 0);
    world.run("ada", &["send", "bob", "and on"]).ok();
    assert_eq!(world.poll("bob"), ["kept", "and on"]);
    assert_eq!(run(world.log_tool(&["verify"])).status, 0);
}

fn a_log_of_a_future_version_is_rejected_and_not_changed() {
    let mut world = World::new();
    world.register(&["ada"]);
    world.may_be_damaged = true;
    let path = world.root().join("log").join(c2c_log_format::segment::file_name(1));
    let mut bytes = fs::read(&path).expect("segment");
    bytes[8] = 9;
    let crc = c2c_log_format::checksum::crc32(&bytes[..124]);
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).expect("write");
    world.run("ada", &["send", "ada2", "x"]).fails_with("upgrade_needed");
    assert_eq!(fs::read(&path).expect("segment"), bytes);
}

fn an_export_imported_into_a_new_root_gives_the_same_state() {
    let world = World::new();
    world.register(&["ada", "bob"]);
    world.run("ada", &["send", "bob", "one"]).ok();
    world.run("ada", &["rooms", "join", "red"]).ok();
    let exported = run(world.log_tool(&["export"])).ok();
    let file = world.path().join("events.jsonl");
    fs::write(&file, &exported.out).expect("write");
    let copy = world.path().join("copy");
    let (file, copy) = (file.display().to_string(), copy.display().to_string());
    run(world.log_tool(&["import", &file, "--to", &copy])).ok();
    let before = run(world.log_tool(&["state", "--json"])).ok().json();
    let after = run(world.log_tool(&["state", "--json", &copy])).ok().json();
    assert_eq!(before, after);
    assert_eq!(run(world.log_tool(&["import", &file, "--to", &copy])).status, 3);
}

fn inspect_filters_events_hides_bodies_and_escapes_output() {
    let world = World::new();
    world.register(&["ada", "bob"]);
    let body = "secret \u{1b}[31m text";
    world.run("ada", &["send", "bob", body, "--message-id", "id-1"]).ok();
    let all = run(world.log_tool(&["inspect"])).ok();
    assert_eq!(all.out.lines().count(), 3);
    assert!(!all.out.contains("secret"), "bodies are shown only on request: {}", all.out);
    let one = run(world.log_tool(&["inspect", "--message-id", "id-1", "--bodies"])).ok();
    assert!(one.out.contains("secret") && !one.out.contains('\u{1b}'), "{:?}", one.out);
    let kinds = run(world.log_tool(&["inspect", "--kind", "session", "-r"])).ok();
    let sequences: Vec<&str> =
        kinds.out.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(sequences, ["2", "1"]);
    let alias = run(world.log_tool(&["inspect", "--alias", "bob", "-n", "1", "-o", "json"])).ok();
    assert_eq!(alias.json()["sequence"], 3);
    assert_eq!(run(world.log_tool(&["inspect", "--kind", "nonsense"])).status, 3);
}

fn state_at_a_sequence_shows_the_state_of_that_time() {
    let world = World::new();
    world.register(&["ada", "bob"]);
    world.run("ada", &["send", "bob", "hi"]).ok();
    world.poll("bob");
    let pending = |at: &str| {
        let state = run(world.log_tool(&["state", "--json", "--at", at])).ok().json();
        let rows = state["mailboxes"].as_array().expect("mailboxes").clone();
        let bob = rows.into_iter().find(|row| row["alias"] == "bob");
        bob.map(|row| row["pending"].as_array().map_or(0, Vec::len))
    };
    assert_eq!(pending("1"), None);
    assert_eq!(pending("2"), Some(0));
    assert_eq!(pending("3"), Some(1));
    assert_eq!(pending("99"), Some(0));
}

fn a_damaged_checkpoint_changes_no_result_and_is_reported_and_replaced() {
    let world = World::new();
    world.register(&["ada", "bob"]);
    let body = "x".repeat(1000);
    for number in 0..200 {
        world.run("ada", &["send", "bob", &format!("{number} {body}")]).ok();
    }
    let log = world.root().join("log");
    let newest = || {
        let names = fs::read_dir(&log).expect("listed").flatten().map(|entry| entry.path());
        let name = |path: &std::path::PathBuf| path.display().to_string();
        names.filter(|path| name(path).contains("checkpoint-0")).max().expect("a checkpoint")
    };
    let path = newest();
    let whole = fs::read(&path).expect("read");
    let peek = || world.run("bob", &["peek-inbox", "--json"]).ok().out;
    let expected = peek();
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).expect("written");
        assert_eq!(peek(), expected, "offset {at}");
        let health = world.run("bob", &["health", "--json"]).ok().json();
        assert_eq!(health["checkpoint"], "damaged", "offset {at}");
        assert_eq!(run(world.log_tool(&["verify"])).status, 2, "offset {at}");
    }
    let mut bytes = whole.clone();
    let rows_at = c2c_log_format::limits::CHECKPOINT_HEADER_BYTES + 200;
    bytes[rows_at] ^= 1;
    fs::write(&path, &bytes).expect("written");
    let health = world.run("bob", &["health", "--json"]).ok().json();
    assert_eq!(health["checkpoint"], "damaged");
    assert_eq!(health["ok"], false);
    world.run("ada", &["send", "bob", "last"]).ok();
    assert_ne!(newest(), path, "a new checkpoint is written");
    assert_eq!(world.run("bob", &["health", "--json"]).ok().json()["checkpoint"], "ok");
    fs::remove_file(&path).expect("the damaged checkpoint");
    assert_eq!(world.poll("bob").len(), 201);
}

fn without_the_control_page_everything_is_read_and_writing_continues() {
    let world = World::new();
    world.register(&["ada", "bob"]);
    let control = world.root().join("log/control");
    let mut expected = Vec::new();
    for number in 0..6 {
        let text = format!("message {number}");
        world.run("ada", &["send", "bob", &text]).ok();
        expected.push(text);
        // As after a boot.
        fs::remove_file(&control).expect("removed");
        let peeked = world.run("bob", &["peek-inbox", "--json"]).ok().json();
        assert_eq!(crate::support::contents(&peeked), expected);
        assert!(!control.exists(), "a reader creates no control page");
        let head = world.run("bob", &["health", "--json"]).ok().json()["head"].clone();
        assert_eq!(head, 3 + number);
        run(world.log_tool(&["verify"])).ok();
    }
    assert_eq!(world.poll("bob"), expected);
    assert!(world.poll("bob").is_empty());
    assert_eq!(segment_names(&world.root().join("log")).len(), 1, "no recovery was needed");
}

fn segment_names(log: &Path) -> Vec<String> {
    let names = fs::read_dir(log).expect("listed").flatten().map(|entry| entry.file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.retain(|name| name.ends_with(".seg"));
    names.sort();
    names
}

fn accepted_damage_is_copied_and_listed_and_no_longer_an_error() {
    let mut world = World::new();
    world.register(&["ada", "bob"]);
    for text in ["one", "two", "three"] {
        world.run("ada", &["send", "bob", text]).ok();
    }
    world.may_be_damaged = true;
    let log = world.root().join("log");
    let path = log.join(c2c_log_format::segment::file_name(1));
    let mut bytes = fs::read(&path).expect("segment");
    let (frames, _) = scan(&bytes).expect("a good segment");
    let (offset, sequence) = frames[3];
    bytes[offset + 100] ^= 0x20;
    fs::write(&path, &bytes).expect("write");
    assert_eq!(run(world.log_tool(&["verify"])).status, 2);
    let plan = run(world.log_tool(&["repair"]));
    assert_eq!(plan.status, 2);
    assert!(plan.out.contains("--accept") && plan.out.contains(&format!("offset {offset}")));
    assert_eq!(segment_names(&log).len(), 1);
    run(world.log_tool(&["repair", "--accept"])).ok();
    assert_eq!(fs::read(&path).expect("segment"), bytes, "the damaged segment is not changed");
    let kept = fs::read(log.join(format!("accepted-{:020}-{offset:012}", 1))).expect("a copy");
    assert_eq!(kept, bytes[offset..offset + kept.len()]);
    let verified = run(world.log_tool(&["verify", "--json"])).ok().json();
    assert_eq!(verified["findings"][0]["verdict"], "accepted");
    assert_eq!(verified["findings"][0]["first"], sequence);
    world.run("ada", &["send", "bob", "four"]).ok();
    assert_eq!(world.poll("bob"), ["one", "three", "four"]);
    let again = run(world.log_tool(&["repair", "--accept"])).ok();
    assert_eq!(again.out, "nothing to repair\n");
    assert_eq!(
        world.run("ada", &["health", "--json"]).ok().json()["quarantine"],
        serde_json::json!([])
    );
}

crate::harness::tests! {
    modules: archive, copy, #[cfg(feature = "sqlite")] sqlite;
    fast:
        verify_names_segment_offset_and_sequence_of_a_flip,
        a_torn_tail_is_distinguished_from_damage_and_can_be_repaired,
        a_log_of_a_future_version_is_rejected_and_not_changed,
        an_export_imported_into_a_new_root_gives_the_same_state,
        inspect_filters_events_hides_bodies_and_escapes_output,
        state_at_a_sequence_shows_the_state_of_that_time,
        without_the_control_page_everything_is_read_and_writing_continues,
        accepted_damage_is_copied_and_listed_and_no_longer_an_error;
    slow:
        every_flipped_bit_of_three_segments_is_detected_and_loses_at_most_one_frame,
        a_damaged_checkpoint_changes_no_result_and_is_reported_and_replaced;
}
