//! What does one tool call do? Arguments become a command, the reply becomes JSON.

use rmcp::model::JsonObject;
use serde_json::{Value, json};

use crate::broker::{Broker, Message, Wish};
use crate::clock;
use crate::code::Code;
use crate::decide::{Actor, Command, Refusal, Reply, Send};
use crate::failure::Failure;
use crate::limits::{POLL_BYTES, POLL_MESSAGES};
use crate::shape;

/// The arguments of a call. Missing, `null` and `""` are the same.
pub struct Arguments(pub JsonObject);

impl Arguments {
    fn value(&self, names: &[&str]) -> Option<&Value> {
        let found = names.iter().filter_map(|name| self.0.get(*name));
        let mut found = found.filter(|value| !value.is_null() && value.as_str() != Some(""));
        found.next()
    }

    fn wrong(name: &'static str, wanted: &str, found: &Value) -> Failure {
        let message = format!("argument '{name}' must be {wanted}, not {found}");
        Refusal::new(Code::InvalidArgument, name, message).into()
    }

    /// A text under its name or an accepted other one.
    pub fn text(&self, name: &'static str, or: &[&str]) -> Result<Option<String>, Failure> {
        let names: Vec<&str> = std::iter::once(name).chain(or.iter().copied()).collect();
        match self.value(&names) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(Self::wrong(name, "a string", other)),
        }
    }

    fn needed(&self, name: &'static str, or: &[&str]) -> Result<String, Failure> {
        self.text(name, or)?.ok_or_else(|| {
            let also = match or {
                [] => String::new(),
                or => format!(" (also accepted: {})", or.join(", ")),
            };
            let message = format!("missing required string argument '{name}'{also}");
            Refusal::new(Code::InvalidArgument, name, message).into()
        })
    }

    /// A number, also when written as text.
    pub fn number(&self, name: &'static str) -> Result<Option<f64>, Failure> {
        match self.value(&[name]) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(number.as_f64()),
            Some(Value::String(text)) => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Self::wrong(name, "a number", &json!(text))),
            },
            Some(other) => Err(Self::wrong(name, "a number", other)),
        }
    }

    fn count(&self, name: &'static str, default: usize) -> Result<usize, Failure> {
        Ok(self.number(name)?.map_or(default, |number| number.max(0.0) as usize))
    }

    /// A flag, also when written as text or number.
    fn flag(&self, name: &'static str) -> Result<Option<bool>, Failure> {
        match self.value(&[name]) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::Number(number)) => Ok(Some(number.as_f64() != Some(0.0))),
            Some(Value::String(text)) if text == "true" || text == "1" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" || text == "0" => Ok(Some(false)),
            Some(other) => Err(Self::wrong(name, "a boolean", other)),
        }
    }

    fn list(&self, name: &'static str) -> Result<Vec<String>, Failure> {
        match self.value(&[name]) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(text.split(',').map(|s| s.trim().to_owned()).collect()),
            Some(Value::Array(rows)) => rows
                .iter()
                .map(|row| match row.as_str() {
                    Some(text) => Ok(text.to_owned()),
                    None => Err(Self::wrong(name, "an array of strings", row)),
                })
                .collect(),
            Some(other) => Err(Self::wrong(name, "an array of strings", other)),
        }
    }
}

/// The answer to a call.
#[derive(Default)]
pub struct Answer {
    /// The object that programs get.
    pub structured: Value,
    /// Key of the array that is the text, when the older text is a bare array.
    pub array: Option<&'static str>,
    /// A claim that ends when the client has read the answer.
    pub claim: Option<String>,
    /// The session id that the caller has from now on.
    pub session_id: Option<String>,
}

impl Answer {
    /// Whether it is a row of nothing.
    pub fn is_empty(&self) -> bool {
        self.array.is_some_and(|key| self.structured[key].as_array().is_some_and(Vec::is_empty))
    }
}

fn object(structured: Value) -> Answer {
    Answer { structured, ..Answer::default() }
}

fn array(key: &'static str, rows: Vec<Value>) -> Answer {
    Answer { structured: json!({ key: rows }), array: Some(key), ..Answer::default() }
}

