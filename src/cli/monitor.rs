//! `c2c monitor`: show events as they happen.

use std::convert::Infallible;
use std::time::Duration;

use c2c_log_format::payload::{MessageSent, Payload, Target};
use clap::Args;
use serde_json::{Value, json};

use super::context::{Context, Run};
use super::output;
use crate::error::Failure;
use crate::platform::clock;
use crate::present::envelope::for_terminal;
use crate::store::EventRef;
use c2c_core::state::{State, is_history};

/// Characters of a message that are shown without `--full-body`.
const BODY_CHARS: usize = 80;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c monitor\n  \
    c2c monitor --alias bob --json\n  \
    c2c monitor --from-seq 0 --timeout 0")]
pub struct Monitor {
    /// Show only events about this alias
    #[arg(long, short = 'a')]
    alias: Option<String>,
    /// Show whole messages instead of their first 80 characters
    #[arg(long, visible_alias = "body")]
    full_body: bool,
    /// Start after this sequence instead of now
    #[arg(long, value_name = "SEQUENCE")]
    from_seq: Option<u64>,
    /// Exit after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = output::parse_seconds, allow_negative_numbers = true)]
    timeout: Option<Duration>,
}

impl Run for Monitor {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.refresh(&context.actor)?;
        let start = self.from_seq.unwrap_or(context.broker.state().head);
        if self.from_seq.is_some() {
            context.broker.rewind();
        }
        let as_json = context.common.json;
        if as_json {
            let ready = json!({ "event_type": "monitor.ready", "monitor_ts": timestamp() });
            output::print(&output::json_line(&ready))?;
        }
        let deadline = self.timeout.map(|timeout| clock::monotonic() + timeout);
        context.broker.wait_until(deadline, |broker| {
            let mut text = String::new();
            broker.follow(&mut |state, stored| {
                if stored.event.head.sequence > start
                    && let Some(row) = self.row(state, stored)
                {
                    text.push_str(&if as_json { output::json_line(&row) } else { line(&row) });
                }
            })?;
            if !text.is_empty() {
                output::print(&text)?;
            }
            Ok(None::<Infallible>)
        })?;
        Ok(())
    }
}

/// The current time in seconds since 1970 with three decimals, as text: the format of the earlier
/// generation.
fn timestamp() -> String {
    format!("{:.3}", clock::now_us() as f64 / 1e6)
}

/// What an event is about, and how it is shown.
struct Description {
    event_type: &'static str,
    alias: String,
    row: Value,
}

impl Monitor {
    /// The row of an event; `None` if it is not shown.
    fn row(&self, state: &State, stored: &EventRef<'_>) -> Option<Value> {
        let head = stored.event.head;
        let payload = Payload::decode(head.kind, stored.event.payload)?.ok()?;
        let Description { event_type, alias, mut row } = self.describe(state, &payload)?;
        if self.alias.as_ref().is_some_and(|only| !only.eq_ignore_ascii_case(&alias)) {
            return None;
        }
        row["event_type"] = json!(event_type);
        row["monitor_ts"] = json!(timestamp());
        row["sequence"] = json!(head.sequence);
        Some(row)
    }

    fn describe(&self, state: &State, payload: &Payload) -> Option<Description> {
        let alias_of = |mailbox: &str| {
            state.mailboxes.get(mailbox).map_or_else(|| mailbox.to_owned(), |row| row.alias.into())
        };
        let (event_type, alias, row) = match payload {
            // Imported history is not news.
            Payload::MessageSent(sent) if is_history(sent) && sent.origin.is_none() => return None,
            Payload::MessageSent(sent) => ("message", sent.to.clone(), self.message_row(sent)),
            Payload::ClaimAcked(event) => {
                let alias = alias_of(&event.mailbox);
                ("drain", alias.clone(), json!({ "alias": alias }))
            }
            Payload::SessionRegistered(event) => {
                ("peer.alive", event.alias.clone(), json!({ "alias": event.alias }))
            }
            Payload::SessionEnded(event) => {
                let alias = alias_of(&event.mailbox);
                ("peer.dead", alias.clone(), json!({ "alias": alias, "reason": event.reason }))
            }
            Payload::RoomJoined(event) => {
                let alias = alias_of(&event.mailbox);
                ("room.join", alias.clone(), json!({ "room_id": event.room_id, "alias": alias }))
            }
            Payload::RoomLeft(event) => {
                let alias = alias_of(&event.mailbox);
                ("room.leave", alias.clone(), json!({ "room_id": event.room_id, "alias": alias }))
            }
            Payload::RoomInvitation(event) => (
                "room.invite",
                event.alias.clone(),
                json!({ "room_id": event.room_id, "alias": event.alias }),
            ),
            _ => return None,
        };
        Some(Description { event_type, alias, row })
    }

    fn message_row(&self, sent: &MessageSent) -> Value {
        let content: String = match self.full_body {
            true => sent.body.to_string(),
            false => sent.body.as_str().chars().take(BODY_CHARS).collect(),
        };
        let room_id = match &sent.target {
            Target::Room { room_id, .. } => Some(room_id),
            _ => None,
        };
        json!({
            "from_alias": sent.from,
            "to_alias": sent.to,
            "content": content,
            "room_id": room_id,
            "message_id": sent.message_id,
            "ts": clock::rfc3339(sent.sent_us),
        })
    }
}

/// Renders a row for a terminal.
fn line(row: &Value) -> String {
    let text = |key: &str| for_terminal(row[key].as_str().unwrap_or(""));
    let event = match row["event_type"].as_str() {
        Some("message") => {
            format!("{} -> {}  \"{}\"", text("from_alias"), text("to_alias"), text("content"))
        }
        Some(event_type) if event_type.starts_with("room.") => {
            format!("{event_type}  {} #{}", text("alias"), text("room_id"))
        }
        event_type => format!("{}  {}", event_type.unwrap_or(""), text("alias")),
    };
    format!("{:>8}  {event}\n", row["sequence"].as_u64().unwrap_or(0))
}
