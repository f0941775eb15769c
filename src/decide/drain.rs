//! Who may take which messages, and what ends a claim?

use c2c_log_format::payload::{
    AckRefused, ClaimAcked, ClaimReturned, InboxClaimed, MessagesExpired, Receipt,
    ReceiptsRecorded, RoomRange,
};
use c2c_log_format::{Payload, Sequence};

use super::session::{acting, own_mailbox};
use super::{Claimed, Decision, Facts, Refusal, Reply, claim_holds};
use crate::code::Code;
use crate::limits::CLAIM_S;
use crate::state::{Claim, Mailbox, State, pair};

/// How much to take, and for whom.
pub(super) struct Wish<'a> {
    pub limit: usize,
    pub max_bytes: usize,
    pub surface: &'a str,
    pub manual: bool,
    /// Whether messages that may wait are wanted, too.
    pub deferrable: bool,
}

pub(super) fn claim(
    state: &State,
    wish: &Wish<'_>,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    let Some(mailbox) = own_mailbox(state, facts)? else {
        // Polling makes nobody: without a mailbox there is no mail, or the identity is not known.
        acting(state, None, facts)?;
        let reply = Reply::Claimed(Claimed::default());
        return Ok(Decision { events: Vec::new(), reply, durable: false });
    };
    let mut state = state.clone();
    let mut events = Vec::new();
    if let Some(open) = &mailbox.claim {
        if claim_holds(open, facts.now_us, facts.liveness) {
            let claimed =
                Claimed { alias: mailbox.alias.clone(), claimed: held(open), ..Claimed::default() };
            return Ok(Decision { events, reply: Reply::Claimed(claimed), durable: false });
        }
        let reason = if open.until_us > 0 { "expired" } else { "process_dead" };
        let returned = give_back_event(&open.id, &mailbox.name, reason);
        state.apply(state.head + 1, facts.now_us, &returned);
        events.push(returned);
    }
    let expired = expired(&state, &mailbox, facts.now_us);
    if !expired.is_empty() {
        let fact = MessagesExpired { mailbox: mailbox.name.clone(), messages: expired };
        state.apply(state.head + 1, facts.now_us, &Payload::MessagesExpired(fact.clone()));
        events.push(Payload::MessagesExpired(fact));
    }
    let taken = select(&state, &mailbox, wish);
    if taken.items.is_empty() {
        return Ok(Decision { events, reply: Reply::Claimed(taken), durable: false });
    }
    let (messages, rooms) = split(&state, &mailbox, &taken.items);
    let id = (facts.mint)();
    let until_us = if wish.manual { facts.now_us + CLAIM_S * 1_000_000 } else { 0 };
    events.push(Payload::InboxClaimed(InboxClaimed {
        claim: id.clone(),
        mailbox: mailbox.name,
        messages,
        rooms,
        process: facts.worker.clone(),
        surface: wish.surface.to_owned(),
        manual: wish.manual,
        until_us,
    }));
    let reply = Reply::Claimed(Claimed { claim: Some(id), ..taken });
    Ok(Decision { events, reply, durable: false })
}

/// A drain over HTTP: a claim named by its caller. The same id takes the same mail again; any other
/// drain says that what the one before took is safely stored.
pub(super) fn drain(
    state: &State,
    drain_id: Option<&str>,
    wish: &Wish<'_>,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    let mailbox = own_mailbox(state, facts)?;
    if mailbox.as_ref().is_some_and(|row| row.replicated) {
        let message = "a connector fetches the mail of this alias";
        return Err(Refusal::new(Code::Forbidden, "session_id", message).hint("read it there"));
    }
    let named = |claim: &&Claim| claim.surface == DRAINED;
    let open = mailbox.as_ref().and_then(|row| row.claim.as_ref()).filter(named);
    let (Some(mailbox), Some(open)) = (&mailbox, open) else {
        return named_claim(state, drain_id, wish, facts);
    };
    if Some(open.id.as_str()) == drain_id {
        let again = Claimed {
            alias: mailbox.alias.clone(),
            claim: Some(open.id.clone()),
            items: taken(state, &mailbox.name, open),
            ..Claimed::default()
        };
        return Ok(Decision { events: Vec::new(), reply: Reply::Claimed(again), durable: false });
    }
    let mut events = acked(open, &mailbox.name, "written", state, facts);
    let mut after = state.clone();
    for event in &events {
        after.apply(after.head + 1, facts.now_us, event);
    }
    let next = named_claim(&after, drain_id, wish, facts)?;
    events.extend(next.events);
    Ok(Decision { events, ..next })
}

