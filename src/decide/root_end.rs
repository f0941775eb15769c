//! What does a node do with what a relay sends, and with what it answers?

use std::collections::BTreeSet;

use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    DeadLettersReturned, MessageSent, MessagesRelayed, Origin, PeerSeen, Receipt, ReceiptsRecorded,
    RoomCreated, RoomDeleted, RoomInvitation, RoomJoined, RoomLabelled, RoomLeft,
    RoomVisibilityChanged, Target,
};
use c2c_log_format::{Payload, Sequence};

use super::leave::REPLAYED;
use super::receive::{Intake, Item, Outcome, Position, Pushed, advanced, arrived};
use super::{Decision, Facts, Refusal, Reply, room};
use crate::code::Code;
use crate::state::{Queued, Room, State, pair, sequence_of};

/// Who tells of bounces.
const SYSTEM: &str = "c2c-system";

pub(super) fn take<'a>(
    intake: &mut Intake<'a>,
    item: &'a Item,
    receipts: &mut Vec<Receipt>,
) -> Result<Outcome, Refusal> {
    let taken = match &item.payload {
        Payload::MessageSent(sent) => match &sent.target {
            Target::Mailbox(mailbox) => direct(intake, item, sent, mailbox, receipts),
            Target::Room { room_id, label, .. } => said(intake, item, sent, room_id, *label),
            _ => false,
        },
        Payload::ReceiptsRecorded(fact) => receipts_for_us(intake, item, fact),
        Payload::PeerSeen(fact) => peer(intake, fact),
        payload => about_room(intake, item, payload),
    };
    Ok(if taken { Outcome::Accepted } else { Outcome::Duplicate })
}

/// Receipts that go out for what came in.
pub(super) fn issued(receipts: Vec<Receipt>) -> Option<Payload> {
    let fact = ReceiptsRecorded { receipts, origin: None };
    (!fact.receipts.is_empty()).then_some(Payload::ReceiptsRecorded(fact))
}

/// The sender's address, with a host in any case.
fn sender_of(sent: &MessageSent, relay: &str) -> String {
    if sent.from.contains('@') { sent.from.clone() } else { format!("{}@{relay}", sent.from) }
}

fn direct<'a>(
    intake: &mut Intake<'a>,
    item: &'a Item,
    sent: &'a MessageSent,
    mailbox: &str,
    receipts: &mut Vec<Receipt>,
) -> bool {
    let facts = intake.facts;
    let alias = mailbox.split('@').next().unwrap_or_default();
    let sender = sender_of(sent, &intake.batch.node_id);
    let origin = sent.origin.clone().unwrap_or_else(|| intake.origin(item));
    let here = intake.state.mailbox_of(alias);
    let reason = Code::UnknownAlias.name();
    // Known mail gets its receipt again: the one before may be lost. What was refused stays so.
    let known = intake.earlier(&sent.message_id, &sender).map(|before| before.target.clone());
    let letter = here.as_ref().and_then(|row| letter_of(intake, sent, &sender, &row.name));
    let refused = match &known {
        Some(before) => matches!(before, Target::DeadLetter { .. }) && letter.is_none(),
        None => here.is_none(),
    };
    receipts.push(Receipt {
        message_id: sent.message_id.clone(),
        sender: sender.clone(),
        origin: origin.clone(),
        level: if refused { "refused" } else { "delivered" }.to_owned(),
        by: format!("{alias}@{}", facts.actor.node_id),
        at_us: facts.now_us,
        code: refused.then(|| reason.to_owned()),
    });
    if let Some(letter) = letter {
        intake.add_seen(letter);
        return true;
    }
    if known.is_some() {
        return false;
    }
    let (to, target) = match here {
        Some(row) => (row.alias, Target::Mailbox(row.name)),
        None => {
            let (alias, reason) = (alias.to_owned(), reason.to_owned());
            (alias.clone(), Target::DeadLetter { mailbox: String::new(), alias, reason })
        }
    };
    intake.add_message(sent, arrived(sent, sender, to, target, origin));
    true
}

