//! Do old segments leave the log without taking anything along that is needed?

use std::fs;
use std::path::Path;
use std::sync::Arc;

use c2c::log::{Directory, Log, Options};
use c2c_log_format::Payload;
use c2c_log_format::payload::{MessageSent, MessagesExpired, SessionRegistered, Target};
use serde_json::Value;

use crate::support::{Done, World, contents, run};

fn append(log: &mut Log, event: Payload) {
    log.lock().expect("lock");
    let last = log.append(&[event], 1_700_000_000_000_000, true).expect("append").last;
    log.unlock();
    log.wait_durable(last).expect("sync");
}

fn registered(name: &str) -> Payload {
    Payload::SessionRegistered(SessionRegistered {
        session_id: format!("s-{name}"),
        alias: name.into(),
        mailbox: name.into(),
        node_id: "here".into(),
        process: None,
        client_type: None,
        role: None,
        cwd: None,
        tmux_location: None,
        takeover_from: None,
        imported_from: None,
        build: String::new(),
    })
}

fn message(number: u64) -> Payload {
    Payload::MessageSent(MessageSent {
        message_id: format!("m-{number}"),
        from: "ada".into(),
        from_mailbox: "ada".into(),
        to: "bob".into(),
        body: format!("{number} {}", "z".repeat(900)),
        sent_us: 1,
        target: Target::Mailbox("bob".into()),
        tag: None,
        reply_to: None,
        expires_us: None,
        deferrable: false,
        source: None,
        origin: None,
    })
}

/// Five segments of 64 KiB; all messages but the last three, and one in the third segment, are
/// expired.
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

fn tool(world: &World, args: &[&str]) -> Done {
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

#[test]
fn what_is_unread_keeps_its_segment_and_all_after_it() {
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
    // Once it is read, its segment may go, too; the one that is written to never does.
    assert_eq!(world.poll("bob").len(), 4);
    assert_eq!(archive(&world, &[])["moved"].as_array().expect("names").len(), 2);
    assert_eq!((segments(&log), segments(&log.join("archive"))), (1, 4));
    world.run("ada", &["send", "bob", "after"]).ok();
    assert_eq!(world.poll("bob"), ["after"]);
}

#[test]
fn segments_out_of_sight_change_no_answer_and_come_back() {
    let world = filled();
    let away = world.path().join("away");
    let log = world.root().join("log");
    let all = world.poll("bob");
    assert_eq!(all.len(), 4);
    let to = away.display().to_string();
    assert_eq!(archive(&world, &["--to", &to])["moved"].as_array().expect("names").len(), 4);
    assert_eq!((segments(&log), segments(&away)), (1, 4));
    world.run("ada", &["send", "bob", "after"]).ok();
    assert_eq!(contents(&world.run("bob", &["peek-inbox", "--json"]).ok().json()), ["after"]);
    tool(&world, &["verify"]).ok();
    // Without what the base says nothing may be guessed.
    let base = |name: &fs::DirEntry| {
        let name = name.file_name().to_string_lossy().into_owned();
        name.starts_with("base-") || name.starts_with("checkpoint-0")
    };
    let states: Vec<_> = fs::read_dir(&log).expect("list").flatten().filter(base).collect();
    assert!(!states.is_empty());
    for state in &states {
        let mut bytes = fs::read(state.path()).expect("read");
        // As if another version had written it: projection, and checksum of the header.
        bytes[10] = 0xff;
        let crc = c2c_log_format::checksum::crc32(&bytes[..252]);
        bytes[252..256].copy_from_slice(&crc.to_le_bytes());
        fs::write(state.path(), bytes).expect("written");
    }
    world.run("bob", &["peek-inbox"]).refused("archive_needed");
    world.run("ada", &["send", "bob", "no"]).refused("archive_needed");
    fs::rename(&away, log.join("archive")).expect("brought back");
    assert_eq!(world.poll("bob"), ["after"]);
}

#[test]
fn bad_arguments_of_archive_name_themselves() {
    let world = filled();
    let done = tool(&world, &["archive", "--before", "yesterday"]);
    assert_eq!(done.status, 2);
    assert!(done.err.contains("'yesterday'") && done.err.contains("--before"), "{}", done.err);
    assert_eq!(tool(&world, &["archive"]).status, 2);
}
