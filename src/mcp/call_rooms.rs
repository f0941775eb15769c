//! Tool calls about rooms.

use serde_json::{Value, json};

use super::arguments::Arguments;
use super::tool_answer::ToolAnswer;
use crate::broker::Broker;
use crate::error::Failure;
use crate::platform::clock;
use crate::present::json_view;
use c2c_core::code::Code;
use c2c_core::command;
use c2c_core::decide::{Actor, Rejection, Send};

/// Messages of a room that a join returns by default, and at most.
const JOIN_MESSAGES: usize = 20;
const JOIN_MESSAGES_MAX: usize = 200;
/// Messages that a room history returns by default.
const HISTORY_MESSAGES: usize = 50;

/// `join_room`
pub fn join(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<ToolAnswer, Failure> {
    let room_id = args.required_text("room_id", &["room"])?;
    let from = args.text("from_alias", &["alias", "from"])?;
    let limit = args.count("history_limit", JOIN_MESSAGES)?.min(JOIN_MESSAGES_MAX);
    let reply = broker
        .execute(&command::JoinRoom { room_id: room_id.into(), from: from.map(Into::into) }, actor)?
        .reply;
    broker.refresh(actor)?;
    let mailbox = broker.own_mailbox(actor);
    let rooms = broker.rooms(mailbox.as_ref());
    let members: Vec<Value> = rooms
        .iter()
        .filter(|view| reply.room_id == view.room.room_id)
        .flat_map(|view| &view.members)
        .map(|member| {
            json!({
                "alias": member.alias,
                "session_id": member.session_id,
                "joined_at": clock::rfc3339(member.joined_us),
            })
        })
        .collect();
    let history = match limit {
        0 => Vec::new(),
        limit => broker.room_history(&reply.room_id, limit, 0)?,
    };
    Ok(ToolAnswer::object(json!({
        "room_id": reply.room_id,
        "members": members,
        "history": history.iter().map(json_view::room_message).collect::<Vec<_>>(),
    })))
}

/// `leave_room`
pub fn leave(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<ToolAnswer, Failure> {
    let room_id = args.required_text("room_id", &["room"])?;
    let from = args.text("from_alias", &["alias", "from"])?;
    let command = command::LeaveRoom { room_id: room_id.into(), from: from.map(Into::into) };
    let reply = broker.execute(&command, actor)?.reply;
    Ok(ToolAnswer::object(json!({ "room_id": reply.room_id, "members": reply.members })))
}

/// `send_room`
pub fn send(broker: &mut Broker, actor: &Actor, args: &Arguments) -> Result<ToolAnswer, Failure> {
    let send = Send {
        body: args.required_text("content", &["message", "body"])?,
        from: args.text("from_alias", &["alias", "from"])?.map(Into::into),
        message_id: args.text("message_id", &[])?.map(Into::into),
        tag: args.text("tag", &[])?,
        ..Send::default()
    };
    let room_id = args.required_text("room_id", &["room", "to"])?;
    let reply =
        broker.execute(&command::SendToRoom { room_id: room_id.into(), send }, actor)?.reply;
    let sent = reply;
    let broker_id = broker.log_id()?.to_owned();
    Ok(ToolAnswer::object(json_view::room_receipt(
        &sent,
        &broker_id,
        &broker.link_status_for(&sent),
    )))
}

/// `room_history`
pub fn history(
    broker: &mut Broker,
    actor: &Actor,
    args: &Arguments,
) -> Result<ToolAnswer, Failure> {
    let room_id = args.required_text("room_id", &["room"])?;
    let limit = args.count("limit", HISTORY_MESSAGES)?;
    let since_us = args.number("since")?.map_or(0, |since| (since.max(0.0) * 1e6) as u64);
    broker.refresh(actor)?;
    let mailbox = broker.own_mailbox(actor);
    let rooms = broker.rooms(mailbox.as_ref());
    if !rooms.iter().any(|view| view.room.room_id.eq_ignore_ascii_case(&room_id)) {
        let message = format!("room '{room_id}' does not exist or is not visible to you");
        return Err(Rejection::new(Code::UnknownRoom, "room_id", message)
            .hint("call list_rooms to see the rooms")
            .into());
    }
    let messages = broker.room_history(&room_id, limit, since_us)?;
    Ok(ToolAnswer::array("history", messages.iter().map(json_view::room_message).collect()))
}

/// `list_rooms`, or `my_rooms` with `own_only`
pub fn list(broker: &mut Broker, actor: &Actor, own_only: bool) -> Result<ToolAnswer, Failure> {
    broker.refresh(actor)?;
    let mailbox = broker.own_mailbox(actor);
    let own_alias = mailbox.as_ref().map_or("", |mailbox| mailbox.alias.as_str());
    let rows = broker
        .rooms(mailbox.as_ref())
        .iter()
        .filter(|view| !own_only || view.members.iter().any(|member| member.alias == own_alias))
        .map(json_view::room)
        .collect();
    Ok(ToolAnswer::array("rooms", rows))
}
