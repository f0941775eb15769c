//! Queries: fetches events and runs the read models of [`c2c_core::view`] over them.

use std::cell::RefCell;
use std::collections::VecDeque;

use c2c_log_format::checksum::name_hash;
use c2c_log_format::payload::{mailbox_hash, room_hash};
use c2c_log_format::{Payload, Sequence};

use super::{Broker, liveness};
use crate::error::Failure;
use crate::legacy::{Kind, LegacyFile, ROOMS};
use crate::log::LogDamage;
use crate::platform::clock;
use crate::platform::process::{is_ancestor, liveness_of, starters};
use crate::store::EventRef;
use c2c_core::code::Code;
use c2c_core::decide::{self, Actor, Liveness, Rejection, SessionSource, check_session_id};
use c2c_core::ids::SessionId;
use c2c_core::state::{Mailbox, MessageRef, RemotePeer, Session, State};
use c2c_core::view::history::DeliveredHistory;
use c2c_core::view::inbox::{self, MessageCollector, Unclaimed};
use c2c_core::view::rooms::{self, RoomHistory};
use c2c_core::view::trace::{self, AcceptedMessage};
use c2c_core::view::{
    AgentView, DamagedRange, DeadLetterView, HealthView, LoggedEvent, MessageTrace, MessageView,
    RoomMessageView, RoomView, agents, dead_letters, health,
};

/// Messages are loaded in chunks of this many when their bytes are limited.
const PEEK_CHUNK: usize = 16;

/// Decodes a stored event; `None` for an unknown kind or a damaged payload.
pub(super) fn decoded(stored: &EventRef<'_>) -> Option<LoggedEvent> {
    let head = stored.event.head;
    let payload = Payload::decode(head.kind, stored.event.payload)?.ok()?;
    Some(LoggedEvent { sequence: head.sequence, time_us: stored.time_us, payload })
}

/// # Queries about the caller
impl Broker {
    /// The mailbox of the caller, if it has one.
    pub fn own_mailbox(&self, actor: &Actor) -> Option<Mailbox> {
        self.own_mailbox_of(&liveness::honoured(&self.state, actor).ok()?)
    }

    fn own_mailbox_of(&self, actor: &Actor) -> Option<Mailbox> {
        let session_id = actor.session_id.as_ref();
        if let Some(known) = session_id.and_then(|id| self.state.mailbox_for_session(id)) {
            return Some(known);
        }
        // A session id names the mailbox without the process of the caller.
        let actor = match session_id {
            Some(_) => actor.clone(),
            None => crate::env::actor::complete(actor, &self.root),
        };
        decide::find_own_mailbox(&self.state, &actor, &liveness::of_session, &is_ancestor)
    }

    /// The mailbox of the caller. Fails if it has none, if another session took over its alias, or if
    /// its environment names the session of another live process.
    pub fn held_mailbox(&mut self, actor: &Actor) -> Result<Mailbox, Failure> {
        let honoured = liveness::honoured(&self.state, actor)?;
        if let Some(session_id) = &honoured.session_id {
            check_session_id(session_id)?;
            decide::check_not_superseded(&self.state, session_id)?;
        }
        match self.own_mailbox_of(&honoured) {
            Some(mailbox) if !self.acts_as_user(actor) => Ok(mailbox),
            own => {
                // A damaged checkpoint may lack the row of the session.
                self.check_base()?;
                let returning = self.returning_mailbox(&honoured)?;
                returning.or(own).ok_or_else(|| decide::not_registered().into())
            }
        }
    }

    /// What the caller should know about the identity that its commands acted under.
    pub fn identity_note(&self, actor: &Actor) -> Option<String> {
        if let Some(alias) = &self.new_user {
            return Some(format!("registered '{alias}' for this user: no session is named"));
        }
        liveness::identity_note(&self.state, actor)
    }

    /// Whether the caller acts as its user, although its client named a session that is not
    /// registered here.
    pub fn acts_as_user(&self, actor: &Actor) -> bool {
        let is_known = |id| self.state.sessions.get(id).is_some();
        let session_id = actor.session_id.as_deref();
        actor.source == SessionSource::Client
            && actor.alias.is_none()
            && actor.fallback_alias.is_some()
            && session_id.is_some_and(|id| !is_known(id))
    }

    /// The registered session of the caller.
    pub fn session(&self, actor: &Actor) -> Option<Session> {
        self.state.sessions.get(actor.session_id.as_ref()?)
    }

    /// Whether the caller's session is alive.
    pub fn is_alive(&self, actor: &Actor) -> bool {
        self.session(actor).is_some_and(|session| liveness::of_session(&session) == Liveness::Alive)
    }

