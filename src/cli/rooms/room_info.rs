//! Room lookup and room commands, shared by the subcommands of `c2c rooms`.

use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::error::Failure;
use crate::platform::clock;
use crate::present::envelope::for_terminal;
use c2c_core::code::Code;
use c2c_core::command::Command;
use c2c_core::decide::{Rejection, RoomReply};
use c2c_core::view::{RoomMessageView, RoomView};

/// Runs a command that replies with a room.
pub fn execute<C: Command<Reply = RoomReply>>(
    context: &mut Context,
    command: &C,
) -> Result<RoomReply, Failure> {
    Ok(context.broker.execute(command, &context.actor)?.reply)
}

/// Finds a room that the caller may see.
pub fn find(context: &mut Context, room_id: &str) -> Result<RoomView, Failure> {
    context.broker.refresh(&context.actor)?;
    let mailbox = context.broker.own_mailbox(&context.actor);
    let mut rooms = context.broker.rooms(mailbox.as_ref()).into_iter();
    rooms.find(|info| info.room.room_id.eq_ignore_ascii_case(room_id)).ok_or_else(|| {
        let message = format!("room '{}' does not exist", room_id.escape_default());
        Rejection::new(Code::UnknownRoom, "room_id", message)
            .hint("list the rooms: c2c rooms list")
            .into()
    })
}

/// The members of a room as JSON.
pub fn member_rows(info: &RoomView) -> Value {
    let rows = info.members.iter().map(|member| {
        json!({
            "alias": member.alias,
            "session_id": member.session_id,
            "alive": member.liveness.as_option(),
            "joined_at": clock::rfc3339(member.joined_us),
        })
    });
    json!(rows.collect::<Vec<_>>())
}

/// Renders a room message for a terminal.
pub fn history_line(message: &RoomMessageView, utc: bool) -> String {
    let sent = &message.message.sent;
    // Without seconds.
    let time = clock::human(sent.sent_us, utc);
    let time = &time[..16.min(time.len())];
    let (from, body) = (for_terminal(&sent.from), for_terminal(sent.body.as_str()));
    let pending = if message.room_sequence.is_none() { " (pending)" } else { "" };
    format!("[{time}] <{from}>{pending} {body}\n")
}
