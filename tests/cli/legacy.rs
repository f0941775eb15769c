//! JSON files of the older program: import, mirror and migration.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{as_session, assert_private, tree};
use crate::harness::skip;
use crate::support::{World, contents, run};

/// A root that contains files of the older program.
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

fn a_handwritten_registry_works_as_in_the_examples() {
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

fn an_older_inbox_is_merged_when_read_and_imported_once() {
    let inbox = json!([row("one"), row("two"), row("two")]).to_string();
    let world = older(&[("registry.json", REGISTRY), ("ses-b.inbox.json", &inbox)]);
    let before = tree(&world.root());
    assert_eq!(peek(&world), ["one", "two", "two"]);
    run(world.c2c(&["list"])).ok();
    run(world.c2c(&["health"])).ok();
    assert!(tree(&world.root()) == before, "a reading command wrote");
    assert_eq!(poll(&world), ["one", "two", "two"]);
    assert_eq!(poll(&world), [""; 0]);
    // The older program continues to write: new rows are imported, known rows are not.
    let path = world.root().join("ses-b.inbox.json");
    fs::write(&path, json!([row("one"), row("two"), row("two"), row("three")]).to_string())
        .unwrap();
    assert_eq!(peek(&world), ["three"]);
    run(world.c2c(&["send", "relay-peer-b", "four"])).ok();
    fs::write(&path, json!([row("three")]).to_string()).unwrap();
    assert_eq!(poll(&world), ["three", "four"]);
    assert_eq!(poll(&world), [""; 0]);
}

fn an_older_message_with_an_id_is_imported_once() {
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

fn an_older_message_to_several_recipients_is_imported_for_each() {
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

fn an_older_outbox_is_imported_once() {
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

fn incomplete_or_binary_older_files_do_not_stop_a_command() {
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

fn a_mirror_writes_the_log_to_private_files() {
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

fn a_following_mirror_shows_new_events() {
    let world = World::new();
    world.register(&["alice", "bob"]);
    for target in ["views", "--in-place"] {
        let mut command = world.c2c(&["mirror", "--follow", target]);
        let mut mirror = command.stdout(Stdio::null()).spawn().expect("starts");
        let folder = if target == "views" { world.path().join(target) } else { world.root() };
        let shows = |expected: &[&str]| {
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                // A file is replaced atomically: it has all its rows, or does not exist yet.
                let text = fs::read_to_string(folder.join("s-bob.inbox.json"));
                let rows = text.map(|text| serde_json::from_str(&text).expect("whole"));
                if rows.is_ok_and(|rows| contents(&rows) == expected) {
                    return;
                }
                assert!(Instant::now() < deadline, "{target} never showed {expected:?}");
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
    // A row that another program adds to a mirrored file is imported.
    let path = world.root().join("s-bob.inbox.json");
    let mut rows: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    rows.as_array_mut().unwrap().push(row("added"));
    fs::write(&path, rows.to_string()).unwrap();
    assert_eq!(world.poll("bob"), ["added"]);
}

fn a_mirror_in_place_imports_pending_rows_first() {
    for in_place in [true, false] {
        let inbox = json!([row("only in the file")]).to_string();
        let world = older(&[("registry.json", REGISTRY), ("ses-b.inbox.json", &inbox)]);
        let root = world.root().display().to_string();
        let target = if in_place { "--in-place" } else { &root };
        run(world.c2c(&["mirror", target])).ok();
        assert_eq!(poll(&world), ["only in the file"], "mirror {target}");
    }
}

fn an_older_root_is_migrated_once_and_not_changed() {
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
    run(world.c2c(&["migrate", "--from", "/no/such/root"])).fails_with("bad_root");
}

fn escape_sequences_in_an_older_file_never_reach_a_terminal() {
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
    let outputs = tool.map(|args| run(world.log_tool(args)).ok().out);
    let events = outputs[6].lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert!(events.into_iter().any(|row| row["payload"]["body"] == nasty), "{outputs:?}");
    shown += &outputs.concat();
    assert!(shown.lines().flat_map(str::chars).all(|c| !c.is_control()), "{shown:?}");
}

/// Holds the older program's lock of one file of the root in use.
fn older_program_with_lock(world: &World, name: &str) -> std::process::Child {
    lock_of_older_program(&world.root().join(name))
}

/// Holds the older program's lock until the child's standard input ends.
pub fn lock_of_older_program(path: &Path) -> std::process::Child {
    use std::io::BufRead;
    let script = "import fcntl, sys\nf = open(sys.argv[1], 'w')\nfcntl.lockf(f, fcntl.LOCK_EX)\n\
                  print('held', flush=True)\nsys.stdin.read()\n";
    let mut python = std::process::Command::new("python3");
    python.args(["-c", script]).arg(path);
    python.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = match python.spawn() {
        Ok(child) => child,
        Err(_) if std::env::var_os("C2C_TEST_REQUIRE_MCP").is_none() => {
            skip("python3 is not installed")
        }
        Err(e) => panic!("python3: {e}"),
    };
    let mut line = String::new();
    let out = child.stdout.as_mut().expect("piped");
    std::io::BufReader::new(out).read_line(&mut line).expect("a line");
    assert_eq!(line, "held\n");
    child
}

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
        let mut older = older_program_with_lock(&world, lock);
        let mut command = world.c2c(args);
        command.env("C2C_MCP_SESSION_ID", "s-alice").stdout(std::process::Stdio::null());
        let mut command_process = command.spawn().expect("starts");
        // The kernel lists only blocked waiters. c2c retries, and so has the file open.
        let lock_file = world.root().join(lock);
        while !opened_by(command_process.id(), &lock_file) {
            assert!(
                command_process.try_wait().expect("asked").is_none(),
                "{args:?} did not wait for {lock}"
            );
            std::thread::yield_now();
        }
        assert!(
            command_process.try_wait().expect("asked").is_none(),
            "{args:?} did not wait for {lock}"
        );
        drop(older.stdin.take());
        older.wait().expect("ends");
        assert!(command_process.wait().expect("ends").success(), "{args:?}");
    }
}

/// Whether a process has a file open.
pub fn opened_by(pid: u32, path: &std::path::Path) -> bool {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.any(|target| target == path)
}

fn equal_rows_without_ids_are_imported_from_each_older_root() {
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

fn more_older_inboxes_than_open_files_are_imported_and_exported() {
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

crate::harness::tests! {
    fast:
        a_handwritten_registry_works_as_in_the_examples,
        an_older_inbox_is_merged_when_read_and_imported_once,
        an_older_message_with_an_id_is_imported_once,
        an_older_message_to_several_recipients_is_imported_for_each,
        an_older_outbox_is_imported_once,
        incomplete_or_binary_older_files_do_not_stop_a_command,
        a_mirror_writes_the_log_to_private_files,
        a_following_mirror_shows_new_events,
        a_mirror_in_place_is_not_imported_back,
        a_mirror_in_place_imports_pending_rows_first,
        an_older_root_is_migrated_once_and_not_changed,
        escape_sequences_in_an_older_file_never_reach_a_terminal,
        an_import_and_a_mirror_in_place_wait_for_the_older_programs_lock,
        equal_rows_without_ids_are_imported_from_each_older_root,
        more_older_inboxes_than_open_files_are_imported_and_exported;
}