/// What was refused when nobody had the alias reaches whoever has it now, if an operator of the relay
/// has replayed it. Without that it stays refused: its sender was told so.
fn letter_of(
    intake: &Intake<'_>,
    sent: &MessageSent,
    sender: &str,
    mailbox: &str,
) -> Option<Payload> {
    let replayed = sent.source.as_deref() == Some(REPLAYED);
    let refused = |prior: &MessageSent| {
        replayed
            && prior.message_id == sent.message_id
            && prior.origin.is_some()
            && fold(&prior.from) == fold(sender)
            && matches!(prior.target, Target::DeadLetter { .. })
    };
    let (sequence, _) = intake.facts.prior.iter().find(|(_, prior)| refused(prior))?;
    let letters = intake.state.dead_letters.scan([]).into_iter();
    letters.map(|(key, _)| sequence_of(&key)).find(|at| at == sequence)?;
    let (mailbox, messages) = (mailbox.to_owned(), vec![*sequence]);
    Some(Payload::DeadLettersReturned(DeadLettersReturned { mailbox, messages }))
}

/// A room message: the echo of one's own brings only its room sequence.
fn said<'a>(
    intake: &mut Intake<'a>,
    item: &'a Item,
    sent: &'a MessageSent,
    room_id: &str,
    label: Option<u64>,
) -> bool {
    let sender = sender_of(sent, &intake.batch.node_id);
    let room_id = fold(room_id);
    let known = own_or_known(intake, sent, &sender);
    if let (Some((sequence, before)), Some(label)) = (known, label) {
        let key = pair(&room_id, &sequence.to_be_bytes());
        let row = intake.state.room_messages.get(key);
        let shared = intake.state.rooms.get(&room_id).is_some_and(|room| room.shared);
        if before || row.is_none_or(|row| shared && row.label == Some(label)) {
            return false;
        }
        let labels = vec![(sequence, label)];
        intake.add(Payload::RoomLabelled(RoomLabelled { room_id, labels }));
        return true;
    }
    let open = intake.state.rooms.get(&room_id).is_some_and(|row| intake.state.is_open(&row));
    if known.is_some() || !open {
        return false;
    }
    let origin = sent.origin.clone().unwrap_or_else(|| intake.origin(item));
    let target = Target::Room { room_id, label, skipped: Vec::new() };
    let mut said = arrived(sent, sender, sent.to.clone(), target, origin);
    // Said by way of the relay by somebody of this node: to the others here it is one of them.
    if let Some(name) = member(intake, &said.from).filter(|name| !name.contains('@')) {
        said.from = home(&said.from, &intake.facts.actor.node_id);
        said.from_mailbox = name;
    }
    intake.add_message(sent, said);
    true
}

/// Where a room message is in this log, and whether it came with the batch.
fn own_or_known(intake: &Intake<'_>, sent: &MessageSent, sender: &str) -> Option<(Sequence, bool)> {
    let (alias, node) = sender.split_once('@')?;
    let ours = fold(node) == fold(&intake.facts.actor.node_id);
    let same = |prior: &MessageSent| {
        let from = if ours && !prior.from.contains('@') { alias } else { sender };
        let in_room = matches!(prior.target, Target::Room { .. });
        prior.message_id == sent.message_id && in_room && fold(&prior.from) == fold(from)
    };
    let logged = intake.facts.prior.iter().find(|(_, prior)| same(prior));
    let logged = logged.map(|(sequence, _)| (*sequence, false));
    logged.or_else(|| intake.earlier(&sent.message_id, sender).map(|_| (0, true)))
}

/// Receipts for our own messages. A refusal comes back as a message to its sender, once.
fn receipts_for_us(intake: &mut Intake<'_>, item: &Item, fact: &ReceiptsRecorded) -> bool {
    let node_id = fold(&intake.facts.actor.node_id);
    let ours = |receipt: &&Receipt| {
        receipt.sender.split_once('@').is_some_and(|(_, node)| fold(node) == node_id)
    };
    let receipts: Vec<Receipt> = fact.receipts.iter().filter(ours).cloned().collect();
    if receipts.is_empty() {
        return false;
    }
    let origin = intake.origin(item);
    for event in settled(&intake.state, receipts, origin, intake.facts) {
        intake.add_seen(event);
    }
    true
}

