//! Is a room one room, whoever looks at it from wherever?

use serde_json::Value;

use super::{Hub, Machine, TOKEN, pair, pair_in, settle};
use crate::support::contents;

/// A command of the relay, asked without the connector.
fn by_relay(hub: &Hub, machine: &Machine, who: &str, words: &[&str]) -> String {
    let url = hub.url();
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

fn told(machine: &Machine, who: &str) -> String {
    machine.world.poll(who).join("\n")
}

#[test]
fn a_room_joined_and_left_by_way_of_the_relay_is_joined_and_left_here() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    by_relay(&hub, &b, "bob", &["join", "ops"]);
    by_relay(&hub, &a, "ann", &["join", "ops"]);
    settle(&[&a, &b]);
    by_relay(&hub, &a, "ann", &["send", "ops", "hello room"]);
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["hello room"]);
    assert_eq!(a.world.poll("ann"), [""; 0], "one does not hear oneself");
    a.run("ann", &["rooms", "send", "ops", "and from here"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["and from here"]);
    by_relay(&hub, &b, "bob", &["leave", "ops"]);
    settle(&[&a, &b]);
    let refused = b.run("bob", &["rooms", "send", "ops", "still there?"]);
    assert!(refused.status != 0 && refused.err.contains("not_a_member"), "{}", refused.err);
    a.run("ann", &["rooms", "send", "ops", "who is left"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), [""; 0]);
}

#[test]
fn coming_and_going_here_ends_where_it_ended_here() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
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

#[test]
fn a_history_has_the_order_of_the_relay_on_all_machines() {
    let mut hub = Hub::start("log");
    let (a, b) = pair_in(&hub, "den");
    a.run("ann", &["rooms", "send", "den", "first"]).ok();
    settle(&[&a, &b]);
    hub.kill();
    for at in 1..=3 {
        a.run("ann", &["rooms", "send", "den", &format!("a{at}")]).ok();
        b.run("bob", &["rooms", "send", "den", &format!("b{at}")]).ok();
    }
    let before = history(&a, "ann", "den");
    let waits: Vec<_> = before.iter().map(|(at, text)| (at.is_null(), text.as_str())).collect();
    assert_eq!(waits, [(false, "first"), (true, "a1"), (true, "a2"), (true, "a3")]);
    hub.go_on();
    b.once();
    settle(&[&a, &b]);
    let (of_a, of_b) = (history(&a, "ann", "den"), history(&b, "bob", "den"));
    assert_eq!(of_a, of_b);
    let texts: Vec<_> = of_a.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["first", "b1", "b2", "b3", "a1", "a2", "a3"]);
    let places: Vec<_> = of_a.iter().filter_map(|(at, _)| at.as_u64()).collect();
    assert!(places.len() == 7 && places.windows(2).all(|two| two[0] < two[1]), "{places:?}");
}

#[test]
fn who_comes_later_finds_what_was_said_before_and_none_of_it_as_mail() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
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
    // Once: a second one of the node comes into a room that is known there.
    b.world.register(&["cyd"]);
    b.run("cyd", &["rooms", "join", "past"]).ok();
    settle(&[&a, &b]);
    assert_eq!(history(&b, "cyd", "past").len(), 21);
    assert_eq!(b.world.poll("cyd"), [""; 0]);
}

#[test]
fn the_relay_says_whose_a_room_is() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    a.run("ann", &["rooms", "join", "club"]).ok();
    settle(&[&a, &b]);
    // Made on this machine, too: it did not know the other one yet.
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

#[test]
fn whoever_the_relay_does_not_admit_hears_nothing_and_is_told() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    b.world.register(&["joe"]);
    a.run("ann", &["rooms", "join", "club"]).ok();
    settle(&[&a, &b]);
    b.run("bob", &["rooms", "join", "club"]).ok();
    settle(&[&a, &b]);
    a.run("ann", &["rooms", "visibility", "club", "--set", "invite_only"]).ok();
    a.once();
    // Before this machine hears of it.
    b.run("joe", &["rooms", "join", "club"]).ok();
    a.run("ann", &["rooms", "send", "club", "members only"]).ok();
    a.once();
    settle(&[&b, &a]);
    let words = told(&b, "joe");
    assert!(words.contains("not in room club") && !words.contains("members only"), "{words}");
    assert_eq!(b.world.poll("bob"), ["members only"]);
    let refused = b.run("joe", &["rooms", "send", "club", "let me in"]);
    assert!(refused.status != 0, "{}", refused.out);
}

#[test]
fn a_key_that_is_invited_comes_in_under_any_alias_of_later() {
    let hub = Hub::start("log");
    let a = Machine::new(&hub, "machine-a");
    let (b, c) = (Machine::new(&hub, "machine-b"), Machine::new(&hub, "machine-c"));
    let url = hub.url();
    let register = |machine: &Machine, alias: &str| {
        let target = ["--node-id", &machine.node, "--relay-url", &url, "--token", TOKEN];
        machine.run(alias, &[&["relay", "register", "--alias", alias], &target[..]].concat()).ok();
    };
    let shown = b.run("x", &["relay", "identity", "init", "--json"]).ok().json();
    let key = shown["public_key"].as_str().expect("a key").to_owned();
    register(&a, "ann");
    by_relay(&hub, &a, "ann", &["join", "club"]);
    by_relay(&hub, &a, "ann", &["set-visibility", "club", "--visibility", "invite"]);
    by_relay(&hub, &a, "ann", &["invite", "club", "--invitee-pk", &key]);
    register(&b, "bob9");
    register(&c, "eve");
    let join = ["relay", "rooms", "join", "club", "--relay-url", &url, "--token", TOKEN];
    c.run("eve", &[&join[..], &["--alias", "eve"]].concat()).refused("not_invited");
    by_relay(&hub, &b, "bob9", &["join", "club"]);
    by_relay(&hub, &b, "bob9", &["leave", "club"]);
    by_relay(&hub, &a, "ann", &["uninvite", "club", "--invitee-pk", &key]);
    b.run("bob9", &[&join[..], &["--alias", "bob9"]].concat()).refused("not_invited");
}

