//! Direct messages: checks, recipient, receipt.

use c2c_log_format::Payload;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{MessageSent, Target};

use super::acting::{Acting, sender};
use super::address;
use crate::address::Address;
use crate::code::Code;
use crate::command::Send;
use crate::facts::{Facts, Liveness};
use crate::limits::BODY_BYTES_MAX;
use crate::rejection::{Rejection, check_message_id};
use crate::reply::{Decision, RecipientState, Sent};
use crate::state::{Mailbox, State};

/// Tags that a sender may set.
const TAGS: [&str; 3] = ["fail", "blocking", "urgent"];

pub(super) fn check_body(body: &str) -> Result<(), Rejection> {
    if body.is_empty() {
        return Err(Rejection::new(Code::EmptyBody, "content", "the message is empty"));
    }
    if body.len() > BODY_BYTES_MAX {
        let message =
            format!("the message has {} bytes, the limit is {BODY_BYTES_MAX}", body.len());
        return Err(Rejection::new(Code::BodyTooLarge, "content", message)
            .hint("send a file path or several messages"));
    }
    Ok(())
}

pub(super) fn check_tag(tag: Option<&str>) -> Result<(), Rejection> {
    match tag {
        Some(tag) if !TAGS.contains(&tag) => {
            let message = format!("unknown tag '{tag}': must be one of fail, blocking, urgent");
            Err(Rejection::new(Code::InvalidArgument, "tag", message))
        }
        _ => Ok(()),
    }
}

/// Checks everything about a message except its recipient.
pub(super) fn check(send: &Send) -> Result<(), Rejection> {
    check_body(&send.body)?;
    check_tag(send.tag.as_deref())?;
    for (field, id) in [("message_id", &send.message_id), ("reply_to", &send.reply_to)] {
        if let Some(id) = id {
            check_message_id(field, id)?;
        }
    }
    Ok(())
}

/// Checks a message from another log in the same way.
pub(super) fn check_pushed(sent: &MessageSent) -> Result<(), Rejection> {
    check_body(sent.body.as_str())?;
    check_tag(sent.tag.as_deref())?;
    for id in [Some(&sent.message_id), sent.reply_to.as_ref()].into_iter().flatten() {
        check_message_id("message_id", id)?;
    }
    Ok(())
}

/// Finds an earlier message of the sender with the same id. If its recipient or body differs, the
/// id was reused, which is rejected.
pub(super) fn find_earlier<'f>(
    send: &Send,
    acting: &Acting,
    facts: &'f Facts<'_>,
) -> Result<Option<&'f MessageSent>, Rejection> {
    let Some(id) = &send.message_id else { return Ok(None) };
    let is_own = |prior: &&MessageSent| {
        let is_dead_letter = matches!(prior.target, Target::DeadLetter { .. });
        let matches = *id == prior.message_id && prior.from_mailbox == acting.mailbox;
        // Unregistered senders at a relay have no mailbox; only their addresses differ.
        let is_other_sender = prior.from_mailbox.is_empty() && prior.from != acting.address;
        matches && prior.origin.is_none() && !is_dead_letter && !is_other_sender
    };
    let earlier = facts.prior.iter().map(|(_, sent)| sent).find(is_own);
    let Some(earlier) = earlier else { return Ok(None) };
    if fold(&earlier.to) == fold(&send.to) && earlier.body.as_str() == send.body {
        return Ok(Some(earlier));
    }
    let message = format!("message_id '{id}' was used for another message to '{}'", earlier.to);
    Err(Rejection::new(Code::MessageIdReused, "message_id", message).hint("use a new id"))
}

/// The event of a new message.
pub(super) fn message_sent(
    send: &Send,
    acting: &Acting,
    target: Target,
    facts: &Facts<'_>,
) -> MessageSent {
    let expires_us =
        send.ttl_s.map(|ttl_s| facts.now_us.saturating_add(ttl_s.saturating_mul(1_000_000)));
    MessageSent {
        message_id: send.message_id.clone().map_or_else(|| (facts.mint)(), String::from),
        from: acting.address.clone(),
        from_mailbox: acting.mailbox.clone(),
        to: send.to.clone(),
        body: send.body.clone().into(),
        sent_us: facts.now_us,
        target,
        tag: send.tag.clone(),
        reply_to: send.reply_to.clone().map(String::from),
        expires_us,
        deferrable: send.deferrable,
        source: None,
        origin: None,
    }
}

