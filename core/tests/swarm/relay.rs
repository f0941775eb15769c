//! Scripts at a relay: leases, addresses, dead letters and drains.

use c2c_core::code::Code;
use c2c_core::command;
use c2c_core::decide::{Actor, Claimed, LeaseRenewal, LeaseRequest, Leased, Rejection, Send, Sent};
use c2c_log_format::payload::ReportedLiveness;

use super::{Log, TTL_S};

fn lease(alias: &str, node_id: &str) -> LeaseRequest {
    LeaseRequest {
        alias: alias.into(),
        node_id: node_id.into(),
        session_id: format!("s-{alias}").into(),
        ttl_s: TTL_S,
        ..LeaseRequest::default()
    }
}

fn holder(key: Option<&str>) -> Actor {
    Actor { key: key.map(str::to_owned), ..Actor::default() }
}

fn session(alias: &str, node_id: &str) -> Actor {
    Actor { session_id: Some(format!("s-{alias}@{node_id}").into()), ..Actor::default() }
}

fn register(relay: &mut Log, request: LeaseRequest, key: Option<&str>) -> Result<Leased, Code> {
    relay.execute(&holder(key), &request).map_err(|rejection| rejection.code)
}

/// A relay where scripts hold leases.
fn relay_with(holders: &[(&str, &str)]) -> Log {
    let mut relay = Log::relay("relay");
    for (alias, node_id) in holders {
        register(&mut relay, lease(alias, node_id), None).expect("a lease");
    }
    relay
}

fn send(relay: &mut Log, from: &str, to: &str) -> Result<Sent, Rejection> {
    let send = Send {
        to: to.into(),
        from: Some(from.into()),
        body: format!("for {to}"),
        ..Send::default()
    };
    relay.execute(&Actor::default(), &send)
}

fn code_of<R: std::fmt::Debug>(reply: Result<R, Rejection>) -> Code {
    reply.expect_err("a rejection").code
}

fn drain(relay: &mut Log, alias: &str, node_id: &str, drain_id: Option<&str>) -> Claimed {
    let command = command::DrainInbox {
        drain_id: drain_id.map(str::to_owned),
        limit: 2,
        max_bytes: usize::MAX,
    };
    relay.execute(&session(alias, node_id), &command).expect("a drain")
}

fn reasons(relay: &Log) -> Vec<(String, String)> {
    let letters = relay.state.dead_letters.scan([]).into_iter();
    letters.map(|(_, letter)| (letter.alias, letter.reason.to_string())).collect()
}

fn unread(relay: &Log, mailbox: &str) -> usize {
    relay.state.unread(mailbox).len()
}

#[test]
fn a_bare_alias_belongs_to_its_first_holder() {
    let mut relay = relay_with(&[("ann", "one")]);
    assert_eq!(register(&mut relay, lease("ann", "two"), None), Err(Code::AliasConflict));
    let shared = LeaseRequest { replicated: true, ..lease("ann", "two") };
    let leased = register(&mut relay, shared, None).expect("its own address");
    assert!(!leased.bare);
    send(&mut relay, "bob", "ann").expect("to the first");
    send(&mut relay, "bob", "ann@two").expect("to the other");
    assert_eq!((unread(&relay, "ann@one"), unread(&relay, "ann@two")), (1, 1));
}

#[test]
fn an_expired_lease_frees_the_alias_unless_a_key_is_bound_to_it() {
    let mut relay = relay_with(&[("ann", "one")]);
    register(&mut relay, lease("bob", "one"), Some("key-1")).expect("the first key");
    relay.now_us += (TTL_S + 1) * 1_000_000;
    assert!(register(&mut relay, lease("ann", "two"), None).expect("free").bare);
    assert_eq!(register(&mut relay, lease("bob", "two"), Some("key-2")), Err(Code::AliasConflict));
    assert_eq!(
        register(&mut relay, lease("bob", "one"), Some("key-2")),
        Err(Code::AliasIdentityMismatch)
    );
    assert!(register(&mut relay, lease("bob", "one"), Some("key-1")).expect("its own").bare);
}

