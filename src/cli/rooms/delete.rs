//! `c2c rooms delete`: delete a room.

use c2c_core::command;
use clap::Args;
use serde_json::json;

use super::room_info::execute;
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c rooms delete lobby\n  \
    c2c rooms delete lobby --force")]
pub struct Delete {
    /// Name of the room
    room: String,
    /// Delete even if it has members
    #[arg(long)]
    force: bool,
}

impl Run for Delete {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let command = command::DeleteRoom { room_id: self.room.into(), force: self.force };
        let reply = execute(context, &command)?;
        if context.common.json {
            return output::print_json(&json!({ "room_id": reply.room_id, "deleted": true }));
        }
        output::print(&format!("Deleted room {}\n", reply.room_id))
    }
}
