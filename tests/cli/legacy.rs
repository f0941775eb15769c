//! Do files that scripts or the older program wrote come in once, and go out as they were?

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{as_session, assert_private, tree};
use crate::support::{World, contents, run};

/// A root with files of the older program.
fn older(files: &[(&str, &str)]) -> World {
    let world = World::new();
    fs::create_dir(world.root()).unwrap();
    for (name, text) in files {
        fs::write(world.root().join(name), text).unwrap();
    }
    world
}

const REGISTRY: &str =
    r#"[{"session_id":"ses-b","alias":"relay-peer-b","pid":1,"pid_start_time":1}]"#;

fn row(text: &str) -> Value {
    json!({ "from_alias": "old-friend", "to_alias": "relay-peer-b", "content": text, "ts": 1e9 })
}

fn peek(world: &World) -> Vec<String> {
    let args = ["peek-inbox", "--session-id", "ses-b", "--json"];
    contents(&as_session(world, "x", &args).ok().json())
}

fn poll(world: &World) -> Vec<String> {
    let args = ["poll-inbox", "--session-id", "ses-b", "--json"];
    contents(&as_session(world, "x", &args).ok().json())
}

#[test]
fn a_registry_written_by_hand_works_as_in_the_examples() {
    let world = older(&[("registry.json", REGISTRY)]);
    let listed = run(world.c2c(&["list", "--json"])).ok().json();
    assert_eq!(listed[0]["alias"], "relay-peer-b");
    assert_eq!(listed[0]["session_id"], "ses-b");
    assert_eq!(listed[0]["alive"], false);
    let sent = run(world.c2c(&["send", "relay-peer-b", "hello", "--json"])).ok().json();
    assert_eq!((&sent["queued"], &sent["recipient_state"]), (&json!(true), &json!("dead")));
    let seen = run(world.c2c(&["peek-inbox", "--session-id", "ses-b"])).ok().out;
    assert_eq!(seen, "[cli-tester] hello\n");
    assert_eq!(poll(&world), ["hello"]);
    assert_eq!(fs::read_to_string(world.root().join("registry.json")).unwrap(), REGISTRY);
}

#[test]
fn an_older_inbox_is_merged_when_read_and_imported_once() {
    let inbox = json!([row("one"), row("two"), row("two")]).to_string();
    let world = older(&[("registry.json", REGISTRY), ("ses-b.inbox.json", &inbox)]);
    let before = tree(&world.root());
    assert_eq!(peek(&world), ["one", "two", "two"]);
    run(world.c2c(&["list"])).ok();
    run(world.c2c(&["health"])).ok();
    assert!(tree(&world.root()) == before, "reading wrote");
    assert_eq!(poll(&world), ["one", "two", "two"]);
    assert_eq!(poll(&world), [""; 0]);
    // The older program writes on: what is new comes in, what was there does not again.
    let path = world.root().join("ses-b.inbox.json");
    fs::write(&path, json!([row("one"), row("two"), row("two"), row("three")]).to_string())
        .unwrap();
    assert_eq!(peek(&world), ["three"]);
    run(world.c2c(&["send", "relay-peer-b", "four"])).ok();
    fs::write(&path, json!([row("three")]).to_string()).unwrap();
    assert_eq!(poll(&world), ["three", "four"]);
    assert_eq!(poll(&world), [""; 0]);
}

#[test]
fn a_message_id_keeps_a_row_from_coming_in_twice() {
    let world = older(&[("registry.json", REGISTRY)]);
    let path = world.root().join("ses-b.inbox.json");
    let with_id = |text: &str, ts: f64| {
        let mut row = row(text);
        row["message_id"] = json!("old-1");
        row["ts"] = json!(ts);
        json!([row]).to_string()
    };
    fs::write(&path, with_id("hi", 1.0)).unwrap();
    assert_eq!(poll(&world), ["hi"]);
    fs::write(&path, with_id("hi", 2.5)).unwrap();
    assert_eq!(poll(&world), [""; 0]);
    let trace = run(world.c2c(&["trace", "old-1", "--json"])).ok().json();
    assert_eq!(trace.as_array().unwrap().len(), 1);
    assert_eq!(trace[0]["from_alias"], "old-friend");
}

#[test]
fn one_message_to_several_comes_in_for_each_of_them() {
    let registry = r#"[{"session_id":"s1","alias":"a1"},{"session_id":"s2","alias":"a2"}]"#;
    let world = older(&[("registry.json", registry)]);
    for n in [1, 2] {
        let row = json!({
            "from_alias": "x",
            "to_alias": format!("a{n}#room"),
            "content": "for all",
            "message_id": "one-id",
        });
        let path = world.root().join(format!("s{n}.inbox.json"));
        fs::write(path, json!([row]).to_string()).unwrap();
    }
    for session in ["s1", "s2"] {
        let args = ["poll-inbox", "--session-id", session, "--json"];
        let poll = || contents(&as_session(&world, "x", &args).ok().json());
        assert_eq!(poll(), ["for all"], "{session}");
        assert_eq!(poll(), [""; 0], "{session}");
    }
}

