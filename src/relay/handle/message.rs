//! How do scripts and older clients send and take mail?

use super::{Answer, Call, Done, Found, failed, internal};
use crate::broker::Message;
use crate::code::Code;
use crate::decide::{Actor, Command, Refusal, Reply, Send};
use crate::limits::{POLL_BYTES_MAX, RELAY_POLL_MESSAGES};
use crate::relay::remote::is_session;
use crate::relay::service::{Relay, nobody};
use crate::state::{Mailbox, sequence_of};
use crate::wire::body::{self, Stamp};

/// Surface of a claim that its taker names.
const DRAINED: &str = "drain";

/// One message as programs see it.
pub fn row(message: &Message, to: Option<&str>) -> body::Message {
    let sent = &message.sent;
    let to = to.unwrap_or(&sent.to);
    body::Message {
        message_id: sent.message_id.clone(),
        from_alias: sent.from.clone(),
        content: sent.body.clone(),
        to_alias: Some(match &message.room_id {
            Some(room_id) => format!("{to}#{room_id}"),
            None => to.to_owned(),
        }),
        room_id: message.room_id.clone(),
        tag: sent.tag.clone(),
        reply_to: sent.reply_to.clone(),
        sequence: Some(message.sequence),
        redelivered: message.redelivered.then_some(true),
        ts: Stamp { us: sent.sent_us },
        ..body::Message::default()
    }
}

pub fn send(relay: &mut Relay, call: &Call<'_>) -> Done {
    let wish: body::Send = call.body()?;
    let actor = call.acting_as(&wish.from_alias)?;
    let send = Send {
        to: wish.to_alias.clone(),
        body: wish.content,
        from: Some(wish.from_alias),
        message_id: wish.message_id.filter(|id| !id.is_empty()),
        tag: wish.tag,
        reply_to: wish.reply_to,
        ..Send::default()
    };
    match relay.broker.execute(&Command::Send(send), &actor).map_err(failed)?.reply {
        Reply::Sent(sent) => Ok(Answer::ok(&body::Sent {
            result: if sent.duplicate { "duplicate" } else { "ok" }.into(),
            to_alias: wish.to_alias,
            message_id: sent.message_id,
            duplicate: sent.duplicate.then_some(true),
            recipient_state: Some(sent.recipient_state.into()),
            ts: Stamp { us: sent.sent_us },
        })),
        Reply::Refused(refusal) => Err(refusal.into()),
        _ => Err(internal()),
    }
}

pub fn send_all(relay: &mut Relay, call: &Call<'_>) -> Done {
    let wish: body::SendAll = call.body()?;
    let actor = call.acting_as(&wish.from_alias)?;
    let command = Command::SendAll {
        body: wish.content,
        exclude: Vec::new(),
        tag: wish.tag,
        from: Some(wish.from_alias),
        message_id: wish.message_id.clone().filter(|id| !id.is_empty()),
    };
    let reply = relay.broker.execute(&command, &actor).map_err(failed)?.reply;
    let Reply::Broadcast { sent_to, skipped, .. } = reply else { return Err(internal()) };
    Ok(Answer::ok(&body::FannedOut {
        result: "ok".into(),
        delivered: sent_to.clone(),
        delivered_to: sent_to,
        skipped: skipped.into_iter().map(|row| row.alias).collect(),
        message_id: wish.message_id.unwrap_or_default(),
        ts: Stamp { us: call.now_us },
        ..body::FannedOut::default()
    }))
}

/// The session that a request speaks of and its mailbox, which must be the caller's.
fn own_session(
    relay: &Relay,
    call: &Call<'_>,
    wish: &body::Poll,
) -> Result<(Actor, Mailbox), Answer> {
    let state = relay.broker.state();
    let id = format!("{}@{}", wish.session_id, c2c_log_format::id::fold(&wish.node_id));
    let mailbox = state.mailbox_of_session(&id).ok_or_else(|| {
        let message = format!("no lease of session '{}' on {}", wish.session_id, wish.node_id);
        Refusal::new(Code::UnknownAlias, "session_id", message).hint("register again")
    })?;
    call.caller.owns(state, &mailbox.alias, &wish.node_id)?;
    let actor = Actor { session_id: Some(id), key: call.caller.key(), ..nobody() };
    Ok((actor, mailbox))
}

