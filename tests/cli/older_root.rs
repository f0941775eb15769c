//! Whole roots of the older program: rooms and their history, dead letters, delivered messages.
//!
//! `tests/fixtures/older-root` was written by the older program itself; its process ids are 1.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{as_session, tree};
use crate::support::{World, contents, run};

pub fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    fs::write(path, text).expect("written");
}

/// A directory of the world with these files.
pub fn older_root(world: &World, name: &str, files: &[(&str, String)]) -> PathBuf {
    let root = world.path().join(name);
    fs::create_dir_all(&root).expect("made");
    files.iter().for_each(|(file, text)| write(&root, file, text));
    root
}

/// The fixture, copied to the root in use or to another directory of the world.
fn copy_fixture(to: &Path) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/older-root");
    for (name, content) in tree(&fixture) {
        let target = to.join(Path::new(&name).strip_prefix(&fixture).expect("in the fixture"));
        match Path::new(&name).is_dir() {
            true => fs::create_dir_all(target).expect("made"),
            false => {
                fs::create_dir_all(target.parent().expect("a directory")).expect("made");
                fs::write(target, content).expect("written");
            }
        }
    }
}

pub fn migrate(world: &World, from: &Path) -> Value {
    let from = from.display().to_string();
    run(world.c2c(&["migrate", "--from", &from, "--json"])).ok().json()
}

pub fn room_history(world: &World, room: &str) -> Vec<Value> {
    let args = ["rooms", "history", room, "--limit", "0", "--json"];
    run(world.c2c(&args)).ok().json().as_array().expect("rows").clone()
}

/// The history of a room, read by a member.
fn room_history_of(world: &World, session: &str, room: &str) -> Vec<Value> {
    let args = ["rooms", "history", room, "--limit", "0", "--json"];
    let mut command = world.c2c(&args);
    command.env("C2C_MCP_SESSION_ID", session);
    run(command).ok().json().as_array().expect("rows").clone()
}

pub fn texts(rows: &[Value]) -> Vec<String> {
    contents(&json!(rows))
}

pub fn peek(world: &World, session: &str) -> Value {
    as_session(world, "x", &["peek-inbox", "--session-id", session, "--json"]).ok().json()
}

pub fn history(world: &World, alias: &str) -> Value {
    run(world.c2c(&["history", "--alias", alias, "--limit", "999", "--json"])).ok().json()
}

pub fn dead_letters(world: &World) -> Value {
    run(world.c2c(&["dead-letter", "--json", "--limit", "999"])).ok().json()
}

pub const REGISTRY: &str = r#"[{"session_id":"s-a","alias":"ann","registered_at":1700000000.1},{"session_id":"s-b","alias":"bob"}]"#;

pub fn line(ts: f64, from: &str, text: &str) -> String {
    format!("{}\n", json!({ "ts": ts, "from_alias": from, "content": text }))
}

/// The files of a room.
pub fn room(name: &str, meta: &Value, members: &Value, lines: &str) -> Vec<(&'static str, String)> {
    let path = |file: &str| -> &'static str { format!("rooms/{name}/{file}").leak() };
    vec![
        (path("meta.json"), meta.to_string()),
        (path("members.json"), members.to_string()),
        (path("history.jsonl"), lines.to_owned()),
    ]
}

fn check_fixture(world: &World) {
    let lines = room_history(world, "lounge");
    let expected = ["ann joined room lounge", "bob joined room lounge", "in the older room"];
    assert_eq!(texts(&lines), expected);
    assert_eq!(lines[2]["ts"], "2026-12-01T01:16:01.196Z");
    assert!(lines.iter().all(|line| line.get("pending").is_none()), "{lines:?}");
    let members = run(world.c2c(&["rooms", "members", "lounge", "--json"])).ok().json();
    assert_eq!(members[0]["alias"], "ann");
    assert_eq!(members[1]["joined_at"], "2026-12-01T01:16:01.144Z");
    let unread = peek(world, "ses-a");
    assert_eq!(contents(&unread), ["ann joined room lounge", "bob joined room lounge"]);
    assert_eq!(
        (&unread[0]["room_id"], &unread[0]["to_alias"]),
        (&json!("lounge"), &json!("ann#lounge"))
    );
    assert_eq!(contents(&peek(world, "ses-b")), [""; 0]);
    let drained = history(world, "bob");
    assert_eq!(
        contents(&drained)[..3],
        ["in the older room", "bob joined room lounge", "older message 3 é 日本"]
    );
    assert_eq!(drained.as_array().expect("rows").len(), 5);
    assert_eq!(drained[4]["drained_at"], "2026-12-01T01:16:01.315Z");
    assert_eq!((&drained[0]["room_id"], drained[4].get("room_id")), (&json!("lounge"), None));
}

