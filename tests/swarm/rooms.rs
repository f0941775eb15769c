//! Who hears what was said in a room that is no more?

use c2c::decide::{Command, Send};
use c2c_log_format::Payload;

use super::{Fate, Log, push, settle};

/// `ann` on one node, `bob` and `cyd` on another one, and all that is named in the room `den`.
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
        world.room("ann", Command::RoomJoin { room_id: "den".into(), from: None });
        world.settle();
        for member in members {
            world.room(member, Command::RoomJoin { room_id: "den".into(), from: None });
        }
        world.settle();
        world
    }

    fn settle(&mut self) {
        settle(&mut self.nodes, &mut self.relay);
    }

    fn room(&mut self, alias: &str, command: Command) {
        let node = &mut self.nodes[usize::from(alias != "ann")];
        node.execute(&node.agent(alias), &command).expect("done");
    }

    /// `ann` says it.
    fn say(&mut self, body: &str) {
        let send = Send { body: body.into(), ..Send::default() };
        self.room("ann", Command::RoomSend { room_id: "den".into(), send });
    }

    /// Her connector has taken everything to the relay.
    fn push(&mut self) {
        push(&mut self.nodes[0], &mut self.relay, 100, Fate::Fine);
    }

    /// What somebody on the other node has not read.
    fn unread(&self, alias: &str) -> Vec<String> {
        let mailbox = self.nodes[1].state.mailbox_of(alias).expect("an alias").name;
        let unread = self.nodes[1].state.unread(&mailbox).in_order();
        let body = |at: u64| match &self.nodes[1].events[at as usize - 1] {
            Payload::MessageSent(sent) => sent.body.clone(),
            other => panic!("unexpected {other:?}"),
        };
        unread.into_iter().map(|(at, ..)| body(at)).collect()
    }
}

#[test]
fn what_was_said_in_a_room_that_is_deleted_still_reaches_its_members() {
    for taken in [true, false] {
        let mut world = World::new(&["bob", "cyd"]);
        world.say("one");
        if taken {
            world.push();
        }
        world.room("ann", Command::RoomDelete { room_id: "den".into(), force: true });
        world.push();
        assert!(world.relay.state.rooms.get("den").is_none());
        let said = world.relay.messages().find(|(_, sent)| sent.body == "one").expect("it").0;
        let needed = world.relay.state.first_needed().expect("it has not gone everywhere").0;
        assert!(needed <= said, "{needed} {said}");
        world.settle();
        assert_eq!(world.unread("bob"), ["one"], "pushed before the end: {taken}");
        assert_eq!(world.unread("cyd"), ["one"], "pushed before the end: {taken}");
        assert!(world.nodes[0].state.deleted_rooms_of("den").is_empty());
        assert!(world.relay.state.deleted_rooms_of("den").is_empty());
    }
}

#[test]
fn a_node_without_members_hears_nothing_of_a_deleted_room() {
    let mut world = World::new(&[]);
    world.say("one");
    world.room("ann", Command::RoomDelete { room_id: "den".into(), force: true });
    world.settle();
    assert!(world.relay.messages().any(|(_, sent)| sent.body == "one"));
    assert_eq!(world.nodes[1].messages().count(), 0);
}

#[test]
fn what_was_said_in_private_does_not_leave_with_a_room_that_has_the_name_next() {
    let mut world = World::new(&[]);
    let (room_id, invite) = (String::from("pit"), vec![]);
    let visibility = String::from("invite_only");
    let made = Command::RoomCreate { room_id: room_id.clone(), visibility, invite, join: true };
    world.room("ann", made);
    let send = Send { body: "a secret".into(), ..Send::default() };
    world.room("ann", Command::RoomSend { room_id: room_id.clone(), send });
    world.room("ann", Command::RoomDelete { room_id: room_id.clone(), force: true });
    world.room("ann", Command::RoomJoin { room_id, from: None });
    world.settle();
    assert!(world.relay.state.rooms.get("pit").is_some(), "the second one is for everybody");
    assert!(world.relay.messages().all(|(_, sent)| sent.body != "a secret"));
}
