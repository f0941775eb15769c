//! The inbox: claims of unread messages, and how a claim ends.

use c2c_log_format::payload::{
    AckLevel, AckRefused, ClaimAcked, ClaimReturnReason, ClaimReturned, InboxClaimed,
    MessagesExpired, Receipt, ReceiptLevel, ReceiptsRecorded, RoomRange,
};
use c2c_log_format::{Payload, Sequence};

use super::acting::{acting, not_registered, own_mailbox};
use crate::address::Address;
use crate::code::Code;
use crate::command::{ClaimInbox, DrainInbox};
use crate::facts::{Facts, claim_holds};
use crate::ids::RoomId;
use crate::limits::CLAIM_TIMEOUT_S;
use crate::rejection::Rejection;
use crate::reply::{Claimed, Decision};
use crate::state::{Claim, Mailbox, MessageRef, State, compound_key};

/// Surface of claims whose id was chosen by the caller of a drain.
const DRAINED: &str = "drain";

pub(super) fn claim(
    state: &State,
    options: &ClaimInbox,
    facts: &Facts<'_>,
) -> Result<Decision<Claimed>, Rejection> {
    let Some(mailbox) = own_mailbox(state, facts)? else {
        if facts.relay.is_none() {
            return Err(not_registered());
        }
        // A caller without a mailbox has no mail. A caller without any identity is rejected.
        acting(state, None, facts)?;
        return Ok(Decision::relaxed(Vec::new(), Claimed::default()));
    };
    let mut state = state.clone();
    let mut events = Vec::new();
    if let Some(open) = &mailbox.claim {
        if claim_holds(open, facts.now_us, facts.liveness) {
            let alias = mailbox.alias.clone();
            let reply = Claimed { alias, claimed: count(open), ..Claimed::default() };
            return Ok(Decision::relaxed(events, reply));
        }
        let reason = if open.until_us > 0 {
            ClaimReturnReason::Expired
        } else {
            ClaimReturnReason::ProcessDead
        };
        let released = claim_released(&open.id, &mailbox.name, reason);
        state.apply(state.head + 1, facts.now_us, &released);
        events.push(released);
    }
    let expired = expired_messages(&state, &mailbox, facts.now_us);
    if !expired.is_empty() {
        let mailbox = mailbox.name.clone();
        let event = Payload::MessagesExpired(MessagesExpired { mailbox, messages: expired });
        state.apply(state.head + 1, facts.now_us, &event);
        events.push(event);
    }
    let selection = select(&state, &mailbox, options);
    if selection.items.is_empty() {
        return Ok(Decision::relaxed(events, selection));
    }
    let (messages, rooms) = split_by_target(&state, &mailbox, &selection.items);
    let id = (facts.mint)();
    events.push(Payload::InboxClaimed(InboxClaimed {
        claim: id.clone(),
        mailbox: mailbox.name,
        messages,
        rooms,
        process: facts.worker.clone(),
        surface: options.surface.clone(),
        manual: options.manual,
        until_us: if options.manual { facts.now_us + CLAIM_TIMEOUT_S * 1_000_000 } else { 0 },
    }));
    Ok(Decision::relaxed(events, Claimed { claim: Some(id), ..selection }))
}

/// A drain over HTTP: a claim whose id the caller chooses. A repetition with the same id returns
/// the same mail. Any other drain acknowledges the claim of the drain before.
pub(super) fn drain(
    state: &State,
    drain: &DrainInbox,
    facts: &Facts<'_>,
) -> Result<Decision<Claimed>, Rejection> {
    let drain_id = drain.drain_id.as_deref();
    let options = &ClaimInbox {
        limit: drain.limit,
        max_bytes: drain.max_bytes,
        surface: String::from("relay"),
        manual: false,
        deferrable: true,
    };
    let mailbox = own_mailbox(state, facts)?;
    if mailbox.as_ref().is_some_and(|row| row.replicated) {
        let message = "a connector fetches the mail of this alias";
        return Err(Rejection::new(Code::Forbidden, "session_id", message)
            .hint("read the mail on the node of the connector"));
    }
    let is_drain = |claim: &&Claim| claim.surface == DRAINED;
    let open = mailbox.as_ref().and_then(|row| row.claim.as_ref()).filter(is_drain);
    let (Some(mailbox), Some(open)) = (&mailbox, open) else {
        return claim_with_id(state, drain_id, options, facts);
    };
    if Some(open.id.as_str()) == drain_id {
        let reply = Claimed {
            alias: mailbox.alias.clone(),
            claim: Some(open.id.clone()),
            items: items_of_claim(state, &mailbox.name, open),
            ..Claimed::default()
        };
        return Ok(Decision::relaxed(Vec::new(), reply));
    }
    let mut events = claim_acked(state, open, &mailbox.name, &AckLevel::Written, facts);
    let mut after = state.clone();
    for event in &events {
        after.apply(after.head + 1, facts.now_us, event);
    }
    let next = claim_with_id(&after, drain_id, options, facts)?;
    events.extend(next.events);
    Ok(Decision { events, ..next })
}

