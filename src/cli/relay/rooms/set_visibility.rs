//! The `c2c relay rooms set-visibility` command.

use clap::{Args, ValueEnum};

use super::change::change_room;
use super::room::RoomSession;
use crate::error::Failure;
use crate::relay::protocol::request::RoomChangeRequest;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RelayRoomVisibility {
    Public,
    #[value(alias = "invite_only")]
    Invite,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c relay rooms set-visibility den --visibility invite")]
pub struct RelayRoomsSetVisibility {
    /// Room to change
    room: Option<String>,
    /// Open the room to all agents, or only to invited ones
    #[arg(long, value_enum)]
    visibility: RelayRoomVisibility,
}

impl RelayRoomsSetVisibility {
    pub fn run(self, session: &mut RoomSession<'_>) -> Result<(), Failure> {
        let visibility = match self.visibility {
            RelayRoomVisibility::Public => "public",
            RelayRoomVisibility::Invite => "invite",
        };
        let verb = "visibility set for";
        change_room(session, self.room, "/set_room_visibility", verb, |change| RoomChangeRequest {
            visibility: Some(visibility.into()),
            ..change
        })
    }
}
