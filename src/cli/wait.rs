//! Commands that wait for something to happen.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use c2c_log_format::payload::{Payload, Target};
use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use super::{Context, Run, output};
use crate::broker::{Delivery, Wish};
use crate::clock;
use crate::envelope::for_terminal;
use crate::failure::Failure;
use crate::shape;
use crate::state::State;
use crate::store::Stored;

/// A backstop: even if a wake-up were lost, nobody sleeps longer.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Waits until the caller has mail, at most so long. Takes nothing.
pub fn until_mail(context: &mut Context, wait: Duration) -> Result<bool, Failure> {
    let deadline = Instant::now() + wait;
    loop {
        let pulse = context.broker.pulse();
        context.broker.look(&context.actor)?;
        let mailbox = context.broker.held_mailbox(&context.actor)?;
        if mailbox.is_some_and(|mailbox| context.broker.has_mail(&mailbox)) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        context.broker.wait(pulse, left.min(LOOK_AGAIN));
    }
}

#[derive(Args)]
pub struct Listen {
    /// Take the messages and show them, instead of telling that they are there
    #[arg(long)]
    take: bool,
    /// Return after the first messages
    #[arg(long, short = '1')]
    once: bool,
    /// Return after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = output::seconds, allow_negative_numbers = true)]
    timeout: Option<Duration>,
}

impl Run for Listen {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let mut told = 0;
        loop {
            let pulse = context.broker.pulse();
            context.broker.look(&context.actor)?;
            let some = if self.take { take(context)? } else { tell(context, &mut told)? };
            if some && self.once || nobody_reads() {
                return Ok(());
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(());
            }
            context.broker.wait(pulse, left.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN));
        }
    }
}

/// Whether the reader of standard output has gone: a client that was killed takes its waiters along.
fn nobody_reads() -> bool {
    let out = io::stdout();
    let mut end = [PollFd::new(out.as_fd(), PollFlags::empty())];
    poll(&mut end, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// One notice for each unread message that no notice was given for. What may wait for a poll needs
/// none, and who wants quiet gets them later.
fn tell(context: &mut Context, told: &mut u64) -> Result<bool, Failure> {
    let Some(mailbox) = context.broker.held_mailbox(&context.actor)? else { return Ok(false) };
    if mailbox.is_dnd(clock::now_us()) {
        return Ok(false);
    }
    let (messages, _) = context.broker.peek(&mailbox)?;
    let new = messages.iter().filter(|row| row.sequence > *told && !row.sent.deferrable);
    let new: Vec<_> = new.collect();
    let mut text = String::new();
    for message in &new {
        *told = message.sequence;
        if context.common.json {
            let row = json!({
                "event": if message.room_id.is_some() { "room_message" } else { "message" },
                "message_id": message.sent.message_id,
                "from_alias": message.sent.from,
                "room_id": message.room_id,
                "ts": clock::rfc3339(message.sent.sent_us),
            });
            text.push_str(&output::json_line(&row));
        } else {
            let place = message.room_id.as_ref().map_or_else(String::new, |r| format!(" in #{r}"));
            let from = for_terminal(&message.sent.from);
            text.push_str(&format!("new message from {from}{place}: c2c poll-inbox\n"));
        }
    }
    if !new.is_empty() {
        output::say(&text)?;
    }
    Ok(!new.is_empty())
}

fn take(context: &mut Context) -> Result<bool, Failure> {
    let json = context.common.json;
    let mut show = |delivery: &Delivery| {
        let text: String = delivery
            .messages
            .iter()
            .map(|message| match json {
                true => output::json_line(&shape::message(message, &delivery.alias)),
                false => output::message_line(message),
            })
            .collect();
        if text.is_empty() { Ok(()) } else { output::print(&text) }
    };
    let delivery = context.broker.deliver(&context.actor, &Wish::all("listen"), &mut show)?;
    Ok(!delivery.messages.is_empty())
}

#[derive(Args)]
pub struct Monitor {
    /// Only events about this alias
    #[arg(long, short = 'a')]
    alias: Option<String>,
    /// Whole messages instead of their beginning
    #[arg(long, visible_alias = "body")]
    full_body: bool,
    /// Begin after this sequence instead of now
    #[arg(long, value_name = "SEQUENCE")]
    from_seq: Option<u64>,
    /// Return after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = output::seconds, allow_negative_numbers = true)]
    timeout: Option<Duration>,
}

impl Run for Monitor {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.look(&context.actor)?;
        let start = self.from_seq.unwrap_or(context.broker.state().head);
        if self.from_seq.is_some() {
            context.broker.rewind();
        }
        let ready = json!({ "event_type": "monitor.ready", "monitor_ts": stamp() });
        if context.common.json {
            output::say(&output::json_line(&ready))?;
        }
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let pulse = context.broker.pulse();
            let mut text = String::new();
            let json = context.common.json;
            context.broker.follow(&mut |state, stored| {
                if stored.event.head.sequence > start
                    && let Some(row) = self.row(state, stored)
                {
                    text.push_str(&if json { output::json_line(&row) } else { human(&row) });
                }
            })?;
            if !text.is_empty() {
                output::say(&text)?;
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(());
            }
            context.broker.wait(pulse, left.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN));
        }
    }
}