#[test]
fn an_older_outbox_waits_in_ours() {
    let line =
        r#"{"from_alias":"relay-peer-b","to_alias":"dave@far","content":"x","message_id":"o"}"#;
    let world =
        older(&[("registry.json", REGISTRY), ("remote-outbox.jsonl", &format!("{line}\n{{half"))]);
    for _ in 0..2 {
        run(world.c2c(&["send", "relay-peer-b", "import now"])).ok();
        let health = run(world.c2c(&["health", "--json"])).ok().json();
        assert_eq!(health["outbox_depth"], 1);
    }
}

#[test]
fn what_is_no_json_yet_or_no_text_at_all_stops_nothing() {
    let world = older(&[("registry.json", REGISTRY), ("ses-b.inbox.json", "[{\"from_al")]);
    fs::write(world.root().join("noise.inbox.json"), b"\xff\xfe\x00").unwrap();
    fs::create_dir(world.root().join("folder.inbox.json")).unwrap();
    fs::write(world.root().join("odd.inbox.json"), "[1, null, {}, {\"content\": 7}]").unwrap();
    let listed = run(world.c2c(&["list", "--json"])).ok().json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    run(world.c2c(&["send", "relay-peer-b", "new"])).ok();
    fs::write(world.root().join("ses-b.inbox.json"), json!([row("whole now")]).to_string())
        .unwrap();
    assert_eq!(poll(&world), ["new", "whole now"]);
}

#[test]
fn a_mirror_shows_the_log_in_private_files() {
    let world = World::new();
    world.register(&["alice", "bob"]);
    world.run("alice", &["send", "bob", "unread"]).ok();
    world.run("alice", &["send", "dave@far", "outside"]).ok();
    world.run("alice", &["rooms", "create", "team"]).ok();
    world.run("alice", &["rooms", "send", "team", "said"]).ok();
    let mut command = world.program("sh", &["-c", "umask 000; exec \"$0\" mirror views"]);
    run({
        command.arg(env!("CARGO_BIN_EXE_c2c"));
        command
    })
    .ok();
    let views = world.path().join("views");
    assert_private(&views);
    tree(&views).keys().for_each(|name| assert_private(Path::new(name)));
    let read = |name: &str| fs::read_to_string(views.join(name)).unwrap();
    let value = |name: &str| serde_json::from_str::<Value>(&read(name)).unwrap();
    let registry = value("registry.json");
    assert_eq!(
        (&registry[0]["alias"], &registry[1]["session_id"]),
        (&json!("alice"), &json!("s-bob"))
    );
    assert_eq!(contents(&value("s-bob.inbox.json")), ["unread"]);
    assert_eq!(value("s-alice.inbox.json"), json!([]));
    assert_eq!(value("remote-outbox.jsonl")["to_alias"], "dave@far");
    assert_eq!(value("rooms/team/history.jsonl")["content"], "said");
    assert_eq!(value("rooms/team/members.json")[0]["alias"], "alice");
    assert_eq!(world.poll("bob"), ["unread"]);
}

#[test]
fn a_mirror_that_follows_shows_what_comes() {
    let world = World::new();
    world.register(&["alice", "bob"]);
    for target in ["views", "--in-place"] {
        let mut command = world.c2c(&["mirror", "--follow", target]);
        let mut mirror = command.stdout(Stdio::null()).spawn().expect("starts");
        let folder = if target == "views" { world.path().join(target) } else { world.root() };
        let shows = |wanted: &[&str]| {
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                // A file is replaced as a whole: it is there with all its rows, or not yet.
                let text = fs::read_to_string(folder.join("s-bob.inbox.json"));
                let rows = text.map(|text| serde_json::from_str(&text).expect("whole"));
                if rows.is_ok_and(|rows| contents(&rows) == wanted) {
                    return;
                }
                assert!(Instant::now() < deadline, "{target} never showed {wanted:?}");
                std::thread::yield_now();
            }
        };
        shows(&[]);
        world.run("alice", &["send", "bob", "one"]).ok();
        shows(&["one"]);
        world.run("alice", &["send", "bob", "two"]).ok();
        shows(&["one", "two"]);
        assert_eq!(world.poll("bob"), ["one", "two"]);
        shows(&[]);
        mirror.kill().expect("ours");
        mirror.wait().expect("ends");
    }
}

