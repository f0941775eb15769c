//! Who receives a message, and when is it refused?

use std::collections::HashMap;

use c2c_log_format::Payload;
use c2c_log_format::checksum::sha256;
use c2c_log_format::id::{check_message_id, fold, hex};
use c2c_log_format::limits::MESSAGE_ID_BYTES_MAX;
use c2c_log_format::payload::{MessageSent, Target, address};

use super::session::{Acting, acting};
use super::{Decision, Facts, Liveness, Refusal, Reply, Send, Sent, Skipped};
use super::{address as place, lease, mailbox_liveness};
use crate::code::Code;
use crate::limits::BODY_BYTES_MAX;
use crate::state::{Mailbox, State};

/// Marks that a sender may put on a message.
const TAGS: [&str; 3] = ["fail", "blocking", "urgent"];

pub(super) fn check_body(body: &str) -> Result<(), Refusal> {
    if body.is_empty() {
        return Err(Refusal::new(Code::EmptyBody, "content", "the message has no text"));
    }
    if body.len() > BODY_BYTES_MAX {
        let message =
            format!("the message has {} bytes, the limit is {BODY_BYTES_MAX}", body.len());
        return Err(Refusal::new(Code::BodyTooLarge, "content", message)
            .hint("send a file path or several messages"));
    }
    Ok(())
}

fn check_tag(tag: Option<&str>) -> Result<(), Refusal> {
    match tag {
        Some(tag) if !TAGS.contains(&tag) => {
            let message = format!("unknown tag '{tag}' - must be one of: fail, blocking, urgent");
            Err(Refusal::new(Code::InvalidArgument, "tag", message))
        }
        _ => Ok(()),
    }
}

/// The same for a message that another log says it has.
pub(super) fn check_pushed(sent: &MessageSent) -> Result<(), Refusal> {
    check_body(&sent.body)?;
    check_tag(sent.tag.as_deref())?;
    for id in [Some(&sent.message_id), sent.reply_to.as_ref()].into_iter().flatten() {
        check_message_id(id).map_err(|e| {
            Refusal::new(Code::InvalidMessageId, "message_id", format!("message_id {e}"))
        })?;
    }
    Ok(())
}

/// Checks everything about a message but its recipient.
pub(super) fn check(send: &Send) -> Result<(), Refusal> {
    check_body(&send.body)?;
    check_tag(send.tag.as_deref())?;
    for (field, id) in [("message_id", &send.message_id), ("reply_to", &send.reply_to)] {
        if let Some(id) = id {
            check_message_id(id)
                .map_err(|e| Refusal::new(Code::InvalidMessageId, field, format!("{field} {e}")))?;
        }
    }
    Ok(())
}

/// An earlier message of this sender under the same id: the same one, or a refusal.
pub(super) fn earlier<'f>(
    send: &Send,
    acting: &Acting,
    facts: &'f Facts<'_>,
) -> Result<Option<&'f MessageSent>, Refusal> {
    let Some(id) = &send.message_id else { return Ok(None) };
    let mine = |prior: &&MessageSent| {
        let lost = matches!(prior.target, Target::DeadLetter { .. });
        let same = prior.message_id == *id && prior.from_mailbox == acting.mailbox;
        // Strangers at a relay have no mailbox.
        let stranger = prior.from_mailbox.is_empty() && prior.from != acting.address;
        same && prior.origin.is_none() && !lost && !stranger
    };
    let Some(prior) = facts.prior.iter().map(|(_, sent)| sent).find(mine) else { return Ok(None) };
    if fold(&prior.to) == fold(&send.to) && prior.body == send.body {
        return Ok(Some(prior));
    }
    let message = format!("message_id '{id}' was used for another message to '{}'", prior.to);
    Err(Refusal::new(Code::MessageIdReused, "message_id", message).hint("use a new id"))
}

