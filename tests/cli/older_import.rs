//! Imports of older roots that are long, interrupted, repeated, or written to meanwhile.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::legacy;
use super::older_root::{
    REGISTRY, dead_letters, history, line, migrate, older_root, peek, room, room_history, texts,
    write,
};
use crate::support::{World, contents, run};

/// Lines with different texts; some are equal.
fn many_lines(count: usize) -> String {
    (0..count)
        .map(|n| line(1.7e9 + n as f64 / 8.0, "ann", &format!("line {}", n - n % 3)))
        .collect()
}

fn check_many_lines(world: &World, count: usize) {
    let rows = texts(&room_history(world, "big"));
    let expected: Vec<String> = (0..count).map(|n| format!("line {}", n - n % 3)).collect();
    assert!(rows == expected, "{} of {count} lines", rows.len());
}

/// A root with a long history, many delivered messages and many unread ones.
fn large_root(world: &World, count: usize) -> PathBuf {
    let mut files = room("big", &json!({}), &json!([{ "alias": "ann" }]), &many_lines(count));
    let rows = |n: usize| json!({ "from_alias": "ann", "to_alias": "bob", "content": format!("unread {}", n / 2) });
    let drained = |n: usize| {
        let row = json!({ "drained_at": n, "session_id": "s-b", "from_alias": "ann", "to_alias": "bob", "content": format!("drained {n}") });
        format!("{row}\n")
    };
    files.push(("registry.json", REGISTRY.into()));
    files.push(("s-b.inbox.json", json!((0..count / 8).map(rows).collect::<Vec<_>>()).to_string()));
    files.push(("archive/s-b.jsonl", (1..=count / 4).map(drained).collect()));
    older_root(world, "older", &files)
}

fn check_large_root(world: &World, count: usize) {
    check_many_lines(world, count);
    assert_eq!(
        contents(&peek(world, "s-b")),
        (0..count / 8).map(|n| format!("unread {}", n / 2)).collect::<Vec<_>>()
    );
    let args = ["history", "--alias", "bob", "--limit", "1000000", "--json"];
    let rows = contents(&run(world.c2c(&args)).ok().json());
    assert!(
        rows == (1..=count / 4).rev().map(|n| format!("drained {n}")).collect::<Vec<_>>(),
        "{} rows",
        rows.len()
    );
}

/// Times of the last change of the segments of the log.
fn changes(world: &World) -> Vec<SystemTime> {
    let entries = fs::read_dir(world.root().join("log")).into_iter().flatten().flatten();
    let segments = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".seg"));
    segments.filter_map(|entry| entry.metadata().ok()?.modified().ok()).collect()
}

/// Kills an import each time it has written some more, until it ends.
fn kill_and_repeat(world: &World, mut command: impl FnMut() -> Command) {
    let mut kills = 0;
    loop {
        let mut import = command().stdout(Stdio::null()).spawn().expect("starts");
        let (mut writes, mut last) = (0, changes(world));
        while kills >= 8 || writes <= kills % 3 {
            if let Some(status) = import.try_wait().expect("asked") {
                assert!(status.success());
                assert!(kills > 0, "the import was too fast to be killed");
                return;
            }
            let now = changes(world);
            writes += usize::from(now != last);
            last = now;
        }
        import.kill().expect("ours");
        import.wait().expect("ends");
        kills += 1;
    }
}

fn an_import_that_is_killed_again_and_again_is_complete_in_the_end() {
    let count = 12_000;
    let world = World::new();
    let from = large_root(&world, count);
    let path = from.display().to_string();
    kill_and_repeat(&world, || world.c2c(&["migrate", "--from", &path]));
    check_large_root(&world, count);
    assert_eq!(migrate(&world, &from)["imported"], json!({ "sessions": 0, "messages": 0 }));
}

fn a_hundred_thousand_lines_come_in_once_in_bounded_memory() {
    let count = 100_000;
    let world = World::new();
    let from = large_root(&world, count);
    let path = from.display().to_string();
    kill_and_repeat(&world, || {
        // Address space, in KiB.
        let mut shell = world.program("sh", &["-c", "ulimit -v 600000; exec \"$0\" \"$@\""]);
        shell.arg(env!("CARGO_BIN_EXE_c2c")).args(["migrate", "--from", &path]);
        shell
    });
    check_large_root(&world, count);
}

