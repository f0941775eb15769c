//! What is cleared away, and how does it come back?

use std::collections::BTreeMap;

use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    DeadLettersPurged, DeadLettersReturned, MessageSent, MessagesDeadLettered, RoomLeft, Target,
};
use c2c_log_format::{Payload, Sequence};

use super::address;
use super::send::unknown;
use super::session::ended;
use super::{Decision, Facts, Liveness, Refusal, Reply};
use crate::code::Code;
use crate::limits::RETURNED_MAX;
use crate::state::{DeadLetter, State, second_of, sequence_of};

/// Why mail for an address that another key took over is a dead letter.
pub(super) const UNBOUND: &str = "unbound";

/// What a sweep does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweepPlan {
    /// Session id and alias.
    pub dropped: Vec<(String, String)>,
    /// Room and alias.
    pub evicted: Vec<(String, String)>,
    /// Messages that move to the dead letters.
    pub preserved: usize,
    events: Vec<Payload>,
}

/// Sessions whose process is dead end; their unread mail goes to the dead letters and comes back
/// when the alias registers again. Sessions without evidence of a process stay.
pub(super) fn plan(state: &State, facts: &Facts<'_>) -> SweepPlan {
    let mut plan = SweepPlan::default();
    for (_, session) in state.sessions.scan([]) {
        if facts.alive(&session) != Liveness::Dead {
            continue;
        }
        let alias = state.mailboxes.get(&session.mailbox).map_or_else(String::new, |row| row.alias);
        plan.events.push(ended(&session.session_id, &session.mailbox, "sweep"));
        for (key, ()) in state.memberships.scan(crate::state::pair(&session.mailbox, &[])) {
            let room_id = second_of(&key);
            plan.evicted.push((room_id.clone(), alias.clone()));
            plan.events.push(Payload::RoomLeft(RoomLeft {
                room_id,
                mailbox: session.mailbox.clone(),
                reason: "sweep".into(),
                origin: None,
            }));
        }
        let unread = state.unread(&session.mailbox).in_order();
        let messages: Vec<Sequence> = unread.into_iter().map(|(sequence, ..)| sequence).collect();
        plan.preserved += messages.len();
        if !messages.is_empty() {
            plan.events.push(Payload::MessagesDeadLettered(MessagesDeadLettered {
                mailbox: session.mailbox.clone(),
                alias: alias.clone(),
                messages,
                reason: "sweep".into(),
            }));
        }
        plan.dropped.push((session.session_id, alias));
    }
    plan
}

pub(super) fn sweep(state: &State, facts: &Facts<'_>) -> Decision {
    let mut plan = plan(state, facts);
    let events = std::mem::take(&mut plan.events);
    Decision { events, reply: Reply::Swept(plan), durable: true }
}

pub(super) fn replay(
    state: &State,
    messages: &[Sequence],
    to: Option<&str>,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    let mut moved = Vec::new();
    let mut again = Vec::new();
    // One event for each mailbox: a frame holds only so many.
    let mut returned: BTreeMap<String, Vec<Sequence>> = BTreeMap::new();
    for (key, letter) in state.dead_letters.scan([]) {
        let sequence = sequence_of(&key);
        // What was withheld from whoever took an address over goes there only by name.
        let withheld = letter.reason == UNBOUND && to.is_none();
        let meant = if messages.is_empty() { !withheld } else { messages.contains(&sequence) };
        if !meant {
            continue;
        }
        if let Some(sent) = once_more(&letter, sequence, to, facts) {
            again.push(Payload::MessageSent(sent));
            moved.push(sequence);
            continue;
        }
        let mailbox = match to {
            Some(alias) => state.mailbox_of(alias).ok_or_else(|| unknown(state, alias))?.name,
            None => letter.mailbox,
        };
        if state.mailboxes.get(&mailbox).is_none() {
            let message = format!("message {sequence} has no mailbox here");
            return Err(Refusal::new(Code::UnknownAlias, "to", message).hint("name one with --to"));
        }
        moved.push(sequence);
        let returned = returned.entry(mailbox).or_default();
        // A room message may be a dead letter of several members.
        if !returned.contains(&sequence) {
            returned.push(sequence);
        }
    }
    let sent_again = !again.is_empty();
    let mut events = again;
    events.extend(returned.iter().flat_map(|(mailbox, messages)| brought_back(mailbox, messages)));
    if sent_again {
        let of_others = returned.into_values().flatten().collect::<Vec<_>>();
        let messages = moved.iter().copied().filter(|at| !of_others.contains(at)).collect();
        events.push(Payload::DeadLettersPurged(DeadLettersPurged { messages }));
    }
    Ok(Decision { events, reply: Reply::Moved { messages: moved }, durable: true })
}

/// A message that was sent from here to another machine and came back leaves once more. It gets an id
/// of its own: the one before stays refused.
fn once_more(
    letter: &DeadLetter,
    sequence: Sequence,
    to: Option<&str>,
    facts: &Facts<'_>,
) -> Option<MessageSent> {
    let (alias, host) = address::split(to.unwrap_or(&letter.alias)).ok()?;
    let host = host.filter(|host| fold(host) != fold(&facts.actor.node_id))?;
    let own = |row: &&(Sequence, MessageSent)| row.0 == sequence && row.1.origin.is_none();
    let (_, sent) = facts.prior.iter().find(own).filter(|_| facts.relay.is_none())?;
    Some(MessageSent {
        message_id: (facts.mint)(),
        to: format!("{alias}@{host}"),
        target: Target::Outbox { alias: alias.to_owned(), host: host.to_owned() },
        sent_us: facts.now_us,
        expires_us: None,
        ..sent.clone()
    })
}

/// Messages that wait again, few in an event: with their texts they leave a relay as one.
pub(super) fn brought_back(mailbox: &str, messages: &[Sequence]) -> Vec<Payload> {
    let returned = |messages: &[Sequence]| {
        let (mailbox, messages) = (mailbox.to_owned(), messages.to_vec());
        Payload::DeadLettersReturned(DeadLettersReturned { mailbox, messages })
    };
    messages.chunks(RETURNED_MAX).map(returned).collect()
}

pub(super) fn purge(state: &State, messages: &[Sequence]) -> Decision {
    let letters = state.dead_letters.scan([]).into_iter().map(|(key, _)| sequence_of(&key));
    let messages: Vec<Sequence> =
        letters.filter(|at| messages.is_empty() || messages.contains(at)).collect();
    let events = if messages.is_empty() {
        Vec::new()
    } else {
        vec![Payload::DeadLettersPurged(DeadLettersPurged { messages: messages.clone() })]
    };
    Decision { events, reply: Reply::Moved { messages }, durable: true }
}
