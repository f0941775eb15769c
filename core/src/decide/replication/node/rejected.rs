//! Room events that a relay rejects: the members are notified, and the room follows the relay.

use c2c_log_format::Payload;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    MessageSent, RoomDeleted, RoomJoined, RoomLeft, RoomVisibility, RoomVisibilityChanged,
};

use super::notices::{origin_of_relay, system_message};
use crate::address::is_remote;
use crate::batch::Pushed;
use crate::code::Code;
use crate::decide::membership::is_member;
use crate::facts::Facts;
use crate::rejection::Rejection;
use crate::state::{Room, State};

/// The consequences of a rejected room event. An agent that is not admitted to the room at the
/// relay is removed from it here and receives nothing more of it.
pub(super) fn rejected_in_room(
    state: &State,
    event: &Payload,
    rejection: &Rejection,
    pushed: &Pushed,
    facts: &Facts<'_>,
) -> Vec<Payload> {
    let rejected = Rejected { state, rejection, pushed, facts };
    let is_message = matches!(event, Payload::MessageSent(_));
    if let Some(room_id) = event.room_id().filter(|_| !is_message)
        && rejection.code == Code::RoomExists
    {
        let room =
            state.rooms.get(fold(room_id)).filter(|row| row.visibility != RoomVisibility::Local);
        return room.map_or_else(Vec::new, |room| rejected.room(room_id, &room));
    }
    match event {
        Payload::MessageSent(sent) => vec![rejected.message(sent)],
        Payload::RoomJoined(fact) if rejection.code == Code::NotInvited => rejected.joined(fact),
        Payload::RoomVisibilityChanged(fact) if rejection.code == Code::Forbidden => {
            rejected.visibility_changed(fact)
        }
        _ => Vec::new(),
    }
}

struct Rejected<'a> {
    state: &'a State,
    rejection: &'a Rejection,
    pushed: &'a Pushed,
    facts: &'a Facts<'a>,
}

impl Rejected<'_> {
    fn notify(&self, mailbox: &str, body: String) -> Option<Payload> {
        let row = self.state.mailboxes.get(mailbox)?;
        Some(system_message(&row.alias, &row.name, body, None, self.facts))
    }

    fn notify_members(&self, room_id: &str, body: &str) -> Vec<Payload> {
        let members = self.state.members_of_room(room_id).into_iter();
        members.filter_map(|(mailbox, _)| self.notify(&mailbox, body.to_owned())).collect()
    }

    /// The name of a room belongs to a room of another owner: the room becomes local to this
    /// machine or, if another node created it, is deleted here.
    fn room(&self, room_id: &str, room: &Room) -> Vec<Payload> {
        let is_foreign = is_remote(&room.created_by);
        let change = if is_foreign { "was removed from" } else { "is now local to" };
        let body = format!(
            "Room {} {change} this machine: {} (reported by {}). Use a different name for a shared \
             room.",
            room.room_id, self.rejection.message, self.pushed.relay_name
        );
        let mut events = self.notify_members(room_id, &body);
        if is_foreign {
            events.push(Payload::RoomDeleted(RoomDeleted {
                room_id: room_id.to_owned(),
                shared: false,
                origin: Some(origin_of_relay(self.pushed)),
            }));
            return events;
        }
        let members = self.state.members_of_room(room_id).into_iter().map(|(mailbox, _)| mailbox);
        for mailbox in members.filter(|mailbox| is_remote(mailbox)) {
            events.push(Payload::RoomLeft(RoomLeft {
                room_id: fold(room_id),
                mailbox,
                reason: self.rejection.code.name().into(),
                origin: Some(origin_of_relay(self.pushed)),
            }));
        }
        events.push(Payload::RoomVisibilityChanged(RoomVisibilityChanged {
            room_id: room_id.to_owned(),
            visibility: RoomVisibility::Local,
            origin: Some(origin_of_relay(self.pushed)),
        }));
        events
    }

    /// A room message was not delivered to other machines.
    fn message(&self, sent: &MessageSent) -> Payload {
        let body = format!(
            "Your message {} in room {} was not delivered to other machines: {} (reported by {}).",
            sent.message_id,
            sent.to,
            self.rejection.code.name(),
            self.pushed.relay_name
        );
        let id = Some(sent.message_id.as_str());
        system_message(&sent.from, &sent.from_mailbox, body, id, self.facts)
    }

    /// A member of this node is not admitted.
    fn joined(&self, fact: &RoomJoined) -> Vec<Payload> {
        let RoomJoined { room_id, mailbox, .. } = fact;
        if !is_member(self.state, room_id, mailbox) {
            return Vec::new();
        }
        let body = format!(
            "You were removed from room {room_id}: {} (reported by {}). Ask a member for an \
             invitation, or use a different name for a room of your own.",
            self.rejection.message, self.pushed.relay_name
        );
        let left = Payload::RoomLeft(RoomLeft {
            room_id: room_id.clone(),
            mailbox: mailbox.clone(),
            reason: self.rejection.code.name().into(),
            origin: Some(origin_of_relay(self.pushed)),
        });
        self.notify(mailbox, body).into_iter().chain([left]).collect()
    }

    /// A room keeps its visibility on other machines.
    fn visibility_changed(&self, fact: &RoomVisibilityChanged) -> Vec<Payload> {
        let body = format!(
            "The visibility of room {} was not changed to {} on other machines: {} (reported by \
             {}).",
            fact.room_id, fact.visibility, self.rejection.message, self.pushed.relay_name
        );
        self.notify_members(&fact.room_id, &body)
    }
}