fn a_root_of_the_older_program_is_migrated_whole_and_once() {
    let world = World::new();
    let from = world.path().join("older");
    copy_fixture(&from);
    let before = tree(&from);
    let all = json!({
        "sessions": 3, "messages": 2, "rooms": 1, "members": 2, "room_messages": 3, "history": 5,
    });
    let path = from.display().to_string();
    let dry = run(world.c2c(&["migrate", "--from", &path, "--dry-run", "--json"])).ok().json();
    assert_eq!(dry["found"], all);
    assert!(!world.root().exists());
    assert_eq!(migrate(&world, &from)["imported"], all);
    check_fixture(&world);
    let again = migrate(&world, &from);
    assert_eq!(
        (&again["found"], &again["imported"]),
        (&all, &json!({ "sessions": 0, "messages": 0 }))
    );
    check_fixture(&world);
    assert!(tree(&from) == before, "the older root was changed");
    // The room continues where the older program left it.
    let mut send = world.c2c(&["rooms", "send", "lounge", "new"]);
    send.env("C2C_MCP_SESSION_ID", "ses-b");
    run(send).ok();
    let lines = room_history(&world, "lounge");
    assert_eq!((&lines[3]["content"], &lines[3]["room_sequence"]), (&json!("new"), &json!(4)));
    let polled = as_session(&world, "x", &["poll-inbox", "--session-id", "ses-a", "--json"]);
    assert_eq!(contents(&polled.ok().json()).len(), 3);
    assert_eq!(contents(&peek(&world, "ses-a")), [""; 0]);
}

fn a_root_of_the_older_program_can_be_used_in_place() {
    let world = World::new();
    copy_fixture(&world.root());
    let before = tree(&world.root());
    check_fixture(&world);
    assert!(tree(&world.root()) == before, "a reading command wrote");
    run(world.c2c(&["send", "cleo", "hi"])).ok();
    check_fixture(&world);
    run(world.c2c(&["migrate"])).ok();
    check_fixture(&world);
}

/// Rows without the keys that a mirror adds.
fn plain(rows: impl IntoIterator<Item = Value>, keys: &[&str]) -> Vec<Value> {
    let pick =
        |row: &Value| keys.iter().map(|key| ((*key).to_owned(), row[*key].clone())).collect();
    rows.into_iter().map(|row| Value::Object(pick(&row))).collect()
}

fn rows_of(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a file");
    match serde_json::from_str(&text) {
        Ok(Value::Array(rows)) => rows,
        _ => text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect(),
    }
}

fn a_mirror_of_a_migrated_root_has_the_same_rows() {
    let world = World::new();
    let from = world.path().join("older");
    copy_fixture(&from);
    let letter = json!({
        "deleted_at": 1700000100.5, "from_session_id": "s-gone",
        "message": { "from_alias": "ann", "to_alias": "gone#lounge", "content": "swept", "ts": 1700000000.1 },
    });
    write(&from, "dead-letter.jsonl", &format!("{letter}\n"));
    migrate(&world, &from);
    let views = world.path().join("views");
    run(world.c2c(&["mirror", "views"])).ok();
    for (name, keys) in [
        ("registry.json", &["session_id", "alias", "pid", "pid_start_time"][..]),
        ("ses-a.inbox.json", &["from_alias", "to_alias", "content"]),
        ("ses-b.inbox.json", &[]),
        ("rooms/lounge/history.jsonl", &["from_alias", "content"]),
        ("rooms/lounge/members.json", &["alias", "session_id"]),
        ("archive/ses-b.jsonl", &["session_id", "from_alias", "to_alias", "content"]),
        ("dead-letter.jsonl", &["deleted_at", "from_session_id"]),
    ] {
        let (older, mirrored) = (rows_of(&from.join(name)), rows_of(&views.join(name)));
        assert_eq!(plain(mirrored, keys), plain(older, keys), "{name}");
    }
    let mirrored = rows_of(&views.join("dead-letter.jsonl")).remove(0)["message"].clone();
    let keys = ["from_alias", "to_alias", "content", "ts"];
    assert_eq!(plain([mirrored], &keys), plain([letter["message"].clone()], &keys));
    for (name, key) in [
        ("rooms/lounge/history.jsonl", "ts"),
        ("rooms/lounge/members.json", "joined_at"),
        ("archive/ses-b.jsonl", "drained_at"),
    ] {
        let times = |root: &Path| -> Vec<f64> {
            rows_of(&root.join(name))
                .iter()
                .map(|row| row[key].as_f64().expect("seconds"))
                .collect()
        };
        let pairs = times(&from).into_iter().zip(times(&views));
        assert!(pairs.into_iter().all(|(older, own)| (older - own).abs() < 1e-6), "{name}");
    }
}