/// Receipts as they are recorded, with a bounce for each message that is refused now.
fn settled(
    state: &State,
    receipts: Vec<Receipt>,
    origin: Origin,
    facts: &Facts<'_>,
) -> Vec<Payload> {
    let refused = receipts.iter().filter(|receipt| receipt.level == "refused");
    let bounces = refused.filter_map(|receipt| {
        let (_, row) = state.departed(receipt)?;
        Some(bounce(receipt, &row, facts))
    });
    let bounces: Vec<Payload> = bounces.collect();
    let recorded = ReceiptsRecorded { receipts, origin: Some(origin) };
    std::iter::once(Payload::ReceiptsRecorded(recorded)).chain(bounces).collect()
}

fn bounce(receipt: &Receipt, row: &Queued, facts: &Facts<'_>) -> Payload {
    let code = receipt.code.as_deref().unwrap_or("refused");
    let body = format!(
        "Your message {} to {}@{} was not delivered: {code} (said by {}). It is in the dead letters.",
        receipt.message_id, row.alias, row.host, receipt.by
    );
    tell(&row.from, &row.from_mailbox, body, &receipt.message_id, facts)
}

/// What a node does about something in a room that the relay does not take: who is in the room is
/// told. Whoever is not admitted there is no member here, either, and hears nothing more of it.
fn in_room(
    state: &State,
    event: &Payload,
    refusal: &Refusal,
    pushed: &Pushed,
    facts: &Facts<'_>,
) -> Vec<Payload> {
    let (relay_name, code) = (&pushed.relay_name, refusal.code.name());
    let word = |mailbox: &str, body: String| {
        let row = state.mailboxes.get(mailbox)?;
        Some(tell(&row.alias, &row.name, body, "", facts))
    };
    let members = |room_id: &str, body: String| {
        let all = state.members_of(room_id).into_iter();
        all.filter_map(|(mailbox, _)| word(&mailbox, body.clone())).collect()
    };
    let said_by_relay = || {
        let (log, node) = (pushed.relay.clone(), relay_name.clone());
        Some(Origin { log, sequence: 0, node, digest: String::new() })
    };
    let is_message = matches!(event, Payload::MessageSent(_));
    let is_other = refusal.code == Code::RoomExists && !is_message;
    if let Some(room_id) = event.room_id().filter(|_| is_other) {
        let Some(room) = state.rooms.get(fold(room_id)).filter(|row| row.visibility != "local")
        else {
            return Vec::new();
        };
        let body = format!(
            "Room {} is for this machine only: {} (said by {relay_name}). {}",
            room.room_id,
            refusal.message,
            "Take another name for a room that others are invited to."
        );
        let mut events: Vec<Payload> = members(room_id, body);
        if room.created_by.contains('@') {
            // Not ours to keep: whoever made it has it on another machine.
            let (room_id, origin) = (room_id.to_owned(), said_by_relay());
            events.push(Payload::RoomDeleted(RoomDeleted { room_id, shared: false, origin }));
            return events;
        }
        let elsewhere = state.members_of(room_id).into_iter().map(|(mailbox, _)| mailbox);
        events.extend(elsewhere.filter(|mailbox| mailbox.contains('@')).map(|mailbox| {
            let (room_id, reason) = (fold(room_id), code.to_owned());
            Payload::RoomLeft(RoomLeft { room_id, mailbox, reason, origin: said_by_relay() })
        }));
        events.push(Payload::RoomVisibilityChanged(RoomVisibilityChanged {
            room_id: room_id.to_owned(),
            visibility: "local".into(),
            origin: said_by_relay(),
        }));
        return events;
    }
    match event {
        Payload::MessageSent(sent) => vec![unheard(sent, refusal, relay_name, facts)],
        Payload::RoomJoined(fact) if refusal.code == Code::NotInvited => {
            let RoomJoined { room_id, mailbox, .. } = fact.clone();
            if !room::is_member(state, &room_id, &mailbox) {
                return Vec::new();
            }
            let body = format!(
                "You are not in room {room_id} any more: {} (said by {relay_name}). {}",
                refusal.message,
                "Ask a member for an invitation, or take another name for a room of your own."
            );
            let told = word(&mailbox, body);
            let (reason, origin) = (code.to_owned(), said_by_relay());
            let left = Payload::RoomLeft(RoomLeft { room_id, mailbox, reason, origin });
            told.into_iter().chain([left]).collect()
        }
        Payload::RoomVisibilityChanged(fact) if refusal.code == Code::Forbidden => {
            let (room, visibility) = (&fact.room_id, &fact.visibility);
            let body = format!(
                "Room {room} did not become {visibility} for other machines: {} (said by {relay_name}).",
                refusal.message
            );
            members(room, body)
        }
        _ => Vec::new(),
    }
}

