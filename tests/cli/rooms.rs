//! Who hears what is said in a room?

use serde_json::{Value, json};

use super::keys;
use crate::support::{World, contents};

fn three() -> World {
    let world = World::new();
    world.register(&["alice", "bob", "carol"]);
    world
}

fn rooms(world: &World, who: &str, args: &[&str]) -> Value {
    world.run(who, &[&["rooms"], args, &["--json"]].concat()).ok().json()
}

fn members(world: &World, who: &str, room: &str) -> Vec<String> {
    let rows = rooms(world, who, &["members", room]);
    rows.as_array().unwrap().iter().map(|row| row["alias"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn programs_read_the_promised_keys() {
    let world = three();
    let created = rooms(&world, "alice", &["create", "lounge"]);
    let expected =
        ["room_id", "created_by", "visibility", "invited_members", "members", "auto_joined"];
    assert_eq!(keys(&created), expected);
    assert_eq!(
        (&created["members"], &created["visibility"]),
        (&json!(["alice"]), &json!("public"))
    );
    let joined = rooms(&world, "bob", &["join", "lounge"]);
    assert_eq!(keys(&joined), ["room_id", "members", "history"]);
    let row = &joined["members"][0];
    assert_eq!(keys(row), ["alias", "session_id", "alive", "joined_at"]);
    let sent = rooms(&world, "alice", &["send", "lounge", "hello", "all"]);
    assert_eq!((&sent["delivered_to"], &sent["skipped"]), (&json!(["bob"]), &json!([])));
    assert!(sent["ts"].is_string() && sent["message_id"].is_string());
    let history = rooms(&world, "carol", &["history", "lounge"]);
    assert_eq!(keys(&history[0]), ["ts", "from_alias", "content", "message_id", "room_sequence"]);
    assert_eq!(history[0]["content"], "hello all");
    let listed = rooms(&world, "carol", &["list"]);
    for key in ["room_id", "member_count", "alive_count", "members", "alive_members", "visibility"]
    {
        assert!(listed[0].get(key).is_some(), "{key} in {listed}");
    }
    assert_eq!(listed[0]["member_count"], 2);
    let polled = world.run("bob", &["poll-inbox", "--json"]).ok().json();
    assert_eq!(polled[0]["to_alias"], "bob#lounge");
    assert_eq!(
        (&polled[0]["event"], &polled[0]["room_id"]),
        (&json!("room_message"), &json!("lounge"))
    );
    let left = rooms(&world, "bob", &["leave", "lounge"]);
    assert_eq!(left, json!({ "room_id": "lounge", "members": ["alice"] }));
    let deleted = rooms(&world, "alice", &["delete", "lounge"]);
    assert_eq!(deleted, json!({ "room_id": "lounge", "deleted": true }));
    assert_eq!(rooms(&world, "alice", &["list"]), json!([]));
    assert_eq!(world.run("alice", &["my-rooms"]).ok().out, "Not in any rooms.\n");
    assert_eq!(world.run("alice", &["room"]).ok().out, "No rooms.\n");
}

#[test]
fn each_other_member_gets_a_room_message_once() {
    let world = three();
    for who in ["alice", "bob", "carol"] {
        rooms(&world, who, &["join", "team"]);
    }
    rooms(&world, "alice", &["send", "TEAM", "one", "--message-id", "m-1"]);
    let again = rooms(&world, "alice", &["send", "team", "one", "--message-id", "m-1"]);
    assert_eq!(again["duplicate"], true);
    rooms(&world, "bob", &["send", "team", "two"]);
    assert_eq!(world.poll("alice"), ["two"]);
    assert_eq!(world.poll("bob"), ["one"]);
    assert_eq!(world.poll("carol"), ["one", "two"]);
    for who in ["alice", "bob", "carol"] {
        assert_eq!(world.poll(who), [""; 0]);
    }
    let history = rooms(&world, "carol", &["history", "team"]);
    assert_eq!(contents(&history), ["one", "two"]);
    assert_eq!(
        (&history[0]["room_sequence"], &history[1]["room_sequence"]),
        (&json!(1), &json!(2))
    );
    let refused = world.run("alice", &["rooms", "send", "team", "other", "--message-id", "m-1"]);
    refused.refused("message_id_reused");
}

#[test]
fn room_and_direct_mail_come_in_the_order_it_was_sent() {
    let world = three();
    for who in ["alice", "bob"] {
        rooms(&world, who, &["join", "team"]);
        rooms(&world, who, &["join", "other"]);
    }
    world.run("alice", &["send", "bob", "1"]).ok();
    rooms(&world, "alice", &["send", "team", "2"]);
    world.run("carol", &["send", "bob", "3"]).ok();
    rooms(&world, "alice", &["send", "other", "4"]);
    rooms(&world, "alice", &["send", "team", "5"]);
    let first = world.run("bob", &["poll-inbox", "--json", "--limit", "2"]).ok().json();
    assert_eq!(contents(&first), ["1", "2"]);
    assert_eq!(world.poll("bob"), ["3", "4", "5"]);
}

#[test]
fn leaving_keeps_what_was_unread_and_ends_what_comes_later() {
    let world = three();
    for who in ["alice", "bob"] {
        rooms(&world, who, &["join", "team"]);
    }
    rooms(&world, "alice", &["send", "team", "before"]);
    rooms(&world, "bob", &["leave", "team"]);
    rooms(&world, "alice", &["send", "team", "after"]);
    rooms(&world, "bob", &["join", "team"]);
    rooms(&world, "alice", &["send", "team", "back again"]);
    assert_eq!(world.poll("bob"), ["before", "back again"]);
    assert_eq!(world.poll("bob"), [""; 0]);
    // A deleted room leaves its unread mail behind as well.
    rooms(&world, "alice", &["send", "team", "last"]);
    world.run("alice", &["rooms", "delete", "team"]).refused("room_not_empty");
    world.run("bob", &["rooms", "delete", "team", "--force"]).refused("forbidden");
    rooms(&world, "alice", &["delete", "team", "--force"]);
    assert_eq!(world.poll("bob"), ["last"]);
    world.run("bob", &["rooms", "send", "team", "x"]).refused("unknown_room");
}

#[test]
fn a_joiner_sees_the_history_but_gets_no_old_mail() {
    let world = three();
    rooms(&world, "alice", &["create", "team"]);
    for n in 1..=5 {
        rooms(&world, "alice", &["send", "team", &n.to_string()]);
    }
    let joined = rooms(&world, "bob", &["join", "team", "--history-limit", "2"]);
    assert_eq!(contents(&joined["history"]), ["4", "5"]);
    assert_eq!(world.poll("bob"), [""; 0]);
    assert_eq!(contents(&rooms(&world, "bob", &["history", "team", "-l", "3"])), ["3", "4", "5"]);
    assert_eq!(contents(&rooms(&world, "bob", &["history", "team", "--since", "1h"])).len(), 5);
    let future = ["history", "team", "--since", "2999-01-01T00:00:00Z"];
    assert_eq!(rooms(&world, "bob", &future), json!([]));
    world.run("bob", &["rooms", "history", "team", "--since", "soon"]).refused("usage");
    let tail = world.run("bob", &["rooms", "tail", "team", "-n", "-l", "1", "--utc"]).ok().out;
    assert!(tail.ends_with("<alice> 5\n") && tail.lines().count() == 1, "{tail:?}");
}

#[test]
fn joining_twice_is_one_membership() {
    let world = three();
    rooms(&world, "alice", &["create", "team"]);
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| rooms(&world, "bob", &["join", "Team"]));
        }
    });
    assert_eq!(members(&world, "alice", "team"), ["alice", "bob"]);
    rooms(&world, "alice", &["send", "team", "once"]);
    rooms(&world, "bob", &["join", "team"]);
    assert_eq!(world.poll("bob"), ["once"]);
    world.run("bob", &["rooms", "create", "TEAM"]).refused("room_exists");
    assert_eq!(rooms(&world, "bob", &["list"]).as_array().unwrap().len(), 1);
    world.run("bob", &["rename", "robert"]).ok();
    assert_eq!(members(&world, "alice", "team"), ["alice", "robert"]);
    let sent = rooms(&world, "alice", &["send", "team", "hi"]);
    assert_eq!(sent["delivered_to"], json!(["robert"]));
}

