//! Rooms with members on several machines.

use serde_json::Value;

use super::{Machine, RelayProcess, TOKEN, pair, pair_in, settle};
use crate::support::contents;

/// Runs a room command at the relay, without the connector; returns its output.
fn at_relay(relay: &RelayProcess, machine: &Machine, who: &str, words: &[&str]) -> String {
    let url = relay.url();
    let target = ["--alias", who, "--relay-url", &url, "--token", TOKEN];
    let words = [&["relay", "rooms"], words, &target[..]].concat();
    machine.run(who, &words).ok().out.clone()
}

/// Room sequences and texts.
fn history(machine: &Machine, who: &str, room: &str) -> Vec<(Value, String)> {
    let rows = machine.run(who, &["rooms", "history", room, "--json"]).ok().json();
    let texts = contents(&rows);
    rows.as_array()
        .expect("rows")
        .iter()
        .zip(texts)
        .map(|(row, text)| {
            assert_eq!(row.get("pending").is_some(), row["room_sequence"].is_null());
            (row["room_sequence"].clone(), text)
        })
        .collect()
}

fn mail_of(machine: &Machine, who: &str) -> String {
    machine.world.poll(who).join("\n")
}

fn joining_and_leaving_through_the_relay_takes_effect_on_the_machine() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    at_relay(&relay, &b, "bob", &["join", "ops"]);
    at_relay(&relay, &a, "ann", &["join", "ops"]);
    settle(&[&a, &b]);
    at_relay(&relay, &a, "ann", &["send", "ops", "hello room"]);
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["hello room"]);
    assert_eq!(a.world.poll("ann"), [""; 0], "a sender does not receive its own message");
    a.run("ann", &["rooms", "send", "ops", "and from here"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["and from here"]);
    at_relay(&relay, &b, "bob", &["leave", "ops"]);
    settle(&[&a, &b]);
    let refused = b.run("bob", &["rooms", "send", "ops", "still there?"]);
    assert!(refused.status != 0 && refused.err.contains("not_a_member"), "{}", refused.err);
    a.run("ann", &["rooms", "send", "ops", "who is left"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), [""; 0]);
}

fn the_history_of_an_older_root_stays_on_its_machine_and_precedes_new_messages() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    let room = a.world.path().join("older/rooms/den");
    std::fs::create_dir_all(&room).expect("made");
    let line =
        |n: u32| format!("{{\"ts\":{n},\"from_alias\":\"ann\",\"content\":\"older {n}\"}}\n");
    std::fs::write(room.join("history.jsonl"), line(1) + &line(2)).expect("written");
    std::fs::write(room.join("members.json"), "[{\"alias\":\"ann\"}]").expect("written");
    let from = a.world.path().join("older").display().to_string();
    a.run("ann", &["migrate", "--from", &from]).ok();
    settle(&[&a, &b]);
    b.run("bob", &["rooms", "join", "den"]).ok();
    settle(&[&a, &b]);
    b.run("bob", &["rooms", "send", "den", "new"]).ok();
    settle(&[&a, &b]);
    assert_eq!(a.world.poll("ann"), ["new"]);
    assert_eq!(b.world.poll("bob"), [""; 0]);
    let texts =
        |rows: Vec<(Value, String)>| rows.into_iter().map(|(_, text)| text).collect::<Vec<_>>();
    assert_eq!(texts(history(&a, "ann", "den")), ["older 1", "older 2", "new"]);
    assert_eq!(texts(history(&b, "bob", "den")), ["new"]);
}

fn repeated_joins_and_leaves_end_in_the_last_state() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    a.run("ann", &["rooms", "join", "den"]).ok();
    settle(&[&a, &b]);
    for word in ["join", "leave", "join", "leave"] {
        b.run("bob", &["rooms", word, "den"]).ok();
        b.once();
    }
    settle(&[&a, &b]);
    a.run("ann", &["rooms", "send", "den", "to nobody"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), [""; 0]);
    b.run("bob", &["rooms", "join", "den"]).ok();
    settle(&[&a, &b]);
    a.run("ann", &["rooms", "send", "den", "to bob"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["to bob"]);
}

fn a_room_history_has_the_order_of_the_relay_on_all_machines() {
    let mut relay = RelayProcess::start("log");
    let (a, b) = pair_in(&relay, "den");
    a.run("ann", &["rooms", "send", "den", "first"]).ok();
    settle(&[&a, &b]);
    relay.kill();
    for at in 1..=3 {
        a.run("ann", &["rooms", "send", "den", &format!("a{at}")]).ok();
        b.run("bob", &["rooms", "send", "den", &format!("b{at}")]).ok();
    }
    let before = history(&a, "ann", "den");
    let pending: Vec<_> = before.iter().map(|(at, text)| (at.is_null(), text.as_str())).collect();
    assert_eq!(pending, [(false, "first"), (true, "a1"), (true, "a2"), (true, "a3")]);
    relay.restart();
    b.once();
    settle(&[&a, &b]);
    let (of_a, of_b) = (history(&a, "ann", "den"), history(&b, "bob", "den"));
    assert_eq!(of_a, of_b);
    let texts: Vec<_> = of_a.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["first", "b1", "b2", "b3", "a1", "a2", "a3"]);
    let sequences: Vec<_> = of_a.iter().filter_map(|(at, _)| at.as_u64()).collect();
    assert!(
        sequences.len() == 7 && sequences.windows(2).all(|two| two[0] < two[1]),
        "{sequences:?}"
    );
}