/// What was said in a room and reached nobody elsewhere.
fn unheard(sent: &MessageSent, refusal: &Refusal, relay_name: &str, facts: &Facts<'_>) -> Payload {
    let code = refusal.code.name();
    let body = format!(
        "Your message {} in room {} reached nobody on other machines: {code} (said by {relay_name}).",
        sent.message_id, sent.to
    );
    tell(&sent.from, &sent.from_mailbox, body, &sent.message_id, facts)
}

/// A word to a sender about a message.
fn tell(to: &str, mailbox: &str, body: String, about: &str, facts: &Facts<'_>) -> Payload {
    Payload::MessageSent(MessageSent {
        message_id: (facts.mint)(),
        from: SYSTEM.into(),
        from_mailbox: String::new(),
        to: to.to_owned(),
        body,
        sent_us: facts.now_us,
        target: Target::Mailbox(mailbox.to_owned()),
        tag: Some("fail".into()),
        reply_to: Some(about.to_owned()).filter(|id| !id.is_empty()),
        expires_us: None,
        deferrable: false,
        source: Some("bounce".into()),
        origin: None,
    })
}

/// Written only when it tells something new.
fn peer(intake: &mut Intake<'_>, fact: &PeerSeen) -> bool {
    if fold(&fact.node_id) == fold(&intake.facts.actor.node_id) {
        return false;
    }
    let known = intake.state.peers_called(&fact.alias).into_iter();
    let same = known.filter(|row| fold(&row.node_id) == fold(&fact.node_id)).any(|row| {
        (row.bare, row.gone, &row.client_type) == (fact.bare, fact.gone, &fact.client_type)
    });
    if !same {
        intake.add_seen(Payload::PeerSeen(fact.clone()));
    }
    !same
}

/// Who is on this node is known here by the alias alone.
fn home(alias: &str, node_id: &str) -> String {
    match alias.split_once('@') {
        Some((name, node)) if fold(node) == fold(node_id) => name.to_owned(),
        _ => alias.to_owned(),
    }
}

fn about_room(intake: &mut Intake<'_>, item: &Item, payload: &Payload) -> bool {
    let news = match payload {
        Payload::RoomCreated(fact) => described(intake, fact),
        Payload::RoomJoined(fact) => joined(intake, item, fact),
        Payload::RoomLeft(fact) => left(intake, item, fact),
        payload => changed(intake, item, payload),
    };
    let is_news = news.is_some();
    if let Some(event) = news {
        intake.add_seen(event);
    }
    is_news
}

/// A room of this machine alone is nobody else's business, whatever name theirs has.
fn shared_room(state: &State, room_id: &str) -> Option<Room> {
    state.rooms.get(fold(room_id)).filter(|row| state.is_open(row))
}

