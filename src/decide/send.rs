//! Who receives a message, and when is it refused?

use c2c_log_format::Payload;
use c2c_log_format::id::{check_message_id, check_name, fold};
use c2c_log_format::payload::{MessageSent, Target};

use super::session::{Acting, acting};
use super::{Decision, Facts, Liveness, Refusal, Reply, Send, Sent, Skipped, mailbox_liveness};
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
        prior.message_id == *id && prior.from_mailbox == acting.mailbox && prior.origin.is_none()
    };
    let Some(prior) = facts.prior.iter().find(mine) else { return Ok(None) };
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
        from: acting.alias.clone(),
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
    let acting = acting(state, send.from.as_deref(), facts)?;
    let (target, state_of) = recipient(state, &send.to, &acting, facts)?;
    let (to, outbox) = match &target {
        Target::Mailbox(mailbox) => {
            (state.mailboxes.get(mailbox).map_or(send.to.clone(), |row| row.alias), false)
        }
        _ => (send.to.clone(), true),
    };
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
        skipped: Vec::new(),
        outbox,
    });
    let mut events = acting.events;
    if !duplicate {
        events.push(Payload::MessageSent(sent));
    }
    Ok(Decision { events, reply, durable: true })
}

/// Where an address leads, and the state of who is there.
fn recipient(
    state: &State,
    to: &str,
    acting: &Acting,
    facts: &Facts<'_>,
) -> Result<(Target, &'static str), Refusal> {
    if let Some((alias, host)) = to.split_once('@') {
        let invalid =
            |e| Refusal::new(Code::InvalidAlias, "to_alias", format!("to_alias: alias {e}"));
        check_name(alias).map_err(invalid)?;
        let host_ok = !host.is_empty()
            && host.len() <= 255
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'));
        if !host_ok {
            let message = format!("'{}' is not a host", host.escape_default());
            return Err(Refusal::new(Code::InvalidAlias, "to_alias", message));
        }
        if fold(host) == fold(&facts.actor.node_id)
            && let Some(mailbox) = state.mailbox_of(alias)
        {
            return to_mailbox(state, &mailbox, acting, facts);
        }
        let target = Target::Outbox { alias: alias.to_owned(), host: host.to_owned() };
        return Ok((target, "remote"));
    }
    if to.is_empty() {
        return Err(Refusal::new(Code::InvalidArgument, "to_alias", "no recipient was given"));
    }
    check_name(to)
        .map_err(|e| Refusal::new(Code::InvalidAlias, "to_alias", format!("to_alias {e}")))?;
    match state.mailbox_of(to) {
        Some(mailbox) => to_mailbox(state, &mailbox, acting, facts),
        None => Err(unknown(state, to)),
    }
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
    let state_of = match mailbox_liveness(state, mailbox, facts.liveness) {
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
}

pub(super) fn send_all(
    state: &State,
    broadcast: &Broadcast<'_>,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    check_body(broadcast.body)?;
    check_tag(broadcast.tag.as_deref())?;
    let acting = acting(state, broadcast.from.as_deref(), facts)?;
    let mut events = acting.events.clone();
    let (mut message_ids, mut sent_to, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    let excluded = |alias: &str| broadcast.exclude.iter().any(|other| fold(other) == fold(alias));
    for (_, mailbox) in state.mailboxes.scan([]) {
        if mailbox.name == acting.mailbox || excluded(&mailbox.alias) {
            continue;
        }
        if mailbox_liveness(state, &mailbox, facts.liveness) == Liveness::Dead {
            skipped.push(Skipped { alias: mailbox.alias, reason: "not_alive".into() });
            continue;
        }
        let send = Send {
            to: mailbox.alias.clone(),
            body: broadcast.body.to_owned(),
            tag: broadcast.tag.clone(),
            ..Send::default()
        };
        let mut sent = message(&send, &acting, Target::Mailbox(mailbox.name), facts);
        sent.source = Some("send_all".into());
        message_ids.push(sent.message_id.clone());
        sent_to.push(mailbox.alias);
        events.push(Payload::MessageSent(sent));
    }
    Ok(Decision {
        events,
        reply: Reply::Broadcast { message_ids, sent_to, skipped },
        durable: true,
    })
}