#[test]
fn the_default_alias_of_a_shell_is_never_bare() {
    let mut relay = Log::relay("relay");
    let leased = register(&mut relay, lease("cli-root", "one"), None).expect("a lease");
    assert!(!leased.bare);
    assert_eq!(code_of(send(&mut relay, "bob", "cli-root")), Code::UnknownAlias);
    send(&mut relay, "bob", "cli-root@one").expect("by its node");
}

#[test]
fn a_heartbeat_without_a_lease_is_rejected() {
    let mut relay = relay_with(&[("ann", "one")]);
    let heartbeat = |session: &str| {
        let (node_id, session_id) = ("one".to_owned(), session.to_owned());
        LeaseRenewal {
            node_id: node_id.into(),
            session_id: session_id.into(),
            liveness: ReportedLiveness::NotReported,
        }
    };
    relay.now_us += (TTL_S - 1) * 1_000_000;
    relay.execute(&Actor::default(), &heartbeat("s-ann")).expect("a renewal");
    relay.now_us += (TTL_S - 1) * 1_000_000;
    send(&mut relay, "bob", "ann").expect("still alive");
    assert_eq!(code_of(relay.execute(&Actor::default(), &heartbeat("s-bob"))), Code::UnknownAlias);
}

#[test]
fn an_address_matches_a_node_then_a_host_then_the_relay() {
    let mut relay = relay_with(&[("ann", "hut-0a1b2c3d"), ("bob", "den-local")]);
    for (from, to, code) in [
        ("x", "ann@hut-0a1b2c3d", None),
        ("x", "ann@hut", None),
        ("x", "bob@den", None),
        ("x", "bob@relay", None),
        ("x", "bob@hub.example", None),
        // The node of the sender may have the same alias as another node.
        ("ann", "bob@hut-0a1b2c3d", None),
        // A node match never falls back to an alias of another node.
        ("x", "bob@hut-0a1b2c3d", Some(Code::UnknownAlias)),
        ("x", "bob@hut", Some(Code::UnknownAlias)),
        ("x", "bob@nowhere", Some(Code::UnknownHost)),
        ("x", "zoe", Some(Code::UnknownAlias)),
    ] {
        let reply = send(&mut relay, from, to);
        match code {
            None => assert!(reply.is_ok(), "{from} to {to}: {reply:?}"),
            Some(code) => assert_eq!(code_of(reply), code, "{from} to {to}"),
        }
    }
    register(&mut relay, lease("cyd", "hut-ffffffff"), None).expect("a second one");
    assert_eq!(code_of(send(&mut relay, "x", "ann@hut")), Code::UnknownHost, "no longer unique");
}

#[test]
fn messages_for_an_expired_recipient_become_dead_letters() {
    let mut relay = relay_with(&[("ann", "one"), ("bob", "one")]);
    let room = |alias: &str| {
        (session(alias, "one"), command::JoinRoom { room_id: "den".into(), from: None })
    };
    for alias in ["ann", "bob"] {
        let (actor, join) = room(alias);
        relay.execute(&actor, &join).expect("a member");
    }
    relay.now_us += (TTL_S + 1) * 1_000_000;
    register(&mut relay, lease("bob", "one"), None).expect("a renewed lease");
    assert_eq!(code_of(send(&mut relay, "bob", "ann")), Code::RecipientDead);
    let send_room = command::SendToRoom {
        room_id: "den".into(),
        send: Send { body: "all?".into(), ..Send::default() },
    };
    let sent = relay.execute(&session("bob", "one"), &send_room).expect("a room message");
    assert_eq!(sent.skipped.len(), 1);
    let all = command::SendAll {
        body: "all?".into(),
        exclude: vec![],
        tag: None,
        from: None,
        message_id: None,
    };
    let reply = relay.execute(&session("bob", "one"), &all).expect("a broadcast");
    assert_eq!((reply.sent_to.len(), reply.skipped.len()), (0, 1));
    assert_eq!(reasons(&relay), vec![("ann".to_owned(), "recipient_dead".to_owned()); 3]);
    // Messages that were reported as lost stay lost, including the room message.
    register(&mut relay, lease("ann", "one"), None).expect("a renewed lease");
    assert_eq!(unread(&relay, "ann@one"), 0);
}