fn claim_with_id(
    state: &State,
    drain_id: Option<&str>,
    options: &ClaimInbox,
    facts: &Facts<'_>,
) -> Result<Decision<Claimed>, Rejection> {
    let mut decision = claim(state, options, facts)?;
    let Some(id) = drain_id else { return Ok(decision) };
    for event in &mut decision.events {
        if let Payload::InboxClaimed(fact) = event {
            fact.claim = id.to_owned();
            fact.surface = DRAINED.into();
            // It never expires: only a later drain ends it.
            fact.until_us = u64::MAX;
        }
    }
    if let Ok(claimed) = &mut decision.outcome {
        claimed.claim = claimed.claim.take().map(|_| id.to_owned());
    }
    Ok(decision)
}

/// The messages of an open claim.
fn items_of_claim(state: &State, mailbox: &str, claim: &Claim) -> Vec<MessageRef> {
    let contains =
        |range: &RoomRange, at: Sequence, room: &str| range.room_id == room && at <= range.upto;
    let unread = state.unread(mailbox).in_order().into_iter();
    let in_claim = unread.filter(|message| {
        let mut ranges = claim.rooms.iter().chain(&claim.left);
        let in_room = |room: &RoomId| ranges.any(|range| contains(range, message.sequence, room));
        claim.messages.contains(&message.sequence) || message.room_id.as_ref().is_some_and(in_room)
    });
    in_claim.map(|message| MessageRef { redelivered: true, ..message }).collect()
}

/// Number of messages in a claim.
fn count(claim: &Claim) -> usize {
    let ranges = claim.rooms.iter().chain(&claim.left);
    claim.messages.len() + ranges.map(|range| range.count as usize).sum::<usize>()
}

fn expired_messages(state: &State, mailbox: &Mailbox, now_us: u64) -> Vec<Sequence> {
    let direct = state.unread(&mailbox.name).direct.into_iter();
    let expired = direct.filter(|(_, row)| row.expires_us.is_some_and(|until| until <= now_us));
    expired.map(|(sequence, _)| sequence).collect()
}

/// The oldest messages that the options allow; at least one if there is any. A claim records room
/// messages as ranges, so none is skipped within one room.
fn select(state: &State, mailbox: &Mailbox, options: &ClaimInbox) -> Claimed {
    let unread = state.unread(&mailbox.name);
    let direct = |sequence: Sequence| {
        let index = unread.direct.binary_search_by_key(&sequence, |(at, _)| *at);
        index.ok().map(|index| &unread.direct[index].1)
    };
    let size = |sequence: Sequence, room: Option<&RoomId>| {
        if let Some(row) = direct(sequence) {
            return row.bytes as usize;
        }
        let key = room.map(|room| compound_key(room, &sequence.to_be_bytes()));
        key.and_then(|key| state.room_messages.get(key)).map_or(0, |row| row.bytes as usize)
    };
    let must_wait = |sequence: Sequence| {
        !options.deferrable && direct(sequence).is_some_and(|row| row.deferrable)
    };
    let mut items = Vec::new();
    let mut bytes = 0;
    let mut remaining = 0;
    let mut is_full = false;
    for message in unread.in_order() {
        let len = size(message.sequence, message.room_id.as_ref());
        is_full = is_full
            || items.len() >= options.limit
            || (!items.is_empty() && bytes + len > options.max_bytes);
        if is_full || must_wait(message.sequence) {
            remaining += 1;
            continue;
        }
        bytes += len;
        items.push(message);
    }
    Claimed { alias: mailbox.alias.clone(), claim: None, items, remaining, claimed: 0 }
}