/// Claims of callers that name them.
const DRAINED: &str = "drain";

fn named_claim(
    state: &State,
    drain_id: Option<&str>,
    wish: &Wish<'_>,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    let mut decision = claim(state, wish, facts)?;
    let Some(id) = drain_id else { return Ok(decision) };
    for event in &mut decision.events {
        if let Payload::InboxClaimed(fact) = event {
            fact.claim = id.to_owned();
            fact.surface = DRAINED.into();
            // Only a later drain ends it.
            fact.until_us = u64::MAX;
        }
    }
    if let Reply::Claimed(claimed) = &mut decision.reply {
        claimed.claim = claimed.claim.take().map(|_| id.to_owned());
    }
    Ok(decision)
}

/// What an open claim took.
fn taken(state: &State, mailbox: &str, claim: &Claim) -> Vec<(Sequence, Option<String>, bool)> {
    let unread = state.unread(mailbox).in_order().into_iter();
    let of =
        |range: &RoomRange, at: Sequence, room: &str| range.room_id == room && at <= range.upto;
    let claimed = unread.filter(|(at, room, _)| {
        let mut ranges = claim.rooms.iter().chain(&claim.left);
        let in_room = room.as_ref().is_some_and(|room| ranges.any(|range| of(range, *at, room)));
        claim.messages.contains(at) || in_room
    });
    claimed.map(|(at, room, _)| (at, room, true)).collect()
}

fn held(claim: &Claim) -> usize {
    let ranges = claim.rooms.iter().chain(&claim.left);
    claim.messages.len() + ranges.map(|range| range.count as usize).sum::<usize>()
}

fn expired(state: &State, mailbox: &Mailbox, now_us: u64) -> Vec<Sequence> {
    let direct = state.unread(&mailbox.name).direct.into_iter();
    let late = direct.filter(|(_, row)| row.expires_us.is_some_and(|until| until <= now_us));
    late.map(|(sequence, _)| sequence).collect()
}

/// The oldest messages that fit the wish; at least one if there is any. Room ranges must stay
/// ranges, so within one room nothing is skipped.
fn select(state: &State, mailbox: &Mailbox, wish: &Wish<'_>) -> Claimed {
    let unread = state.unread(&mailbox.name);
    let waiting = |sequence: Sequence| {
        let direct = unread.direct.binary_search_by_key(&sequence, |(at, _)| *at);
        !wish.deferrable && direct.is_ok_and(|at| unread.direct[at].1.deferrable)
    };
    let size = |sequence: Sequence, room: Option<&String>| {
        if let Ok(at) = unread.direct.binary_search_by_key(&sequence, |(at, _)| *at) {
            return unread.direct[at].1.bytes as usize;
        }
        let key = room.map(|room| pair(room, &sequence.to_be_bytes()));
        key.and_then(|key| state.room_messages.get(key)).map_or(0, |row| row.bytes as usize)
    };
    let mut items = Vec::new();
    let (mut bytes, mut remaining) = (0, 0);
    let mut full = false;
    for (sequence, room, again) in unread.in_order() {
        let len = size(sequence, room.as_ref());
        full = full
            || items.len() >= wish.limit
            || (!items.is_empty() && bytes + len > wish.max_bytes);
        if full || waiting(sequence) {
            remaining += 1;
            continue;
        }
        bytes += len;
        items.push((sequence, room, again));
    }
    Claimed { alias: mailbox.alias.clone(), claim: None, items, remaining, claimed: 0 }
}