/// The event of a message.
pub(super) fn message(
    send: &Send,
    acting: &Acting,
    target: Target,
    facts: &Facts<'_>,
) -> MessageSent {
    MessageSent {
        message_id: send.message_id.clone().unwrap_or_else(|| (facts.mint)()),
        from: acting.address.clone(),
        from_mailbox: acting.mailbox.clone(),
        to: send.to.clone(),
        body: send.body.clone(),
        sent_us: facts.now_us,
        target,
        tag: send.tag.clone(),
        reply_to: send.reply_to.clone(),
        expires_us: send
            .ttl_s
            .map(|ttl| facts.now_us.saturating_add(ttl.saturating_mul(1_000_000))),
        deferrable: send.deferrable,
        source: None,
        origin: None,
    }
}

pub(super) fn send(state: &State, send: &Send, facts: &Facts<'_>) -> Result<Decision, Refusal> {
    check(send)?;
    let acting = sender(state, send.from.as_deref(), facts)?;
    let (target, state_of) = match recipient(state, &send.to, &acting, facts) {
        // A relay keeps what it could not deliver, for its operator.
        Err(refusal) if facts.relay.is_some() => {
            return undeliverable(send, &acting, String::new(), refusal, facts);
        }
        Ok((Target::Mailbox(mailbox), "dead")) if facts.relay.is_some() => {
            let message = format!("the lease of '{}' is over", send.to);
            let refusal = Refusal::new(Code::RecipientDead, "to_alias", message);
            return undeliverable(send, &acting, mailbox, refusal, facts);
        }
        other => other?,
    };
    let to = match &target {
        Target::Mailbox(mailbox) if facts.relay.is_none() => {
            state.mailboxes.get(mailbox).map_or(send.to.clone(), |row| row.alias)
        }
        Target::Outbox { alias, host } => format!("{alias}@{host}"),
        _ => send.to.clone(),
    };
    let outbox = matches!(target, Target::Outbox { .. });
    let send = Send { to, ..send.clone() };
    let prior = earlier(&send, &acting, facts)?;
    let duplicate = prior.is_some();
    let sent = match prior {
        Some(prior) => prior.clone(),
        None => message(&send, &acting, target, facts),
    };
    let reply = Reply::Sent(Sent {
        message_id: sent.message_id.clone(),
        from: acting.alias,
        to: send.to,
        sent_us: sent.sent_us,
        duplicate,
        recipient_state: state_of,
        delivered_to: Vec::new(),
        queued: Vec::new(),
        skipped: Vec::new(),
        outbox,
    });
    let mut events = acting.events;
    if !duplicate {
        events.push(Payload::MessageSent(sent));
    }
    Ok(Decision { events, reply, durable: true })
}

/// Who sends. Where credentials are ignored nobody needs to be registered for that.
fn sender(state: &State, from: Option<&str>, facts: &Facts<'_>) -> Result<Acting, Refusal> {
    match acting(state, from, facts) {
        Err(refusal)
            if facts.relay.is_some()
                && facts.actor.key.is_none()
                && refusal.code == Code::UnknownAlias =>
        {
            lease::sender(from, facts)
        }
        other => other,
    }
}

/// A refusal that leaves a dead letter.
fn undeliverable(
    send: &Send,
    acting: &Acting,
    mailbox: String,
    refusal: Refusal,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    if !matches!(refusal.code, Code::UnknownAlias | Code::RecipientDead | Code::UnknownHost) {
        return Err(refusal);
    }
    let (alias, reason) = (send.to.clone(), refusal.code.name().to_owned());
    let sent = message(send, acting, Target::DeadLetter { mailbox, alias, reason }, facts);
    let events = vec![Payload::MessageSent(sent)];
    Ok(Decision { events, reply: Reply::Refused(refusal), durable: true })
}