/// Takes mail. Without `drain_id` it is gone with the answer, as older programs expect. With one it
/// stays until a later request confirms that id.
pub fn poll(relay: &mut Relay, call: &Call<'_>) -> Result<Found, Answer> {
    let wish: body::Poll = call.body()?;
    let (actor, mailbox) = own_session(relay, call, &wish)?;
    let open = mailbox.claim.as_ref().filter(|claim| claim.surface == DRAINED);
    if let Some(open) = open.map(|claim| &claim.id)
        && wish.drain_id.as_ref() != Some(open)
        && wish.confirm.as_ref() != Some(open)
    {
        // Nobody has said that it was stored: it comes again.
        let reason = "not confirmed".to_owned();
        let command = Command::Return { claim: open.clone(), reason };
        relay.broker.execute(&command, &actor).map_err(failed)?;
    }
    let limit = wish.limit.map_or(RELAY_POLL_MESSAGES, |limit| limit as usize);
    let command = Command::Drain {
        drain_id: wish.drain_id.clone(),
        limit: limit.min(RELAY_POLL_MESSAGES),
        max_bytes: POLL_BYTES_MAX,
    };
    let reply = relay.broker.execute(&command, &actor).map_err(failed)?.reply;
    let Reply::Claimed(claimed) = reply else { return Err(internal()) };
    if claimed.items.is_empty() && !call.last {
        return Ok(Found::Nothing { seen: relay.head() });
    }
    if let Some(claim) = claimed.claim.as_ref().filter(|_| wish.drain_id.is_none()) {
        relay.broker.ack(&actor, claim, "written").map_err(failed)?;
    }
    let messages = relay.broker.messages(&claimed.items).map_err(failed)?;
    Ok(Found::Answer(Answer::ok(&body::Inbox {
        messages: messages.iter().map(|message| row(message, Some(&mailbox.alias))).collect(),
        drain_id: claimed.claim.filter(|_| wish.drain_id.is_some()),
        remaining: Some(claimed.remaining as u64),
    })))
}

pub fn peek(relay: &mut Relay, call: &Call<'_>) -> Done {
    let wish: body::Poll = call.body()?;
    let (_, mailbox) = own_session(relay, call, &wish)?;
    let limit = wish.limit.map_or(RELAY_POLL_MESSAGES, |limit| limit as usize);
    let messages = relay.broker.peek_some(&mailbox, limit.min(RELAY_POLL_MESSAGES), POLL_BYTES_MAX);
    let messages = messages.map_err(failed)?;
    let messages = messages.iter().map(|message| row(message, Some(&mailbox.alias))).collect();
    Ok(Answer::ok(&body::Inbox { messages, ..body::Inbox::default() }))
}

pub fn dead_letters(relay: &mut Relay, _call: &Call<'_>) -> Done {
    let mut letters = relay.broker.state().dead_letters.scan([]);
    letters.sort_by_key(|(key, _)| sequence_of(key));
    let letters = letters.split_off(letters.len().saturating_sub(RELAY_POLL_MESSAGES));
    let wanted: Vec<_> = letters.iter().map(|(key, _)| (sequence_of(key), None, false)).collect();
    let messages = relay.broker.messages(&wanted).map_err(failed)?;
    let rows = letters.into_iter().filter_map(|(key, letter)| {
        let at = messages.binary_search_by_key(&sequence_of(&key), |message| message.sequence);
        let message = messages.get(at.ok()?)?;
        let sent = &message.sent;
        let to = if letter.mailbox.contains('@') { letter.mailbox } else { letter.alias };
        Some(body::DeadLetter {
            message_id: sent.message_id.clone(),
            from_alias: sent.from.clone(),
            to_alias: to,
            content: sent.body.clone(),
            reason: letter.reason,
            ts: Stamp { us: letter.at_us },
            ..body::DeadLetter::default()
        })
    });
    Ok(Answer::ok(&body::DeadLetters { dead_letter: rows.collect() }))
}

/// Dead letters wait in a mailbox again.
pub fn replay(relay: &mut Relay, call: &Call<'_>) -> Done {
    let wish: body::Replay = call.body()?;
    let messages = match &wish.message_id {
        Some(id) => relay.broker.letters_of(id).map_err(failed)?,
        None => Vec::new(),
    };
    let command = Command::DeadLetterReplay { messages, to: wish.to_alias };
    match relay.broker.execute(&command, &nobody()).map_err(failed)?.reply {
        Reply::Moved { messages } => {
            Ok(Answer::ok(&body::Replayed { replayed: messages.len() as u64 }))
        }
        _ => Err(internal()),
    }
}

/// An inbox of a broker that is read over SSH.
pub fn remote_inbox(relay: &Relay, call: &Call<'_>) -> Done {
    if !is_session(&call.name) {
        let message = "a session id here is 1 to 64 of A-Z a-z 0-9 - _";
        return Err(Refusal::new(Code::BadRequest, "session_id", message).into());
    }
    let remote = relay.remote.as_ref();
    let remote =
        remote.ok_or_else(|| super::not_found("this relay reads no broker over SSH".into()))?;
    Ok(Answer::ok(&remote.inbox(&call.name)?))
}