/// Does one call.
pub fn call(
    broker: &mut Broker,
    actor: &mut Actor,
    name: &str,
    arguments: &Arguments,
) -> Result<Answer, Failure> {
    match name {
        "register" => register(broker, actor, arguments),
        "whoami" => whoami(broker, actor),
        "list" => list(broker, actor, arguments),
        "send" => send(broker, actor, arguments),
        "send_all" => send_all(broker, actor, arguments),
        "poll_inbox" => poll_inbox(broker, actor, arguments),
        "peek_inbox" => peek_inbox(broker, actor, arguments),
        "ack" => {
            broker.ack(actor, &arguments.needed("claim", &["claim_id"])?, "acked by agent")?;
            Ok(object(json!({ "ok": true })))
        }
        "history" => history(broker, actor, arguments),
        "join_room" => join_room(broker, actor, arguments),
        "leave_room" => leave_room(broker, actor, arguments),
        "send_room" => send_room(broker, actor, arguments),
        "room_history" => room_history(broker, actor, arguments),
        "list_rooms" => rooms(broker, actor, false),
        "my_rooms" => rooms(broker, actor, true),
        "sweep" => match broker.execute(&Command::Sweep, actor)?.reply {
            Reply::Swept(plan) => Ok(object(shape::sweep(&plan))),
            _ => Ok(object(json!({}))),
        },
        "dead_letter" => dead_letter(broker, actor, arguments),
        "set_dnd" => set_dnd(broker, actor, arguments),
        "trace" => trace(broker, actor, arguments),
        "server_info" => Ok(object(super::server_info())),
        other => {
            let message = format!("unknown tool: {other}");
            Err(Refusal::new(Code::InvalidArgument, "name", message).hint("see tools/list").into())
        }
    }
}

fn register(broker: &mut Broker, actor: &mut Actor, args: &Arguments) -> Result<Answer, Failure> {
    actor.role = args.text("role", &[])?.or(actor.role.take());
    if let Some(session_id) = args.text("session_id", &[])?
        && actor.session_id.is_none()
    {
        actor.session_id = Some(session_id);
    }
    let alias = args.text("alias", &["name"])?;
    let reply = broker.execute(&Command::Register { alias }, actor)?.reply;
    let Reply::Registered(registered) = reply else { return Ok(object(json!({}))) };
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
    Ok(Answer { session_id: Some(registered.session_id), ..object(row) })
}

fn whoami(broker: &mut Broker, actor: &Actor) -> Result<Answer, Failure> {
    broker.look(actor)?;
    let mailbox = broker.own_mailbox(actor);
    let alias = mailbox.as_ref().map_or(String::new(), |mailbox| mailbox.alias.clone());
    let session_id = mailbox.and_then(|mailbox| mailbox.session);
    let canonical = format!("{alias}@{}", actor.node_id);
    Ok(object(json!({
        "alias": alias,
        "session_id": session_id.or(actor.session_id.clone()).unwrap_or_default(),
        "canonical_alias": if alias.is_empty() { String::new() } else { canonical },
        "registered": !alias.is_empty(),
        "broker_id": broker.log_id()?,
    })))
}

