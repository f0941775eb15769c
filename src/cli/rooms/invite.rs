//! `c2c rooms invite`: invite an agent to an invite-only room.

use c2c_core::command;
use clap::Args;
use serde_json::json;

use super::room_info::execute;
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c rooms invite review bob")]
pub struct Invite {
    /// Name of the room
    room: String,
    /// Alias to invite
    alias: String,
}

impl Run for Invite {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let command =
            command::InviteToRoom { room_id: self.room.into(), alias: self.alias, invited: true };
        let reply = execute(context, &command)?;
        if context.common.json {
            return output::print_json(&json!({
                "ok": true,
                "room_id": reply.room_id,
                "invitee_alias": reply.alias,
            }));
        }
        output::print(&format!("Invited {} to {}\n", reply.alias, reply.room_id))
    }
}
