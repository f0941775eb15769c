//! `c2c-log archive`: old segments leave the log, and nothing that is needed goes with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use c2c::log::{Directory, Durability, Log, Options};
use c2c_log_format::Payload;
use c2c_log_format::frame::NewFrame;
use c2c_log_format::payload::{MessageSent, MessagesExpired, SessionRegistered, Target};
use c2c_log_format::segment::SegmentHeader;
use serde_json::Value;

use crate::support::{Outcome, World, contents, run};

fn append(log: &mut Log, event: Payload) {
    log.lock().expect("lock");
    let last =
        log.append(&[event], 1_700_000_000_000_000, Durability::Promised).expect("append").last;
    log.unlock();
    log.wait_durable(last).expect("sync");
}

fn registered(name: &str) -> Payload {
    Payload::SessionRegistered(SessionRegistered::new(format!("s-{name}"), name, name, "here"))
}

fn message(number: u64) -> Payload {
    Payload::MessageSent(MessageSent {
        from_mailbox: "ada".into(),
        sent_us: 1,
        ..MessageSent::new(
            format!("m-{number}"),
            "ada",
            "bob",
            Target::Mailbox("bob".into()),
            format!("{number} {}", "z".repeat(900)),
        )
    })
}

/// Five segments of 64 KiB. All messages are expired except one in the third segment and the last
/// three.
fn filled() -> World {
    let world = World::new();
    let options = Options { segment_bytes: 64 * 1024, ..Options::default() };
    let mut log = Log::open(Arc::new(Directory::new(&world.root().join("log"))), options);
    append(&mut log, registered("ada"));
    append(&mut log, registered("bob"));
    let (mut number, mut sent) = (0, Vec::new());
    while log.bases().expect("list").len() < 5 {
        number += 1;
        append(&mut log, message(number));
        sent.push(log.head());
    }
    let kept = sent.len() / 2;
    let last = sent.len() - 3;
    let gone: Vec<u64> = sent
        .iter()
        .enumerate()
        .filter(|(at, _)| *at < last && *at != kept)
        .map(|(_, s)| *s)
        .collect();
    append(
        &mut log,
        Payload::MessagesExpired(MessagesExpired { mailbox: "bob".into(), messages: gone }),
    );
    world
}

fn tool(world: &World, args: &[&str]) -> Outcome {
    run(world.log_tool(args))
}

fn archive(world: &World, more: &[&str]) -> Value {
    let args: Vec<&str> =
        ["archive", "--before", "1000000", "--json"].iter().chain(more).copied().collect();
    tool(world, &args).ok().json()
}

fn segments(directory: &Path) -> usize {
    let names = fs::read_dir(directory).map(|entries| entries.flatten().collect::<Vec<_>>());
    names
        .unwrap_or_default()
        .iter()
        .filter(|e| e.file_name().to_string_lossy().ends_with(".seg"))
        .count()
}

fn unread_mail_keeps_its_segment_and_all_later_ones() {
    let world = filled();
    let log = world.root().join("log");
    let before = world.run("bob", &["peek-inbox", "--json"]).ok().json();
    assert_eq!(before.as_array().expect("rows").len(), 4);
    assert_eq!(archive(&world, &["--dry-run"])["moved"].as_array().expect("names").len(), 2);
    assert_eq!(segments(&log), 5, "a dry run moves nothing");
    let moved = archive(&world, &[]);
    assert_eq!(moved["moved"].as_array().expect("names").len(), 2);
    assert_eq!((segments(&log), segments(&log.join("archive"))), (3, 2));
    assert_eq!(world.run("bob", &["peek-inbox", "--json"]).ok().json(), before);
    tool(&world, &["verify"]).ok();
    assert!(tool(&world, &["inspect", "-o", "json"]).ok().out.contains("\"m-1\""), "still found");
    // Once the mail is read, its segment can be archived. The active segment never is.
    assert_eq!(world.poll("bob").len(), 4);
    assert_eq!(archive(&world, &[])["moved"].as_array().expect("names").len(), 2);
    assert_eq!((segments(&log), segments(&log.join("archive"))), (1, 4));
    world.run("ada", &["send", "bob", "after"]).ok();
    assert_eq!(world.poll("bob"), ["after"]);
}