fn list(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<Answer, Failure> {
    broker.look(actor)?;
    let alive_only = args.flag("alive_only")?.unwrap_or(false);
    let peers = broker.peers().into_iter();
    let peers = peers.filter(|peer| peer.session.is_some());
    let peers = peers.filter(|peer| !alive_only || peer.liveness.as_option() == Some(true));
    let mut rows: Vec<Value> = peers.map(|peer| shape::peer(&peer)).collect();
    // Of those elsewhere only their own machine knows whether they are alive.
    if !alive_only {
        rows.extend(broker.peers_elsewhere().iter().map(shape::remote_peer));
    }
    Ok(array("peers", rows))
}

fn send(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<Answer, Failure> {
    let send = Send {
        to: args.needed("to_alias", &["to", "alias"])?,
        body: args.needed("content", &["message", "body"])?,
        from: args.text("from_alias", &["from"])?,
        message_id: args.text("message_id", &[])?,
        tag: args.text("tag", &[])?,
        reply_to: args.text("reply_to", &[])?,
        ttl_s: args.number("ttl_s")?.map(|ttl| ttl.max(0.0) as u64),
        deferrable: args.flag("deferrable")?.unwrap_or(false),
    };
    let reply = broker.execute(&Command::Send(send), actor)?.reply;
    let Reply::Sent(sent) = reply else { return Ok(object(json!({}))) };
    let broker_id = broker.log_id()?.to_owned();
    let way = broker.way_of(&sent);
    Ok(object(shape::sent(&sent, &broker_id, &way)))
}

fn send_all(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<Answer, Failure> {
    let command = Command::SendAll {
        body: args.needed("content", &["message", "body"])?,
        exclude: args.list("exclude_aliases")?,
        tag: args.text("tag", &[])?,
        from: args.text("from_alias", &["from"])?,
        message_id: args.text("message_id", &[])?,
    };
    let reply = broker.execute(&command, actor)?.reply;
    let Reply::Broadcast { message_ids, sent_to, skipped } = reply else {
        return Ok(object(json!({})));
    };
    let way = broker.way_if(sent_to.iter().any(|to| to.contains('@')));
    let row = json!({ "sent_to": sent_to, "skipped": skipped, "message_ids": message_ids });
    Ok(object(shape::warned(row, &way)))
}

fn poll_inbox(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<Answer, Failure> {
    if let Some(session_id) = args.text("session_id", &[])?
        && actor.session_id.as_ref().is_some_and(|own| *own != session_id)
    {
        let message = "poll_inbox: session_id is not the caller's own";
        return Err(Refusal::new(Code::Forbidden, "session_id", message)
            .hint("leave session_id out")
            .into());
    }
    let manual = match args.text("ack", &[])?.as_deref() {
        None | Some("auto") => false,
        Some("manual") => true,
        Some(other) => return Err(Arguments::wrong("ack", "'auto' or 'manual'", &json!(other))),
    };
    let wish = Wish {
        limit: args.count("limit", POLL_MESSAGES)?.max(1),
        max_bytes: args.count("max_bytes", POLL_BYTES)?,
        surface: "mcp_poll",
        manual,
        deferrable: true,
    };
    let delivery = broker.claim(actor, &wish)?;
    let rows: Vec<Value> =
        delivery.messages.iter().map(|message| row(message, &delivery.alias, &wish)).collect();
    let mut structured = json!({
        "messages": rows,
        "remaining": delivery.remaining,
        "claimed": delivery.claimed,
    });
    if let Some(claim) = delivery.claim.as_ref().filter(|_| manual) {
        structured["claim"] = json!(claim);
    }
    // The bare array would hide a manual claim's id from clients that show only text.
    let array = (!manual).then_some("messages");
    let claim = delivery.claim.filter(|_| !manual);
    Ok(Answer { structured, array, claim, session_id: None })
}

/// A message, or its head when the body is larger than the whole answer may be.
fn row(message: &Message, to: &str, wish: &Wish) -> Value {
    let mut row = shape::message(message, to);
    let body = &message.sent.body;
    if body.len() > wish.max_bytes {
        let end = body.floor_char_boundary(wish.max_bytes);
        row["content"] = json!(&body[..end]);
        row["truncated"] = json!(true);
        row["bytes"] = json!(body.len());
        row["fetch"] = json!(format!("trace with message_id {}", message.sent.message_id));
    }
    row
}

fn peek_inbox(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<Answer, Failure> {
    broker.look(actor)?;
    let limit = args.count("limit", POLL_MESSAGES)?;
    let Some(mailbox) = broker.held_mailbox(actor)? else {
        return Ok(array("messages", Vec::new()));
    };
    let (messages, _) = broker.peek(&mailbox)?;
    let wish = Wish { max_bytes: POLL_BYTES, ..Wish::all("peek") };
    let rows = messages.iter().take(limit).map(|message| row(message, &mailbox.alias, &wish));
    Ok(array("messages", rows.collect()))
}

fn history(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<Answer, Failure> {
    broker.look(actor)?;
    let limit = args.count("limit", 50)?;
    let Some(mailbox) = broker.held_mailbox(actor)? else {
        return Ok(array("messages", Vec::new()));
    };
    let messages = broker.history(&mailbox, limit)?;
    let rows = messages.iter().map(|message| shape::message(message, &mailbox.alias));
    Ok(array("messages", rows.collect()))
}

fn join_room(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<Answer, Failure> {
    let room_id = args.needed("room_id", &["room"])?;
    let from = args.text("from_alias", &["alias", "from"])?;
    let limit = args.count("history_limit", 20)?.min(200);
    let reply = broker.execute(&Command::RoomJoin { room_id, from }, actor)?.reply;
    let Reply::Room(reply) = reply else { return Ok(object(json!({}))) };
    broker.look(actor)?;
    let mailbox = broker.own_mailbox(actor);
    let rooms = broker.rooms(mailbox.as_ref());
    let info = rooms.iter().find(|info| info.room.room_id == reply.room_id);
    let members: Vec<Value> = info.map_or(Vec::new(), |info| {
        let rows = info.members.iter().map(|(alias, session_id, _, joined_us)| {
            json!({ "alias": alias, "session_id": session_id, "joined_at": clock::rfc3339(*joined_us) })
        });
        rows.collect()
    });
    let history = match limit {
        0 => Vec::new(),
        limit => broker.room_history(&reply.room_id, limit, 0)?,
    };
    Ok(object(json!({
        "room_id": reply.room_id,
        "members": members,
        "history": history.iter().map(shape::said).collect::<Vec<_>>(),
    })))
}

fn leave_room(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<Answer, Failure> {
    let room_id = args.needed("room_id", &["room"])?;
    let from = args.text("from_alias", &["alias", "from"])?;
    let reply = broker.execute(&Command::RoomLeave { room_id, from }, actor)?.reply;
    let Reply::Room(reply) = reply else { return Ok(object(json!({}))) };
    Ok(object(json!({ "room_id": reply.room_id, "members": reply.members })))
}

fn send_room(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<Answer, Failure> {
    let send = Send {
        body: args.needed("content", &["message", "body"])?,
        from: args.text("from_alias", &["alias", "from"])?,
        message_id: args.text("message_id", &[])?,
        tag: args.text("tag", &[])?,
        ..Send::default()
    };
    let room_id = args.needed("room_id", &["room", "to"])?;
    let reply = broker.execute(&Command::RoomSend { room_id, send }, actor)?.reply;
    let Reply::Sent(sent) = reply else { return Ok(object(json!({}))) };
    let broker_id = broker.log_id()?.to_owned();
    let way = broker.way_of(&sent);
    Ok(object(shape::said_in(&sent, &broker_id, &way)))
}

fn room_history(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<Answer, Failure> {
    let room_id = args.needed("room_id", &["room"])?;
    let limit = args.count("limit", 50)?;
    let since_us = args.number("since")?.map_or(0, |since| (since.max(0.0) * 1e6) as u64);
    broker.look(actor)?;
    let mailbox = broker.own_mailbox(actor);
    let rooms = broker.rooms(mailbox.as_ref());
    if !rooms.iter().any(|info| info.room.room_id.eq_ignore_ascii_case(&room_id)) {
        let message = format!("there is no room '{room_id}'");
        return Err(Refusal::new(Code::UnknownRoom, "room_id", message)
            .hint("see list_rooms")
            .into());
    }
    let messages = broker.room_history(&room_id, limit, since_us)?;
    Ok(array("history", messages.iter().map(shape::said).collect()))
}

fn rooms(broker: &mut Broker, actor: &Actor, mine: bool) -> Result<Answer, Failure> {
    broker.look(actor)?;
    let mailbox = broker.own_mailbox(actor);
    let own = mailbox.as_ref().map_or("", |mailbox| mailbox.alias.as_str());
    let rooms = broker.rooms(mailbox.as_ref()).into_iter();
    let rooms = rooms.filter(|info| !mine || info.members.iter().any(|(alias, ..)| alias == own));
    Ok(array("rooms", rooms.map(|info| shape::room(&info)).collect()))
}

fn dead_letter(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<Answer, Failure> {
    broker.look(actor)?;
    let limit = args.count("limit", 50)?;
    let letters = broker.dead_letters()?;
    let skip = letters.len().saturating_sub(limit);
    let rows = letters.iter().skip(skip).map(|(letter, message)| {
        json!({
            "deleted_at": clock::rfc3339(letter.at_us),
            "to_alias": letter.alias,
            "reason": letter.reason,
            "message_id": message.as_ref().map(|message| &message.sent.message_id),
            "from_alias": message.as_ref().map(|message| &message.sent.from),
        })
    });
    Ok(array("dead_letters", rows.collect()))
}

fn set_dnd(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<Answer, Failure> {
    let Some(on) = args.flag("on")? else {
        return Err(
            Refusal::new(Code::InvalidArgument, "on", "missing required argument 'on'").into()
        );
    };
    let until_us = args.number("until_epoch")?.map(|until| (until.max(0.0) * 1e6) as u64);
    broker.execute(&Command::Dnd { on, until_us }, actor)?;
    Ok(object(json!({ "ok": true, "dnd": on })))
}

fn trace(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<Answer, Failure> {
    let message_id = args.needed("message_id", &["id"])?;
    broker.look(actor)?;
    let own = broker.own_mailbox(actor).map_or(String::new(), |mailbox| mailbox.name);
    let traces = broker.trace(&message_id)?;
    let Some(trace) = traces.first() else {
        let message = format!("no evidence of message '{message_id}' in this log");
        return Err(Refusal::new(Code::UnknownMessage, "message_id", message).into());
    };
    let hops: Vec<Value> = trace
        .hops
        .iter()
        .map(|hop| json!({ "sequence": hop.sequence, "ts": clock::rfc3339(hop.time_us), "what": hop.what, "who": hop.who }))
        .collect();
    let mut row = json!({ "message_id": message_id, "hops": hops });
    // The text is for those whose message it is.
    if let Some(message) = &trace.message {
        let sent = &message.sent;
        let mine = sent.from_mailbox == own
            || sent.target == c2c_log_format::payload::Target::Mailbox(own.clone());
        row["from_alias"] = json!(sent.from);
        row["to_alias"] = json!(sent.to);
        if mine && !own.is_empty() {
            row["content"] = json!(sent.body);
        }
    }
    Ok(object(row))
}