/// A room as the relay has it: whose it is, and for whom. Of two that were made under one name the
/// relay knows the first; one that was made here is changed here.
fn described(intake: &Intake<'_>, fact: &RoomCreated) -> Option<Payload> {
    let mut fact = fact.clone();
    let names = fact.invited.iter_mut().chain([&mut fact.created_by]);
    names.for_each(|name| *name = home(name, &intake.facts.actor.node_id));
    let Some(row) = intake.state.rooms.get(fold(&fact.room_id)) else {
        return Some(Payload::RoomCreated(fact));
    };
    let (was_ours, is_ours) = (!row.created_by.contains('@'), !fact.created_by.contains('@'));
    let counts = match (was_ours, is_ours) {
        // What is private here stays so.
        (true, false) => row.visibility == "public",
        // A room that was lost with its root was made anew, for everybody.
        (true, true) => {
            let is_anew = row.visibility == "public" && row.invited.is_empty();
            is_anew && fact.visibility == "invite_only"
        }
        (false, _) => true,
    };
    let known = (&row.created_by, &row.visibility, &row.invited);
    let differs = known != (&fact.created_by, &fact.visibility, &fact.invited);
    let is_news = intake.state.is_open(&row) && counts && differs;
    is_news.then_some(Payload::RoomCreated(fact))
}

/// A member of the room here: whoever is on this node is known by a mailbox, the others by address.
fn member(intake: &Intake<'_>, mailbox: &str) -> Option<String> {
    match mailbox.split_once('@') {
        Some((alias, node)) if fold(node) == fold(&intake.facts.actor.node_id) => {
            Some(intake.state.mailbox_of(alias)?.name)
        }
        Some(_) => Some(fold(mailbox)),
        None => None,
    }
}

fn joined(intake: &Intake<'_>, item: &Item, fact: &RoomJoined) -> Option<Payload> {
    let mailbox = member(intake, &fact.mailbox)?;
    shared_room(&intake.state, &fact.room_id)?;
    let (room_id, origin) = (fold(&fact.room_id), Some(intake.origin(item)));
    let is_news = !room::is_member(&intake.state, &room_id, &mailbox);
    is_news.then_some(Payload::RoomJoined(RoomJoined { room_id, mailbox, of: None, origin }))
}

fn left(intake: &Intake<'_>, item: &Item, fact: &RoomLeft) -> Option<Payload> {
    let mailbox = member(intake, &fact.mailbox)?;
    shared_room(&intake.state, &fact.room_id)?;
    let origin = Some(intake.origin(item));
    let is_news = room::is_member(&intake.state, &fact.room_id, &mailbox);
    is_news.then(|| Payload::RoomLeft(RoomLeft { mailbox, origin, ..fact.clone() }))
}

/// Only who made a room changes or ends it.
fn changed(intake: &Intake<'_>, item: &Item, payload: &Payload) -> Option<Payload> {
    let state = &intake.state;
    let theirs =
        |room_id: &str| shared_room(state, room_id).filter(|row| row.created_by.contains('@'));
    let origin = Some(intake.origin(item));
    match payload {
        Payload::RoomInvitation(fact) => {
            let room = shared_room(state, &fact.room_id)?;
            let alias = home(&fact.alias, &intake.facts.actor.node_id);
            let known = room.invited.iter().any(|name| fold(name) == fold(&alias));
            let news = RoomInvitation { alias, origin, ..fact.clone() };
            (known != fact.invited).then_some(Payload::RoomInvitation(news))
        }
        Payload::RoomVisibilityChanged(fact) => {
            let row = theirs(&fact.room_id)?;
            let news = RoomVisibilityChanged { origin, ..fact.clone() };
            (row.visibility != fact.visibility).then_some(Payload::RoomVisibilityChanged(news))
        }
        Payload::RoomDeleted(fact) => theirs(&fact.room_id)
            .map(|_| Payload::RoomDeleted(RoomDeleted { origin, ..fact.clone() })),
        _ => None,
    }
}

