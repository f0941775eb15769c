//! Event filters on the command line.

use c2c_log_format::EventHead;
use c2c_log_format::checksum::name_hash;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{Payload, mailbox_hash, room_hash};
use clap::Args;

use super::exit::ToolError;
use super::files::EventRecord;

/// Selects events.
#[derive(Args, Clone)]
pub struct FilterArgs {
    /// Select events since this time (RFC 3339, or seconds since 1970)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Select events up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Select events since this sequence
    #[arg(long, value_name = "SEQ", default_value_t = 0, hide_default_value = true)]
    from_seq: u64,
    /// Select events up to this sequence
    #[arg(long, value_name = "SEQ", default_value_t = u64::MAX, hide_default_value = true)]
    to_seq: u64,
    /// Select events whose kind starts with this text, such as `message` (repeatable)
    #[arg(long)]
    kind: Vec<String>,
    /// Select events about this alias
    #[arg(long)]
    alias: Option<String>,
    /// Select events about this room
    #[arg(long)]
    room: Option<String>,
    /// Select events about this message
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// Select events whose payload contains this text
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
}

/// A filter whose times, kinds and hashes are computed.
pub struct EventFilter {
    args: FilterArgs,
    since_us: u64,
    until_us: u64,
    kinds: Vec<u16>,
    message: Option<u64>,
    room: Option<u64>,
}

impl FilterArgs {
    /// Computes the parts of the filter that do not depend on an event.
    pub fn compile(&self) -> Result<EventFilter, ToolError> {
        Ok(EventFilter {
            since_us: time_or(self.since.as_deref(), 0)?,
            until_us: time_or(self.until.as_deref(), u64::MAX)?,
            kinds: kind_numbers(&self.kind)?,
            message: self.message_id.as_deref().map(name_hash),
            room: self.room.as_deref().map(room_hash),
            args: self.clone(),
        })
    }
}

fn time_or(text: Option<&str>, default: u64) -> Result<u64, ToolError> {
    let Some(text) = text else { return Ok(default) };
    crate::platform::clock::parse(text).ok_or_else(|| {
        ToolError::Failed(format!("'{text}' is not a time; write it as 2026-01-31T12:00:00Z"))
    })
}

/// Numbers of the kinds whose names start with one of these texts; empty if none are given.
fn kind_numbers(prefixes: &[String]) -> Result<Vec<u16>, ToolError> {
    let mut numbers = Vec::new();
    for prefix in prefixes {
        let before = numbers.len();
        let kinds = Payload::KINDS.iter().filter(|(_, name)| name.starts_with(prefix.as_str()));
        numbers.extend(kinds.map(|(number, _)| *number));
        if numbers.len() == before {
            let names: Vec<_> = Payload::KINDS.iter().map(|(_, name)| *name).collect();
            let message = format!("unknown kind '{prefix}'; known kinds: {}", names.join(", "));
            return Err(ToolError::Failed(message));
        }
    }
    Ok(numbers)
}

impl EventFilter {
    /// Applies the conditions that depend only on the head and the time.
    pub fn matches_head(&self, head: &EventHead, time_us: u64) -> bool {
        (self.args.from_seq..=self.args.to_seq).contains(&head.sequence)
            && (self.since_us..=self.until_us).contains(&time_us)
            && (self.kinds.is_empty() || self.kinds.contains(&head.kind))
            && self.message.is_none_or(|hash| head.message == hash)
            && self.room.is_none_or(|hash| head.scope == hash)
    }

    /// Applies the conditions that depend on the payload.
    pub fn matches_payload(&self, event: &EventRecord) -> bool {
        let text = || String::from_utf8_lossy(&event.payload);
        self.args.grep.as_ref().is_none_or(|grep| text().contains(grep.as_str()))
            && self.args.alias.as_ref().is_none_or(|alias| is_about(event, alias))
    }
}

/// Whether an event is about an alias, by the hashes in its head or by a name in its payload.
fn is_about(event: &EventRecord, alias: &str) -> bool {
    let hash = mailbox_hash(&fold(alias));
    if event.head.scope == hash || event.head.actor == hash {
        return true;
    }
    let payload: serde_json::Value = serde_json::from_slice(&event.payload).unwrap_or_default();
    ["from", "to", "alias", "old", "new"]
        .iter()
        .any(|key| payload[*key].as_str().is_some_and(|name| name.eq_ignore_ascii_case(alias)))
}