/// Direct messages by sequence, room messages as ranges.
fn split(
    state: &State,
    mailbox: &Mailbox,
    items: &[(Sequence, Option<String>, bool)],
) -> (Vec<Sequence>, Vec<RoomRange>) {
    let (mut messages, mut rooms): (Vec<Sequence>, Vec<RoomRange>) = (Vec::new(), Vec::new());
    for (sequence, room, _) in items {
        let key = pair(&mailbox.name, &sequence.to_be_bytes());
        match room {
            Some(room_id) if state.inbox.get(key).is_none() => {
                match rooms.iter_mut().find(|range| range.room_id == *room_id) {
                    Some(range) => {
                        range.upto = *sequence;
                        range.count += 1;
                    }
                    None => {
                        rooms.push(RoomRange {
                            room_id: room_id.clone(),
                            upto: *sequence,
                            count: 1,
                        });
                    }
                }
            }
            _ => messages.push(*sequence),
        }
    }
    (messages, rooms)
}

pub(super) fn ack(
    state: &State,
    claim: &str,
    level: &str,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    let Some(mailbox) = own_mailbox(state, facts)? else {
        return Err(not_open(claim));
    };
    let open = mailbox.claim.as_ref().filter(|open| open.id == claim);
    let events = match open {
        Some(open) if claim_holds(open, facts.now_us, facts.liveness) || !open.manual => {
            acked(open, &mailbox.name, level, state, facts)
        }
        // Late: refused, and recorded. The caller sees it as an empty move.
        _ => {
            let (claim, mailbox) = (claim.to_owned(), mailbox.name);
            let event = Payload::AckRefused(AckRefused { claim, mailbox });
            let reply = Reply::Moved { messages: Vec::new() };
            return Ok(Decision { events: vec![event], reply, durable: false });
        }
    };
    Ok(Decision { events, reply: Reply::Done, durable: false })
}

/// The ack of a claim, and the receipts that senders on other nodes get for it.
fn acked(
    claim: &Claim,
    mailbox: &str,
    level: &str,
    state: &State,
    facts: &Facts<'_>,
) -> Vec<Payload> {
    let row = |at: &Sequence| state.inbox.get(pair(mailbox, &at.to_be_bytes()))?.arrival;
    let by = state.mailboxes.get(mailbox).map(|row| match row.node_id {
        Some(_) => row.address(),
        None => format!("{}@{}", row.alias, facts.actor.node_id),
    });
    let receipts: Vec<Receipt> = claim
        .messages
        .iter()
        .filter_map(row)
        .filter(|arrival| !arrival.origin.log.is_empty())
        .map(|arrival| Receipt {
            message_id: arrival.message_id,
            sender: arrival.sender,
            origin: arrival.origin,
            level: "acked".into(),
            by: by.clone().unwrap_or_default(),
            at_us: facts.now_us,
            code: None,
        })
        .collect();
    let (claim, mailbox) = (claim.id.clone(), mailbox.to_owned());
    let mut events = vec![Payload::ClaimAcked(ClaimAcked { claim, mailbox, level: level.into() })];
    if !receipts.is_empty() {
        events.push(Payload::ReceiptsRecorded(ReceiptsRecorded { receipts, origin: None }));
    }
    events
}

fn not_open(claim: &str) -> Refusal {
    Refusal::new(Code::ClaimNotOpen, "claim", format!("claim '{claim}' is not open"))
        .hint("poll again: its messages went back to the mailbox")
}

pub(super) fn give_back(
    state: &State,
    claim: &str,
    reason: &str,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    let mailbox = own_mailbox(state, facts)?
        .filter(|mailbox| mailbox.claim.as_ref().is_some_and(|open| open.id == claim));
    let events = mailbox.map(|mailbox| give_back_event(claim, &mailbox.name, reason));
    Ok(Decision { events: events.into_iter().collect(), reply: Reply::Done, durable: false })
}

fn give_back_event(claim: &str, mailbox: &str, reason: &str) -> Payload {
    Payload::ClaimReturned(ClaimReturned {
        claim: claim.to_owned(),
        mailbox: mailbox.to_owned(),
        reason: reason.to_owned(),
    })
}
