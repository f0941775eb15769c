//! Dead letters: return to a mailbox, replay, purge.

use std::collections::BTreeMap;

use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    DeadLetterReason, DeadLettersPurged, DeadLettersReturned, MessageSent, Target,
};
use c2c_log_format::{Payload, Sequence};

use super::address;
use crate::address::Address;
use crate::code::Code;
use crate::facts::Facts;
use crate::limits::RETURNED_MESSAGES_MAX;
use crate::rejection::Rejection;
use crate::reply::Decision;
use crate::state::{DeadLetter, State, compound_key, sequence_in_key};

/// Dead letters of a mailbox that return when its alias registers again: those of a sweep or of an
/// expired lease. Others stay, because their sender was notified.
pub(super) fn returnable_dead_letters(state: &State, mailbox: &str) -> Vec<Sequence> {
    let rows = state.dead_letters.scan(compound_key(mailbox, &[])).into_iter();
    let returnable = rows.filter(|(_, row)| {
        matches!(row.reason, DeadLetterReason::Sweep | DeadLetterReason::Expired)
    });
    returnable.map(|(key, _)| sequence_in_key(&key)).collect()
}

/// The event that returns messages to a mailbox.
pub(super) fn dead_letters_returned(mailbox: &str, messages: &[Sequence]) -> Payload {
    Payload::DeadLettersReturned(DeadLettersReturned {
        mailbox: mailbox.to_owned(),
        messages: messages.to_vec(),
    })
}

/// The events that return messages to a mailbox, each with at most [`RETURNED_MESSAGES_MAX`] messages: a
/// relay sends the bodies of one event's messages in one batch.
pub(super) fn dead_letters_returned_in_chunks(
    mailbox: &str,
    messages: &[Sequence],
) -> impl Iterator<Item = Payload> {
    messages.chunks(RETURNED_MESSAGES_MAX).map(|messages| dead_letters_returned(mailbox, messages))
}

/// Delivers dead letters again, to their own mailbox or to `to`.
pub(super) fn replay(
    state: &State,
    messages: &[Sequence],
    to: Option<&str>,
    facts: &Facts<'_>,
) -> Result<Decision<Vec<Sequence>>, Rejection> {
    let mut replayed = Vec::new();
    let mut sent_again = Vec::new();
    // One list for each mailbox, since an event returns messages to one mailbox.
    let mut returned: BTreeMap<String, Vec<Sequence>> = BTreeMap::new();
    for (key, dead_letter) in state.dead_letters.scan([]) {
        let sequence = sequence_in_key(&key);
        // Mail that was withheld from the new owner of an address goes there only if `to` names it.
        let is_withheld = dead_letter.reason == DeadLetterReason::Unbound && to.is_none();
        let is_selected =
            if messages.is_empty() { !is_withheld } else { messages.contains(&sequence) };
        if !is_selected {
            continue;
        }
        if let Some(sent) = resent(&dead_letter, sequence, to, facts) {
            sent_again.push(Payload::MessageSent(sent));
            replayed.push(sequence);
            continue;
        }
        let mailbox = match to {
            Some(alias) => {
                let mailbox = state.mailbox_for_alias(alias);
                mailbox.ok_or_else(|| address::unknown_alias(state, alias))?.name
            }
            None => dead_letter.mailbox,
        };
        if state.mailboxes.get(&mailbox).is_none() {
            let message = format!("message {sequence} has no mailbox here");
            return Err(Rejection::new(Code::UnknownAlias, "to", message).hint("name a recipient"));
        }
        replayed.push(sequence);
        let in_mailbox = returned.entry(mailbox).or_default();
        // A room message may be a dead letter of several members.
        if !in_mailbox.contains(&sequence) {
            in_mailbox.push(sequence);
        }
    }
    let is_any_resent = !sent_again.is_empty();
    let mut events = sent_again;
    for (mailbox, messages) in &returned {
        events.extend(dead_letters_returned_in_chunks(mailbox, messages));
    }
    if is_any_resent {
        let local: Vec<Sequence> = returned.into_values().flatten().collect();
        let messages = replayed.iter().copied().filter(|at| !local.contains(at)).collect();
        events.push(Payload::DeadLettersPurged(DeadLettersPurged { messages }));
    }
    Ok(Decision::durable(events, replayed))
}

/// The message to send again if a dead letter was sent from here to another node. It gets a new id,
/// because the message with the old one stays rejected.
fn resent(
    dead_letter: &DeadLetter,
    sequence: Sequence,
    to: Option<&str>,
    facts: &Facts<'_>,
) -> Option<MessageSent> {
    let (alias, host) = address::split("to_alias", to.unwrap_or(&dead_letter.alias)).ok()?;
    let host = host.filter(|host| fold(host) != fold(&facts.actor.node_id))?;
    let is_own = |row: &&(Sequence, MessageSent)| row.0 == sequence && row.1.origin.is_none();
    let (_, sent) = facts.prior.iter().find(is_own).filter(|_| facts.relay.is_none())?;
    Some(MessageSent {
        message_id: (facts.mint)(),
        to: Address::on(alias, host).to_string(),
        target: Target::Outbox { alias: alias.to_owned(), host: host.to_owned() },
        sent_us: facts.now_us,
        expires_us: None,
        ..sent.clone()
    })
}

/// Deletes dead letters; all of them if `messages` is empty.
pub(super) fn purge(state: &State, messages: &[Sequence]) -> Decision<Vec<Sequence>> {
    let rows = state.dead_letters.scan([]).into_iter().map(|(key, _)| sequence_in_key(&key));
    let purged: Vec<Sequence> =
        rows.filter(|at| messages.is_empty() || messages.contains(at)).collect();
    let events = if purged.is_empty() {
        Vec::new()
    } else {
        vec![Payload::DeadLettersPurged(DeadLettersPurged { messages: purged.clone() })]
    };
    Decision::durable(events, purged)
}