    /// The session of the client that runs this process, directly or through a shell. If the client
    /// has several, the one that was active last.
    pub fn session_of_client(&self) -> Option<SessionId> {
        agents::session_of_client(&self.state, &starters(), &liveness_of)
    }
}

/// # Queries about agents and rooms
impl Broker {
    /// All aliases of this root, in order.
    pub fn agents(&self) -> Vec<AgentView> {
        self.assert_verified();
        agents::agents(&self.state, &liveness::of_session)
    }

    /// Aliases of other machines, as the relay last reported them.
    pub fn remote_agents(&self) -> Vec<RemotePeer> {
        self.assert_verified();
        agents::remote_agents(&self.state)
    }

    /// The rooms that are visible to a mailbox.
    pub fn rooms(&self, mailbox: Option<&Mailbox>) -> Vec<RoomView> {
        self.assert_verified();
        rooms::visible_rooms(&self.state, mailbox, &liveness::of_session)
    }

    /// The last `limit` messages of a room that were sent at `since_us` or later, in the order of the
    /// room, oldest first; messages without a number come last. A limit of 0 returns all.
    pub fn room_history(
        &mut self,
        room_id: &str,
        limit: usize,
        since_us: u64,
    ) -> Result<Vec<RoomMessageView>, Failure> {
        let scope = room_hash(room_id);
        let history = RefCell::new(RoomHistory::new(room_id, since_us));
        for event in self.foreign_room_history(room_id, limit)? {
            history.borrow_mut().add(event.sequence, event.payload);
        }
        self.store.search(
            &|head| head.scope == scope,
            &mut |stored| {
                if let Some(event) = decoded(&stored) {
                    history.borrow_mut().add(event.sequence, event.payload);
                }
            },
            // A label is newer than its message, so a search from the newest event meets it first.
            &|| history.borrow().has_enough(limit),
        )?;
        Ok(history.into_inner().finish(&self.state, limit))
    }
}

/// # Histories in legacy files that are not imported yet
impl Broker {
    /// The last `limit` messages of a room; all if the limit is 0.
    fn foreign_room_history(
        &mut self,
        room_id: &str,
        limit: usize,
    ) -> Result<VecDeque<LoggedEvent>, Failure> {
        let is_of_room = |state: &State, file: &LegacyFile| {
            let name = state.imported.get(format!("file {ROOMS}/{}", file.owner));
            file.kind == Kind::RoomHistory
                && name.is_some_and(|name| name.eq_ignore_ascii_case(room_id))
        };
        let mut last = VecDeque::new();
        self.visit_foreign_history(&is_of_room, &mut |event| {
            if matches!(event.payload, Payload::MessageSent(_)) {
                last.push_back(event);
            }
            if limit > 0 && last.len() > limit {
                last.pop_front();
            }
        })?;
        Ok(last)
    }
}

/// # Queries about mail
impl Broker {
    /// Whether a poll could return anything. Needs no lock.
    pub fn has_mail(&self, mailbox: &Mailbox) -> bool {
        inbox::has_mail(&self.state, mailbox)
    }

    /// Whether a mailbox has unread mail that is not deferrable and not claimed by a running process.
    pub fn has_pressing_mail(&self, mailbox: &Mailbox) -> bool {
        inbox::has_pressing_mail(&self.state, mailbox, &liveness_of)
    }

    /// Messages by sequence, with their text.
    pub fn messages(&mut self, requested: &[MessageRef]) -> Result<Vec<MessageView>, Failure> {
        self.check_base()?;
        let mut messages = MessageCollector::new(requested);
        for event in &self.merged {
            if messages.is_requested(event.sequence) {
                messages.add(event.sequence, event.payload.clone());
            }
        }
        // Merged events come after the end of the log.
        let end = self.merged.first().map_or(Sequence::MAX, |event| event.sequence);
        let logged: Vec<Sequence> =
            requested.iter().map(|message| message.sequence).filter(|at| *at < end).collect();
        self.store.fetch(&logged, &mut |stored| {
            if let Some(event) = decoded(&stored) {
                messages.add(event.sequence, event.payload);
            }
        })?;
        Ok(messages.finish())
    }

    /// Unread mail, without claiming it. Messages under an open claim are not returned; the second
    /// value is their number.
    pub fn peek(&mut self, mailbox: &Mailbox) -> Result<(Vec<MessageView>, usize), Failure> {
        match inbox::unclaimed(&self.state, mailbox, clock::now_us(), &liveness_of) {
            Unclaimed::Messages(messages) => Ok((self.messages(&messages)?, 0)),
            Unclaimed::HeldByClaim(count) => Ok((Vec::new(), count)),
        }
    }