/// Where an address leads, and the state of who is there.
fn recipient(
    state: &State,
    to: &str,
    acting: &Acting,
    facts: &Facts<'_>,
) -> Result<(Target, &'static str), Refusal> {
    let (alias, host) = place::split(to)?;
    if let Some(relay) = facts.relay {
        let node_id = state.mailboxes.get(&acting.mailbox).and_then(|row| row.node_id);
        let mailbox = place::resolve(state, relay, node_id.as_deref(), alias, host)?;
        return to_mailbox(state, &mailbox, acting, facts);
    }
    if host.is_none_or(|host| fold(host) == fold(&facts.actor.node_id))
        && let Some(mailbox) = state.mailbox_of(alias)
    {
        return to_mailbox(state, &mailbox, acting, facts);
    }
    let (alias, host) = match host {
        Some(host) => (alias.to_owned(), host.to_owned()),
        None => place::in_swarm(state, alias)?.ok_or_else(|| unknown(state, to))?,
    };
    Ok((Target::Outbox { alias, host }, "remote"))
}

fn to_mailbox(
    state: &State,
    mailbox: &Mailbox,
    acting: &Acting,
    facts: &Facts<'_>,
) -> Result<(Target, &'static str), Refusal> {
    if mailbox.name == acting.mailbox {
        return Err(Refusal::new(Code::SelfSend, "to_alias", "cannot send a message to yourself"));
    }
    let dnd = mailbox.is_dnd(facts.now_us);
    let state_of = match mailbox_liveness(state, mailbox, &|session| facts.alive(session)) {
        _ if dnd => "dnd",
        Liveness::Alive => "alive",
        Liveness::Dead => "dead",
        Liveness::Unknown => "unknown",
    };
    Ok((Target::Mailbox(mailbox.name.clone()), state_of))
}

/// Nobody has this alias: names the nearest one that somebody has.
pub(super) fn unknown(state: &State, to: &str) -> Refusal {
    let mut refusal =
        Refusal::new(Code::UnknownAlias, "to_alias", format!("nobody is registered as '{to}'"));
    let mailboxes = state.mailboxes.scan([]);
    let renamed = mailboxes.iter().find(|(_, row)| row.former.iter().any(|f| fold(f) == fold(to)));
    let near = |row: &&Mailbox| strsim::damerau_levenshtein(&fold(&row.alias), &fold(to));
    let nearest = mailboxes.iter().map(|(_, row)| row).min_by_key(near);
    let nearest = nearest.filter(|row| near(row) <= 2.max(to.len() / 4));
    refusal.suggestion = match renamed {
        Some((_, row)) => Some(row.alias.clone()),
        None => nearest.map(|row| row.alias.clone()),
    };
    refusal.hint = match &refusal.suggestion {
        Some(alias) if renamed.is_some() => Some(format!("'{to}' is '{alias}' now")),
        Some(alias) => Some(format!("did you mean '{alias}'?")),
        None => Some("see `c2c list`; for another machine use alias@host".into()),
    };
    refusal
}

/// A message to everybody.
pub(super) struct Broadcast<'a> {
    pub body: &'a str,
    pub exclude: &'a [String],
    pub tag: &'a Option<String>,
    pub from: &'a Option<String>,
    /// Said again, nobody gets it twice.
    pub message_id: &'a Option<String>,
}

/// The id of the part of a broadcast that is for one mailbox. One that would be too long ends in a hash.
fn part_id(message_id: &str, mailbox: &str) -> String {
    let whole = format!("{message_id}#{mailbox}");
    if whole.len() <= MESSAGE_ID_BYTES_MAX {
        return whole;
    }
    let begin: String = message_id.chars().take(MESSAGE_ID_BYTES_MAX / 4).collect();
    format!("{begin}#{}", hex(&sha256(whole.as_bytes())))
}

/// Ids of all parts that a broadcast has now.
pub fn part_ids(state: &State, message_id: &str) -> Vec<String> {
    let here = state.mailboxes.scan([]).into_iter().map(|(_, row)| row.name);
    let peers = state.peers.scan([]).into_iter();
    let there = peers.map(|(_, peer)| address(&peer.alias, &peer.node_id));
    here.chain(there).map(|name| part_id(message_id, &name)).collect()
}

