//! Mail from an older relay, which hands out each message once.
//!
//! The inbox is read without removing anything, its messages are recorded, and only then is it
//! drained. What arrived in between is in the answer alone. The log shows a drain that was begun and
//! has no recorded answer; if the relay has removed the messages, that answer is lost.

use std::collections::BTreeSet;

use c2c_log_format::Payload;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{CursorDirection, MessageSent, Target};

use super::progress::{InboxStep, Recording};
use super::rows::{in_order, is_membership_notice, mark, mark_of, message_ids, room_of, to_event};
use super::{Consequence, consequence};
use crate::error::Failure;
use crate::platform::clock;
use crate::relay::client::run::SyncReport;
use crate::relay::client::state::Connector;
use crate::relay::protocol::request::PollRequest;
use crate::relay::protocol::response::{InboxMessage, PollResponse};
use c2c_core::address::{Address, is_remote};
use c2c_core::code::Code;
use c2c_core::command::ReceiveBatch;
use c2c_core::decide::{Batch, Item, Outcome, Position, Rejection};
use c2c_core::ids::{Alias, NodeId, SessionId};
use c2c_core::older_relay::Part;

/// Drains of one inbox in one round at most.
const DRAINS_MAX: usize = 100;
/// Attempts to record mail while another connector of this root records some too.
const RECORD_ATTEMPTS: usize = 5;

/// The session whose inbox is read.
struct Inbox {
    session: SessionId,
    alias: Alias,
    log: String,
}

