//! `c2c rooms visibility`: show or set a room's visibility.

use c2c_core::command;
use clap::Args;
use serde_json::json;

use super::room_info::{execute, find};
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c rooms visibility lobby\n  \
    c2c rooms visibility lobby --set local")]
pub struct Visibility {
    /// Name of the room
    room: String,
    /// Visibility to set: public, invite_only or local
    #[arg(long, short = 's', value_name = "WHO")]
    set: Option<String>,
}

impl Run for Visibility {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        if let Some(visibility) = self.set {
            let visibility = visibility.into();
            let command =
                command::SetRoomVisibility { room_id: self.room.clone().into(), visibility };
            execute(context, &command)?;
        }
        let info = find(context, &self.room)?;
        if context.common.json {
            return output::print_json(&json!({
                "ok": true,
                "room_id": info.room.room_id,
                "visibility": info.room.visibility,
                "invited_members": info.room.invited,
            }));
        }
        output::print(&format!("{}: {}\n", info.room.room_id, info.room.visibility))
    }
}
