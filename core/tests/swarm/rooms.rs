//! Messages of deleted rooms.

use c2c_core::command::{self, Command};
use c2c_core::decide::Send;
use c2c_log_format::Payload;
use c2c_log_format::payload::RoomVisibility;

use super::{Fate, Log, push, settle};

/// `ann` on one node, `bob` and `cyd` on another one; ann and the named members are in room `den`.
struct World {
    nodes: [Log; 2],
    relay: Log,
}

impl World {
    fn new(members: &[&str]) -> Self {
        let nodes = [Log::node("alpha-00000001", "a"), Log::node("beta-00000002", "b")];
        let mut world = Self { nodes, relay: Log::relay("relay") };
        world.nodes[0].register("ann").expect("an alias");
        world.nodes[1].register("bob").expect("an alias");
        world.nodes[1].register("cyd").expect("an alias");
        world.room("ann", command::JoinRoom { room_id: "den".into(), from: None });
        world.settle();
        for member in members {
            world.room(member, command::JoinRoom { room_id: "den".into(), from: None });
        }
        world.settle();
        world
    }

    fn settle(&mut self) {
        settle(&mut self.nodes, &mut self.relay);
    }

    fn room<C: Command>(&mut self, alias: &str, command: C) {
        let node = &mut self.nodes[usize::from(alias != "ann")];
        node.execute(&node.agent(alias), &command).map(drop).expect("done");
    }

    /// Sends a room message of ann.
    fn send(&mut self, body: &str) {
        let send = Send { body: body.into(), ..Send::default() };
        self.room("ann", command::SendToRoom { room_id: "den".into(), send });
    }

    /// Pushes all events of the node of ann to the relay.
    fn push(&mut self) {
        push(&mut self.nodes[0], &mut self.relay, 100, Fate::Fine);
    }

    /// Unread messages of an agent on the other node.
    fn unread(&self, alias: &str) -> Vec<String> {
        let mailbox = self.nodes[1].state.mailbox_for_alias(alias).expect("an alias").name;
        let unread = self.nodes[1].state.unread(&mailbox).in_order();
        let body = |at: u64| match &self.nodes[1].events[at as usize - 1] {
            Payload::MessageSent(sent) => sent.body.to_string(),
            other => panic!("unexpected {other:?}"),
        };
        unread.into_iter().map(|message| body(message.sequence)).collect()
    }
}

#[test]
fn messages_of_a_deleted_room_still_reach_its_members() {
    for is_pushed in [true, false] {
        let mut world = World::new(&["bob", "cyd"]);
        world.send("one");
        if is_pushed {
            world.push();
        }
        world.room("ann", command::DeleteRoom { room_id: "den".into(), force: true });
        world.push();
        assert!(world.relay.state.rooms.get("den").is_none());
        let sent_at = world
            .relay
            .messages()
            .find(|(_, sent)| sent.body.as_str() == "one")
            .expect("the message")
            .0;
        let needed =
            world.relay.state.first_undelivered().expect("an event that is still needed").0;
        assert!(needed <= sent_at, "{needed} {sent_at}");
        world.settle();
        assert_eq!(world.unread("bob"), ["one"], "pushed before the deletion: {is_pushed}");
        assert_eq!(world.unread("cyd"), ["one"], "pushed before the deletion: {is_pushed}");
        assert!(world.nodes[0].state.deleted_rooms_named("den").is_empty());
        assert!(world.relay.state.deleted_rooms_named("den").is_empty());
    }
}

#[test]
fn a_node_without_members_receives_nothing_of_a_deleted_room() {
    let mut world = World::new(&[]);
    world.send("one");
    world.room("ann", command::DeleteRoom { room_id: "den".into(), force: true });
    world.settle();
    assert!(world.relay.messages().any(|(_, sent)| sent.body.as_str() == "one"));
    assert_eq!(world.nodes[1].messages().count(), 0);
}

#[test]
fn private_messages_are_not_replicated_with_a_later_room_of_that_name() {
    let mut world = World::new(&[]);
    let (room_id, invite) = (String::from("pit"), vec![]);
    let visibility = RoomVisibility::InviteOnly;
    let made =
        command::CreateRoom { room_id: room_id.clone().into(), visibility, invite, join: true };
    world.room("ann", made);
    let send = Send { body: "a secret".into(), ..Send::default() };
    world.room("ann", command::SendToRoom { room_id: room_id.clone().into(), send });
    world.room("ann", command::DeleteRoom { room_id: room_id.clone().into(), force: true });
    world.room("ann", command::JoinRoom { room_id: room_id.into(), from: None });
    world.settle();
    assert!(world.relay.state.rooms.get("pit").is_some(), "the second room is public");
    assert!(world.relay.messages().all(|(_, sent)| sent.body.as_str() != "a secret"));
}
