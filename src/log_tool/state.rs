//! `c2c-log state`: the state of the broker at a sequence or time.

use c2c_log_format::{Event, EventHead};
use clap::Args;
use serde_json::json;

use super::exit::{CLEAN, CORRUPT, ExitResult, ToolError};
use super::location::LogLocation;
use super::{files, render};
use crate::platform::clock;
use c2c_core::state::State;

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct StateArgs {
    #[command(flatten)]
    location: LogLocation,
    /// Show the state at this sequence or time (RFC 3339) [default: now]
    #[arg(long, value_name = "SEQ|TIME")]
    at: Option<String>,
    /// Write one JSON value
    #[arg(long, short = 'j')]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  c2c-log state                                show the registered agents and the pending mail
  c2c-log state --at 2026-01-31T12:00:00Z      show the state at a time
  c2c-log state --at 1200 --json               show the state after event 1200 as JSON";

impl StateArgs {
    pub fn run(self) -> ExitResult {
        let log = files::open(&self.location)?;
        let (last_sequence, last_us) = self.limits()?;
        let is_included =
            |head: &EventHead, time_us| head.sequence <= last_sequence && time_us <= last_us;
        let mut state = State::default();
        let mut is_damaged = false;
        for base in &log.bases {
            let damages = log.read_events(*base, &is_included, &mut |record| {
                let event = Event { head: record.head, payload: &record.payload };
                state.apply_event(&event, record.time_us);
            })?;
            is_damaged |= !damages.is_empty();
        }
        render::out(&if self.json { as_json(&state) } else { as_text(&state) })?;
        Ok(if is_damaged { CORRUPT } else { CLEAN })
    }

    /// The last sequence and the last time (microseconds) to include.
    fn limits(&self) -> Result<(u64, u64), ToolError> {
        let Some(text) = &self.at else { return Ok((u64::MAX, u64::MAX)) };
        if let Ok(sequence) = text.parse() {
            return Ok((sequence, u64::MAX));
        }
        let time_us = clock::parse(text).ok_or_else(|| {
            ToolError::Failed(format!("--at: '{text}' is neither a sequence nor a time"))
        })?;
        Ok((u64::MAX, time_us))
    }
}

fn as_json(state: &State) -> String {
    let mailboxes = state.mailboxes.scan([]).into_iter().map(|(_, mailbox)| {
        let session = state.holder(&mailbox);
        let unread = state.unread(&mailbox.name).in_order();
        let unread: Vec<u64> = unread.iter().map(|message| message.sequence).collect();
        json!({
            "alias": mailbox.alias,
            "mailbox": mailbox.name,
            "session_id": mailbox.session,
            "node_id": session.map(|session| session.node_id),
            "dnd": mailbox.dnd,
            "claim": mailbox.claim.as_ref().map(|claim| &claim.id),
            "pending": unread,
        })
    });
    let rooms = state.rooms.scan([]).into_iter().map(|(_, room)| {
        let members = state.members_of_room(&room.room_id).into_iter().map(|(mailbox, _)| mailbox);
        json!({ "room_id": room.room_id, "visibility": room.visibility, "members": members.collect::<Vec<_>>() })
    });
    let value = json!({
        "sequence": state.head,
        "mailboxes": mailboxes.collect::<Vec<_>>(),
        "rooms": rooms.collect::<Vec<_>>(),
        "dead_letters": state.dead_letters.scan([]).len(),
        "outbox": state.outbox.scan([]).len(),
    });
    format!("{value:#}\n")
}

fn as_text(state: &State) -> String {
    let mut text = format!("after event {}\n", state.head);
    for (_, mailbox) in state.mailboxes.scan([]) {
        let session = mailbox.session.clone().unwrap_or_else(|| "(no session)".into());
        let pending = state.unread(&mailbox.name).len();
        let claim = mailbox
            .claim
            .as_ref()
            .map_or_else(String::new, |claim| format!(", claimed by {}", claim.surface));
        text.push_str(&format!("  {:20} {session:20} {pending} pending{claim}\n", mailbox.alias));
    }
    for (_, room) in state.rooms.scan([]) {
        let members = state.members_of_room(&room.room_id).len();
        text.push_str(&format!("  #{:19} {members} members, {}\n", room.room_id, room.visibility));
    }
    let (dead, outbox) = (state.dead_letters.scan([]).len(), state.outbox.scan([]).len());
    text.push_str(&format!("  {dead} dead letters, {outbox} in the outbox\n"));
    text
}
