//! What does a relay answer to scripts: leases, addresses, dead letters, drains?

use c2c::code::Code;
use c2c::decide::{
    Actor, Claimed, Command, LeaseRegister, LeaseRenew, Leased, Refusal, Reply, Send,
};

use super::{Log, TTL_S};

fn lease(alias: &str, node_id: &str) -> LeaseRegister {
    LeaseRegister {
        alias: alias.into(),
        node_id: node_id.into(),
        session_id: format!("s-{alias}"),
        ttl_s: TTL_S,
        ..LeaseRegister::default()
    }
}

fn holder(key: Option<&str>) -> Actor {
    Actor { key: key.map(str::to_owned), ..Actor::default() }
}

fn session(alias: &str, node_id: &str) -> Actor {
    Actor { session_id: Some(format!("s-{alias}@{node_id}")), ..Actor::default() }
}

fn register(relay: &mut Log, wish: LeaseRegister, key: Option<&str>) -> Result<Leased, Code> {
    match relay.execute(&holder(key), &Command::LeaseRegister(wish)) {
        Ok(Reply::Leased(leased)) => Ok(leased),
        Err(refusal) => Err(refusal.code),
        other => panic!("unexpected {other:?}"),
    }
}

/// A relay where scripts hold leases.
fn relay_with(holders: &[(&str, &str)]) -> Log {
    let mut relay = Log::relay("relay");
    for (alias, node_id) in holders {
        register(&mut relay, lease(alias, node_id), None).expect("a lease");
    }
    relay
}

fn send(relay: &mut Log, from: &str, to: &str) -> Result<Reply, Refusal> {
    let send = Send {
        to: to.into(),
        from: Some(from.into()),
        body: format!("for {to}"),
        ..Send::default()
    };
    relay.execute(&Actor::default(), &Command::Send(send))
}

