//! Events between two nodes: addresses, receipts, bounces, rooms and invalid batches.

use c2c_core::code::Code;
use c2c_core::command::{self, Command};
use c2c_core::decide::{Batch, OutgoingEvents, Position, Rejection, Send, Sent};
use c2c_log_format::Payload;
use c2c_log_format::payload::Target;

use super::{Fate, Log, outgoing, push, register_leases, settle};

const A: &str = "alpha-00000001";
const B: &str = "beta-00000002";

fn swarm(agents: &[(usize, &str)]) -> (Vec<Log>, Log) {
    let mut nodes = vec![Log::node(A, A), Log::node(B, B)];
    let mut relay = Log::relay("relay");
    for (node, alias) in agents {
        nodes[*node].register(alias).expect("an alias");
    }
    settle(&mut nodes, &mut relay);
    (nodes, relay)
}

fn sent_to(reply: Result<Sent, Rejection>) -> String {
    reply.expect("a sent message").to
}

#[test]
fn a_bare_alias_means_the_local_agent_then_a_remote_one() {
    let (mut nodes, _) = swarm(&[(0, "ann"), (0, "bob"), (1, "ann"), (1, "cyd")]);
    assert_eq!(sent_to(nodes[0].send("bob", "ann", "m-1", "here")), "ann");
    assert_eq!(sent_to(nodes[0].send("bob", "cyd", "m-2", "there")), format!("cyd@{B}"));
    let unknown = nodes[0].send("bob", "zoe", "m-3", "?").expect_err("an unknown alias");
    assert_eq!(unknown.code, Code::UnknownAlias);
}

#[test]
fn an_alias_of_several_nodes_must_be_qualified_with_one() {
    let mut node = Log::node(A, A);
    node.register("bob").expect("an alias");
    for host in ["one", "two"] {
        let peer = c2c_log_format::payload::PeerSeen {
            alias: "ann".into(),
            node_id: host.into(),
            client_type: None,
            bare: false,
            gone: false,
        };
        node.append(Payload::PeerSeen(peer));
    }
    let rejection = node.send("bob", "ann", "m-1", "?").expect_err("an ambiguous alias");
    assert_eq!(rejection.code, Code::AmbiguousAlias);
    assert_eq!(rejection.hint.as_deref(), Some("choose one of: ann@one, ann@two"));
}

#[test]
fn a_reply_to_the_displayed_address_reaches_the_sender() {
    let (mut nodes, mut relay) = swarm(&[(0, "ann"), (1, "ann"), (1, "bob")]);
    nodes[1].send("bob", &format!("ann@{A}"), "m-1", "who?").expect("accepted");
    settle(&mut nodes, &mut relay);
    let from = nodes[0].arrived()[0].from.clone();
    nodes[0].send("ann", &from, "m-2", "me").expect("accepted");
    settle(&mut nodes, &mut relay);
    let reply = nodes[1].arrived();
    assert_eq!((reply.len(), &reply[0].target), (1, &Target::Mailbox("bob".into())));
}

#[test]
fn a_rejected_message_bounces_once_and_the_bounce_names_it() {
    let (mut nodes, mut relay) = swarm(&[(0, "ann"), (1, "bob")]);
    nodes[0].send("ann", &format!("zoe@{B}"), "m-1", "hi").expect("accepted");
    settle(&mut nodes, &mut relay);
    let bounces: Vec<_> =
        nodes[0].messages().filter(|(_, m)| m.from == "c2c-system").map(|(_, m)| m).collect();
    assert_eq!(bounces.len(), 1);
    assert_eq!(bounces[0].reply_to.as_deref(), Some("m-1"));
    assert!(bounces[0].body.as_str().contains("unknown_alias"), "{}", bounces[0].body);
    assert_eq!(nodes[0].state.unread("ann").len(), 1);
    assert_eq!(nodes[0].state.dead_letters.scan([]).len(), 1);
}