pub(super) fn send_all(
    state: &State,
    broadcast: &Broadcast<'_>,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    check_body(broadcast.body)?;
    check_tag(broadcast.tag.as_deref())?;
    if let Some(id) = broadcast.message_id {
        check_message_id(id).map_err(|e| {
            Refusal::new(Code::InvalidMessageId, "message_id", format!("message_id: {e}"))
        })?;
    }
    let acting = sender(state, broadcast.from.as_deref(), facts)?;
    let mut events = acting.events.clone();
    let mut parts = HashMap::new();
    for (_, sent) in &facts.prior {
        let mine = sent.from_mailbox == acting.mailbox && sent.origin.is_none();
        if mine && (!sent.from_mailbox.is_empty() || sent.from == acting.address) {
            if sent.body != broadcast.body {
                let message = "this message_id was used for another broadcast";
                return Err(
                    Refusal::new(Code::MessageIdReused, "message_id", message).hint("use a new id")
                );
            }
            parts.insert(sent.message_id.as_str(), sent);
        }
    }
    let id_for = |mailbox: &str| broadcast.message_id.as_ref().map(|id| part_id(id, mailbox));
    let (mut message_ids, mut sent_to, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    let excluded = |alias: &str| broadcast.exclude.iter().any(|other| fold(other) == fold(alias));
    let mut add = |to: &str, mailbox: &str, target: Target, ids: &mut Vec<String>| {
        let message_id = id_for(mailbox);
        if let Some(before) = message_id.as_ref().and_then(|id| parts.get(id.as_str())) {
            ids.push(before.message_id.clone());
            return Ok(());
        }
        let send = Send {
            message_id,
            to: to.to_owned(),
            body: broadcast.body.to_owned(),
            tag: broadcast.tag.clone(),
            ..Send::default()
        };
        let mut sent = message(&send, &acting, target, facts);
        sent.source = Some("send_all".into());
        ids.push(sent.message_id.clone());
        events.push(Payload::MessageSent(sent));
        Ok(())
    };
    for (_, mailbox) in state.mailboxes.scan([]) {
        if mailbox.name == acting.mailbox || excluded(&mailbox.alias) {
            continue;
        }
        let to = display(state, &mailbox);
        if mailbox_liveness(state, &mailbox, &|session| facts.alive(session)) == Liveness::Dead {
            if facts.relay.is_some() {
                let reason = Code::RecipientDead.name().to_owned();
                let (mailbox, alias) = (mailbox.name.clone(), mailbox.alias);
                let target = Target::DeadLetter { mailbox: mailbox.clone(), alias, reason };
                add(&to, &mailbox, target, &mut Vec::new())?;
            }
            skipped.push(Skipped { alias: to, reason: "not_alive".into() });
            continue;
        }
        add(&to, &mailbox.name, Target::Mailbox(mailbox.name.clone()), &mut message_ids)?;
        sent_to.push(to);
    }
    for (_, peer) in state.peers.scan([]).into_iter().filter(|(_, peer)| !peer.gone) {
        let to = format!("{}@{}", peer.alias, peer.node_id);
        if !excluded(&peer.alias) && !excluded(&to) {
            let (to_alias, to_node) = (peer.alias.clone(), peer.node_id.clone());
            let target = Target::Outbox { alias: peer.alias, host: peer.node_id };
            add(&to, &address(&to_alias, &to_node), target, &mut message_ids)?;
            sent_to.push(to);
        }
    }
    Ok(Decision {
        events,
        reply: Reply::Broadcast { message_ids, sent_to, skipped },
        durable: true,
    })
}

/// How a mailbox is called here: by its alias alone where that is enough.
pub(super) fn display(state: &State, mailbox: &Mailbox) -> String {
    match state.mailbox_of(&mailbox.alias) {
        Some(holder) if holder.name != mailbox.name => mailbox.address(),
        _ => mailbox.alias.clone(),
    }
}
