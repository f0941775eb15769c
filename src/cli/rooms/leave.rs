//! `c2c rooms leave`: leave a room.

use c2c_core::command;
use clap::Args;
use serde_json::json;

use super::room_info::execute;
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c rooms leave lobby")]
pub struct Leave {
    /// Name of the room
    room: String,
    /// Alias to leave as, if this session has none
    #[arg(long, short = 'a')]
    alias: Option<String>,
}

impl Run for Leave {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let command =
            command::LeaveRoom { room_id: self.room.into(), from: self.alias.map(Into::into) };
        let reply = execute(context, &command)?;
        if context.common.json {
            return output::print_json(
                &json!({ "room_id": reply.room_id, "members": reply.members }),
            );
        }
        let members = reply.members.len();
        output::print(&format!("Left room {} ({members} members remaining)\n", reply.room_id))
    }
}