/// Seconds since 1970 with three decimals, as text: the older contract.
fn stamp() -> String {
    format!("{:.3}", clock::now_us() as f64 / 1e6)
}

impl Monitor {
    fn row(&self, state: &State, stored: &Stored<'_>) -> Option<Value> {
        let head = stored.event.head;
        let payload = Payload::decode(head.kind, stored.event.payload)?.ok()?;
        let alias = |mailbox: &str| {
            state.mailboxes.get(mailbox).map_or_else(|| mailbox.to_owned(), |row| row.alias)
        };
        let (kind, about, mut row) = match &payload {
            Payload::MessageSent(sent) => {
                let body: String = match self.full_body {
                    true => sent.body.clone(),
                    false => sent.body.chars().take(80).collect(),
                };
                let room_id = match &sent.target {
                    Target::Room { room_id, .. } => Some(room_id.clone()),
                    _ => None,
                };
                let row = json!({
                    "from_alias": sent.from,
                    "to_alias": sent.to,
                    "content": body,
                    "room_id": room_id,
                    "message_id": sent.message_id,
                    "ts": clock::rfc3339(sent.sent_us),
                });
                ("message", sent.to.clone(), row)
            }
            Payload::ClaimAcked(fact) => {
                let who = alias(&fact.mailbox);
                ("drain", who.clone(), json!({ "alias": who }))
            }
            Payload::SessionRegistered(fact) => {
                ("peer.alive", fact.alias.clone(), json!({ "alias": fact.alias }))
            }
            Payload::SessionEnded(fact) => {
                let who = alias(&fact.mailbox);
                ("peer.dead", who.clone(), json!({ "alias": who, "reason": fact.reason }))
            }
            Payload::RoomJoined(fact) => {
                let who = alias(&fact.mailbox);
                ("room.join", who.clone(), json!({ "room_id": fact.room_id, "alias": who }))
            }
            Payload::RoomLeft(fact) => {
                let who = alias(&fact.mailbox);
                ("room.leave", who.clone(), json!({ "room_id": fact.room_id, "alias": who }))
            }
            Payload::RoomInvitation(fact) => (
                "room.invite",
                fact.alias.clone(),
                json!({ "room_id": fact.room_id, "alias": fact.alias }),
            ),
            _ => return None,
        };
        if self.alias.as_ref().is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&about)) {
            return None;
        }
        row["event_type"] = json!(kind);
        row["monitor_ts"] = json!(stamp());
        row["sequence"] = json!(head.sequence);
        Some(row)
    }
}

fn human(row: &Value) -> String {
    let text = |key: &str| for_terminal(row[key].as_str().unwrap_or(""));
    let what = match row["event_type"].as_str() {
        Some("message") => {
            format!("{} -> {}  \"{}\"", text("from_alias"), text("to_alias"), text("content"))
        }
        Some(kind) if kind.starts_with("room.") => {
            format!("{kind}  {} #{}", text("alias"), text("room_id"))
        }
        kind => format!("{}  {}", kind.unwrap_or(""), text("alias")),
    };
    format!("{:>8}  {what}\n", row["sequence"].as_u64().unwrap_or(0))
}