/// Splits claimed messages into direct ones, by sequence, and room messages, as ranges.
fn split_by_target(
    state: &State,
    mailbox: &Mailbox,
    items: &[MessageRef],
) -> (Vec<Sequence>, Vec<RoomRange>) {
    let mut messages: Vec<Sequence> = Vec::new();
    let mut rooms: Vec<RoomRange> = Vec::new();
    for MessageRef { sequence, room_id, .. } in items {
        let key = compound_key(&mailbox.name, &sequence.to_be_bytes());
        match room_id {
            Some(room_id) if state.inbox.get(key).is_none() => {
                match rooms.iter_mut().find(|range| *room_id == range.room_id) {
                    Some(range) => {
                        range.upto = *sequence;
                        range.count += 1;
                    }
                    None => {
                        let room_id = room_id.clone().into();
                        rooms.push(RoomRange { room_id, upto: *sequence, count: 1 });
                    }
                }
            }
            _ => messages.push(*sequence),
        }
    }
    (messages, rooms)
}

fn claim_not_open(claim: &str) -> Rejection {
    let message = format!("claim '{claim}' is not open");
    Rejection::new(Code::ClaimNotOpen, "claim", message)
        .hint("poll again: the messages that were not acknowledged are unread")
}

pub(super) fn ack(
    state: &State,
    claim: &str,
    level: &AckLevel,
    facts: &Facts<'_>,
) -> Result<Decision<()>, Rejection> {
    let Some(mailbox) = own_mailbox(state, facts)? else { return Err(claim_not_open(claim)) };
    let open = mailbox.claim.as_ref().filter(|open| open.id == claim);
    match open {
        Some(open) if claim_holds(open, facts.now_us, facts.liveness) || !open.manual => {
            let events = claim_acked(state, open, &mailbox.name, level, facts);
            Ok(Decision::relaxed(events, ()))
        }
        // Too late: the rejection is recorded.
        _ => {
            let event =
                Payload::AckRefused(AckRefused { claim: claim.to_owned(), mailbox: mailbox.name });
            let outcome = Err(claim_not_open(claim));
            Ok(Decision { events: vec![event], outcome, durable: false })
        }
    }
}

/// The ack of a claim, and the receipts for senders on other nodes.
fn claim_acked(
    state: &State,
    claim: &Claim,
    mailbox: &str,
    level: &AckLevel,
    facts: &Facts<'_>,
) -> Vec<Payload> {
    let arrival =
        |at: &Sequence| state.inbox.get(compound_key(mailbox, &at.to_be_bytes()))?.arrival;
    let reader = state.mailboxes.get(mailbox).map(|row| match row.node_id {
        Some(_) => row.address(),
        None => Address::on(&row.alias, &facts.actor.node_id).to_string(),
    });
    let receipts: Vec<Receipt> = claim
        .messages
        .iter()
        .filter_map(arrival)
        .filter(|arrival| !arrival.origin.log.is_empty())
        .map(|arrival| Receipt {
            message_id: arrival.message_id.into(),
            sender: arrival.sender,
            origin: arrival.origin,
            level: ReceiptLevel::Acked,
            by: reader.clone().unwrap_or_default(),
            at_us: facts.now_us,
            code: None,
        })
        .collect();
    let mut events = vec![Payload::ClaimAcked(ClaimAcked {
        claim: claim.id.clone(),
        mailbox: mailbox.to_owned(),
        level: level.clone(),
    })];
    if !receipts.is_empty() {
        events.push(Payload::ReceiptsRecorded(ReceiptsRecorded { receipts, origin: None }));
    }
    events
}

/// Ends a claim: its messages become unread again.
pub(super) fn release(
    state: &State,
    claim: &str,
    reason: &ClaimReturnReason,
    facts: &Facts<'_>,
) -> Result<Decision<()>, Rejection> {
    let mailbox = own_mailbox(state, facts)?
        .filter(|mailbox| mailbox.claim.as_ref().is_some_and(|open| open.id == claim));
    let event = mailbox.map(|mailbox| claim_released(claim, &mailbox.name, reason.clone()));
    Ok(Decision::relaxed(event.into_iter().collect(), ()))
}

fn claim_released(claim: &str, mailbox: &str, reason: ClaimReturnReason) -> Payload {
    Payload::ClaimReturned(ClaimReturned {
        claim: claim.to_owned(),
        mailbox: mailbox.to_owned(),
        reason,
    })
}
