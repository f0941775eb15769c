//! What was known at some moment, and what became of a message?

use crate::broker::Broker;
use crate::clock;
use crate::state::State;
use clap::Args;
use serde_json::json;

use super::files;
use super::{CLEAN, CORRUPT, Ended, Place, Trouble, render};

#[derive(Args)]
pub struct StateAt {
    #[command(flatten)]
    place: Place,
    /// A sequence, or a time (RFC 3339); without it, now
    #[arg(long)]
    at: Option<String>,
    /// One JSON value
    #[arg(long, short = 'j')]
    json: bool,
}

impl StateAt {
    pub fn run(self) -> Ended {
        let log = files::open(&self.place)?;
        let (sequence, time_us) = match &self.at {
            None => (u64::MAX, u64::MAX),
            Some(text) => match text.parse() {
                Ok(sequence) => (sequence, u64::MAX),
                Err(_) => match clock::parse(text) {
                    Some(time_us) => (u64::MAX, time_us),
                    None => {
                        let message = format!("--at: '{text}' is neither a sequence nor a time");
                        return Err(Trouble::Unreadable(message));
                    }
                },
            },
        };
        let mut state = State::default();
        let mut damaged = false;
        for base in &log.bases {
            let wanted = |head: &c2c_log_format::EventHead, time| {
                head.sequence <= sequence && time <= time_us
            };
            let damages = log.rows(*base, &wanted, &mut |row| {
                let event = c2c_log_format::Event { head: row.head, payload: &row.payload };
                state.apply_event(&event, row.time_us);
            })?;
            damaged |= !damages.is_empty();
        }
        render::out(&if self.json { as_json(&state) } else { as_text(&state) })?;
        Ok(if damaged { CORRUPT } else { CLEAN })
    }
}

fn as_json(state: &State) -> String {
    let mailboxes = state.mailboxes.scan([]).into_iter().map(|(_, mailbox)| {
        let session = state.holder(&mailbox);
        let unread = state.unread(&mailbox.name).in_order();
        let unread: Vec<u64> = unread.into_iter().map(|(sequence, ..)| sequence).collect();
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
        let members = state.members_of(&room.room_id).into_iter().map(|(mailbox, _)| mailbox);
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
        let members = state.members_of(&room.room_id).len();
        text.push_str(&format!("  #{:19} {members} members, {}\n", room.room_id, room.visibility));
    }
    let (dead, outbox) = (state.dead_letters.scan([]).len(), state.outbox.scan([]).len());
    text.push_str(&format!("  {dead} dead letters, {outbox} in the outbox\n"));
    text
}

#[derive(Args)]
pub struct Trace {
    /// Id of the message
    message_id: String,
    #[command(flatten)]
    place: Place,
    /// Times in UTC
    #[arg(long)]
    utc: bool,
}

impl Trace {
    pub fn run(self) -> Ended {
        let log = files::open(&self.place)?;
        let mut broker = Broker::on(&log.root, log.store());
        let traces = broker
            .trace(&self.message_id)
            .map_err(|failure| Trouble::Unreadable(failure.message()))?;
        let mut text = String::new();
        for trace in &traces {
            let Some(message) = &trace.message else { continue };
            text.push_str(&format!(
                "{} {} -> {}\n",
                self.message_id, message.sent.from, message.sent.to
            ));
            for hop in &trace.hops {
                let time = clock::human(hop.time_us, self.utc);
                text.push_str(&format!(
                    "  {:>8}  {time}  {}  {}\n",
                    hop.sequence, hop.what, hop.who
                ));
            }
        }
        if traces.is_empty() {
            text = format!("no evidence of message '{}'\n", self.message_id);
        }
        render::out(&text)?;
        Ok(CLEAN)
    }
}