fn segments_archived_elsewhere_change_no_result_and_can_return() {
    let world = filled();
    let away = world.path().join("away");
    let log = world.root().join("log");
    let all = world.poll("bob");
    assert_eq!(all.len(), 4);
    let to = away.display().to_string();
    let moved = archive(&world, &["--to", &to, "--forget-ids"]);
    assert_eq!(moved["moved"].as_array().expect("names").len(), 4);
    assert_eq!((segments(&log), segments(&away)), (1, 4));
    world.run("ada", &["send", "bob", "after"]).ok();
    assert_eq!(contents(&world.run("bob", &["peek-inbox", "--json"]).ok().json()), ["after"]);
    tool(&world, &["verify"]).ok();
    // Without the base, no command may guess the state.
    for state in states(&log) {
        let mut bytes = fs::read(&state).expect("read");
        // As if another version had written it: the projection, and the checksum of the header.
        bytes[10] = 0xff;
        let crc = c2c_log_format::checksum::crc32(&bytes[..252]);
        bytes[252..256].copy_from_slice(&crc.to_le_bytes());
        fs::write(&state, bytes).expect("written");
    }
    let refused = world.run("bob", &["peek-inbox"]).fails_with("archive_needed");
    assert!(refused.err.contains(&to), "it names the archive: {}", refused.err);
    world.run("ada", &["send", "bob", "no"]).fails_with("archive_needed");
    fs::rename(&away, log.join("archive")).expect("the archive returns");
    assert_eq!(world.poll("bob"), ["after"]);
}

/// Checkpoints and bases, oldest first.
fn states(log: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(log).expect("list").flatten().map(|entry| entry.path());
    let end = |path: &PathBuf| path.display().to_string().rsplit('-').next().map(str::to_owned);
    let is_state = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        name.starts_with("base-") || name.starts_with("checkpoint-0")
    };
    let mut found: Vec<PathBuf> = names.filter(is_state).collect();
    found.sort_by_key(end);
    assert!(!found.is_empty());
    found
}

fn with_segments_archived_elsewhere_a_damaged_checkpoint_falls_back_or_fails() {
    let world = filled();
    let log = world.root().join("log");
    let away = world.path().join("away").display().to_string();
    world.poll("bob");
    archive(&world, &["--to", &away, "--forget-ids"]);
    for number in 0..300 {
        world.run("ada", &["send", "bob", &format!("new {number}")]).ok();
    }
    let kept = states(&log);
    assert!(kept.len() > 1, "a base and a later checkpoint exist");
    let expected = world.run("bob", &["peek-inbox", "--json"]).ok().out;
    let listed = world.run("bob", &["list", "--json"]).ok().out;
    for at in [3, 60, 300, 900, usize::MAX] {
        for path in kept.iter().rev() {
            let mut bytes = fs::read(path).expect("read");
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 4;
            fs::write(path, bytes).expect("written");
            assert_eq!(tool(&world, &["verify"]).status, 2);
            let health = world.run("bob", &["health", "--json"]);
            if Some(path) == kept.first() {
                health.fails_with("archive_needed");
                world.run("bob", &["peek-inbox"]).fails_with("archive_needed");
                world.run("ada", &["send", "bob", "no"]).fails_with("archive_needed");
                let again = ["archive", "--before", "1000000"];
                assert_eq!(
                    tool(&world, &again).status,
                    3,
                    "no base is written from incomplete events"
                );
            } else {
                assert_eq!(health.ok().json()["checkpoint"], "damaged");
                assert_eq!(world.run("bob", &["peek-inbox", "--json"]).ok().out, expected);
                assert_eq!(world.run("bob", &["list", "--json"]).ok().out, listed);
            }
        }
        for path in &kept {
            let mut bytes = fs::read(path).expect("read");
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 4;
            fs::write(path, bytes).expect("written");
        }
    }
    tool(&world, &["verify"]).ok();
}

fn segments_with_message_ids_that_may_be_reused_stay_readable() {
    let world = filled();
    world.poll("bob");
    let away = world.path().join("away").display().to_string();
    let kept = archive(&world, &["--to", &away]);
    assert_eq!(kept["moved"].as_array().expect("names").len(), 0);
    assert_eq!(kept["first_needed"]["what"], "its message id may be reused");
    assert_eq!(archive(&world, &[])["moved"].as_array().expect("names").len(), 4);
    let again = ["send", "bob", "other text", "--message-id", "m-1"];
    world.run("ada", &again).fails_with("message_id_reused");
}

