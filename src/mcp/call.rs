//! Tool calls: arguments become a command, and the reply becomes JSON.

use c2c_log_format::payload::{AckLevel, Target};
use serde_json::{Value, json};

use super::arguments::Arguments;
use super::tool_answer::ToolAnswer;
use super::{call_rooms, info};
use crate::broker::{Broker, DeliveryOptions};
use crate::error::Failure;
use crate::platform::clock;
use crate::present::json_view;
use c2c_core::address::{Address, is_remote};
use c2c_core::code::Code;
use c2c_core::command;
use c2c_core::decide::BroadcastReply;
use c2c_core::decide::{Actor, Rejection, Send};
use c2c_core::ids::Alias;
use c2c_core::limits::{MCP_POLL_BYTES, MCP_POLL_MESSAGES};
use c2c_core::view::{DeadLetterView, MessageView};

/// Messages that a history returns by default.
const HISTORY_MESSAGES: usize = 50;
/// Dead letters that are returned by default.
const DEAD_LETTERS: usize = 50;

/// Runs one call.
pub fn call(
    broker: &mut Broker,
    actor: &mut Actor,
    name: &str,
    arguments: &Arguments,
) -> Result<ToolAnswer, Failure> {
    match name {
        "register" => register(broker, actor, arguments),
        "whoami" => whoami(broker, actor),
        "list" => list(broker, actor, arguments),
        "send" => send(broker, actor, arguments),
        "send_all" => send_all(broker, actor, arguments),
        "poll_inbox" => poll_inbox(broker, actor, arguments),
        "peek_inbox" => peek_inbox(broker, actor, arguments),
        "ack" => ack(broker, actor, arguments),
        "history" => history(broker, actor, arguments),
        "join_room" => call_rooms::join(broker, actor, arguments),
        "leave_room" => call_rooms::leave(broker, actor, arguments),
        "send_room" => call_rooms::send(broker, actor, arguments),
        "room_history" => call_rooms::history(broker, actor, arguments),
        "list_rooms" => call_rooms::list(broker, actor, false),
        "my_rooms" => call_rooms::list(broker, actor, true),
        "sweep" => sweep(broker, actor),
        "dead_letter" => dead_letter(broker, actor, arguments),
        "set_dnd" => set_dnd(broker, actor, arguments),
        "trace" => trace(broker, actor, arguments),
        "server_info" => Ok(ToolAnswer::object(info::server_info())),
        other => {
            let message = format!("unknown tool: {other}");
            Err(Rejection::new(Code::InvalidArgument, "name", message)
                .hint("see tools/list")
                .into())
        }
    }
}

fn register(
    broker: &mut Broker,
    actor: &mut Actor,
    args: &Arguments,
) -> Result<ToolAnswer, Failure> {
    actor.role = args.text("role", &[])?.or(actor.role.take());
    if let Some(session_id) = args.text("session_id", &[])?
        && actor.session_id.is_none()
    {
        actor.session_id = Some(session_id.into());
    }
    let alias = args.text("alias", &["name"])?;
    let reply = broker.execute(&command::Register { alias: alias.map(Into::into) }, actor)?.reply;
    let registered = reply;
    let mut row = json!({
        "alias": registered.alias,
        "session_id": registered.session_id,
        "status": "registered",
        "broker_id": broker.log_id()?,
        "redelivered": registered.redelivered,
    });
    if let Some(asked) = &registered.asked {
        row["asked"] = json!(asked);
    }
    Ok(ToolAnswer { session_id: Some(registered.session_id.into()), ..ToolAnswer::object(row) })
}

fn whoami(broker: &mut Broker, actor: &Actor) -> Result<ToolAnswer, Failure> {
    broker.refresh(actor)?;
    let mailbox = broker.own_mailbox(actor);
    let alias = mailbox.as_ref().map_or_else(Alias::default, |mailbox| mailbox.alias.clone());
    let session_id = mailbox.and_then(|mailbox| mailbox.session);
    let canonical = Address::on(&alias, &actor.node_id).to_string();
    Ok(ToolAnswer::object(json!({
        "alias": alias,
        "session_id": session_id.or(actor.session_id.clone()).unwrap_or_default(),
        "canonical_alias": if alias.is_empty() { String::new() } else { canonical },
        "registered": !alias.is_empty(),
        "broker_id": broker.log_id()?,
    })))
}