fn a_late_member_finds_the_history_and_receives_none_of_it_as_mail() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    a.run("ann", &["rooms", "join", "past"]).ok();
    for at in 0..30 {
        a.run("ann", &["rooms", "send", "past", &format!("m{at}")]).ok();
    }
    settle(&[&a, &b]);
    b.run("bob", &["rooms", "join", "past"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), [""; 0]);
    a.run("ann", &["rooms", "send", "past", "now"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["now"]);
    let all = history(&a, "ann", "past");
    assert_eq!(history(&b, "bob", "past"), all[all.len() - 21..]);
    // The history arrives once: a second agent of the node joins a room that the node knows.
    b.world.register(&["cyd"]);
    b.run("cyd", &["rooms", "join", "past"]).ok();
    settle(&[&a, &b]);
    assert_eq!(history(&b, "cyd", "past").len(), 21);
    assert_eq!(b.world.poll("cyd"), [""; 0]);
}

fn the_relay_decides_who_owns_a_room() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    a.run("ann", &["rooms", "join", "club"]).ok();
    settle(&[&a, &b]);
    // This creates the room on this machine also, which does not know the other one yet.
    b.run("bob", &["rooms", "join", "club"]).ok();
    settle(&[&a, &b]);
    for words in [&["visibility", "club", "--set", "local"][..], &["delete", "club", "--force"]] {
        let refused = b.run("bob", &[&["rooms"], words].concat());
        assert!(refused.status != 0 && refused.err.contains("ann@machine-a"), "{words:?}");
    }
    a.run("ann", &["rooms", "visibility", "club", "--set", "invite_only"]).ok();
    settle(&[&a, &b]);
    b.world.register(&["joe"]);
    let refused = b.run("joe", &["rooms", "join", "club"]);
    assert!(refused.status != 0 && refused.err.contains("not_invited"), "{}", refused.err);
    a.run("ann", &["rooms", "send", "club", "members only"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("joe"), [""; 0]);
    assert_eq!(b.world.poll("bob"), ["members only"]);
    a.run("ann", &["rooms", "delete", "club", "--force"]).ok();
    settle(&[&a, &b]);
    let gone = b.run("bob", &["rooms", "history", "club"]);
    assert!(gone.status != 0 && gone.err.contains("unknown_room"), "{}", gone.err);
}

fn an_agent_that_the_relay_does_not_admit_is_notified_and_receives_nothing() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    b.world.register(&["joe"]);
    a.run("ann", &["rooms", "join", "club"]).ok();
    settle(&[&a, &b]);
    b.run("bob", &["rooms", "join", "club"]).ok();
    settle(&[&a, &b]);
    a.run("ann", &["rooms", "visibility", "club", "--set", "invite_only"]).ok();
    a.once();
    // Before this machine receives the change.
    b.run("joe", &["rooms", "join", "club"]).ok();
    a.run("ann", &["rooms", "send", "club", "members only"]).ok();
    a.once();
    settle(&[&b, &a]);
    let mail = mail_of(&b, "joe");
    assert!(mail.contains("removed from room club") && !mail.contains("members only"), "{mail}");
    assert_eq!(b.world.poll("bob"), ["members only"]);
    let refused = b.run("joe", &["rooms", "send", "club", "let me in"]);
    assert!(refused.status != 0, "{}", refused.out);
}

fn an_invited_key_can_join_under_a_later_alias() {
    let relay = RelayProcess::start("log");
    let a = Machine::new(&relay, "machine-a");
    let (b, c) = (Machine::new(&relay, "machine-b"), Machine::new(&relay, "machine-c"));
    let url = relay.url();
    let register = |machine: &Machine, alias: &str| {
        let target = ["--node-id", &machine.node, "--relay-url", &url, "--token", TOKEN];
        machine.run(alias, &[&["relay", "register", "--alias", alias], &target[..]].concat()).ok();
    };
    let shown = b.run("x", &["relay", "identity", "init", "--json"]).ok().json();
    let key = shown["public_key"].as_str().expect("a key").to_owned();
    register(&a, "ann");
    at_relay(&relay, &a, "ann", &["join", "club"]);
    at_relay(&relay, &a, "ann", &["set-visibility", "club", "--visibility", "invite"]);
    at_relay(&relay, &a, "ann", &["invite", "club", "--invitee-pk", &key]);
    register(&b, "bob9");
    register(&c, "eve");
    let join = ["relay", "rooms", "join", "club", "--relay-url", &url, "--token", TOKEN];
    c.run("eve", &[&join[..], &["--alias", "eve"]].concat()).fails_with("not_invited");
    at_relay(&relay, &b, "bob9", &["join", "club"]);
    at_relay(&relay, &b, "bob9", &["leave", "club"]);
    at_relay(&relay, &a, "ann", &["uninvite", "club", "--invitee-pk", &key]);
    b.run("bob9", &[&join[..], &["--alias", "bob9"]].concat()).fails_with("not_invited");
}