fn an_interrupted_archiving_resumes_and_replaces_no_file() {
    let world = filled();
    world.poll("bob");
    let log = world.root().join("log");
    let away = world.path().join("away");
    let first = c2c_log_format::segment::file_name(1);
    let all: Vec<u8> = fs::read(log.join(&first)).expect("read");
    fs::create_dir(&away).expect("made");
    // A file of another program.
    fs::write(away.join(&first), "something").expect("written");
    let to = away.display().to_string();
    let args = ["archive", "--before", "1000000", "--forget-ids", "--to", &to];
    assert_eq!(tool(&world, &args).status, 3);
    assert_eq!(fs::read(log.join(&first)).expect("still there"), all);
    assert_eq!(fs::read(away.join(&first)).expect("still there"), b"something");
    fs::remove_file(away.join(&first)).expect("removed");
    // Interrupted during a copy.
    fs::write(away.join(&first).with_extension("part"), &all[..5000]).expect("written");
    tool(&world, &["verify"]).ok();
    // Interrupted after the second copy, before the original was removed.
    let bases: Vec<String> = {
        let names = fs::read_dir(&log).expect("listed").flatten().map(|entry| entry.file_name());
        let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into()).collect();
        names.retain(|name| name.ends_with(".seg"));
        names.sort();
        names
    };
    fs::copy(log.join(&bases[1]), away.join(&bases[1])).expect("copied");
    tool(&world, &args).ok();
    assert_eq!((segments(&log), segments(&away)), (1, 4));
    assert_eq!(fs::read(away.join(&first)).expect("moved"), all);
    // The segments are already at the target.
    tool(&world, &args).ok();
    let here = log.display().to_string();
    tool(&world, &["archive", "--before", "1000000", "--forget-ids", "--to", &here]).ok();
    assert_eq!((segments(&log), segments(&away)), (1, 4));
    let with = ["verify", "--json", "--with", &to];
    let whole = tool(&world, &with).ok().json();
    assert_eq!(whole["segments"], 5);
    let mut changed = all.clone();
    changed[4096 + 70] ^= 1;
    fs::write(away.join(&first), changed).expect("written");
    assert_eq!(tool(&world, &with).status, 2, "archived segments are verified");
    tool(&world, &["verify"]).ok();
}

fn a_log_with_events_of_a_newer_version_is_not_archived() {
    let mut world = filled();
    world.poll("bob");
    world.may_be_damaged = true;
    add_unknown(&world.root().join("log"));
    let done = tool(&world, &["archive", "--before", "1000000"]);
    assert_eq!(done.status, 3, "{}", done.out);
    assert!(done.err.contains("newer"), "{}", done.err);
    assert_eq!(segments(&world.root().join("log")), 5);
    world.run("ada", &["send", "bob", "no"]).fails_with("upgrade_needed");
}

/// Appends an event of an unknown kind that must be understood.
fn add_unknown(log: &Path) {
    let names = fs::read_dir(log).expect("listed").flatten().map(|entry| entry.path());
    let last = names.filter(|path| path.extension().is_some_and(|end| end == "seg")).max();
    let last = last.expect("a segment");
    let mut bytes = fs::read(&last).expect("read");
    let header = SegmentHeader::decode(&bytes).expect("a header");
    let mut scanner = c2c::log::read_segment(&bytes, &header);
    while scanner.next().is_some() {}
    let position = scanner.position();
    let mut body = Vec::new();
    let known = registered("eve");
    known.head(position.sequence).encode(&known.encode(), &mut body);
    body[..2].copy_from_slice(&9_999u16.to_le_bytes());
    let mut frame = Vec::new();
    NewFrame {
        sequence: position.sequence,
        time_us: 1_700_000_000_000_000,
        count: 1,
        durable: true,
        seal: false,
        durable_sequence: position.sequence - 1,
        previous_frame: position.previous_frame,
        body: &body,
    }
    .encode(header.salt, &mut frame);
    bytes[position.offset..position.offset + frame.len()].copy_from_slice(&frame);
    fs::write(last, bytes).expect("written");
    fs::remove_file(log.join("control")).expect("removed");
}

fn invalid_arguments_of_archive_are_named() {
    let world = filled();
    let done = tool(&world, &["archive", "--before", "yesterday"]);
    assert_eq!(done.status, 2);
    assert!(done.err.contains("'yesterday'") && done.err.contains("--before"), "{}", done.err);
    assert_eq!(tool(&world, &["archive"]).status, 2);
}

crate::harness::tests! {
    fast:
        unread_mail_keeps_its_segment_and_all_later_ones,
        segments_archived_elsewhere_change_no_result_and_can_return,
        segments_with_message_ids_that_may_be_reused_stay_readable,
        an_interrupted_archiving_resumes_and_replaces_no_file,
        a_log_with_events_of_a_newer_version_is_not_archived,
        invalid_arguments_of_archive_are_named;
    slow:
        with_segments_archived_elsewhere_a_damaged_checkpoint_falls_back_or_fails;
}
