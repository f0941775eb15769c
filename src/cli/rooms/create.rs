//! `c2c rooms create`: create a room.

use c2c_core::command;
use clap::Args;
use serde_json::json;

use super::room_info::{execute, find};
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c rooms create lobby\n  \
    c2c rooms create review --visibility invite_only --invite bob")]
pub struct Create {
    /// Name of the room
    room: String,
    /// Visibility: public, invite_only or local
    #[arg(long, value_name = "WHO", default_value = "public")]
    visibility: String,
    /// Alias to invite (repeatable)
    #[arg(long, value_name = "ALIAS")]
    invite: Vec<String>,
    /// Create the room without joining it
    #[arg(long)]
    no_join: bool,
}

impl Run for Create {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let command = command::CreateRoom {
            room_id: self.room.into(),
            visibility: self.visibility.into(),
            invite: self.invite,
            join: !self.no_join,
        };
        let reply = execute(context, &command)?;
        let info = find(context, &reply.room_id)?;
        if context.common.json {
            return output::print_json(&json!({
                "room_id": info.room.room_id,
                "created_by": info.room.created_by,
                "visibility": info.room.visibility,
                "invited_members": info.room.invited,
                "members": reply.members,
                "auto_joined": !self.no_join,
            }));
        }
        output::print(&format!("Created room {} ({})\n", info.room.room_id, info.room.visibility))
    }
}