fn messages_of_a_private_room_do_not_enter_a_public_room_of_that_name() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    let m = Machine::new(&relay, "machine-m");
    m.world.register(&["mal"]);
    m.run("mal", &["rooms", "join", "ops"]).ok();
    settle(&[&m]);
    a.world.register(&["carol", "dan"]);
    a.run("ann", &["rooms", "create", "ops", "--visibility", "invite_only"]).ok();
    a.run("ann", &["rooms", "join", "ops"]).ok();
    a.run("ann", &["rooms", "invite", "ops", "carol"]).ok();
    a.run("carol", &["rooms", "join", "ops"]).ok();
    a.run("ann", &["rooms", "send", "ops", "an old secret"]).ok();
    a.run("ann", &["rooms", "invite", "ops", "bob@machine-b"]).ok();
    a.run("ann", &["rooms", "send", "ops", "a new secret"]).ok();
    settle(&[&a, &m, &b]);
    assert!(
        mail_of(&a, "ann").contains("is now local to this machine"),
        "the owner received no notice"
    );
    a.run("ann", &["rooms", "send", "ops", "a later secret"]).ok();
    settle(&[&a, &m, &b]);
    assert_eq!(m.world.poll("mal"), [""; 0]);
    let seen = at_relay(&relay, &m, "mal", &["history", "ops"]);
    assert!(!seen.contains("secret"), "{seen}");
    a.run("dan", &["rooms", "join", "ops"]);
    assert_eq!(history(&a, "ann", "ops").len(), 3);
    let received = a.world.poll("carol");
    for text in ["an old secret", "a new secret", "a later secret"] {
        assert!(received.contains(&text.to_owned()), "{received:?}");
    }
}

fn members_return_to_a_room_that_the_relay_has_lost() {
    for private in [false, true] {
        let mut relay = RelayProcess::start("memory");
        let (a, b) = pair_in(&relay, "den");
        if private {
            a.run("ann", &["rooms", "visibility", "den", "--set", "invite_only"]).ok();
            settle(&[&a, &b]);
        }
        relay.kill();
        relay.restart();
        // The machine that does not own the room connects first, and then last.
        settle(&[&b, &a, &b]);
        a.run("ann", &["rooms", "send", "den", "still there?"]).ok();
        settle(&[&a, &b]);
        assert_eq!(b.world.poll("bob"), ["still there?"], "private: {private}");
        relay.kill();
        relay.restart();
        settle(&[&a, &b]);
        b.run("bob", &["rooms", "send", "den", "still here"]).ok();
        settle(&[&b, &a]);
        assert_eq!(a.world.poll("ann"), ["still here"], "private: {private}");
    }
}

fn agents_that_join_together_find_the_earlier_history() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    b.world.register(&["cyd"]);
    a.run("ann", &["rooms", "join", "past"]).ok();
    a.run("ann", &["rooms", "send", "past", "before"]).ok();
    settle(&[&a, &b]);
    for who in ["bob", "cyd"] {
        b.run(who, &["rooms", "join", "past"]).ok();
    }
    settle(&[&a, &b]);
    assert_eq!(history(&b, "bob", "past").len(), 1);
    assert_eq!((b.world.poll("bob").len(), b.world.poll("cyd").len()), (0, 0));
}

fn a_room_does_not_show_the_history_of_a_deleted_room_of_that_name() {
    let relay = RelayProcess::start("memory");
    let (a, _b) = pair(&relay);
    a.world.register(&["eve"]);
    a.run("ann", &["rooms", "create", "ops", "--visibility", "invite_only"]).ok();
    a.run("ann", &["rooms", "join", "ops"]).ok();
    a.run("ann", &["rooms", "send", "ops", "a secret"]).ok();
    a.run("ann", &["rooms", "delete", "ops", "--force"]).ok();
    a.run("eve", &["rooms", "join", "ops"]).ok();
    a.run("eve", &["rooms", "send", "ops", "hello"]).ok();
    let texts: Vec<String> = history(&a, "eve", "ops").into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["hello"]);
}