#[test]
fn a_message_for_a_host_that_connects_later_waits_for_it() {
    let (mut nodes, mut relay) = swarm(&[(0, "ann")]);
    nodes[0].send("ann", &format!("bob@{B}"), "m-1", "first").expect("accepted");
    settle(&mut nodes, &mut relay);
    nodes[0].send("ann", &format!("bob@{B}"), "m-2", "second").expect("accepted");
    settle(&mut nodes, &mut relay);
    assert_eq!(nodes[0].state.outbox_in_order().len(), 2);
    nodes[1].register("bob").expect("an alias");
    settle(&mut nodes, &mut relay);
    let ids: Vec<_> = nodes[1].arrived().iter().map(|m| m.message_id.clone()).collect();
    assert_eq!(ids, ["m-1", "m-2"]);
    assert!(nodes[0].state.outbox_in_order().is_empty());
}

#[test]
fn the_sender_receives_delivered_and_acked_receipts() {
    let (mut nodes, mut relay) = swarm(&[(0, "ann"), (1, "bob")]);
    nodes[0].send("ann", "bob", "m-1", "hi").expect("accepted");
    settle(&mut nodes, &mut relay);
    let claim = command::ClaimInbox {
        limit: 9,
        max_bytes: usize::MAX,
        surface: "test".into(),
        manual: false,
        deferrable: true,
    };
    let bob = nodes[1].agent("bob");
    let claimed = nodes[1].execute(&bob, &claim).expect("mail");
    let ack = command::AckClaim { claim: claimed.claim.expect("a claim"), level: "written".into() };
    nodes[1].execute(&bob, &ack).expect("an ack");
    settle(&mut nodes, &mut relay);
    let levels: Vec<_> = nodes[0]
        .events
        .iter()
        .filter_map(|event| match event {
            Payload::ReceiptsRecorded(fact) => Some(fact.receipts[0].level.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(levels, ["delivered", "acked"]);
}

fn in_room<C: Command>(node: &mut Log, alias: &str, command: &C) -> C::Reply {
    let agent = node.agent(alias);
    node.execute(&agent, command).expect("a room command")
}

fn send_room(node: &mut Log, alias: &str, body: &str) -> Sent {
    let send = Send { body: body.into(), ..Send::default() };
    in_room(node, alias, &command::SendToRoom { room_id: "den".into(), send })
}

fn create(node: &mut Log, alias: &str, visibility: &str) {
    let (room_id, visibility) = ("den".to_owned(), visibility.into());
    let create =
        command::CreateRoom { room_id: room_id.into(), visibility, invite: vec![], join: true };
    in_room(node, alias, &create);
}

#[test]
fn a_room_has_one_order_on_all_nodes_and_an_echo_adds_only_the_label() {
    let (mut nodes, mut relay) = swarm(&[(0, "ann"), (1, "bob")]);
    let join = command::JoinRoom { room_id: "den".into(), from: None };
    in_room(&mut nodes[0], "ann", &join);
    in_room(&mut nodes[1], "bob", &join);
    settle(&mut nodes, &mut relay);
    let sent = send_room(&mut nodes[0], "ann", "from ann");
    assert_eq!(sent.queued, [format!("bob@{B}")]);
    send_room(&mut nodes[1], "bob", "from bob");
    settle(&mut nodes, &mut relay);
    let order = |log: &Log| {
        let rows = log.state.room_messages_after("den", 0).into_iter();
        let mut rows: Vec<_> = rows
            .map(|(at, row)| {
                let Payload::MessageSent(sent) = &log.events[at as usize - 1] else { panic!() };
                (row.label.expect("a label"), sent.body.to_string())
            })
            .collect();
        rows.sort();
        rows
    };
    assert_eq!(order(&relay).len(), 2);
    assert_eq!(order(&nodes[0]), order(&relay));
    assert_eq!(order(&nodes[1]), order(&relay));
    assert_eq!(nodes[0].state.unread("ann").len(), 1);
    assert_eq!(nodes[1].state.unread("bob").len(), 1);
}

#[test]
fn a_local_room_is_never_replicated() {
    let (mut nodes, mut relay) = swarm(&[(0, "ann"), (1, "bob")]);
    create(&mut nodes[0], "ann", "local");
    send_room(&mut nodes[0], "ann", "psst");
    let (room_id, force) = ("den".to_owned(), true);
    in_room(&mut nodes[0], "ann", &command::DeleteRoom { room_id: room_id.into(), force });
    settle(&mut nodes, &mut relay);
    let text = format!("{:?}", relay.events);
    assert!(!text.contains("den") && !text.contains("psst"));
}

#[test]
fn an_invite_only_room_is_replicated_to_invited_nodes_only() {
    let (mut nodes, mut relay) = swarm(&[(0, "ann"), (1, "bob")]);
    create(&mut nodes[0], "ann", "invite_only");
    send_room(&mut nodes[0], "ann", "psst");
    settle(&mut nodes, &mut relay);
    assert!(!format!("{:?}", relay.events).contains("psst"), "no agent on another node is invited");
    let invite =
        |alias: String| command::InviteToRoom { room_id: "den".into(), alias, invited: true };
    in_room(&mut nodes[0], "ann", &invite(format!("cyd@{B}")));
    // An agent that creates a room of that name on another node is not a member of this one.
    let join = command::JoinRoom { room_id: "den".into(), from: None };
    push(&mut nodes[0], &mut relay, 100, Fate::Fine);
    in_room(&mut nodes[1], "bob", &join);
    settle(&mut nodes, &mut relay);
    assert_eq!(relay.state.members_of_room("den").len(), 1, "bob was not invited");
}

#[test]
fn an_invitation_to_another_node_replicates_the_room() {
    let (mut nodes, mut relay) = swarm(&[(0, "ann"), (1, "bob"), (1, "cyd")]);
    create(&mut nodes[0], "ann", "invite_only");
    let invite =
        command::InviteToRoom { room_id: "den".into(), alias: "bob".into(), invited: true };
    in_room(&mut nodes[0], "ann", &invite);
    settle(&mut nodes, &mut relay);
    assert_eq!(nodes[1].arrived().len(), 1, "an invitation is a message");
    let join = command::JoinRoom { room_id: "den".into(), from: None };
    let cyd = nodes[1].agent("cyd");
    assert!(nodes[1].execute(&cyd, &join).is_err(), "cyd has no invitation");
    in_room(&mut nodes[1], "bob", &join);
    settle(&mut nodes, &mut relay);
    send_room(&mut nodes[0], "ann", "welcome");
    settle(&mut nodes, &mut relay);
    assert_eq!(nodes[1].state.unread("bob").room.len(), 1);
}

/// A batch of one message, as its node would push it.
fn pushed(nodes: &mut [Log], relay: &Log) -> Batch {
    nodes[0].send("ann", &format!("bob@{B}"), "m-1", "hi").expect("accepted");
    let batch = outgoing(&nodes[0], &relay.id, 10);
    assert_eq!(
        batch.items.iter().filter(|item| matches!(item.payload, Payload::MessageSent(_))).count(),
        1
    );
    batch
}

#[test]
fn an_invalid_batch_is_rejected_and_changes_nothing() {
    let (mut nodes, mut relay) = swarm(&[(0, "ann"), (1, "bob")]);
    // From the first batch on, the log belongs to the key.
    nodes[0].send("ann", "bob", "m-0", "hi").expect("accepted");
    settle(&mut nodes, &mut relay);
    let valid = pushed(&mut nodes, &relay);
    let stranger =
        c2c_core::decide::Actor { key: Some("key-of-none".into()), ..Default::default() };
    let (ann, bob) = (nodes[0].connector(), nodes[1].connector());
    let elsewhere = Position { sequence: 7, digest: "00".into() };
    let other_digest = Position { digest: "00".into(), ..valid.start.clone() };
    for (who, batch, code) in [
        (&stranger, valid.clone(), Code::ForeignSender),
        (&bob, valid.clone(), Code::ForeignSender),
        (&bob, Batch { node_id: B.into(), ..valid.clone() }, Code::ForeignSender),
        (&ann, Batch { start: elsewhere, ..valid.clone() }, Code::CursorDiverged),
        (&ann, Batch { start: other_digest, ..valid.clone() }, Code::OriginDiverged),
        (&ann, Batch { end: valid.start.clone(), ..valid.clone() }, Code::InvalidArgument),
    ] {
        let head = relay.head();
        let rejection =
            relay.execute(who, &command::ReceiveBatch(batch)).expect_err("an invalid batch");
        assert_eq!(rejection.code, code);
        assert_eq!(relay.head(), head, "{code:?}");
    }
    relay.execute(&ann, &command::ReceiveBatch(valid.clone())).expect("the valid batch");
    let again = relay.execute(&ann, &command::ReceiveBatch(valid)).expect_err("a repeated batch");
    assert_eq!(again.code, Code::CursorDiverged);
}

#[test]
fn the_same_position_with_another_digest_is_not_a_duplicate() {
    let (mut nodes, mut relay) = swarm(&[(0, "ann"), (1, "bob")]);
    let valid = pushed(&mut nodes, &relay);
    let ann = nodes[0].connector();
    relay.execute(&ann, &command::ReceiveBatch(valid.clone())).expect("the valid batch");
    let mut forged = valid.clone();
    forged.items[0].digest = "00".into();
    forged.start = valid.end.clone();
    forged.end = Position { sequence: valid.end.sequence + 1, digest: "01".into() };
    let rejection = relay.execute(&ann, &command::ReceiveBatch(forged)).expect_err("another event");
    assert_eq!(rejection.code, Code::OriginDiverged);
}

#[test]
fn a_node_belongs_to_one_key_and_another_key_cannot_register_on_it() {
    let (mut nodes, mut relay) = swarm(&[(0, "ann"), (1, "bob")]);
    let theft = c2c_core::decide::LeaseRequest {
        alias: "eve".into(),
        node_id: A.into(),
        session_id: "s-eve".into(),
        ttl_s: 300,
        replicated: true,
        ..Default::default()
    };
    let thief = c2c_core::decide::Actor { key: Some("key-eve".into()), ..Default::default() };
    let rejection = relay.execute(&thief, &theft).expect_err("a theft");
    assert_eq!((rejection.code, &*rejection.field), (Code::AliasIdentityMismatch, "node_id"));
    nodes[0].register("eve").expect("a local alias");
    nodes[0].send("eve", "bob", "m-1", "hi").expect("accepted");
    nodes[0].send("ann", "bob", "m-2", "hi").expect("accepted");
    push(&mut nodes[0], &mut relay, 10, Fate::Fine);
    let waiting = relay.state.unread(&format!("bob@{B}"));
    assert_eq!(waiting.len(), 2, "the node of ann may register eve");
}

#[test]
fn a_receipt_for_the_mail_of_another_node_has_no_effect() {
    let (mut nodes, mut relay) = swarm(&[(0, "ann"), (1, "bob")]);
    let batch = pushed(&mut nodes, &relay);
    let ann = nodes[0].connector();
    relay.execute(&ann, &command::ReceiveBatch(batch.clone())).expect("mail for bob");
    let receipt = c2c_log_format::payload::Receipt {
        message_id: "m-1".into(),
        sender: format!("ann@{A}"),
        origin: c2c_log_format::payload::Origin {
            log: A.into(),
            sequence: batch.items[0].sequence,
            node: A.into(),
            digest: String::new(),
        },
        level: "delivered".into(),
        by: format!("bob@{A}"),
        at_us: 1,
        code: None,
    };
    let receipts = vec![receipt];
    let fact = c2c_log_format::payload::ReceiptsRecorded { receipts, origin: None };
    nodes[0].append(Payload::ReceiptsRecorded(fact));
    push(&mut nodes[0], &mut relay, 10, Fate::Fine);
    push(&mut nodes[0], &mut relay, 10, Fate::Fine);
    assert_eq!(relay.state.unread(&format!("bob@{B}")).len(), 1);
}

#[test]
fn outgoing_items_are_the_same_each_time() {
    let (mut nodes, mut relay) = swarm(&[(0, "ann"), (1, "bob")]);
    nodes[0].send("ann", "bob", "m-1", "hi").expect("accepted");
    register_leases(&nodes[0], &mut relay);
    let first = outgoing(&nodes[0], &relay.id, 10);
    assert_eq!(first, outgoing(&nodes[0], &relay.id, 10));
    assert!(OutgoingEvents::new(&nodes[0].state, A, "relay").retries().is_empty());
}
