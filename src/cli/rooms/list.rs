//! `c2c rooms list`: list rooms.

use c2c_log_format::payload::RoomVisibility;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::output;
use crate::error::Failure;
use crate::present::json_view;
use c2c_core::decide::Liveness;
use c2c_core::view::{RoomMemberView, RoomView};

/// Prints the rooms that the caller may see, or only those it is a member of.
pub fn list(context: &mut Context, only_joined: bool) -> Result<(), Failure> {
    context.broker.refresh(&context.actor)?;
    let mailbox = context.broker.own_mailbox(&context.actor);
    let alias = mailbox.as_ref().map_or("", |mailbox| mailbox.alias.as_str());
    let mut rooms = context.broker.rooms(mailbox.as_ref());
    rooms.retain(|room| !only_joined || room.members.iter().any(|member| member.alias == alias));
    if context.common.json {
        let rows: Vec<_> = rooms.iter().map(json_view::room).collect();
        return output::print_json(&json!(rows));
    }
    if rooms.is_empty() {
        return output::print(if only_joined { "Not in any rooms.\n" } else { "No rooms.\n" });
    }
    output::print(&rooms.iter().map(room_line).collect::<String>())
}

fn room_line(info: &RoomView) -> String {
    let members = info.members.len();
    let is_alive = |member: &&RoomMemberView| member.liveness == Liveness::Alive;
    let alive = info.members.iter().filter(is_alive).count();
    let visibility = match &info.room.visibility {
        RoomVisibility::Public => String::new(),
        other => format!(" [{}]", other.as_str().replace('_', "-")),
    };
    format!("{} ({members} members, {alive} alive){visibility}\n", info.room.room_id)
}