fn members_return_to_a_private_room_that_the_relay_has_lost() {
    let mut relay = RelayProcess::start("memory");
    let (a, b) = pair(&relay);
    let c = Machine::new(&relay, "machine-c");
    c.world.register(&["cat"]);
    settle(&[&a, &b, &c]);
    a.run("ann", &["rooms", "create", "den", "--visibility", "invite_only"]).ok();
    a.run("ann", &["rooms", "join", "den"]).ok();
    a.run("ann", &["rooms", "invite", "den", "bob@machine-b"]).ok();
    settle(&[&a, &b, &c]);
    b.run("bob", &["rooms", "join", "den"]).ok();
    settle(&[&a, &b, &c]);
    // Under her new alias she still owns the room and can invite.
    a.run("ann", &["rename", "anna"]).ok();
    a.run("ann", &["rooms", "invite", "den", "cat@machine-c"]).ok();
    settle(&[&a, &b, &c]);
    c.run("cat", &["rooms", "join", "den"]).ok();
    settle(&[&a, &b, &c]);
    relay.kill();
    relay.restart();
    // The machines that do not own the room connect first.
    settle(&[&c, &b, &a, &b, &c]);
    b.world.poll("bob");
    c.world.poll("cat");
    a.run("ann", &["rooms", "send", "den", "still there?"]).ok();
    settle(&[&a, &b, &c]);
    assert_eq!(b.world.poll("bob"), ["still there?"]);
    assert_eq!(c.world.poll("cat"), ["still there?"]);
}

fn a_join_that_arrives_before_a_private_room_is_not_admitted() {
    let mut relay = RelayProcess::start("memory");
    let (a, b) = pair(&relay);
    let m = Machine::new(&relay, "machine-m");
    m.world.register(&["mal"]);
    a.run("ann", &["rooms", "join", "ops"]).ok();
    settle(&[&a, &b, &m]);
    m.run("mal", &["rooms", "join", "ops"]).ok();
    b.run("bob", &["rooms", "join", "ops"]).ok();
    settle(&[&m, &b, &a, &m]);
    m.run("mal", &["rooms", "leave", "ops"]).ok();
    settle(&[&m, &a, &b]);
    a.run("ann", &["rooms", "visibility", "ops", "--set", "invite_only"]).ok();
    settle(&[&a, &b, &m]);
    relay.kill();
    relay.restart();
    // All machines send their history again, the removed member first.
    settle(&[&m, &a, &b]);
    a.run("ann", &["rooms", "send", "ops", "secret"]).ok();
    settle(&[&a, &b, &m]);
    assert_eq!(b.world.poll("bob"), ["secret"]);
    assert_eq!(m.world.poll("mal"), [""; 0]);
    // Another agent takes the name at a relay that lost the room: no message goes there.
    relay.kill();
    relay.restart();
    m.run("mal", &["rooms", "create", "ops2"]).ok();
    a.run("ann", &["rooms", "create", "ops2", "--visibility", "invite_only"]).ok();
    a.run("ann", &["rooms", "join", "ops2"]).ok();
    m.once();
    a.run("ann", &["rooms", "invite", "ops2", "bob@machine-b"]).ok();
    a.once();
    a.world.register(&["dan"]);
    a.run("ann", &["rooms", "invite", "ops2", "dan"]).ok();
    a.run("dan", &["rooms", "join", "ops2"]).ok();
    a.run("dan", &["rooms", "send", "ops2", "between us"]).ok();
    settle(&[&a, &m, &b]);
    m.run("mal", &["rooms", "join", "ops2"]).ok();
    settle(&[&m]);
    assert!(!at_relay(&relay, &m, "mal", &["history", "ops2"]).contains("between us"));
    assert!(a.world.poll("ann").contains(&"between us".to_owned()));
}

crate::harness::tests! {
    fast:
        joining_and_leaving_through_the_relay_takes_effect_on_the_machine,
        the_history_of_an_older_root_stays_on_its_machine_and_precedes_new_messages,
        repeated_joins_and_leaves_end_in_the_last_state,
        a_room_history_has_the_order_of_the_relay_on_all_machines,
        the_relay_decides_who_owns_a_room,
        an_agent_that_the_relay_does_not_admit_is_notified_and_receives_nothing,
        an_invited_key_can_join_under_a_later_alias,
        messages_of_a_private_room_do_not_enter_a_public_room_of_that_name,
        agents_that_join_together_find_the_earlier_history,
        a_room_does_not_show_the_history_of_a_deleted_room_of_that_name;
    slow:
        members_return_to_a_room_that_the_relay_has_lost,
        members_return_to_a_private_room_that_the_relay_has_lost,
        a_join_that_arrives_before_a_private_room_is_not_admitted,
        a_late_member_finds_the_history_and_receives_none_of_it_as_mail;
}