#[test]
fn a_mirror_in_place_is_not_imported_back() {
    let world = World::new();
    world.register(&["alice", "bob"]);
    world.run("alice", &["send", "bob", "once"]).ok();
    world.run("alice", &["send", "dave@far", "outside"]).ok();
    world.run("alice", &["mirror", "--in-place"]).ok();
    assert!(world.root().join("s-bob.inbox.json").exists());
    assert_eq!(world.poll("bob"), ["once"]);
    world.run("alice", &["send", "bob", "again"]).ok();
    assert_eq!(world.poll("bob"), ["again"]);
    let health = world.run("alice", &["health", "--json"]).ok().json();
    assert_eq!((&health["outbox_depth"], &health["registrations"]), (&json!(1), &json!(2)));
    // A row that somebody else adds to a mirrored file is foreign all the same.
    let path = world.root().join("s-bob.inbox.json");
    let mut rows: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    rows.as_array_mut().unwrap().push(row("added"));
    fs::write(&path, rows.to_string()).unwrap();
    assert_eq!(world.poll("bob"), ["added"]);
}

#[test]
fn a_mirror_in_place_loses_no_row_that_was_not_imported_yet() {
    for in_place in [true, false] {
        let inbox = json!([row("only in the file")]).to_string();
        let world = older(&[("registry.json", REGISTRY), ("ses-b.inbox.json", &inbox)]);
        let root = world.root().display().to_string();
        let target = if in_place { "--in-place" } else { &root };
        run(world.c2c(&["mirror", target])).ok();
        assert_eq!(poll(&world), ["only in the file"], "mirror {target}");
    }
}

#[test]
fn a_whole_older_root_is_migrated_once_and_left_alone() {
    let inbox = json!([row("one"), row("two")]).to_string();
    let from = older(&[("registry.json", REGISTRY), ("ses-b.inbox.json", &inbox)]);
    let before = tree(&from.root());
    let world = World::new();
    let path = from.root().display().to_string();
    let dry = run(world.c2c(&["migrate", "--from", &path, "--dry-run", "--json"])).ok().json();
    assert_eq!(dry["found"], json!({ "sessions": 1, "messages": 2 }));
    assert!(!world.root().exists());
    let migrate = || run(world.c2c(&["migrate-broker", "--from", &path, "--json"])).ok().json();
    assert_eq!(migrate()["imported"], json!({ "sessions": 1, "messages": 2 }));
    assert_eq!(migrate()["imported"], json!({ "sessions": 0, "messages": 0 }));
    assert_eq!(poll(&world), ["one", "two"]);
    assert_eq!(migrate()["imported"], json!({ "sessions": 0, "messages": 0 }));
    assert_eq!(poll(&world), [""; 0]);
    assert!(tree(&from.root()) == before, "the older root was changed");
    run(world.c2c(&["migrate", "--from", "/no/such/root"])).refused("bad_root");
}

#[test]
fn nothing_in_an_older_file_controls_a_terminal() {
    let nasty = "x\u{1b}]0;owned\u{7}\r\u{9b}2J\u{7f}";
    let row = json!({
        "from_alias": format!("eve@{nasty}"),
        "to_alias": nasty,
        "content": nasty,
        "message_id": format!("id-{nasty}"),
    });
    let inbox = json!([row]).to_string();
    let world = older(&[("registry.json", REGISTRY), ("ses-b.inbox.json", &inbox)]);
    let by = |args: &[&str]| as_session(&world, "x", &[args, &["-s", "ses-b"]].concat()).ok();
    let mut shown = by(&["listen", "--once"]).out + &by(&["peek-inbox"]).out;
    let peeked = by(&["peek-inbox", "--json"]).json();
    let id = peeked[0]["message_id"].as_str().unwrap().to_owned();
    shown += &by(&["poll-inbox", "--envelope", "--manual"]).out;
    shown += &by(&["history"]).out;
    shown += &by(&["trace", &id]).out;
    assert!(shown.contains("owned"), "{shown:?}");
    shown += &by(&["history", "--json"]).out;
    shown += &by(&["trace", &id, "--json"]).out;
    let tool: [&[&str]; 7] = [
        &["inspect", "--bodies"],
        &["inspect", "--bodies", "-o", "json"],
        &["trace", &id],
        &["state"],
        &["state", "--json"],
        &["stats"],
        &["export"],
    ];
    let told = tool.map(|args| run(world.log_tool(args)).ok().out);
    let events = told[6].lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert!(events.into_iter().any(|row| row["payload"]["body"] == nasty), "{told:?}");
    shown += &told.concat();
    assert!(shown.lines().flat_map(str::chars).all(|c| !c.is_control()), "{shown:?}");
}