pub(super) fn send(
    state: &State,
    send: &Send,
    facts: &Facts<'_>,
) -> Result<Decision<Sent>, Rejection> {
    check(send)?;
    let acting = sender(state, send.from.as_deref(), facts)?;
    let recipient = match recipient(state, &send.to, &acting, facts) {
        // A relay records what it could not deliver as a dead letter, for its operator.
        Err(rejection) if facts.relay.is_some() => {
            return undeliverable(send, &acting, String::new(), rejection, facts);
        }
        Ok(Recipient { target: Target::Mailbox(mailbox), state: RecipientState::Dead })
            if facts.relay.is_some() =>
        {
            let message = format!("the lease of '{}' has expired", send.to);
            let rejection = Rejection::new(Code::RecipientDead, "to_alias", message);
            return undeliverable(send, &acting, mailbox, rejection, facts);
        }
        other => other?,
    };
    let to = match &recipient.target {
        Target::Mailbox(mailbox) if facts.relay.is_none() => {
            state.mailboxes.get(mailbox).map_or(send.to.clone(), |row| row.alias.into())
        }
        Target::Outbox { alias, host } => Address::on(alias, host).to_string(),
        _ => send.to.clone(),
    };
    let outbox = matches!(recipient.target, Target::Outbox { .. });
    let send = Send { to, ..send.clone() };
    let earlier = find_earlier(&send, &acting, facts)?;
    let duplicate = earlier.is_some();
    let sent = match earlier {
        Some(earlier) => earlier.clone(),
        None => message_sent(&send, &acting, recipient.target, facts),
    };
    let reply = Sent {
        message_id: sent.message_id.clone().into(),
        from: acting.alias,
        to: send.to,
        sent_us: sent.sent_us,
        duplicate,
        recipient_state: recipient.state,
        delivered_to: Vec::new(),
        queued: Vec::new(),
        skipped: Vec::new(),
        outbox,
    };
    let mut events = acting.events;
    if !duplicate {
        events.push(Payload::MessageSent(sent));
    }
    Ok(Decision::durable(events, reply))
}

/// A rejection that leaves a dead letter.
fn undeliverable(
    send: &Send,
    acting: &Acting,
    mailbox: String,
    rejection: Rejection,
    facts: &Facts<'_>,
) -> Result<Decision<Sent>, Rejection> {
    if !matches!(rejection.code, Code::UnknownAlias | Code::RecipientDead | Code::UnknownHost) {
        return Err(rejection);
    }
    let target = Target::DeadLetter {
        mailbox,
        alias: send.to.clone(),
        reason: rejection.code.name().into(),
    };
    let sent = message_sent(send, acting, target, facts);
    let events = vec![Payload::MessageSent(sent)];
    Ok(Decision { events, outcome: Err(rejection), durable: true })
}

/// Where a message goes, and the state of the recipient for the receipt.
struct Recipient {
    target: Target,
    state: RecipientState,
}

fn recipient(
    state: &State,
    to: &str,
    acting: &Acting,
    facts: &Facts<'_>,
) -> Result<Recipient, Rejection> {
    let (alias, host) = address::split("to_alias", to)?;
    if let Some(relay) = facts.relay {
        let node_id = state.mailboxes.get(&acting.mailbox).and_then(|row| row.node_id);
        let mailbox = address::resolve_at_relay(state, relay, node_id.as_deref(), alias, host)?;
        return in_mailbox(state, &mailbox, acting, facts);
    }
    if host.is_none_or(|host| fold(host) == fold(&facts.actor.node_id))
        && let Some(mailbox) = state.mailbox_for_alias(alias)
    {
        return in_mailbox(state, &mailbox, acting, facts);
    }
    let (alias, host) = match host {
        Some(host) => (alias.to_owned(), host.to_owned()),
        None => address::resolve_remote(state, alias)?
            .map(|(alias, node_id)| (alias.into(), node_id.into()))
            .ok_or_else(|| address::unknown_alias(state, to))?,
    };
    Ok(Recipient { target: Target::Outbox { alias, host }, state: RecipientState::Remote })
}

fn in_mailbox(
    state: &State,
    mailbox: &Mailbox,
    acting: &Acting,
    facts: &Facts<'_>,
) -> Result<Recipient, Rejection> {
    if mailbox.name == acting.mailbox {
        let message = "an agent cannot send a message to itself";
        return Err(Rejection::new(Code::SelfSend, "to_alias", message));
    }
    let is_dnd = mailbox.is_dnd(facts.now_us);
    let recipient_state = match facts.mailbox_liveness(state, mailbox) {
        _ if is_dnd => RecipientState::Dnd,
        Liveness::Alive => RecipientState::Alive,
        Liveness::Dead => RecipientState::Dead,
        Liveness::Unknown => RecipientState::Unknown,
    };
    Ok(Recipient { target: Target::Mailbox(mailbox.name.clone()), state: recipient_state })
}