impl Connector {
    /// Receives the mail of all sessions.
    pub(super) fn receive_mail(&mut self, report: &mut SyncReport) -> Result<(), Failure> {
        self.record_unrecorded(report)?;
        for inbox in self.inboxes() {
            for _ in 0..DRAINS_MAX {
                if !self.receive_from(&inbox, report)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Records mail that could not be recorded when it arrived.
    fn record_unrecorded(&mut self, report: &mut SyncReport) -> Result<(), Failure> {
        while let Some(recording) = self.older().unrecorded.first().cloned() {
            report.inbound += self.record(&recording)?;
            self.older().unrecorded.remove(0);
        }
        Ok(())
    }

    fn inboxes(&self) -> Vec<Inbox> {
        let url = self.client.base_url();
        let inbox = |session: &SessionId, alias: &Alias| Inbox {
            session: session.clone(),
            alias: alias.clone(),
            log: Part::Inbox.log_id(url, &[&self.node_id, session]),
        };
        let leases = self.leases.reported.iter();
        leases.map(|(session, record)| inbox(session, &record.alias)).collect()
    }

    /// Settles the drains without a recorded answer at a relay that replicates from now on. Mail
    /// that it still has arrives by replication.
    pub(super) fn settle_drains(&mut self, report: &mut SyncReport) -> Result<(), Failure> {
        self.record_unrecorded(report)?;
        for inbox in self.inboxes() {
            let cursor = self.broker.state().cursor(&CursorDirection::In, &inbox.log);
            if cursor.sequence.is_multiple_of(2) {
                continue;
            }
            let rows = self.ask_for_mail("/peek_inbox", &inbox, report)?.unwrap_or_default();
            let ids = message_ids(&rows, &inbox.log);
            if ids.iter().any(|id| cursor.digest.starts_with(&mark_of(id))) {
                let (log, messages) = (inbox.log.clone(), Vec::new());
                self.record(&Recording { log, messages, step: InboxStep::Drained })?;
            } else {
                self.record_possible_loss(&inbox, cursor.sequence, report)?;
            }
        }
        Ok(())
    }

    /// Reads and drains an inbox once. Returns whether there may be more.
    fn receive_from(&mut self, inbox: &Inbox, report: &mut SyncReport) -> Result<bool, Failure> {
        let Some(rows) = self.ask_for_mail("/peek_inbox", inbox, report)? else {
            return Ok(false);
        };
        let ids = message_ids(&rows, &inbox.log);
        let cursor = self.broker.state().cursor(&CursorDirection::In, &inbox.log);
        let is_still_there = |id: &String| cursor.digest.starts_with(&mark_of(id));
        if cursor.sequence % 2 == 1 && !ids.iter().any(is_still_there) {
            self.record_possible_loss(inbox, cursor.sequence, report)?;
        }
        if rows.is_empty() {
            return Ok(false);
        }
        let step = InboxStep::Read(mark(&ids));
        let recorded: BTreeSet<String> = ids.iter().cloned().collect();
        let messages = self.events_of(inbox, rows, ids);
        let mut new = self.record(&Recording { log: inbox.log.clone(), messages, step })?;
        let drained = self.ask_for_mail("/poll_inbox", inbox, report)?;
        let Some(rows) = drained else { return Ok(false) };
        let ids = message_ids(&rows, &inbox.log);
        let mut messages = self.events_of(inbox, rows, ids);
        messages.retain(|message| !recorded.contains(&message.message_id));
        let recording = Recording { log: inbox.log.clone(), messages, step: InboxStep::Drained };
        match self.record(&recording) {
            Ok(count) => new += count,
            Err(failure) => {
                // The relay does not have this mail any more, so it is recorded before anything else.
                self.older().unrecorded.push(recording);
                return Err(failure);
            }
        }
        report.inbound += new;
        Ok(new > 0)
    }

    /// The messages of an inbox, oldest first; `None` if the relay rejected the request.
    fn ask_for_mail(
        &mut self,
        route: &str,
        inbox: &Inbox,
        report: &mut SyncReport,
    ) -> Result<Option<Vec<InboxMessage>>, Failure> {
        let request = PollRequest {
            node_id: self.node_id.clone(),
            session_id: inbox.session.to_string(),
            ..PollRequest::default()
        };
        let rejection = match self.client.post::<PollResponse>(route, &request, Some(&inbox.alias))
        {
            Ok(response) => return Ok(Some(in_order(response.messages))),
            Err(error) => match consequence(error) {
                Consequence::NotSent(failure) | Consequence::Unanswered(failure) => {
                    return Err(failure);
                }
                Consequence::Later(rejection, _) => rejection,
                Consequence::NoLease(rejection) | Consequence::Final(rejection) => {
                    self.forget_lease(&inbox.alias);
                    rejection
                }
            },
        };
        report.errors.push(rejection.into());
        Ok(None)
    }

    /// Records that the answer to a drain is lost, and tells the agent.
    fn record_possible_loss(
        &mut self,
        inbox: &Inbox,
        sequence: u64,
        report: &mut SyncReport,
    ) -> Result<(), Failure> {
        let relay = self.older().name.clone();
        let what = format!(
            "the relay {relay} was asked for the mail of {} and its answer is lost: messages that \
             arrived at that moment may be lost",
            inbox.alias
        );
        let body = format!(
            "Mail for you may be lost: {what}. Ask those who expect an answer from you to send again."
        );
        let to = inbox.alias.as_str();
        let from = Address::on("c2c-system", &relay).to_string();
        let id = format!("{}-{sequence}", inbox.log);
        let notice = MessageSent {
            sent_us: clock::now_us(),
            tag: Some("fail".into()),
            ..MessageSent::new(id, &from, to, Target::Mailbox(to.to_owned()), body)
        };
        let messages = vec![notice];
        self.record(&Recording { log: inbox.log.clone(), messages, step: InboxStep::Drained })?;
        self.possibly_lost += 1;
        report.errors.push(Rejection::new(Code::OutcomeUnknown, "poll_inbox", what).into());
        Ok(())
    }

    /// The messages of an inbox as events.
    fn events_of(
        &mut self,
        inbox: &Inbox,
        rows: Vec<InboxMessage>,
        ids: Vec<String>,
    ) -> Vec<MessageSent> {
        let mut messages = Vec::with_capacity(rows.len());
        for (row, id) in rows.into_iter().zip(ids) {
            if is_membership_notice(&row) {
                continue;
            }
            let from = self.sender_address(&row.from_alias);
            let room = room_of(&row).filter(|room| self.is_member(room, &inbox.alias));
            let room = room.map(str::to_owned);
            let to = room.as_deref().unwrap_or(&inbox.alias);
            let target = match &room {
                Some(room) => {
                    Target::Room { room_id: fold(room), label: None, skipped: Vec::new() }
                }
                // A message of a room that the agent has not joined here is delivered like mail.
                None => Target::Mailbox(inbox.alias.to_string()),
            };
            messages.push(to_event(row, id, from, target, to, clock::now_us()));
        }
        messages
    }

    /// Whether a local alias is a member of a room that is open to other nodes.
    fn is_member(&self, room: &str, alias: &str) -> bool {
        let state = self.broker.state();
        let is_open = state.rooms.get(fold(room)).is_some_and(|row| state.is_room_shared(&row));
        let Some(mailbox) = state.mailbox_for_alias(alias) else { return false };
        let members = state.members_of_room(room).into_iter();
        is_open
            && members.map(|(name, _)| name).any(|name| !is_remote(&name) && name == mailbox.name)
    }

    /// Records mail in one frame with the cursor of the inbox. Returns the number of new messages.
    fn record(&mut self, recording: &Recording) -> Result<usize, Failure> {
        let Recording { log, messages, step } = recording;
        let node_id = self.older().name.clone();
        for _ in 0..RECORD_ATTEMPTS {
            let cursor = self.broker.state().cursor(&CursorDirection::In, log);
            let start = Position { sequence: cursor.sequence, digest: cursor.digest };
            let end = step.end(&start, messages.is_empty());
            if end == start {
                return Ok(0);
            }
            let sequence = end.sequence;
            let item = |message: &MessageSent| Item {
                sequence,
                digest: String::new(),
                payload: Payload::MessageSent(message.clone()),
            };
            let items = messages.iter().map(item).collect();
            let (log, node_id) = (log.clone(), NodeId::from(node_id.as_str()));
            if let Some(new) = self.record_batch(Batch { log, node_id, start, items, end })? {
                return Ok(new);
            }
        }
        let message = "another connector of this root keeps recording the same mail";
        Err(Rejection::new(Code::Busy, "", message).into())
    }

    /// Records a batch. Returns the number of new items; `None` if another connector of this root
    /// has moved the cursor.
    pub(super) fn record_batch(&mut self, batch: Batch) -> Result<Option<usize>, Failure> {
        let actor = self.actor();
        match self.broker.execute(&ReceiveBatch(batch), &actor) {
            Ok(executed) => {
                let outcomes = executed.reply.outcomes.into_iter();
                let is_new = |outcome: &Outcome| *outcome == Outcome::Accepted;
                Ok(Some(outcomes.filter(|(_, outcome)| is_new(outcome)).count()))
            }
            Err(Failure::Rejected(rejection))
                if matches!(rejection.code, Code::CursorDiverged | Code::OriginDiverged) =>
            {
                self.broker.refresh(&actor)?;
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }
}