/// Holds the older program's lock of one file until the child's standard input ends.
fn older_program_with_lock(world: &World, name: &str) -> Option<std::process::Child> {
    use std::io::BufRead;
    let script = "import fcntl, sys\nf = open(sys.argv[1], 'w')\nfcntl.lockf(f, fcntl.LOCK_EX)\n\
                  print('held', flush=True)\nsys.stdin.read()\n";
    let mut python = std::process::Command::new("python3");
    python.args(["-c", script]).arg(world.root().join(name));
    python.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = match python.spawn() {
        Ok(child) => child,
        Err(_) if std::env::var_os("C2C_TEST_REQUIRE_MCP").is_none() => {
            crate::support::skipped("there is no python3 here");
            return None;
        }
        Err(e) => panic!("python3: {e}"),
    };
    let mut line = String::new();
    let out = child.stdout.as_mut().expect("piped");
    std::io::BufReader::new(out).read_line(&mut line).expect("a line");
    assert_eq!(line, "held\n");
    Some(child)
}

#[test]
fn an_import_and_a_mirror_in_place_wait_for_the_older_programs_lock() {
    for (lock, args) in [
        ("registry.json.lock", ["send", "old", "hi"].as_slice()),
        ("registry.json.lock", &["migrate"]),
        ("registry.json.lock", &["mirror", "--in-place"]),
        ("s-old.inbox.lock", &["mirror", "--in-place"]),
    ] {
        let world = World::new();
        world.register(&["alice"]);
        let row = r#"[{"session_id":"s-old","alias":"old"}]"#;
        std::fs::write(world.root().join("registry.json"), row).expect("written");
        let Some(mut older) = older_program_with_lock(&world, lock) else { return };
        let mut command = world.c2c(args);
        command.env("C2C_MCP_SESSION_ID", "s-alice").stdout(std::process::Stdio::null());
        let mut ours = command.spawn().expect("starts");
        // The kernel shows who waits for the lock; here that is whoever tries again and again.
        let lock_file = world.root().join(lock);
        while !opened_by(ours.id(), &lock_file) {
            assert!(ours.try_wait().expect("asked").is_none(), "{args:?} did not wait for {lock}");
            std::thread::yield_now();
        }
        assert!(ours.try_wait().expect("asked").is_none(), "{args:?} did not wait for {lock}");
        drop(older.stdin.take());
        older.wait().expect("ends");
        assert!(ours.wait().expect("ends").success(), "{args:?}");
    }
}

/// Whether a process has a file open.
fn opened_by(pid: u32, path: &std::path::Path) -> bool {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.any(|target| target == path)
}

#[test]
fn the_same_row_without_an_id_in_two_older_roots_comes_in_from_both() {
    let world = World::new();
    world.register(&["alice"]);
    for old in ["one", "two"] {
        let dir = world.path().join(old);
        std::fs::create_dir(&dir).expect("made");
        let registry = r#"[{"session_id":"s-bob","alias":"bob"}]"#;
        std::fs::write(dir.join("registry.json"), registry).expect("written");
        let inbox = r#"[{"from_alias":"carol","to_alias":"bob","content":"ping"}]"#;
        std::fs::write(dir.join("s-bob.inbox.json"), inbox).expect("written");
        for _ in 0..2 {
            world.run("alice", &["migrate", "--from", dir.to_str().expect("a path")]).ok();
        }
    }
    assert_eq!(world.poll("bob"), ["ping", "ping"]);
}

#[test]
fn more_older_inboxes_than_files_may_be_open_come_in_and_go_out() {
    let count = 400;
    let registry: Vec<Value> = (0..count)
        .map(|n| json!({ "session_id": format!("s{n}"), "alias": format!("a{n}") }))
        .collect();
    let world = older(&[("registry.json", &json!(registry).to_string())]);
    for n in 0..count {
        let row = json!([{ "from_alias": "x", "to_alias": format!("a{n}"), "content": "hi" }]);
        fs::write(world.root().join(format!("s{n}.inbox.json")), row.to_string()).unwrap();
    }
    let limited = |args: &str| {
        let script = format!("ulimit -Sn 300; exec \"$0\" {args}");
        let mut command = world.program("sh", &["-c", &script]);
        run({
            command.arg(env!("CARGO_BIN_EXE_c2c"));
            command
        })
        .ok()
    };
    limited("send a7 hello");
    assert!(limited("mirror --in-place").out.contains(&format!("Wrote {} files", count + 4)));
    let polled = run(world.c2c(&["poll-inbox", "--session-id", "s7", "--json"])).ok().json();
    assert_eq!(contents(&polled), ["hi", "hello"]);
}