#[test]
fn what_is_private_here_does_not_go_into_a_public_room_of_that_name() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    let m = Machine::new(&hub, "machine-m");
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
    assert!(told(&a, "ann").contains("for this machine only"), "nobody is told");
    a.run("ann", &["rooms", "send", "ops", "a later secret"]).ok();
    settle(&[&a, &m, &b]);
    assert_eq!(m.world.poll("mal"), [""; 0]);
    let seen = by_relay(&hub, &m, "mal", &["history", "ops"]);
    assert!(!seen.contains("secret"), "{seen}");
    a.run("dan", &["rooms", "join", "ops"]);
    assert_eq!(history(&a, "ann", "ops").len(), 3);
    let heard = a.world.poll("carol");
    for text in ["an old secret", "a new secret", "a later secret"] {
        assert!(heard.contains(&text.to_owned()), "{heard:?}");
    }
}

#[test]
fn members_come_back_to_a_relay_that_forgot_the_room() {
    for private in [false, true] {
        let mut hub = Hub::start("memory");
        let (a, b) = pair_in(&hub, "den");
        if private {
            a.run("ann", &["rooms", "visibility", "den", "--set", "invite_only"]).ok();
            settle(&[&a, &b]);
        }
        hub.kill();
        hub.go_on();
        // The one that does not own the room comes first, and then last.
        settle(&[&b, &a, &b]);
        a.run("ann", &["rooms", "send", "den", "still there?"]).ok();
        settle(&[&a, &b]);
        assert_eq!(b.world.poll("bob"), ["still there?"], "private: {private}");
        hub.kill();
        hub.go_on();
        settle(&[&a, &b]);
        b.run("bob", &["rooms", "send", "den", "still here"]).ok();
        settle(&[&b, &a]);
        assert_eq!(a.world.poll("ann"), ["still here"], "private: {private}");
    }
}

#[test]
fn two_who_come_at_once_find_what_was_said_before() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
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

#[test]
fn a_room_does_not_show_the_history_of_another_that_had_its_name() {
    let hub = Hub::start("memory");
    let (a, _b) = pair(&hub);
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

#[test]
fn members_of_a_private_room_come_back_to_a_relay_that_forgot_it() {
    let mut hub = Hub::start("memory");
    let (a, b) = pair(&hub);
    let c = Machine::new(&hub, "machine-c");
    c.world.register(&["cat"]);
    settle(&[&a, &b, &c]);
    a.run("ann", &["rooms", "create", "den", "--visibility", "invite_only"]).ok();
    a.run("ann", &["rooms", "join", "den"]).ok();
    a.run("ann", &["rooms", "invite", "den", "bob@machine-b"]).ok();
    settle(&[&a, &b, &c]);
    b.run("bob", &["rooms", "join", "den"]).ok();
    settle(&[&a, &b, &c]);
    // By her new name she still owns it, and invites.
    a.run("ann", &["rename", "anna"]).ok();
    a.run("ann", &["rooms", "invite", "den", "cat@machine-c"]).ok();
    settle(&[&a, &b, &c]);
    c.run("cat", &["rooms", "join", "den"]).ok();
    settle(&[&a, &b, &c]);
    hub.kill();
    hub.go_on();
    // Those who do not own it come first.
    settle(&[&c, &b, &a, &b, &c]);
    b.world.poll("bob");
    c.world.poll("cat");
    a.run("ann", &["rooms", "send", "den", "still there?"]).ok();
    settle(&[&a, &b, &c]);
    assert_eq!(b.world.poll("bob"), ["still there?"]);
    assert_eq!(c.world.poll("cat"), ["still there?"]);
}

#[test]
fn whoever_comes_before_a_private_room_is_not_in_it() {
    let mut hub = Hub::start("memory");
    let (a, b) = pair(&hub);
    let m = Machine::new(&hub, "machine-m");
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
    hub.kill();
    hub.go_on();
    // All that ever was is said again, by him first.
    settle(&[&m, &a, &b]);
    a.run("ann", &["rooms", "send", "ops", "secret"]).ok();
    settle(&[&a, &b, &m]);
    assert_eq!(b.world.poll("bob"), ["secret"]);
    assert_eq!(m.world.poll("mal"), [""; 0]);
    // Somebody else has the name at a relay that forgot it: none of it goes there.
    hub.kill();
    hub.go_on();
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
    assert!(!by_relay(&hub, &m, "mal", &["history", "ops2"]).contains("between us"));
    assert!(a.world.poll("ann").contains(&"between us".to_owned()));
}