fn list(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<ToolAnswer, Failure> {
    broker.refresh(actor)?;
    let alive_only = args.flag("alive_only")?.unwrap_or(false);
    let mut rows: Vec<Value> = broker
        .agents()
        .iter()
        .filter(|agent| agent.session.is_some())
        .filter(|agent| !alive_only || agent.liveness.as_option() == Some(true))
        .map(json_view::agent)
        .collect();
    // Only the other machine knows the liveness of its agents.
    if !alive_only {
        rows.extend(broker.remote_agents().iter().map(json_view::remote_agent));
    }
    Ok(ToolAnswer::array("peers", rows))
}

fn send(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<ToolAnswer, Failure> {
    let send = Send {
        to: args.required_text("to_alias", &["to", "alias"])?,
        body: args.required_text("content", &["message", "body"])?,
        from: args.text("from_alias", &["from"])?.map(Into::into),
        message_id: args.text("message_id", &[])?.map(Into::into),
        tag: args.text("tag", &[])?,
        reply_to: args.text("reply_to", &[])?.map(Into::into),
        ttl_s: args.number("ttl_s")?.map(|ttl| ttl.max(0.0) as u64),
        deferrable: args.flag("deferrable")?.unwrap_or(false),
    };
    let reply = broker.execute(&send, actor)?.reply;
    let sent = reply;
    let broker_id = broker.log_id()?.to_owned();
    Ok(ToolAnswer::object(json_view::receipt(&sent, &broker_id, &broker.link_status_for(&sent))))
}

fn send_all(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<ToolAnswer, Failure> {
    let command = command::SendAll {
        body: args.required_text("content", &["message", "body"])?,
        exclude: args.list("exclude_aliases")?,
        tag: args.text("tag", &[])?,
        from: args.text("from_alias", &["from"])?.map(Into::into),
        message_id: args.text("message_id", &[])?.map(Into::into),
    };
    let reply = broker.execute(&command, actor)?.reply;
    let BroadcastReply { message_ids, sent_to, skipped } = reply;
    let link = broker.link_status_if(sent_to.iter().any(|to| is_remote(to)));
    let row = json!({ "sent_to": sent_to, "skipped": skipped, "message_ids": message_ids });
    Ok(ToolAnswer::object(json_view::with_delay_warning(row, &link)))
}

fn poll_inbox(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<ToolAnswer, Failure> {
    if let Some(session_id) = args.text("session_id", &[])?
        && actor.session_id.as_ref().is_some_and(|own| *own != session_id)
    {
        let message = format!("session_id '{session_id}' is not the session of the caller");
        return Err(Rejection::new(Code::Forbidden, "session_id", message)
            .hint("leave session_id out")
            .into());
    }
    let manual = match args.text("ack", &[])?.as_deref() {
        None | Some("auto") => false,
        Some("manual") => true,
        Some(other) => return Err(Arguments::wrong("ack", "'auto' or 'manual'", &json!(other))),
    };
    let options = DeliveryOptions {
        limit: args.count("limit", MCP_POLL_MESSAGES)?.max(1),
        max_bytes: args.count("max_bytes", MCP_POLL_BYTES)?,
        surface: "mcp_poll",
        manual,
        deferrable: true,
    };
    let delivery = broker.claim(actor, &options)?;
    let rows: Vec<Value> = delivery
        .messages
        .iter()
        .map(|message| message_row(message, &delivery.alias, options.max_bytes))
        .collect();
    let mut structured = json!({
        "messages": rows,
        "remaining": delivery.remaining,
        "claimed": delivery.claimed,
    });
    if let Some(claim) = delivery.claim.as_ref().filter(|_| manual) {
        structured["claim"] = json!(claim);
    }
    Ok(ToolAnswer {
        structured,
        // The bare array would hide a manual claim's id from clients that show only text.
        array: (!manual).then_some("messages"),
        claim: delivery.claim.filter(|_| !manual),
        session_id: None,
    })
}

/// A message. A body larger than `max_bytes` is truncated, with a note on how to read the rest.
fn message_row(message: &MessageView, to: &str, max_bytes: usize) -> Value {
    let mut row = json_view::message(message, to);
    let body = message.sent.body.as_str();
    if body.len() > max_bytes {
        let end = body.floor_char_boundary(max_bytes);
        row["content"] = json!(&body[..end]);
        row["truncated"] = json!(true);
        row["bytes"] = json!(body.len());
        row["fetch"] = json!(format!("trace with message_id {}", message.sent.message_id));
    }
    row
}

fn peek_inbox(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<ToolAnswer, Failure> {
    broker.refresh(actor)?;
    let limit = args.count("limit", MCP_POLL_MESSAGES)?;
    let mailbox = broker.held_mailbox(actor)?;
    let (messages, _) = broker.peek(&mailbox)?;
    let rows = messages
        .iter()
        .take(limit)
        .map(|message| message_row(message, &mailbox.alias, MCP_POLL_BYTES));
    Ok(ToolAnswer::array("messages", rows.collect()))
}

fn ack(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<ToolAnswer, Failure> {
    broker.ack(actor, &args.required_text("claim", &["claim_id"])?, AckLevel::AckedByAgent)?;
    Ok(ToolAnswer::object(json!({ "ok": true })))
}

fn history(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<ToolAnswer, Failure> {
    broker.refresh(actor)?;
    let limit = args.count("limit", HISTORY_MESSAGES)?;
    let mailbox = broker.held_mailbox(actor)?;
    let messages = broker.history(&mailbox, limit)?;
    let rows = messages.iter().map(|message| json_view::message(message, &mailbox.alias));
    Ok(ToolAnswer::array("messages", rows.collect()))
}

fn sweep(broker: &mut Broker, actor: &Actor) -> Result<ToolAnswer, Failure> {
    let plan = broker.execute(&command::Sweep, actor)?.reply;
    Ok(ToolAnswer::object(json_view::sweep(&plan)))
}

fn dead_letter(
    broker: &mut Broker,
    actor: &Actor,
    args: &Arguments,
) -> Result<ToolAnswer, Failure> {
    broker.refresh(actor)?;
    let limit = args.count("limit", DEAD_LETTERS)?;
    let letters = broker.dead_letters()?;
    let skip = letters.len().saturating_sub(limit);
    let rows = letters.iter().skip(skip).map(|DeadLetterView { letter, message }| {
        json!({
            "deleted_at": clock::rfc3339(letter.at_us),
            "to_alias": letter.alias,
            "reason": letter.reason,
            "message_id": message.as_ref().map(|message| &message.sent.message_id),
            "from_alias": message.as_ref().map(|message| &message.sent.from),
        })
    });
    Ok(ToolAnswer::array("dead_letters", rows.collect()))
}

fn set_dnd(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<ToolAnswer, Failure> {
    let Some(on) = args.flag("on")? else {
        let message = "missing required argument 'on'";
        return Err(Rejection::new(Code::InvalidArgument, "on", message).into());
    };
    let until_us = args.number("until_epoch")?.map(|until| (until.max(0.0) * 1e6) as u64);
    broker.execute(&command::SetDnd { on, until_us }, actor)?;
    Ok(ToolAnswer::object(json!({ "ok": true, "dnd": on })))
}

fn trace(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<ToolAnswer, Failure> {
    let message_id = args.required_text("message_id", &["id"])?;
    broker.refresh(actor)?;
    let own_mailbox = broker.own_mailbox(actor).map_or(String::new(), |mailbox| mailbox.name);
    let traces = broker.trace(&message_id)?;
    let Some(trace) = traces.first() else {
        let message = format!("this log does not contain a message with the id '{message_id}'");
        return Err(Rejection::new(Code::UnknownMessage, "message_id", message).into());
    };
    let hops: Vec<Value> = trace
        .hops
        .iter()
        .map(|hop| {
            json!({
                "sequence": hop.sequence,
                "ts": clock::rfc3339(hop.time_us),
                "what": hop.what,
                "who": hop.who,
            })
        })
        .collect();
    let mut row = json!({ "message_id": message_id, "hops": hops });
    if let Some(message) = &trace.message {
        let sent = &message.sent;
        let is_recipient =
            matches!(&sent.target, Target::Mailbox(mailbox) if *mailbox == own_mailbox);
        row["from_alias"] = json!(sent.from);
        row["to_alias"] = json!(sent.to);
        // Only the sender and the recipient may read the text.
        if !own_mailbox.is_empty() && (sent.from_mailbox == own_mailbox || is_recipient) {
            row["content"] = json!(sent.body);
        }
    }
    Ok(ToolAnswer::object(row))
}
