//! Rooms at an older relay: members join and leave, and their messages are posted.

use c2c_log_format::id::fold;
use c2c_log_format::payload::{CursorDirection, MessageSent, RoomLeft, RoomVisibility, Target};
use c2c_log_format::{Payload, Sequence};

use super::{Consequence, RETRY_AFTER, consequence};
use crate::error::Failure;
use crate::platform::clock;
use crate::relay::client::relay_client::RequestError;
use crate::relay::client::run::SyncReport;
use crate::relay::client::state::Connector;
use crate::relay::protocol::request::{RoomChangeRequest, RoomHistoryRequest, SendRoomRequest};
use crate::relay::protocol::response::{Ignored, RoomHistoryResponse};
use crate::relay::protocol::sign::RoomOp;
use c2c_core::address::{folded_alias, is_remote};
use c2c_core::code::Code;
use c2c_core::decide::{Position, Rejection, RequestAnswer};

/// Number of events to read from the log in one pass.
const READ_CHUNK_EVENTS: u64 = 512;
/// Messages of a room in which one is searched that may have been posted.
const HISTORY_SEARCHED: u64 = 200;

impl Connector {
    /// Joins the public rooms in which this root has members. A room that is not public stays on
    /// this machine: everyone can read the rooms of an older relay.
    pub(super) fn join_rooms(&mut self, errors: &mut Vec<Failure>) -> Result<(), Failure> {
        for (room, alias) in self.rooms_to_join() {
            match self.change_membership(RoomOp::Join, &room, &alias) {
                Ok(()) => {
                    self.older().joined.insert((room, alias));
                }
                Err(error) => match consequence(error) {
                    Consequence::NotSent(failure) | Consequence::Unanswered(failure) => {
                        return Err(failure);
                    }
                    Consequence::Later(rejection, _)
                    | Consequence::NoLease(rejection)
                    | Consequence::Final(rejection) => {
                        self.older().not_admitted.insert((room, alias));
                        errors.push(rejection.into());
                    }
                },
            }
        }
        Ok(())
    }

    fn rooms_to_join(&mut self) -> Vec<(String, String)> {
        let rooms = self.broker.state().rooms.scan([]).into_iter().map(|(_, room)| room);
        let public: Vec<String> = rooms
            .filter(|room| room.visibility == RoomVisibility::Public)
            .map(|room| room.room_id.into())
            .collect();
        let mut pairs = Vec::new();
        for room in public {
            for (mailbox, _) in self.broker.state().members_of_room(&room) {
                if let Some(alias) = self.admitted_alias(&mailbox) {
                    pairs.push((room.clone(), alias));
                }
            }
        }
        let older = self.older();
        pairs.retain(|pair| !older.joined.contains(pair) && !older.not_admitted.contains(pair));
        pairs
    }

    fn change_membership(&self, op: RoomOp, room: &str, alias: &str) -> Result<(), RequestError> {
        let route = if op == RoomOp::Join { "/join_room" } else { "/leave_room" };
        let request = RoomChangeRequest {
            alias: alias.to_owned(),
            room_id: room.to_owned(),
            ..RoomChangeRequest::default()
        };
        let request = self.client.sign_room_change(op, request)?;
        self.client.post::<Ignored>(route, &request, Some(alias))?;
        Ok(())
    }

    /// Sends the room events that were recorded since the last one that was sent. Nothing that was
    /// recorded before this root knew the relay is sent.
    pub(super) fn send_room_events(&mut self, report: &mut SyncReport) -> Result<(), Failure> {
        let log = self.older().log.clone();
        let cursor = self.broker.state().cursor(&CursorDirection::Out, &log);
        if cursor.node_id.is_empty() {
            let position = Position { sequence: self.broker.state().head, digest: String::new() };
            let name = self.older().name.clone();
            return self.advance(CursorDirection::Out, log, name, position);
        }
        let open = self.open_attempt();
        let is_direct = self.broker.state().outbox.get(open.to_be_bytes()).is_some();
        if self.is_paused() || is_direct {
            return Ok(());
        }
        let mut scanned = self.older().scanned.max(cursor.sequence);
        while scanned < self.broker.state().head {
            let (events, end) = self.broker.events_after(scanned, READ_CHUNK_EVENTS)?;
            for event in events {
                let (sequence, Some(payload)) = (event.head.sequence, event.payload) else {
                    continue;
                };
                if !self.send_room_event(sequence, payload, open, report)? {
                    self.older().scanned = sequence - 1;
                    return Ok(());
                }
            }
            scanned = end;
            self.older().scanned = end;
        }
        Ok(())
    }

    /// Sends an event if it is a room event of this node. Returns whether to continue.
    fn send_room_event(
        &mut self,
        sequence: Sequence,
        payload: Payload,
        open: Sequence,
        report: &mut SyncReport,
    ) -> Result<bool, Failure> {
        match &payload {
            Payload::RoomLeft(left) if left.origin.is_none() => {
                self.leave_room(left).map(|()| true)
            }
            Payload::MessageSent(sent) if sent.origin.is_none() => {
                let Target::Room { room_id, .. } = &sent.target else { return Ok(true) };
                let state = self.broker.state();
                let room = state.rooms.get(fold(room_id));
                let is_public = room.is_some_and(|row| row.visibility == RoomVisibility::Public);
                if !is_public || !state.was_room_shared_at(room_id, sequence) {
                    return Ok(true);
                }
                self.post(sequence, sent, room_id, sequence == open, report)
            }
            _ => Ok(true),
        }
    }