fn dead_letters_of_an_older_root_keep_their_cause_and_time() {
    let world = World::new();
    let letters = [
        json!({ "deleted_at": 1700000100.25, "from_session_id": "s-gone", "message":
            { "from_alias": "ann", "to_alias": "gone", "content": "swept", "ts": 1700000000 } }),
        json!({ "ts": 1700000200, "message_id": "m-2", "from_alias": "ann", "to_alias": "zoe",
            "content": "from a relay", "reason": "recipient_dead" }),
        json!({ "deleted_at": 1700000300, "from_session_id": "s-b", "message":
            { "from_alias": "ann", "to_alias": "bob#team", "content": "in a room" } }),
        json!({ "neither": "message nor fields" }),
    ];
    let text: String = letters.iter().map(|letter| format!("{letter}\n")).collect();
    let queued = json!({ "from_alias": "ann", "to_alias": "dave@far", "content": "given up",
        "enqueued_at": 1700000000, "dlq_reason": "max_attempts" });
    let from = older_root(
        &world,
        "older",
        &[
            ("registry.json", REGISTRY.into()),
            ("dead-letter.jsonl", text),
            ("remote-outbox-dlq.jsonl", format!("{queued}\n{{\"half")),
        ],
    );
    let migrated = migrate(&world, &from);
    assert_eq!(
        (&migrated["imported"]["dead_letters"], &migrated["invalid_rows"]),
        (&json!(4), &json!(1))
    );
    assert_eq!(migrate(&world, &from)["imported"], json!({ "sessions": 0, "messages": 0 }));
    let rows = dead_letters(&world);
    let row = |text: &str| {
        let rows = rows.as_array().expect("rows").iter();
        rows.clone().find(|row| row["message"]["content"] == text).expect(text).clone()
    };
    assert_eq!(row("swept")["reason"], "sweep");
    assert!(
        row("swept")["deleted_at"].as_str().expect("a time").starts_with("2023-11-14T22:15:00.25")
    );
    assert_eq!(row("from a relay")["reason"], "recipient_dead");
    assert_eq!(row("given up")["reason"], "max_attempts");
    // As in the older program, what a sweep took returns with the agent, and only that.
    let mut register = world.c2c(&["register", "--alias", "gone"]);
    register.env("C2C_MCP_SESSION_ID", "s-new");
    run(register).ok();
    assert_eq!(contents(&peek(&world, "s-new")), ["swept"]);
    let mut register = world.c2c(&["register", "--alias", "bob"]);
    register.env("C2C_MCP_SESSION_ID", "s-b");
    run(register).ok();
    let returned = peek(&world, "s-b");
    assert_eq!(
        (&returned[0]["content"], &returned[0]["room_id"]),
        (&json!("in a room"), &json!("team"))
    );
    assert_eq!(dead_letters(&world).as_array().expect("rows").len(), 2);
}

