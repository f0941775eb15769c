//! Sessions that return after a sweep has ended them.

use std::cell::Cell;

use c2c_log_format::Payload;
use c2c_log_format::payload::SessionEnded;

use super::Broker;
use crate::error::Failure;
use c2c_core::command;
use c2c_core::decide::{Actor, SessionSource};
use c2c_core::state::Mailbox;

/// Kind of the event that ends a session.
const SESSION_ENDED: u16 = 103;

/// # Returning sessions
impl Broker {
    /// The mailbox that an unknown session held when it was ended, if no session held it since. Reads
    /// the log, so that only commands of a session that is named and unknown pay for it.
    pub(super) fn returning_mailbox(&mut self, actor: &Actor) -> Result<Option<Mailbox>, Failure> {
        // An MCP server remembers its sessions itself, and a registration names its alias.
        let is_named = actor.fallback_alias.is_some() && actor.source != SessionSource::Alias;
        let unknown = actor.session_id.as_ref().filter(|id| {
            let state = &self.state;
            state.sessions.get(id).is_none() && state.lost_mailbox(id).is_none()
        });
        let Some(session_id) = unknown.filter(|_| is_named && self.state.head > 0) else {
            return Ok(None);
        };
        let found = Cell::new(false);
        let mut ended = Vec::new();
        self.store.search(
            &|head| head.kind == SESSION_ENDED,
            &mut |stored| {
                let payload = Payload::decode(stored.event.head.kind, stored.event.payload);
                if let Some(Ok(Payload::SessionEnded(row))) = payload {
                    found.set(found.get() || row.session_id == session_id.as_str());
                    ended.push((stored.event.head.sequence, row));
                }
            },
            &|| found.get(),
        )?;
        let last = |matches: &dyn Fn(&SessionEnded) -> bool| {
            ended.iter().filter(|(_, row)| matches(row)).max_by_key(|(sequence, _)| *sequence)
        };
        // The session that held the mailbox last, and none before it.
        let held = last(&|row| row.session_id == session_id.as_str()).filter(|(sequence, own)| {
            last(&|row| row.mailbox == own.mailbox).is_some_and(|(last, _)| last == sequence)
        });
        let mailbox = held.and_then(|(_, row)| self.state.mailboxes.get(&row.mailbox));
        Ok(mailbox.filter(|mailbox| mailbox.session.is_none()))
    }

    /// Registers a returning session under its alias again, before its command.
    pub(super) fn register_returning(&mut self, actor: &Actor) -> Result<(), Failure> {
        let Some(mailbox) = self.returning_mailbox(actor)? else { return Ok(()) };
        let register = command::Register { alias: Some(mailbox.alias) };
        self.execute(&register, &Actor { fallback_alias: None, ..actor.clone() }).map(|_| ())
    }
}