    /// The oldest unread mail, without claiming it: at most `limit` messages, and no further ones once
    /// their bodies hold `max_bytes`.
    pub fn peek_some(
        &mut self,
        mailbox: &Mailbox,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<MessageView>, Failure> {
        let mut unread = self.state.unread(&mailbox.name).in_order();
        unread.truncate(limit);
        let mut messages = Vec::new();
        let mut bytes = 0;
        for chunk in unread.chunks(PEEK_CHUNK) {
            if bytes >= max_bytes {
                break;
            }
            let loaded = self.messages(chunk)?;
            bytes += loaded.iter().map(|message| message.sent.body.len()).sum::<usize>();
            messages.extend(loaded);
        }
        Ok(messages)
    }

    /// Direct messages that were shown to a mailbox's owner, newest first, each with the time of its
    /// ack.
    pub fn history(
        &mut self,
        mailbox: &Mailbox,
        limit: usize,
    ) -> Result<Vec<MessageView>, Failure> {
        let scope = mailbox_hash(&mailbox.name);
        let history = RefCell::new(DeliveredHistory::new(&mailbox.name));
        let is_archive = |_: &State, file: &LegacyFile| file.kind == Kind::Archive;
        self.visit_foreign_history(&is_archive, &mut |event| history.borrow_mut().add(event))?;
        self.store.search(
            &|head| head.scope == scope,
            &mut |stored| {
                if let Some(event) = decoded(&stored) {
                    history.borrow_mut().add(event);
                }
            },
            // An ack is newer than its message, so a search from the newest event meets it first.
            &|| history.borrow().count() >= limit,
        )?;
        Ok(history.into_inner().newest(limit))
    }

    /// Every event that mentions the messages with an id, one trace for each message.
    pub fn trace(&mut self, message_id: &str) -> Result<Vec<MessageTrace>, Failure> {
        let mut accepted = Vec::new();
        let mut traces = Vec::new();
        self.store.find(&[name_hash(message_id)], &mut |stored| {
            let Some(LoggedEvent { sequence, time_us, payload }) = decoded(&stored) else { return };
            match payload {
                Payload::MessageSent(sent) if sent.message_id == message_id => {
                    accepted.push(AcceptedMessage { sequence, time_us, sent });
                }
                Payload::LegacyDelivered(fact) if fact.message_id == message_id => {
                    traces.push(trace::trace_of_older(sequence, time_us, &fact));
                }
                _ => {}
            }
        })?;
        for message in accepted {
            let later = self.events_that_may_mention(message.sequence)?;
            traces.push(trace::trace(&self.state, message, later, clock::now_us()));
        }
        Ok(traces)
    }

    fn events_that_may_mention(&mut self, sequence: Sequence) -> Result<Vec<LoggedEvent>, Failure> {
        let mut events = Vec::new();
        self.store.search(
            &|head| head.sequence > sequence && trace::may_mention(head.kind),
            &mut |stored| events.extend(decoded(&stored)),
            &|| false,
        )?;
        Ok(events)
    }

    /// Dead letters with their messages, oldest first.
    pub fn dead_letters(&mut self) -> Result<Vec<DeadLetterView>, Failure> {
        let messages = self.messages(&dead_letters::references(&self.state))?;
        Ok(dead_letters::with_messages(&self.state, &messages))
    }

    /// Sequences of the dead letters with a message id. Fails with `unknown_message` if none has it.
    pub fn dead_letters_for(&mut self, message_id: &str) -> Result<Vec<Sequence>, Failure> {
        let sequences: Vec<Sequence> = self
            .dead_letters()?
            .into_iter()
            .filter_map(|letter| letter.message)
            .filter(|message| message.sent.message_id == message_id)
            .map(|message| message.sequence)
            .collect();
        if sequences.is_empty() {
            let message = format!("no dead letter has the message id '{message_id}'");
            return Err(Rejection::new(Code::UnknownMessage, "message_id", message)
                .hint("list the dead letters")
                .into());
        }
        Ok(sequences)
    }
}

/// # Health
impl Broker {
    /// Health of this root.
    pub fn health(&mut self) -> Result<HealthView, Failure> {
        let (log_bytes, quarantine) = self.store.size()?;
        let facts = health::RootFacts {
            log_id: self.log_id()?.to_owned(),
            durable: self.store.durable(),
            log_bytes,
            outbox_waits: self.connector_status().and_then(|status| status.rejection),
            damage: self.store.damage().into_iter().map(damaged_range).collect(),
            quarantine,
            checkpoint_damaged: self.store.checkpoint_damaged()?,
        };
        Ok(health::health(&self.state, facts, clock::now_us(), &liveness::of_session))
    }
}

fn damaged_range(damaged: LogDamage) -> DamagedRange {
    let LogDamage { segment, offset, len, first, last } = damaged;
    DamagedRange { segment, offset, len, first, last }
}