/// What a refusal is answered by: each message, and of the rest each room and member once.
fn about(event: &Payload, sequence: Sequence, refusal: &Refusal) -> (String, String) {
    let room = event.room_id().map(fold).unwrap_or_default();
    match event {
        Payload::MessageSent(_) => (room, sequence.to_string()),
        Payload::RoomJoined(fact) if refusal.code != Code::RoomExists => {
            (room, fact.mailbox.clone())
        }
        _ => (room, String::new()),
    }
}

/// What a relay took is held there; what it refused for good comes back. The rest is tried again.
pub(super) fn pushed(state: &State, pushed: &Pushed, facts: &Facts<'_>) -> Decision {
    let Pushed { relay, relay_name, received, refused } = pushed;
    let (mut messages, mut lost, mut receipts) = (Vec::new(), Vec::new(), Vec::new());
    let mut events = Vec::new();
    let mut answered = BTreeSet::new();
    for (sequence, outcome) in &received.outcomes {
        let Some(row) = state.outbox.get(sequence.to_be_bytes()) else {
            let event = refused.iter().find(|(at, _)| at == sequence).map(|(_, event)| event);
            // What left as several items is refused as several.
            if let (Some(event), Outcome::Refused(refusal)) = (event, outcome)
                && answered.insert(about(event, *sequence, refusal))
            {
                events.extend(in_room(state, event, refusal, pushed, facts));
            }
            continue;
        };
        let (level, code) = match outcome {
            Outcome::Accepted | Outcome::Duplicate if row.relay.as_ref() != Some(relay) => {
                messages.push(*sequence);
                continue;
            }
            Outcome::Delivered => ("delivered", None),
            // A relay took it once: it may have arrived, and one that forgot cannot tell.
            Outcome::Refused(_) if row.relay.is_some() => {
                lost.extend((row.relay.as_deref() != Some("")).then_some(*sequence));
                continue;
            }
            Outcome::Refused(refusal) if !refusal.code.retryable() => {
                ("refused", Some(refusal.code.name().to_owned()))
            }
            _ => continue,
        };
        receipts.push(answer(*sequence, &row, level, code, pushed, facts));
    }
    if !messages.is_empty() {
        let relay = relay.clone();
        events.push(Payload::MessagesRelayed(MessagesRelayed { messages, relay }));
    }
    let cursor = state.cursor("out", relay);
    if received.position.sequence < cursor.sequence {
        // The relay forgot a part: who knows what it still holds.
        let rows = state.open_outbox().into_iter();
        lost.extend(rows.filter(|(_, row)| row.relay.as_ref() == Some(relay)).map(|(at, _)| at));
    }
    if !lost.is_empty() {
        let (messages, relay) = (lost, String::new());
        events.push(Payload::MessagesRelayed(MessagesRelayed { messages, relay }));
    }
    if !receipts.is_empty() {
        let (log, node) = (relay.clone(), relay_name.clone());
        let origin = Origin { log, sequence: 0, node, digest: String::new() };
        events.extend(settled(state, receipts, origin, facts));
    }
    let Position { sequence, digest } = &received.position;
    if (cursor.sequence, &cursor.digest) != (*sequence, digest) {
        let at = &received.position;
        events.push(advanced("out", relay.clone(), relay_name.clone(), at, String::new()));
    }
    Decision { events, reply: Reply::Done, durable: true }
}

/// A relay's answer as a receipt. What has arrived, the recipient's node said.
fn answer(
    sequence: Sequence,
    row: &Queued,
    level: &str,
    code: Option<String>,
    pushed: &Pushed,
    facts: &Facts<'_>,
) -> Receipt {
    let by = match level {
        "delivered" => format!("{}@{}", row.alias, row.host),
        _ => pushed.relay_name.clone(),
    };
    Receipt {
        message_id: row.message_id.clone(),
        sender: format!("{}@{}", row.from, facts.actor.node_id),
        origin: Origin {
            log: pushed.received.log.clone(),
            sequence,
            node: facts.actor.node_id.clone(),
            digest: String::new(),
        },
        level: level.to_owned(),
        by,
        at_us: facts.now_us,
        code,
    }
}
