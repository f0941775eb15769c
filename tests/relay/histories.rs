//! Room histories of a relay in JSON files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Machine, RelayProcess, pair, request, settle};
use crate::support::contents;

/// A relay without a token, and the history file of its room.
fn start_relay(storage: &'static str, directory: &tempfile::TempDir) -> (RelayProcess, PathBuf) {
    let path = directory.path().to_str().expect("a path");
    let relay = RelayProcess::with(storage, &["--persist-dir", path]);
    (relay, directory.path().join("rooms/lobby/history.jsonl"))
}

fn lines(path: &PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a history");
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn texts(rows: &[Value]) -> Vec<String> {
    contents(&Value::Array(rows.to_vec()))
}

fn history(relay: &RelayProcess) -> Vec<String> {
    let (status, answer) =
        request(relay, "POST", "/room_history", "", &json!({"room_id": "lobby"}));
    assert_eq!(status, 200, "{answer}");
    contents(&answer["history"])
}

fn say(relay: &RelayProcess, text: &str) {
    let who = json!({"node_id": "n", "session_id": "s", "alias": "ann", "ttl": 600});
    assert_eq!(request(relay, "POST", "/register", "", &who).0, 200);
    let member = json!({"room_id": "lobby", "alias": "ann"});
    assert_eq!(request(relay, "POST", "/join_room", "", &member).0, 200);
    let message = json!({"room_id": "lobby", "from_alias": "ann", "content": text});
    let (status, answer) = request(relay, "POST", "/send_room", "", &message);
    assert_eq!(status, 200, "{answer}");
}

fn a_history_of_an_older_relay_is_imported_once_and_continued() {
    for storage in ["log", "memory", "sqlite"] {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = directory.path().join("rooms/lobby");
        fs::create_dir_all(&folder).expect("a room");
        let older = "{\"ts\":1700000000.5,\"from_alias\":\"old\",\"content\":\"first\",\
                     \"message_id\":\"m-1\"}\n\
                     {\"ts\":1700000001.5,\"from_alias\":\"old\",\"content\":\"second\"}\n\
                     {\"ts\":17000000";
        fs::write(folder.join("history.jsonl"), older).expect("written");
        let (mut relay, path) = start_relay(storage, &directory);
        assert_eq!(history(&relay), ["first", "second"], "{storage}");
        say(&relay, "third");
        relay.stop();
        assert_eq!(texts(&lines(&path)), ["first", "second", "third"], "{storage}");
        relay.restart();
        assert_eq!(history(&relay), ["first", "second", "third"], "{storage}");
        say(&relay, "fourth");
        relay.kill();
        relay.restart();
        let all = ["first", "second", "third", "fourth"];
        assert_eq!(history(&relay), all, "{storage}");
        assert_eq!(texts(&lines(&path)), all, "{storage}");
        let last = &lines(&path)[3];
        assert_eq!((&last["from_alias"], &last["room_id"]), (&json!("ann@n"), &json!("lobby")));
    }
}

fn a_lost_history_is_rewritten_in_private_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut relay, path) = start_relay("sqlite", &directory);
    say(&relay, "one");
    say(&relay, "two");
    relay.stop();
    fs::remove_dir_all(directory.path().join("rooms")).expect("removed");
    relay.restart();
    assert_eq!(texts(&lines(&path)), ["one", "two"]);
    let mode =
        |path: &std::path::Path| fs::metadata(path).expect("it").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().expect("a directory")), 0o700);
    // If the file cannot be written, no message is lost.
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("in its place");
    say(&relay, "three");
    assert_eq!(history(&relay), ["one", "two", "three"]);
    relay.stop();
    fs::remove_dir(&path).expect("removed");
    relay.restart();
    assert_eq!(texts(&lines(&path)), ["one", "two", "three"]);
}

fn a_relay_restored_from_a_copy_duplicates_no_history() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut relay, path) = start_relay("log", &directory);
    say(&relay, "one");
    say(&relay, "two");
    relay.stop();
    // A copied log continues under another id.
    let (log, copy) = (directory.path().join("log"), directory.path().join("copy"));
    let copied = std::process::Command::new("cp").arg("-a").args([&log, &copy]).status();
    assert!(copied.expect("cp").success());
    fs::remove_dir_all(&log).expect("removed");
    fs::rename(&copy, &log).expect("in its place");
    for round in ["three", "four"] {
        relay.restart();
        say(&relay, round);
        relay.stop();
    }
    relay.restart();
    assert_eq!(history(&relay), ["one", "two", "three", "four"]);
    assert_eq!(texts(&lines(&path)), ["one", "two", "three", "four"]);
}

fn private_history_lines_do_not_become_a_public_room() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut relay, path) = start_relay("memory", &directory);
    say(&relay, "secret");
    let private = json!({"room_id": "lobby", "alias": "ann", "visibility": "invite"});
    assert_eq!(request(&relay, "POST", "/set_room_visibility", "", &private).0, 200);
    say(&relay, "another");
    relay.kill();
    relay.restart();
    assert!(history(&relay).is_empty());
    assert_eq!(texts(&lines(&path)), ["secret", "another"]);
}

fn messages_of_connected_machines_are_in_the_room_history() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    for (machine, who) in [(&a, "ann"), (&b, "bob")] {
        machine.run(who, &["rooms", "join", "lobby"]).ok();
    }
    settle(&[&a, &b]);
    let say = |machine: &Machine, who: &str, text: &str| {
        machine.run(who, &["rooms", "send", "lobby", text]).ok();
        settle(&[&a, &b]);
    };
    say(&a, "ann", "hello");
    say(&b, "bob", "and back");
    let path = relay.world.path().join("relay/rooms/lobby/history.jsonl");
    assert_eq!(texts(&lines(&path)), ["hello", "and back"]);
    assert_eq!(lines(&path)[1]["from_alias"], "bob@machine-b");
}

crate::harness::tests! {
    fast:
        a_history_of_an_older_relay_is_imported_once_and_continued,
        a_lost_history_is_rewritten_in_private_files,
        a_relay_restored_from_a_copy_duplicates_no_history,
        private_history_lines_do_not_become_a_public_room,
        messages_of_connected_machines_are_in_the_room_history;
}
