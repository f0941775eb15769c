//! Who hears what was said in a room while its members come and go?

use c2c::decide::{Command, Send};
use c2c_log_format::Payload;
use c2c_log_format::payload::RoomLeft;

use super::{Fate, Log, pull, push, settle};

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

    /// `ann` says it, and her connector has taken it to the relay.
    fn say(&mut self, body: &str) {
        let send = Send { body: body.into(), ..Send::default() };
        self.room("ann", Command::RoomSend { room_id: "den".into(), send });
        push(&mut self.nodes[0], &mut self.relay, 100, Fate::Fine);
    }

    fn leave(&mut self, alias: &str) {
        self.room(alias, Command::RoomLeave { room_id: "den".into(), from: None });
    }

    fn push(&mut self) {
        push(&mut self.nodes[1], &mut self.relay, 100, Fate::Fine);
    }

    fn pull(&mut self) {
        pull(&mut self.nodes[1], &mut self.relay, 100, Fate::Fine);
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

    /// Nobody is waited for any more, here or at the relay.
    fn nothing_is_open(&mut self) {
        self.settle();
        assert!(self.nodes[1].state.former_members_of("den").is_empty());
        assert!(self.relay.state.former_members_of("den").is_empty());
    }
}

#[test]
fn what_the_relay_held_when_a_member_left_still_reaches_it() {
    for members in [&["bob"][..], &["bob", "cyd"]] {
        let mut world = World::new(members);
        world.say("one");
        world.leave("bob");
        world.push();
        world.say("two");
        world.pull();
        assert_eq!(world.unread("bob"), ["one"], "{members:?}");
        world.settle();
        world.say("three");
        world.settle();
        assert_eq!(world.unread("bob"), ["one"], "what comes later is for members");
        let heard = if members.len() > 1 { vec!["one", "two", "three"] } else { Vec::new() };
        assert_eq!(world.unread("cyd"), heard);
        world.nothing_is_open();
    }
}

#[test]
fn what_came_before_the_relay_knew_that_a_member_left_still_reaches_it() {
    for members in [&["bob"][..], &["bob", "cyd"]] {
        let mut world = World::new(members);
        world.say("one");
        world.leave("bob");
        world.say("two");
        world.pull();
        // To everybody else bob is a member until his node says that he is not.
        assert_eq!(world.unread("bob"), ["one", "two"], "{members:?}");
        world.push();
        world.say("three");
        world.settle();
        assert_eq!(world.unread("bob"), ["one", "two"], "{members:?}");
        world.nothing_is_open();
    }
}

#[test]
fn whoever_comes_back_at_once_hears_each_message_once() {
    let mut world = World::new(&["bob"]);
    world.say("one");
    world.leave("bob");
    world.room("bob", Command::RoomJoin { room_id: "den".into(), from: None });
    world.pull();
    assert_eq!(world.unread("bob"), ["one"]);
    world.leave("bob");
    world.settle();
    world.say("two");
    world.settle();
    assert_eq!(world.unread("bob"), ["one"]);
    world.nothing_is_open();
}

#[test]
fn what_was_said_in_a_room_that_is_deleted_still_reaches_its_members() {
    let mut world = World::new(&["bob", "cyd"]);
    world.say("one");
    world.room("ann", Command::RoomDelete { room_id: "den".into(), force: true });
    push(&mut world.nodes[0], &mut world.relay, 100, Fate::Fine);
    world.pull();
    world.settle();
    assert_eq!(world.unread("bob"), ["one"]);
    assert_eq!(world.unread("cyd"), ["one"]);
    world.nothing_is_open();
}

#[test]
fn nobody_is_waited_for_when_the_relay_knew_nothing_of_a_member() {
    let mut world = World::new(&["bob"]);
    let mailbox = String::from("bob@beta-00000002");
    let (room_id, reason) = (String::from("den"), String::from("sweep"));
    world.relay.append(Payload::RoomLeft(RoomLeft { room_id, mailbox, reason }));
    world.leave("bob");
    world.push();
    assert!(world.nodes[1].state.former_members_of("den").is_empty());
    world.nothing_is_open();
}