fn lines_that_an_older_program_adds_during_the_import_come_in_once() {
    let count = 3_000;
    let world = World::new();
    let mut files = room("big", &json!({}), &json!([]), "");
    files.push(("registry.json", REGISTRY.into()));
    let from = older_root(&world, "older", &files);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let path = from.join("rooms/big/history.jsonl");
            let mut file = fs::OpenOptions::new().append(true).open(path).expect("opened");
            for line in many_lines(count).lines() {
                // In two pieces, so that imports meet half a line.
                let (begin, end) = line.split_at(line.len() / 2);
                file.write_all(begin.as_bytes()).expect("written");
                file.write_all(format!("{end}\n").as_bytes()).expect("written");
            }
            is_done.store(true, Ordering::SeqCst);
        });
        while !is_done.load(Ordering::SeqCst) {
            // Two at once.
            let path = from.display().to_string();
            let start = || world.c2c(&["migrate", "--from", &path]).stdout(Stdio::null()).spawn();
            let both = [start().expect("starts"), start().expect("starts")];
            for mut import in both {
                assert!(import.wait().expect("ends").success());
            }
        }
    });
    migrate(&world, &from);
    check_many_lines(&world, count);
}

fn a_history_that_was_shortened_or_copied_is_not_imported_again() {
    let world = World::new();
    let lines: Vec<String> =
        (1..=4).map(|n| line(f64::from(n), "ann", &format!("line {n}"))).collect();
    let row = |n: i32| {
        format!(
            "{}\n",
            json!({ "drained_at": n, "from_alias": "ann", "to_alias": "bob", "content": "same" })
        )
    };
    let mut files = room("hall", &json!({}), &json!([]), &lines.concat());
    files.push(("registry.json", REGISTRY.into()));
    files.push(("archive/s-b.jsonl", row(1) + &row(2)));
    let from = older_root(&world, "older", &files);
    migrate(&world, &from);
    let more = line(5.0, "ann", "line 5");
    write(&from, "rooms/hall/history.jsonl", &(lines[2..].concat() + &more));
    write(&from, "archive/s-b.jsonl", &(row(2) + &row(3)));
    migrate(&world, &from);
    let copy = world.path().join("copy");
    fs::rename(&from, &copy).expect("renamed");
    migrate(&world, &copy);
    assert_eq!(
        texts(&room_history(&world, "hall")),
        ["line 1", "line 2", "line 3", "line 4", "line 5"]
    );
    assert_eq!(contents(&history(&world, "bob")).len(), 3);
}

fn mail_that_the_older_program_delivers_between_two_imports_comes_in_once() {
    let world = World::new();
    let row = |text: &str| json!({ "from_alias": "ann", "to_alias": "bob", "content": text });
    let from = older_root(
        &world,
        "older",
        &[
            ("registry.json", REGISTRY.into()),
            ("s-b.inbox.json", json!([row("ping"), row("ping")]).to_string()),
        ],
    );
    migrate(&world, &from);
    let drained = |n: i32| {
        let mut row = row("ping");
        row["drained_at"] = json!(n);
        format!("{row}\n")
    };
    // The agent reads one of the two, and gets an equal message.
    write(&from, "archive/s-b.jsonl", &drained(1));
    write(&from, "s-b.inbox.json", &json!([row("ping"), row("ping")]).to_string());
    migrate(&world, &from);
    assert_eq!(contents(&peek(&world, "s-b")), ["ping"; 3]);
    assert_eq!(contents(&history(&world, "bob")), [""; 0]);
    // It reads all, and another program gives up the next one.
    write(&from, "archive/s-b.jsonl", &(drained(1) + &drained(2) + &drained(3)));
    let letter = json!({ "deleted_at": 9, "from_session_id": "s-b", "message": row("pong") });
    write(&from, "s-b.inbox.json", &json!([row("pong")]).to_string());
    migrate(&world, &from);
    write(&from, "dead-letter.jsonl", &format!("{letter}\n"));
    write(&from, "s-b.inbox.json", "[]");
    migrate(&world, &from);
    assert_eq!(contents(&peek(&world, "s-b")), ["ping", "ping", "ping", "pong"]);
    assert_eq!(dead_letters(&world), json!([]));
}

fn an_import_waits_while_the_older_program_moves_mail() {
    let world = World::new();
    let from = older_root(
        &world,
        "older",
        &[("registry.json", REGISTRY.into()), ("registry.json.lock", String::new())],
    );
    let mut older = legacy::lock_of_older_program(&from.join("registry.json.lock"));
    let path = from.display().to_string();
    let mut import =
        world.c2c(&["migrate", "--from", &path]).stdout(Stdio::null()).spawn().expect("starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !legacy::opened_by(import.id(), &from.join("registry.json.lock")) {
        assert!(
            Instant::now() < deadline && import.try_wait().expect("asked").is_none(),
            "did not wait"
        );
        std::thread::yield_now();
    }
    drop(older.stdin.take());
    older.wait().expect("ends");
    assert!(import.wait().expect("ends").success());
}

crate::harness::tests! {
    fast:
        lines_that_an_older_program_adds_during_the_import_come_in_once,
        a_history_that_was_shortened_or_copied_is_not_imported_again,
        mail_that_the_older_program_delivers_between_two_imports_comes_in_once,
        an_import_waits_while_the_older_program_moves_mail;
    slow:
        a_hundred_thousand_lines_come_in_once_in_bounded_memory,
        an_import_that_is_killed_again_and_again_is_complete_in_the_end;
}