    /// Leaves a room, unless the member has joined again. The relay may not know the membership, so
    /// a rejection changes nothing.
    fn leave_room(&mut self, left: &RoomLeft) -> Result<(), Failure> {
        let members = self.broker.state().members_of_room(&left.room_id);
        let is_member = members.iter().any(|(name, _)| *name == left.mailbox);
        if is_member || is_remote(&left.mailbox) {
            return Ok(());
        }
        let Some(alias) = self.admitted_alias(&left.mailbox) else { return Ok(()) };
        self.older()
            .joined
            .retain(|(room, name)| fold(room) != fold(&left.room_id) || *name != alias);
        match self.change_membership(RoomOp::Leave, &left.room_id, &alias).map_err(consequence) {
            Err(Consequence::NotSent(failure) | Consequence::Unanswered(failure)) => Err(failure),
            _ => Ok(()),
        }
    }

    /// Posts a message. Returns whether to continue with the next event.
    fn post(
        &mut self,
        sequence: Sequence,
        sent: &MessageSent,
        room_id: &str,
        is_repeat: bool,
        report: &mut SyncReport,
    ) -> Result<bool, Failure> {
        let event = || Some(Payload::MessageSent(sent.clone()));
        let Some(alias) = self.admitted_alias(&sent.from_mailbox) else {
            return self.post_without_lease(sequence, sent, report);
        };
        if is_repeat && self.is_in_history(sent, room_id, &alias)? {
            self.record_answer(sequence, event(), RequestAnswer::Accepted)?;
            report.forwarded += 1;
            return Ok(true);
        }
        if !is_repeat {
            self.begin_attempt(sequence)?;
        }
        let request = SendRoomRequest {
            from_alias: alias.clone(),
            room_id: sent.to.clone(),
            content: sent.body.as_str().to_owned(),
            message_id: Some(sent.message_id.clone()),
            tag: sent.tag.clone(),
            ..SendRoomRequest::default()
        };
        let request = self.client.sign_room_message(request)?;
        let posted = self.client.post::<Ignored>("/send_room", &request, Some(&alias));
        let Err(error) = posted else {
            self.record_answer(sequence, event(), RequestAnswer::Accepted)?;
            report.forwarded += 1;
            return Ok(true);
        };
        match consequence(error) {
            Consequence::Final(rejection) => {
                self.record_answer(sequence, event(), RequestAnswer::Rejected(rejection))?;
                report.bounced += 1;
                Ok(true)
            }
            Consequence::Unanswered(failure) => {
                if self.is_given_up(sequence) {
                    let rejection = Rejection::new(failure.code(), "", failure.message());
                    self.record_answer(sequence, event(), RequestAnswer::Rejected(rejection))?;
                }
                Err(failure)
            }
            Consequence::NotSent(failure) => {
                if !is_repeat {
                    self.record_answer(sequence, event(), RequestAnswer::NotSent)?;
                }
                Err(failure)
            }
            Consequence::NoLease(rejection) | Consequence::Later(rejection, _) => {
                if rejection.code != Code::RateLimitExceeded {
                    self.forget_lease(&alias);
                }
                if !is_repeat {
                    self.record_answer(sequence, event(), RequestAnswer::NotSent)?;
                }
                self.older().paused_until = Some(clock::monotonic() + RETRY_AFTER);
                report.failed += 1;
                report.delayed.get_or_insert(rejection.message);
                Ok(false)
            }
        }
    }

    /// Rejects a message whose sender the relay does not admit. Returns false if the sender is still
    /// to be registered, so that the message waits.
    fn post_without_lease(
        &mut self,
        sequence: Sequence,
        sent: &MessageSent,
        report: &mut SyncReport,
    ) -> Result<bool, Failure> {
        if !self.is_rejected_at_relay(&sent.from_mailbox) {
            return Ok(false);
        }
        let message = format!("the relay has not admitted '{}'", sent.from);
        let rejection = Rejection::new(Code::NotRegistered, "from_alias", message);
        let event = Some(Payload::MessageSent(sent.clone()));
        self.record_answer(sequence, event, RequestAnswer::Rejected(rejection))?;
        report.bounced += 1;
        Ok(true)
    }

    /// Whether the relay has a message already. It does not recognise a message that is posted
    /// again.
    fn is_in_history(
        &self,
        sent: &MessageSent,
        room_id: &str,
        alias: &str,
    ) -> Result<bool, Failure> {
        let request =
            RoomHistoryRequest { room_id: room_id.to_owned(), limit: Some(HISTORY_SEARCHED) };
        let response: RoomHistoryResponse =
            self.client.post("/room_history", &request, Some(alias))?;
        Ok(response.history.iter().any(|row| {
            row.message_id == sent.message_id
                && folded_alias(&row.from_alias) == folded_alias(alias)
        }))
    }
}