fn invitation(room: &str) -> String {
    format!(
        "alice invites you to room {room}. To join: join_room with room_id {room}, or \
         c2c rooms join {room}"
    )
}

#[test]
fn a_stranger_hears_of_a_hidden_room_what_he_hears_of_none() {
    let world = three();
    rooms(&world, "alice", &["create", "secret", "--visibility", "invite_only"]);
    let asked: [&[&str]; 8] = [
        &["history"],
        &["members"],
        &["visibility"],
        &["visibility", "--set", "public"],
        &["tail", "-n"],
        &["leave"],
        &["delete"],
        &["delete", "--force"],
    ];
    let answer = |room: &str, args: &[&str]| {
        let done = world.run("bob", &[&["rooms"], args, &[room]].concat());
        (done.status, done.out, done.err.replace(room, "ROOM"))
    };
    for args in asked {
        assert_eq!(answer("secret", args), answer("absent", args), "{args:?}");
    }
    for args in [["send", "secret", "x"], ["invite", "secret", "bob"], ["invite", "secret", "x"]] {
        let done = world.run("bob", &[&["rooms"], &args[..]].concat());
        done.refused("unknown_room");
    }
    // A name is taken for everybody: only this can be learnt, and nothing about the room.
    let taken = world.run("bob", &["rooms", "create", "secret"]).refused("room_exists");
    assert!(taken.err.contains("choose another name"), "{}", taken.err);
    let join = world.run("bob", &["rooms", "join", "secret"]).refused("not_invited");
    assert!(!join.err.contains("alice"), "{}", join.err);
    let known = world.run("alice", &["rooms", "create", "secret"]).refused("room_exists");
    assert!(known.err.contains("join it"), "{}", known.err);
}

