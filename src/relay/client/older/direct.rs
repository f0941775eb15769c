//! Direct messages to an older relay: one request for each, in the order of the outbox.

use std::collections::BTreeSet;

use c2c_log_format::payload::MessageSent;
use c2c_log_format::{Payload, Sequence};

use super::{Consequence, RETRY_AFTER, consequence};
use crate::error::Failure;
use crate::platform::clock;
use crate::relay::client::run::SyncReport;
use crate::relay::client::state::Connector;
use crate::relay::protocol::request::SendRequest;
use crate::relay::protocol::response::SendResponse;
use c2c_core::code::Code;
use c2c_core::decide::{Rejection, RequestAnswer};
use c2c_core::state::OutboxMessage;

/// A message in the outbox.
struct Outgoing {
    sequence: Sequence,
    row: OutboxMessage,
    sent: MessageSent,
    /// The alias that the relay has admitted for the sender.
    alias: String,
    /// Whether the relay may have this message from a request that got no answer.
    is_repeat: bool,
}

/// What follows for the messages after one that was sent.
#[derive(PartialEq, Eq)]
enum Next {
    /// They are sent.
    Continue,
    /// Those of the same sender to the same recipient wait.
    Park,
    /// All wait.
    Pause,
}

impl Connector {
    /// Sends the messages of the outbox.
    pub(super) fn send_direct_messages(&mut self, report: &mut SyncReport) -> Result<(), Failure> {
        if self.is_paused() {
            return Ok(());
        }
        let open = self.open_attempt();
        let mut rows = self.broker.state().outbox_in_order();
        // Only one request is open at a time, so that one is settled first.
        rows.sort_by_key(|(sequence, _)| *sequence != open);
        self.older().delayed.retain(|_, until| clock::monotonic() < *until);
        let mut parked = BTreeSet::new();
        for (sequence, row) in rows {
            let lane = (row.from_mailbox.clone(), row.alias.clone(), row.host.clone());
            let is_delayed = self.older().delayed.contains_key(&sequence);
            if is_delayed || parked.contains(&lane) {
                parked.insert(lane);
                continue;
            }
            let is_repeat = sequence == open;
            let Some(alias) = self.admitted_alias(&row.from_mailbox) else {
                let message = format!("the relay has not admitted '{}'", row.from);
                self.wait_for_sender(sequence, is_repeat, message, report)?;
                parked.insert(lane);
                continue;
            };
            let event = self.broker.fetch(&[sequence])?.pop().and_then(|event| event.payload);
            let Some(Payload::MessageSent(sent)) = event else { continue };
            match self.send_message(Outgoing { sequence, row, sent, alias, is_repeat }, report)? {
                Next::Continue => {}
                Next::Park => {
                    parked.insert(lane);
                }
                Next::Pause => {
                    self.older().paused_until = Some(clock::monotonic() + RETRY_AFTER);
                    break;
                }
            }
        }
        Ok(())
    }

    /// A message whose sender has no lease waits. One that may have been sent already gets its
    /// result now, because it keeps others from being sent.
    fn wait_for_sender(
        &mut self,
        sequence: Sequence,
        is_repeat: bool,
        message: String,
        report: &mut SyncReport,
    ) -> Result<(), Failure> {
        report.failed += 1;
        report.delayed.get_or_insert(message.clone());
        if is_repeat {
            let rejection = Rejection::new(Code::NotRegistered, "from_alias", message);
            self.record_answer(sequence, None, RequestAnswer::Unknown(rejection))?;
        }
        Ok(())
    }

    fn send_message(
        &mut self,
        outgoing: Outgoing,
        report: &mut SyncReport,
    ) -> Result<Next, Failure> {
        let Outgoing { sequence, row, sent, alias, is_repeat } = outgoing;
        let to_alias = match self.recipient_at_relay(&row.alias, &row.host) {
            Ok(to_alias) => to_alias,
            Err(rejection) => return self.reject(sequence, is_repeat, rejection, report),
        };
        if !is_repeat {
            self.begin_attempt(sequence)?;
        }
        let request = SendRequest {
            from_alias: alias.clone(),
            to_alias,
            content: sent.body.as_str().to_owned(),
            message_id: Some(sent.message_id),
            tag: sent.tag,
            reply_to: sent.reply_to,
            ..SendRequest::default()
        };
        let error = match self.client.post::<SendResponse>("/send", &request, Some(&alias)) {
            Ok(response) => {
                let is_known = response.duplicate == Some(true) || response.result == "duplicate";
                let answer = match is_repeat && !is_known {
                    true => RequestAnswer::MaybeRepeated,
                    false => RequestAnswer::Accepted,
                };
                self.record_answer(sequence, None, answer)?;
                report.forwarded += 1;
                return Ok(Next::Continue);
            }
            Err(error) => error,
        };
        let (rejection, is_general) = match consequence(error) {
            Consequence::Final(rejection) => {
                return self.reject(sequence, is_repeat, rejection, report);
            }
            Consequence::Unanswered(failure) => {
                if self.is_given_up(sequence) {
                    let rejection = Rejection::new(failure.code(), "", failure.message());
                    self.record_answer(sequence, None, RequestAnswer::Unknown(rejection))?;
                }
                return Err(failure);
            }
            Consequence::NotSent(failure) => {
                if !is_repeat {
                    self.record_answer(sequence, None, RequestAnswer::NotSent)?;
                }
                return Err(failure);
            }
            Consequence::NoLease(rejection) => {
                self.forget_lease(&alias);
                (rejection, false)
            }
            Consequence::Later(rejection, is_general) => (rejection, is_general),
        };
        report.failed += 1;
        report.delayed.get_or_insert(rejection.message);
        if is_repeat {
            // It stays the open request, so that no other one may be sent.
            return Ok(Next::Pause);
        }
        self.record_answer(sequence, None, RequestAnswer::NotSent)?;
        self.older().delayed.insert(sequence, clock::monotonic() + RETRY_AFTER);
        Ok(if is_general { Next::Pause } else { Next::Park })
    }

    /// Records that a message is not accepted; whether an earlier request was, is then unknown.
    fn reject(
        &mut self,
        sequence: Sequence,
        is_repeat: bool,
        rejection: Rejection,
        report: &mut SyncReport,
    ) -> Result<Next, Failure> {
        let answer = match is_repeat {
            true => RequestAnswer::Unknown(rejection),
            false => RequestAnswer::Rejected(rejection),
        };
        self.record_answer(sequence, None, answer)?;
        report.bounced += 1;
        Ok(Next::Continue)
    }
}