#[test]
fn mail_of_an_expired_lease_is_redelivered_once() {
    let mut relay = relay_with(&[("ann", "one"), ("bob", "one")]);
    send(&mut relay, "bob", "ann").expect("mail");
    relay.now_us += (TTL_S + 1) * 1_000_000;
    register(&mut relay, lease("bob", "one"), None).expect("a renewed lease");
    let collected =
        relay.execute(&Actor::default(), &command::CollectLeases).expect("a collection");
    assert_eq!((collected.expired.len(), collected.pruned), (1, 1));
    assert_eq!(reasons(&relay), [("ann".to_owned(), "expired".to_owned())]);
    assert_eq!(register(&mut relay, lease("ann", "one"), None).expect("back").redelivered, 1);
    assert_eq!(register(&mut relay, lease("ann", "one"), None).expect("again").redelivered, 0);
    assert_eq!(unread(&relay, "ann@one"), 1);
}

#[test]
fn mail_of_a_replicated_lease_waits_for_its_connector() {
    let mut relay = Log::relay("relay");
    let request = LeaseRequest { replicated: true, ..lease("ann", "one") };
    register(&mut relay, request, None).expect("a lease");
    send(&mut relay, "bob", "ann").expect("mail");
    relay.now_us += (TTL_S + 1) * 1_000_000;
    relay.execute(&Actor::default(), &command::CollectLeases).expect("a collection");
    assert!(reasons(&relay).is_empty());
    assert_eq!(unread(&relay, "ann@one"), 1);
}

#[test]
fn a_drain_returns_the_same_messages_until_the_next_one_confirms_it() {
    let mut relay = relay_with(&[("ann", "one")]);
    for _ in 0..3 {
        send(&mut relay, "bob", "ann").expect("mail");
    }
    let sequences = |claimed: &Claimed| -> Vec<u64> {
        claimed.items.iter().map(|item| item.sequence).collect()
    };
    let first = drain(&mut relay, "ann", "one", Some("d-1"));
    send(&mut relay, "bob", "ann").expect("more mail");
    let again = drain(&mut relay, "ann", "one", Some("d-1"));
    assert_eq!(sequences(&first), sequences(&again));
    assert_eq!(first.items.len(), 2);
    let second = drain(&mut relay, "ann", "one", Some("d-2"));
    assert!(sequences(&second).iter().all(|at| !sequences(&first).contains(at)));
    assert_eq!(second.items.len(), 2);
    assert!(drain(&mut relay, "ann", "one", None).items.is_empty());
    assert_eq!(unread(&relay, "ann@one"), 0, "each drain was confirmed by the next one");
}

#[test]
fn an_unbound_alias_has_no_address() {
    let mut relay = Log::relay("relay");
    register(&mut relay, lease("ann", "one"), Some("key-1")).expect("a key");
    let unbind = command::UnbindAlias { alias: "ann".into() };
    relay.execute(&Actor::default(), &unbind).expect("an unbind");
    assert_eq!(code_of(send(&mut relay, "bob", "ann")), Code::UnknownAlias);
    assert_eq!(code_of(send(&mut relay, "bob", "ann@one")), Code::UnknownHost);
    assert!(register(&mut relay, lease("ann", "two"), Some("key-2")).expect("free").bare);
}

#[test]
fn a_rotated_key_takes_over_all_bindings() {
    let mut relay = Log::relay("relay");
    register(&mut relay, lease("ann", "one"), Some("old")).expect("a key");
    let rotate = command::RotateKey { public_key: "new".into() };
    relay.execute(&holder(Some("old")), &rotate).expect("signed by the old key");
    assert_eq!(
        register(&mut relay, lease("ann", "one"), Some("old")),
        Err(Code::AliasIdentityMismatch)
    );
    assert!(register(&mut relay, lease("ann", "one"), Some("new")).expect("the new key").bare);
}