fn refused(reply: Result<Reply, Refusal>) -> Code {
    match reply {
        Ok(Reply::Refused(refusal)) | Err(refusal) => refusal.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn drain(relay: &mut Log, alias: &str, node_id: &str, drain_id: Option<&str>) -> Claimed {
    let command =
        Command::Drain { drain_id: drain_id.map(str::to_owned), limit: 2, max_bytes: usize::MAX };
    match relay.execute(&session(alias, node_id), &command) {
        Ok(Reply::Claimed(claimed)) => claimed,
        other => panic!("unexpected {other:?}"),
    }
}

fn reasons(relay: &Log) -> Vec<(String, String)> {
    let letters = relay.state.dead_letters.scan([]).into_iter();
    letters.map(|(_, letter)| (letter.alias, letter.reason)).collect()
}

fn unread(relay: &Log, mailbox: &str) -> usize {
    relay.state.unread(mailbox).len()
}

#[test]
fn a_bare_alias_belongs_to_its_first_holder() {
    let mut relay = relay_with(&[("ann", "one")]);
    assert_eq!(register(&mut relay, lease("ann", "two"), None), Err(Code::AliasConflict));
    let shared = LeaseRegister { replicated: true, ..lease("ann", "two") };
    let leased = register(&mut relay, shared, None).expect("its own address");
    assert!(!leased.bare);
    send(&mut relay, "bob", "ann").expect("to the first");
    send(&mut relay, "bob", "ann@two").expect("to the other");
    assert_eq!((unread(&relay, "ann@one"), unread(&relay, "ann@two")), (1, 1));
}

#[test]
fn a_lease_that_is_over_frees_the_alias_and_a_key_keeps_it() {
    let mut relay = relay_with(&[("ann", "one")]);
    register(&mut relay, lease("bob", "one"), Some("key-1")).expect("the first key");
    relay.now_us += (TTL_S + 1) * 1_000_000;
    assert!(register(&mut relay, lease("ann", "two"), None).expect("free").bare);
    assert_eq!(register(&mut relay, lease("bob", "two"), Some("key-2")), Err(Code::AliasConflict));
    assert_eq!(register(&mut relay, lease("bob", "one"), Some("key-2")), Err(Code::KeyMismatch));
    assert!(register(&mut relay, lease("bob", "one"), Some("key-1")).expect("its own").bare);
}

#[test]
fn the_alias_of_a_bare_shell_is_never_bare() {
    let mut relay = Log::relay("relay");
    let leased = register(&mut relay, lease("cli-root", "one"), None).expect("a lease");
    assert!(!leased.bare);
    assert_eq!(refused(send(&mut relay, "bob", "cli-root")), Code::UnknownAlias);
    send(&mut relay, "bob", "cli-root@one").expect("by its node");
}

#[test]
fn a_heartbeat_of_nobody_asks_for_a_registration() {
    let mut relay = relay_with(&[("ann", "one")]);
    let beat = |session: &str| {
        let (node_id, session_id) = ("one".to_owned(), session.to_owned());
        Command::LeaseRenew(LeaseRenew { node_id, session_id, liveness: String::new() })
    };
    relay.now_us += (TTL_S - 1) * 1_000_000;
    relay.execute(&Actor::default(), &beat("s-ann")).expect("a renewal");
    relay.now_us += (TTL_S - 1) * 1_000_000;
    send(&mut relay, "bob", "ann").expect("still alive");
    assert_eq!(refused(relay.execute(&Actor::default(), &beat("s-bob"))), Code::UnknownAlias);
}

#[test]
fn an_address_means_a_node_then_a_host_then_the_relay() {
    let mut relay = relay_with(&[("ann", "hut-0a1b2c3d"), ("bob", "den-local")]);
    for (from, to, code) in [
        ("x", "ann@hut-0a1b2c3d", None),
        ("x", "ann@hut", None),
        ("x", "bob@den", None),
        ("x", "bob@relay", None),
        ("x", "bob@hub.example", None),
        // One's own node may have somebody of that name elsewhere.
        ("ann", "bob@hut-0a1b2c3d", None),
        // A node match never falls back to somebody else's alias.
        ("x", "bob@hut-0a1b2c3d", Some(Code::UnknownAlias)),
        ("x", "bob@hut", Some(Code::UnknownAlias)),
        ("x", "bob@nowhere", Some(Code::UnknownHost)),
        ("x", "zoe", Some(Code::UnknownAlias)),
    ] {
        let reply = send(&mut relay, from, to);
        match code {
            None => assert!(matches!(reply, Ok(Reply::Sent(_))), "{from} to {to}: {reply:?}"),
            Some(code) => assert_eq!(refused(reply), code, "{from} to {to}"),
        }
    }
    register(&mut relay, lease("cyd", "hut-ffffffff"), None).expect("a second one");
    assert_eq!(refused(send(&mut relay, "x", "ann@hut")), Code::UnknownHost, "not unique any more");
}

#[test]
fn a_recipient_whose_lease_is_over_is_dead_and_told_so() {
    let mut relay = relay_with(&[("ann", "one"), ("bob", "one")]);
    let room = |alias: &str| {
        (session(alias, "one"), Command::RoomJoin { room_id: "den".into(), from: None })
    };
    for alias in ["ann", "bob"] {
        let (actor, join) = room(alias);
        relay.execute(&actor, &join).expect("a member");
    }
    relay.now_us += (TTL_S + 1) * 1_000_000;
    register(&mut relay, lease("bob", "one"), None).expect("bob is back");
    assert_eq!(refused(send(&mut relay, "bob", "ann")), Code::RecipientDead);
    let send_room = Command::RoomSend {
        room_id: "den".into(),
        send: Send { body: "all?".into(), ..Send::default() },
    };
    let Ok(Reply::Sent(sent)) = relay.execute(&session("bob", "one"), &send_room) else {
        panic!("a room message")
    };
    assert_eq!(sent.skipped.len(), 1);
    let all = Command::SendAll {
        body: "all?".into(),
        exclude: vec![],
        tag: None,
        from: None,
        message_id: None,
    };
    let Ok(Reply::Broadcast { sent_to, skipped, .. }) = relay.execute(&session("bob", "one"), &all)
    else {
        panic!("a broadcast")
    };
    assert_eq!((sent_to.len(), skipped.len()), (0, 1));
    assert_eq!(reasons(&relay), vec![("ann".to_owned(), "recipient_dead".to_owned()); 3]);
    // What senders were told is lost stays lost, the room message, too.
    register(&mut relay, lease("ann", "one"), None).expect("ann is back");
    assert_eq!(unread(&relay, "ann@one"), 0);
}

#[test]
fn mail_of_a_lease_that_ended_comes_back_once() {
    let mut relay = relay_with(&[("ann", "one"), ("bob", "one")]);
    send(&mut relay, "bob", "ann").expect("mail");
    relay.now_us += (TTL_S + 1) * 1_000_000;
    register(&mut relay, lease("bob", "one"), None).expect("bob is back");
    let Ok(Reply::Collected(collected)) = relay.execute(&Actor::default(), &Command::Collect)
    else {
        panic!("a collection")
    };
    assert_eq!((collected.expired.len(), collected.pruned), (1, 1));
    assert_eq!(reasons(&relay), [("ann".to_owned(), "expired".to_owned())]);
    assert_eq!(register(&mut relay, lease("ann", "one"), None).expect("back").redelivered, 1);
    assert_eq!(register(&mut relay, lease("ann", "one"), None).expect("again").redelivered, 0);
    assert_eq!(unread(&relay, "ann@one"), 1);
}

#[test]
fn what_a_connector_fetches_waits_for_it() {
    let mut relay = Log::relay("relay");
    let wish = LeaseRegister { replicated: true, ..lease("ann", "one") };
    register(&mut relay, wish, None).expect("a lease");
    send(&mut relay, "bob", "ann").expect("mail");
    relay.now_us += (TTL_S + 1) * 1_000_000;
    relay.execute(&Actor::default(), &Command::Collect).expect("a collection");
    assert!(reasons(&relay).is_empty());
    assert_eq!(unread(&relay, "ann@one"), 1);
}

#[test]
fn a_drain_gives_the_same_until_the_next_one_confirms_it() {
    let mut relay = relay_with(&[("ann", "one")]);
    for _ in 0..3 {
        send(&mut relay, "bob", "ann").expect("mail");
    }
    let sequences =
        |claimed: &Claimed| -> Vec<u64> { claimed.items.iter().map(|(at, ..)| *at).collect() };
    let first = drain(&mut relay, "ann", "one", Some("d-1"));
    send(&mut relay, "bob", "ann").expect("more mail");
    let again = drain(&mut relay, "ann", "one", Some("d-1"));
    assert_eq!(sequences(&first), sequences(&again));
    assert_eq!(first.items.len(), 2);
    let second = drain(&mut relay, "ann", "one", Some("d-2"));
    assert!(sequences(&second).iter().all(|at| !sequences(&first).contains(at)));
    assert_eq!(second.items.len(), 2);
    assert!(drain(&mut relay, "ann", "one", None).items.is_empty());
    assert_eq!(unread(&relay, "ann@one"), 0, "each was confirmed by the one after it");
}

#[test]
fn what_is_unbound_has_no_address_any_more() {
    let mut relay = Log::relay("relay");
    register(&mut relay, lease("ann", "one"), Some("key-1")).expect("a key");
    let unbind = Command::Unbind { alias: "ann".into() };
    relay.execute(&Actor::default(), &unbind).expect("an end");
    assert_eq!(refused(send(&mut relay, "bob", "ann")), Code::UnknownAlias);
    assert_eq!(refused(send(&mut relay, "bob", "ann@one")), Code::UnknownHost);
    assert!(register(&mut relay, lease("ann", "two"), Some("key-2")).expect("free").bare);
}

#[test]
fn a_rotated_key_takes_all_with_it() {
    let mut relay = Log::relay("relay");
    register(&mut relay, lease("ann", "one"), Some("old")).expect("a key");
    let rotate = Command::KeyRotate { public_key: "new".into() };
    relay.execute(&holder(Some("old")), &rotate).expect("signed by the old key");
    assert_eq!(register(&mut relay, lease("ann", "one"), Some("old")), Err(Code::KeyMismatch));
    assert!(register(&mut relay, lease("ann", "one"), Some("new")).expect("the new key").bare);
}
