//! `c2c listen`: wait for messages and announce or take them.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::context::{Context, Run};
use super::mail_text::message_line;
use super::output;
use crate::broker::{Broker, Delivery, DeliveryOptions};
use crate::error::Failure;
use crate::platform::clock;
use crate::platform::poll::output_has_reader;
use crate::present::envelope::for_terminal;
use crate::present::json_view;
use c2c_core::decide::Actor;
use c2c_core::view::MessageView;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c listen\n  \
    c2c listen --take --once --timeout 60")]
pub struct Listen {
    /// Take and show the messages instead of announcing them
    #[arg(long)]
    take: bool,
    /// Exit after the first messages
    #[arg(long, short = '1')]
    once: bool,
    /// Exit after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = output::parse_seconds, allow_negative_numbers = true)]
    timeout: Option<Duration>,
}

impl Run for Listen {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let deadline = self.timeout.map(|timeout| clock::monotonic() + timeout);
        let as_json = context.common.json;
        let mut announced = 0;
        context.broker.wait_until(deadline, |broker| {
            broker.refresh(&context.actor)?;
            let has_printed = match self.take {
                true => take(broker, &context.actor, as_json)?,
                false => announce(broker, &context.actor, as_json, &mut announced)?,
            };
            // A client that is killed must not leave its listeners behind.
            Ok((has_printed && self.once || !output_has_reader()).then_some(()))
        })?;
        Ok(())
    }
}

/// Prints one notice for each unread message after sequence `announced`; returns whether any was
/// printed.
///
/// Deferrable messages get no notice. While do-not-disturb is on, all notices wait.
fn announce(
    broker: &mut Broker,
    actor: &Actor,
    as_json: bool,
    announced: &mut u64,
) -> Result<bool, Failure> {
    let mailbox = broker.held_mailbox(actor)?;
    if mailbox.is_dnd(clock::now_us()) {
        return Ok(false);
    }
    let (mut messages, _) = broker.peek(&mailbox)?;
    messages.retain(|message| message.sequence > *announced && !message.sent.deferrable);
    let Some(last) = messages.last() else { return Ok(false) };
    *announced = last.sequence;
    let notice = if as_json { notice_json } else { notice_line };
    output::print(&messages.iter().map(notice).collect::<String>())?;
    Ok(true)
}

fn notice_json(message: &MessageView) -> String {
    output::json_line(&json!({
        "event": if message.room_id.is_some() { "room_message" } else { "message" },
        "message_id": message.sent.message_id,
        "from_alias": message.sent.from,
        "room_id": message.room_id,
        "ts": clock::rfc3339(message.sent.sent_us),
    }))
}

fn notice_line(message: &MessageView) -> String {
    let room = message.room_id.as_ref().map_or_else(String::new, |room| format!(" in #{room}"));
    let from = for_terminal(&message.sent.from);
    format!("new message from {from}{room}: c2c poll-inbox\n")
}

/// Takes and prints all unread messages; returns whether there were any.
fn take(broker: &mut Broker, actor: &Actor, as_json: bool) -> Result<bool, Failure> {
    let mut show = |delivery: &Delivery| {
        let line = |message: &MessageView| match as_json {
            true => output::json_line(&json_view::message(message, &delivery.alias)),
            false => message_line(message),
        };
        let text: String = delivery.messages.iter().map(line).collect();
        if text.is_empty() { Ok(()) } else { output::write_stdout(&text) }
    };
    let delivery = broker.deliver(actor, &DeliveryOptions::all("listen"), &mut show)?;
    Ok(!delivery.messages.is_empty())
}
