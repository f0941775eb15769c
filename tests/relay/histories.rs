//! Can what was said in rooms be read without the relay, and does it survive it?

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Hub, Machine, ask, pair, settle};
use crate::support::contents;

/// A relay without token, and where it keeps its histories.
fn hub(storage: &'static str, kept: &tempfile::TempDir) -> (Hub, PathBuf) {
    let path = kept.path().to_str().expect("a path");
    let hub = Hub::with(storage, &["--persist-dir", path]);
    (hub, kept.path().join("rooms/lobby/history.jsonl"))
}

fn lines(path: &PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a history");
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn texts(rows: &[Value]) -> Vec<String> {
    contents(&Value::Array(rows.to_vec()))
}

fn told(hub: &Hub) -> Vec<String> {
    let (status, answer) = ask(hub, "POST", "/room_history", "", &json!({"room_id": "lobby"}));
    assert_eq!(status, 200, "{answer}");
    contents(&answer["history"])
}

fn say(hub: &Hub, text: &str) {
    let who = json!({"node_id": "n", "session_id": "s", "alias": "ann", "ttl": 600});
    assert_eq!(ask(hub, "POST", "/register", "", &who).0, 200);
    let member = json!({"room_id": "lobby", "alias": "ann"});
    assert_eq!(ask(hub, "POST", "/join_room", "", &member).0, 200);
    let said = json!({"room_id": "lobby", "from_alias": "ann", "content": text});
    let (status, answer) = ask(hub, "POST", "/send_room", "", &said);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn a_history_of_an_older_relay_is_loaded_once_and_goes_on() {
    for storage in ["log", "memory", "sqlite"] {
        let kept = tempfile::tempdir().expect("a directory");
        let folder = kept.path().join("rooms/lobby");
        fs::create_dir_all(&folder).expect("a room");
        let older = "{\"ts\":1700000000.5,\"from_alias\":\"old\",\"content\":\"first\",\
                     \"message_id\":\"m-1\"}\n\
                     {\"ts\":1700000001.5,\"from_alias\":\"old\",\"content\":\"second\"}\n\
                     {\"ts\":17000000";
        fs::write(folder.join("history.jsonl"), older).expect("written");
        let (mut hub, path) = hub(storage, &kept);
        assert_eq!(told(&hub), ["first", "second"], "{storage}");
        say(&hub, "third");
        hub.stop();
        assert_eq!(texts(&lines(&path)), ["first", "second", "third"], "{storage}");
        hub.go_on();
        assert_eq!(told(&hub), ["first", "second", "third"], "{storage}");
        say(&hub, "fourth");
        hub.kill();
        hub.go_on();
        let all = ["first", "second", "third", "fourth"];
        assert_eq!(told(&hub), all, "{storage}");
        assert_eq!(texts(&lines(&path)), all, "{storage}");
        let last = &lines(&path)[3];
        assert_eq!((&last["from_alias"], &last["room_id"]), (&json!("ann@n"), &json!("lobby")));
    }
}

#[test]
fn a_history_that_was_lost_is_written_again_for_this_user_only() {
    let kept = tempfile::tempdir().expect("a directory");
    let (mut hub, path) = hub("sqlite", &kept);
    say(&hub, "one");
    say(&hub, "two");
    hub.stop();
    fs::remove_dir_all(kept.path().join("rooms")).expect("removed");
    hub.go_on();
    assert_eq!(texts(&lines(&path)), ["one", "two"]);
    let mode =
        |path: &std::path::Path| fs::metadata(path).expect("it").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().expect("a directory")), 0o700);
    // A file that cannot be written takes nobody's message.
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("in its place");
    say(&hub, "three");
    assert_eq!(told(&hub), ["one", "two", "three"]);
    hub.stop();
    fs::remove_dir(&path).expect("removed");
    hub.go_on();
    assert_eq!(texts(&lines(&path)), ["one", "two", "three"]);
}

#[test]
fn a_relay_that_was_put_back_from_a_copy_says_nothing_twice() {
    let kept = tempfile::tempdir().expect("a directory");
    let (mut hub, path) = hub("log", &kept);
    say(&hub, "one");
    say(&hub, "two");
    hub.stop();
    // A copied log goes on under another id.
    let (there, copy) = (kept.path().join("log"), kept.path().join("copy"));
    let copied = std::process::Command::new("cp").arg("-a").args([&there, &copy]).status();
    assert!(copied.expect("cp").success());
    fs::remove_dir_all(&there).expect("removed");
    fs::rename(&copy, &there).expect("in its place");
    for round in ["three", "four"] {
        hub.go_on();
        say(&hub, round);
        hub.stop();
    }
    hub.go_on();
    assert_eq!(told(&hub), ["one", "two", "three", "four"]);
    assert_eq!(texts(&lines(&path)), ["one", "two", "three", "four"]);
}

#[test]
fn what_was_said_in_private_is_not_made_public_by_its_file() {
    let kept = tempfile::tempdir().expect("a directory");
    let (mut hub, path) = hub("memory", &kept);
    say(&hub, "secret");
    let private = json!({"room_id": "lobby", "alias": "ann", "visibility": "invite"});
    assert_eq!(ask(&hub, "POST", "/set_room_visibility", "", &private).0, 200);
    say(&hub, "another");
    hub.kill();
    hub.go_on();
    assert!(told(&hub).is_empty());
    assert_eq!(texts(&lines(&path)), ["secret", "another"]);
}

#[test]
fn what_machines_say_in_a_room_is_in_its_history() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
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
    let path = hub.world.path().join("relay/rooms/lobby/history.jsonl");
    assert_eq!(texts(&lines(&path)), ["hello", "and back"]);
    assert_eq!(lines(&path)[1]["from_alias"], "bob@machine-b");
}
