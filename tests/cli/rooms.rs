//! Rooms on one machine.

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

fn json_output_has_the_documented_keys() {
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

fn each_other_member_receives_a_room_message_once() {
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
    let rejected = world.run("alice", &["rooms", "send", "team", "other", "--message-id", "m-1"]);
    rejected.fails_with("message_id_reused");
}

fn room_and_direct_mail_is_delivered_in_the_order_sent() {
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

fn leaving_a_room_keeps_unread_mail_and_stops_new_mail() {
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
    // Unread mail of a deleted room stays in the mailboxes.
    rooms(&world, "alice", &["send", "team", "last"]);
    world.run("alice", &["rooms", "delete", "team"]).fails_with("room_not_empty");
    world.run("bob", &["rooms", "delete", "team", "--force"]).fails_with("forbidden");
    rooms(&world, "alice", &["delete", "team", "--force"]);
    assert_eq!(world.poll("bob"), ["last"]);
    world.run("bob", &["rooms", "send", "team", "x"]).fails_with("unknown_room");
}

fn a_new_member_sees_the_history_but_receives_no_old_mail() {
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
    world.run("bob", &["rooms", "history", "team", "--since", "soon"]).fails_with("usage");
    let tail = world.run("bob", &["rooms", "tail", "team", "-n", "-l", "1", "--utc"]).ok().out;
    assert!(tail.ends_with("<alice> 5\n") && tail.lines().count() == 1, "{tail:?}");
}

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
    world.run("bob", &["rooms", "create", "TEAM"]).fails_with("room_exists");
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

fn a_hidden_room_looks_like_a_missing_room_to_strangers() {
    let world = three();
    rooms(&world, "alice", &["create", "secret", "--visibility", "invite_only"]);
    let commands: [&[&str]; 8] = [
        &["history"],
        &["members"],
        &["visibility"],
        &["visibility", "--set", "public"],
        &["tail", "-n"],
        &["leave"],
        &["delete"],
        &["delete", "--force"],
    ];
    let response = |room: &str, args: &[&str]| {
        let done = world.run("bob", &[&["rooms"], args, &[room]].concat());
        (done.status, done.out, done.err.replace(room, "ROOM"))
    };
    for args in commands {
        assert_eq!(response("secret", args), response("absent", args), "{args:?}");
    }
    for args in [["send", "secret", "x"], ["invite", "secret", "bob"], ["invite", "secret", "x"]] {
        let done = world.run("bob", &[&["rooms"], &args[..]].concat());
        done.fails_with("unknown_room");
    }
    // A stranger learns only that the name is taken, and nothing about the room.
    let taken = world.run("bob", &["rooms", "create", "secret"]).fails_with("room_exists");
    assert!(taken.err.contains("choose another name"), "{}", taken.err);
    let join = world.run("bob", &["rooms", "join", "secret"]).fails_with("not_invited");
    assert!(!join.err.contains("alice"), "{}", join.err);
    let known = world.run("alice", &["rooms", "create", "secret"]).fails_with("room_exists");
    assert!(known.err.contains("join it"), "{}", known.err);
}

fn an_invite_only_room_is_hidden_from_strangers() {
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
        world.run("bob", &[&["rooms"], args].concat()).fails_with("unknown_room");
    }
    assert_eq!(rooms(&world, "bob", &["list"]), json!([]));
    world.run("bob", &["rooms", "join", "secret"]).fails_with("not_invited");
    world.run("bob", &["rooms", "invite", "secret", "bob"]).fails_with("unknown_room");
    world.run("alice", &["rooms", "invite", "secret", "nobody"]).fails_with("unknown_alias");
    let invited = rooms(&world, "alice", &["invite", "secret", "Bob"]);
    assert_eq!(invited, json!({ "ok": true, "room_id": "secret", "invitee_alias": "bob" }));
    assert_eq!(world.poll("bob"), [invitation("secret")]);
    let joined = rooms(&world, "bob", &["join", "secret"]);
    assert_eq!(contents(&joined["history"]), ["psst"]);
    assert_eq!(rooms(&world, "carol", &["list"]), json!([]));
    world.run("bob", &["rooms", "visibility", "secret", "-s", "public"]).fails_with("forbidden");
    let args = ["visibility", "secret", "--set", "public"];
    assert_eq!(rooms(&world, "alice", &args)["visibility"], "public");
    rooms(&world, "carol", &["join", "secret"]);
    assert_eq!(members(&world, "carol", "secret"), ["alice", "bob", "carol"]);
}

fn a_room_belongs_to_its_creator_and_not_to_the_old_alias() {
    let world = three();
    rooms(&world, "alice", &["create", "secret", "--visibility", "invite_only"]);
    rooms(&world, "alice", &["invite", "secret", "bob"]);
    world.run("alice", &["rename", "zoe"]).ok();
    world.run("bob", &["rename", "robert"]).ok();
    // The old aliases are free. An agent that takes one gets no rights in the room.
    for (who, alias) in [("eve", "alice"), ("mallory", "bob")] {
        world.run(who, &["register", "--alias", alias]).ok();
        assert_eq!(rooms(&world, who, &["list"]), json!([]), "{alias}");
        world.run(who, &["rooms", "join", "secret"]).fails_with("not_invited");
        world.run(who, &["rooms", "delete", "secret"]).fails_with("unknown_room");
    }
    rooms(&world, "bob", &["join", "secret"]);
    let args = ["visibility", "secret", "--set", "local"];
    assert_eq!(rooms(&world, "alice", &args)["visibility"], "local");
}

fn only_members_can_send_and_invalid_room_ids_are_rejected() {
    let world = three();
    rooms(&world, "alice", &["create", "team", "--no-join"]);
    world.run("alice", &["rooms", "send", "team", "x"]).fails_with("not_a_member");
    world.run("bob", &["rooms", "send", "team", "x"]).fails_with("not_a_member");
    world.run("bob", &["rooms", "invite", "team", "carol"]).fails_with("not_a_member");
    world.run("bob", &["rooms", "send", "nowhere", "x"]).fails_with("unknown_room");
    rooms(&world, "bob", &["join", "team"]);
    world.run("bob", &["rooms", "send", "team", ""]).fails_with("empty_body");
    for room in ["../x", "a/b", ".x", "a b", &"r".repeat(65), ""] {
        world.run("alice", &["rooms", "join", room]).fails_with("invalid_room_id");
        world.run("alice", &["rooms", "create", room]).fails_with("invalid_room_id");
    }
    world
        .run("alice", &["rooms", "create", "r", "--visibility", "x"])
        .fails_with("invalid_argument");
    let rooms_of = |who: &str| world.run(who, &["my-rooms", "--json"]).ok().json();
    assert_eq!(rooms_of("alice"), json!([]));
    assert_eq!(rooms_of("bob")[0]["room_id"], "team");
}

fn a_room_created_with_invitations_notifies_and_admits_only_the_invited() {
    let world = three();
    let with = |alias| ["rooms", "create", "den", "--visibility", "invite_only", "--invite", alias];
    let unknown = world.run("alice", &with("bop")).fails_with("unknown_alias");
    assert!(unknown.err.contains("field: invite\n  hint: did you mean 'bob'?"), "{}", unknown.err);
    world.run("alice", &with("../x")).fails_with("invalid_alias");
    world.run("alice", &with("bob")).ok();
    assert_eq!(world.poll("bob"), [invitation("den")]);
    world.run("bob", &["rooms", "join", "den"]).ok();
    world.run("carol", &["rooms", "join", "den"]).fails_with("not_invited");
}

crate::harness::tests! {
    fast:
        json_output_has_the_documented_keys,
        each_other_member_receives_a_room_message_once,
        room_and_direct_mail_is_delivered_in_the_order_sent,
        leaving_a_room_keeps_unread_mail_and_stops_new_mail,
        a_new_member_sees_the_history_but_receives_no_old_mail,
        joining_twice_is_one_membership,
        a_hidden_room_looks_like_a_missing_room_to_strangers,
        an_invite_only_room_is_hidden_from_strangers,
        a_room_belongs_to_its_creator_and_not_to_the_old_alias,
        only_members_can_send_and_invalid_room_ids_are_rejected,
        a_room_created_with_invitations_notifies_and_admits_only_the_invited;
}