#[test]
fn a_room_by_invitation_is_hidden_from_strangers() {
    let world = three();
    rooms(&world, "alice", &["create", "secret", "--visibility", "invite_only"]);
    rooms(&world, "alice", &["send", "secret", "psst"]);
    let hidden: [&[&str]; 5] = [
        &["history", "secret"],
        &["members", "secret"],
        &["visibility", "secret"],
        &["send", "secret", "x"],
        &["tail", "secret", "-n"],
    ];
    for args in hidden {
        world.run("bob", &[&["rooms"], args].concat()).refused("unknown_room");
    }
    assert_eq!(rooms(&world, "bob", &["list"]), json!([]));
    world.run("bob", &["rooms", "join", "secret"]).refused("not_invited");
    world.run("bob", &["rooms", "invite", "secret", "bob"]).refused("unknown_room");
    world.run("alice", &["rooms", "invite", "secret", "nobody"]).refused("unknown_alias");
    let invited = rooms(&world, "alice", &["invite", "secret", "Bob"]);
    assert_eq!(invited, json!({ "ok": true, "room_id": "secret", "invitee_alias": "bob" }));
    assert_eq!(world.poll("bob"), [invitation("secret")]);
    let joined = rooms(&world, "bob", &["join", "secret"]);
    assert_eq!(contents(&joined["history"]), ["psst"]);
    assert_eq!(rooms(&world, "carol", &["list"]), json!([]));
    world.run("bob", &["rooms", "visibility", "secret", "-s", "public"]).refused("forbidden");
    let args = ["visibility", "secret", "--set", "public"];
    assert_eq!(rooms(&world, "alice", &args)["visibility"], "public");
    rooms(&world, "carol", &["join", "secret"]);
    assert_eq!(members(&world, "carol", "secret"), ["alice", "bob", "carol"]);
}

#[test]
fn a_room_belongs_to_the_agent_that_made_it_not_to_its_old_name() {
    let world = three();
    rooms(&world, "alice", &["create", "secret", "--visibility", "invite_only"]);
    rooms(&world, "alice", &["invite", "secret", "bob"]);
    world.run("alice", &["rename", "zoe"]).ok();
    world.run("bob", &["rename", "robert"]).ok();
    // The old names are free; who takes them gets no rights with them.
    for (who, alias) in [("eve", "alice"), ("mallory", "bob")] {
        world.run(who, &["register", "--alias", alias]).ok();
        assert_eq!(rooms(&world, who, &["list"]), json!([]), "{alias}");
        world.run(who, &["rooms", "join", "secret"]).refused("not_invited");
        world.run(who, &["rooms", "delete", "secret"]).refused("unknown_room");
    }
    rooms(&world, "bob", &["join", "secret"]);
    let args = ["visibility", "secret", "--set", "local"];
    assert_eq!(rooms(&world, "alice", &args)["visibility"], "local");
}

#[test]
fn only_members_speak_and_only_good_names_are_rooms() {
    let world = three();
    rooms(&world, "alice", &["create", "team", "--no-join"]);
    world.run("alice", &["rooms", "send", "team", "x"]).refused("not_a_member");
    world.run("bob", &["rooms", "send", "team", "x"]).refused("not_a_member");
    world.run("bob", &["rooms", "invite", "team", "carol"]).refused("not_a_member");
    world.run("bob", &["rooms", "send", "nowhere", "x"]).refused("unknown_room");
    rooms(&world, "bob", &["join", "team"]);
    world.run("bob", &["rooms", "send", "team", ""]).refused("empty_body");
    for room in ["../x", "a/b", ".x", "a b", &"r".repeat(65), ""] {
        world.run("alice", &["rooms", "join", room]).refused("invalid_room_id");
        world.run("alice", &["rooms", "create", room]).refused("invalid_room_id");
    }
    world.run("alice", &["rooms", "create", "r", "--visibility", "x"]).refused("invalid_argument");
    let mine = |who: &str| world.run(who, &["my-rooms", "--json"]).ok().json();
    assert_eq!(mine("alice"), json!([]));
    assert_eq!(mine("bob")[0]["room_id"], "team");
}

#[test]
fn a_room_made_with_invitations_tells_those_invited_and_knows_nobody_else() {
    let world = three();
    let with = |alias| ["rooms", "create", "den", "--visibility", "invite_only", "--invite", alias];
    let unknown = world.run("alice", &with("bop")).refused("unknown_alias");
    assert!(unknown.err.contains("field: invite\n  hint: did you mean 'bob'?"), "{}", unknown.err);
    world.run("alice", &with("../x")).refused("invalid_alias");
    world.run("alice", &with("bob")).ok();
    assert_eq!(world.poll("bob"), [invitation("den")]);
    world.run("bob", &["rooms", "join", "den"]).ok();
    world.run("carol", &["rooms", "join", "den"]).refused("not_invited");
}
