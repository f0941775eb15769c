//! `c2c send`: send a message to one agent.

use c2c_log_format::payload::ReceiptLevel;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::context::{Context, Run};
use super::outgoing::OutgoingMessage;
use super::output;
use crate::broker::Broker;
use crate::error::Failure;
use crate::platform::clock;
use crate::present::json_view;
use c2c_core::code::Code;
use c2c_core::decide::{self, Rejection, Sent};
use c2c_core::state::compound_key;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c send bob \"please look at the failing test\"\n  \
    c2c send bob --urgent \"build is red\"\n  \
    git diff | c2c send bob -\n  \
    c2c send bob \"done\" --wait-for acked --timeout 60")]
pub struct SendArgs {
    /// Recipient: alias, or alias@host
    to: String,
    #[command(flatten)]
    message: OutgoingMessage,
    /// Id of the message being replied to
    #[arg(long, value_name = "ID")]
    reply_to: Option<String>,
    /// Seconds after which the message expires
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// Let the message wait for the recipient's next poll
    #[arg(long)]
    deferrable: bool,
    /// Return only when the message has reached this state
    #[arg(long, value_name = "STATE", value_enum)]
    wait_for: Option<Milestone>,
    /// Longest time to wait, with --wait-for
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = output::parse_seconds,
          allow_negative_numbers = true)]
    timeout: Duration,
}

/// State of a message that a sender can wait for, in the order in which they are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Milestone {
    /// The relay has stored it
    Relayed,
    /// It is in the recipient's mailbox
    Delivered,
    /// The recipient has taken it from the mailbox
    Acked,
}

impl Milestone {
    fn name(self) -> &'static str {
        match self {
            Self::Relayed => "relayed",
            Self::Delivered => "delivered",
            Self::Acked => "acked",
        }
    }
}

impl Run for SendArgs {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let send = decide::Send {
            to: self.to,
            reply_to: self.reply_to.map(Into::into),
            ttl_s: self.ttl,
            deferrable: self.deferrable,
            ..self.message.read()?
        };
        let executed = context.broker.execute(&send, &context.actor)?;
        let sent = executed.reply;
        let broker_id = context.broker.log_id()?.to_owned();
        let link = context.broker.link_status_for(&sent);
        let mut row = json_view::receipt(&sent, &broker_id, &link);
        let mut timed_out = None;
        if let Some(milestone) = self.wait_for {
            let reached =
                wait_for_milestone(context, &sent, executed.last, milestone, self.timeout)?;
            row[milestone.name()] = json!(reached);
            timed_out = (!reached).then(|| timeout_failure(&sent, milestone, self.timeout));
        }
        if context.common.json {
            let failure = timed_out.as_ref().map(Failure::to_json);
            if let (Some(Value::Object(failure)), Some(row)) = (failure, row.as_object_mut()) {
                row.extend(failure);
            }
            output::print_json(&row)?;
        } else {
            let duplicate = if sent.duplicate { " (accepted before)" } else { "" };
            let outbox = if sent.outbox { " [in the outbox]" } else { "" };
            output::print(&format!("ok -> {} (from {}){duplicate}{outbox}\n", sent.to, sent.from))?;
            output::note_delay(&link);
        }
        timed_out.map_or(Ok(()), Err)
    }
}

fn timeout_failure(sent: &Sent, milestone: Milestone, timeout: Duration) -> Failure {
    let milestone = milestone.name();
    let message = format!("the message was not {milestone} within {timeout:?}; it stays queued");
    let hint = format!("see how far it got: c2c trace {}", sent.message_id);
    Failure::AlreadyReported(Rejection::new(Code::Timeout, "timeout", message).hint(hint))
}

/// Waits until a message reaches a milestone; returns false on a timeout.
///
/// `sequence` is the last event of the command, 0 if the command wrote none.
fn wait_for_milestone(
    context: &mut Context,
    sent: &Sent,
    sequence: u64,
    milestone: Milestone,
    timeout: Duration,
) -> Result<bool, Failure> {
    let deadline = clock::monotonic() + timeout;
    let reached = context.broker.wait_until(Some(deadline), |broker| {
        broker.refresh(&context.actor)?;
        let is_reached = match sent.outbox {
            true => remote_milestone(broker, sent, milestone)? >= Some(milestone),
            false => milestone < Milestone::Acked || is_acked(broker, sent, sequence),
        };
        // A local message without its own event has no sequence by which to find its ack.
        let can_change = sequence > 0 || sent.outbox;
        Ok((is_reached || !can_change).then_some(is_reached))
    })?;
    Ok(reached.unwrap_or(false))
}

fn is_acked(broker: &Broker, sent: &Sent, sequence: u64) -> bool {
    let state = broker.state();
    let mailbox = state.mailbox_for_alias(&sent.to).map_or_else(String::new, |row| row.name);
    sequence > 0 && state.inbox.get(compound_key(&mailbox, &sequence.to_be_bytes())).is_none()
}

/// The end of a wait for a message that a relay of an older generation has.
fn unconfirmed(sent: &Sent, is_unknown: bool) -> Rejection {
    let message = match is_unknown {
        true => {
            "the relay did not answer the first request, so that the message may have been lost or delivered twice"
        }
        false => {
            "the relay accepted the message and is of an older generation, which confirms no delivery"
        }
    };
    Rejection::new(Code::OutcomeUnknown, "wait_for", message)
        .hint(format!("see how far it got: c2c trace {}", sent.message_id))
}

/// The last milestone reported for a message to another machine. Fails if it was rejected there, or
/// if the expected milestone will never be reported.
fn remote_milestone(
    broker: &mut Broker,
    sent: &Sent,
    expected: Milestone,
) -> Result<Option<Milestone>, Failure> {
    let traces = broker.trace(&sent.message_id)?;
    let mut reached = None;
    for hop in traces.iter().flat_map(|trace| &trace.hops) {
        let (level, detail) = hop.what.split_once(": ").unwrap_or((&hop.what, ""));
        if level == ReceiptLevel::Rejected.as_str() {
            let message = format!("{} rejected the message: {detail}", hop.who);
            let code = Code::from_name(detail).unwrap_or(Code::UnknownAlias);
            let hint = format!("see the dead letter: c2c dead-letter show {}", sent.message_id);
            return Err(Rejection::new(code, "to_alias", message).hint(hint).into());
        }
        let is_unknown = detail == Code::OutcomeUnknown.name();
        if level == ReceiptLevel::Unconfirmed.as_str()
            && (is_unknown || expected > Milestone::Relayed)
        {
            return Err(unconfirmed(sent, is_unknown).into());
        }
        let milestone = Milestone::value_variants().iter().find(|row| row.name() == level);
        reached = reached.max(milestone.copied());
    }
    Ok(reached)
}