fn odd_rows_and_half_written_files_of_an_older_root_lose_no_other_row() {
    let world = World::new();
    let lines = [
        line(1.5, "ann", "first"),
        line(2.1, "c2c-system", ""),
        "\n[1, 2]\nnoise\n{\"from_alias\":\"ann\",\"ts\":3}\n".into(),
        // A program was killed in this line, and the next one continued it.
        format!(
            "{{\"ts\":3,\"from_alias\":\"ann\",\"cont{}",
            line(4.0, "bob", "after half a line")
        ),
        "{\"from_alias\":\"ann\",\"content\":\"without a time\"}\r\n".into(),
        "{\"ts\":5,\"from_alias\":\"b o b\",\"content\":\"half a \\ud83d smiley\"}\n".into(),
        line(6.0, "ann", "same"),
        line(6.0, "ann", "same"),
        "{\"ts\":7,\"from_alias\":\"ann\",\"content\":\"no line end\"}".into(),
    ];
    let members = json!([{ "alias": "ann" }, { "alias": "broker" }, 7, { "alias": "eve", "session_id": "../x", "joined_at": 9 }]);
    let mut files = room("odd", &json!({ "visibility": "strange" }), &members, &lines.concat());
    files.extend([
        ("registry.json", REGISTRY.into()),
        ("rooms/later/meta.json", "{\"visibility\":\"invite".into()),
        ("rooms/later/history.jsonl", line(1.0, "ann", "private")),
        ("rooms/bare/history.jsonl", line(1.0, "ann", "no description")),
        ("rooms/..bad/history.jsonl", line(1.0, "ann", "not a name")),
        (
            "archive/s-b.jsonl",
            "{\"drained_at\":1,\"to_alias\":\"bob\",\"content\":\"x\"}\n{\"dra".into(),
        ),
    ]);
    let from = older_root(&world, "older", &files);
    let migrated = migrate(&world, &from);
    assert_eq!(migrated["incomplete_files"], json!(["rooms/later/meta.json"]));
    let expected = [
        "first",
        "",
        "after half a line",
        "without a time",
        "half a \u{fffd} smiley",
        "same",
        "same",
        "no line end",
    ];
    let rows = room_history(&world, "odd");
    assert_eq!(texts(&rows), expected);
    assert_eq!(
        (&rows[1]["ts"], &rows[4]["from_alias"]),
        (&json!("1970-01-01T00:00:02.100Z"), &json!("unknown"))
    );
    assert_eq!(rows[3]["ts"], rows[2]["ts"]);
    assert_eq!(texts(&room_history(&world, "bare")), ["no description"]);
    assert_eq!(contents(&history(&world, "bob")), ["x"]);
    let named = |rooms: &Value| -> Vec<String> {
        rooms
            .as_array()
            .expect("rooms")
            .iter()
            .map(|row| row["room_id"].as_str().expect("a name").to_owned())
            .collect()
    };
    let listed = run(world.c2c(&["rooms", "list", "--json"])).ok().json();
    assert_eq!(named(&listed), ["bare", "odd"]);
    assert_eq!(listed[1]["members"], json!(["ann", "eve"]));
    // The description becomes whole, and a line is added to what was the last one.
    write(
        &from,
        "rooms/later/meta.json",
        r#"{"visibility":"invite_only","invited_members":["bob"],"created_by":"ann"}"#,
    );
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(from.join("rooms/odd/history.jsonl"))
        .expect("opened");
    file.write_all(format!("\n{}", line(8.0, "ann", "last")).as_bytes()).expect("written");
    assert_eq!(migrate(&world, &from)["imported"]["room_messages"], 2);
    assert_eq!(texts(&room_history(&world, "odd")).last().map(String::as_str), Some("last"));
    assert_eq!(texts(&room_history_of(&world, "s-b", "later")), ["private"]);
    let listed = run(world.c2c(&["rooms", "list", "--json"])).ok().json();
    assert_eq!(named(&listed), ["bare", "odd"], "an agent that is not invited sees the room");
}

fn private_rooms_of_older_roots_do_not_become_one() {
    let world = World::new();
    let roots = ["one", "two"].map(|name| {
        let members = json!([{ "alias": format!("{name}-a"), "session_id": format!("s-{name}") }]);
        let meta = json!({ "visibility": "invite_only", "invited_members": ["guest"], "created_by": format!("{name}-a") });
        let mut files = room("core", &meta, &members, &line(1.0, "x", name));
        let inbox = json!([{ "from_alias": "x", "to_alias": format!("{name}-a#core"), "content": name }]);
        files.push((format!("s-{name}.inbox.json").leak(), inbox.to_string()));
        older_root(&world, name, &files)
    });
    for _ in 0..2 {
        roots.iter().for_each(|root| drop(migrate(&world, root)));
    }
    assert_eq!(texts(&room_history_of(&world, "s-one", "core")), ["one"]);
    assert_eq!(texts(&room_history_of(&world, "s-two", "core-2")), ["two"]);
    let mut other = world.c2c(&["rooms", "history", "core"]);
    other.env("C2C_MCP_SESSION_ID", "s-two");
    assert_ne!(run(other).status, 0);
    assert_eq!(peek(&world, "s-two")[0]["room_id"], "core-2");
    // A public room joins the room of that name, unless that is private.
    let open = older_root(
        &world,
        "open",
        &room("core", &json!({ "visibility": "public" }), &json!([]), &line(1.0, "x", "open")),
    );
    migrate(&world, &open);
    assert_eq!(texts(&room_history(&world, "core-3")), ["open"]);
    let hall = older_root(
        &world,
        "hall",
        &room("core-3", &json!({}), &json!([]), &line(2.0, "x", "more")),
    );
    migrate(&world, &hall);
    assert_eq!(texts(&room_history(&world, "core-3")), ["open", "more"]);
}

fn a_mirror_in_place_keeps_the_rooms_and_dead_letters_of_the_older_program() {
    let world = World::new();
    copy_fixture(&world.root());
    let letter = json!({ "deleted_at": 9, "from_session_id": "s-x", "message": { "from_alias": "ann", "to_alias": "x", "content": "dead" } });
    write(&world.root(), "dead-letter.jsonl", &format!("{letter}\n"));
    for _ in 0..2 {
        run(world.c2c(&["mirror", "--in-place"])).ok();
        run(world.c2c(&["send", "cleo", "hi"])).ok();
    }
    check_fixture(&world);
    assert_eq!(dead_letters(&world).as_array().expect("rows").len(), 1);
    // The older program writes to the mirrored files, and a member leaves here.
    let path = world.root().join("rooms/lounge/history.jsonl");
    let mut file = fs::OpenOptions::new().append(true).open(path).expect("opened");
    file.write_all(line(1.9e9, "bob", "from the older program").as_bytes()).expect("written");
    let mut leave = world.c2c(&["rooms", "leave", "lounge"]);
    leave.env("C2C_MCP_SESSION_ID", "ses-a");
    run(leave).ok();
    for _ in 0..2 {
        run(world.c2c(&["mirror", "--in-place"])).ok();
        run(world.c2c(&["send", "cleo", "hi"])).ok();
    }
    assert_eq!(texts(&room_history(&world, "lounge"))[3..], ["from the older program"]);
    let members = run(world.c2c(&["rooms", "members", "lounge", "--json"])).ok().json();
    assert_eq!(members.as_array().expect("rows").len(), 1);
}

fn a_room_that_0_1_has_mirrored_in_place_is_not_imported_as_another_room() {
    let world = World::new();
    world.register(&["ann", "bob"]);
    world
        .run("ann", &["rooms", "create", "core", "--visibility", "invite_only", "--invite", "bob"])
        .ok();
    world.run("bob", &["rooms", "join", "core"]).ok();
    world.run("ann", &["rooms", "send", "core", "hello"]).ok();
    world.run("ann", &["mirror", "--in-place"]).ok();
    // Version 0.1.0 did not mark these two files.
    for name in ["meta.json", "members.json"] {
        let path = world.root().join("rooms/core").join(name);
        let mut value: Value =
            serde_json::from_str(&fs::read_to_string(&path).expect("a file")).expect("JSON");
        let rows = match &mut value {
            Value::Array(rows) => rows.iter_mut().collect(),
            other => vec![other],
        };
        for row in rows {
            row.as_object_mut().expect("an object").remove("c2c_log");
        }
        fs::write(path, value.to_string()).expect("written");
    }
    world.run("bob", &["rooms", "leave", "core"]).ok();
    world.run("ann", &["send", "bob", "hi"]).ok();
    let rooms = world.run("ann", &["rooms", "list", "--json"]).ok().json();
    assert_eq!(rooms.as_array().expect("rooms").len(), 1);
    assert_eq!(rooms[0]["members"], json!(["ann"]));
    assert_eq!(texts(&room_history_of(&world, "s-ann", "core")), ["hello"]);
}

crate::harness::tests! {
    fast:
        a_room_that_0_1_has_mirrored_in_place_is_not_imported_as_another_room,
        a_root_of_the_older_program_is_migrated_whole_and_once,
        a_root_of_the_older_program_can_be_used_in_place,
        a_mirror_of_a_migrated_root_has_the_same_rows,
        dead_letters_of_an_older_root_keep_their_cause_and_time,
        odd_rows_and_half_written_files_of_an_older_root_lose_no_other_row,
        private_rooms_of_older_roots_do_not_become_one,
        a_mirror_in_place_keeps_the_rooms_and_dead_letters_of_the_older_program;
}
