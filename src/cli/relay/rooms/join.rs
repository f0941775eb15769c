//! The `c2c relay rooms join` command.

use clap::Args;

use super::change::change_room;
use super::room::RoomSession;
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c relay rooms join swarm-lounge --alias ann")]
pub struct RelayRoomsJoin {
    /// Room to join
    room: Option<String>,
}

impl RelayRoomsJoin {
    pub fn run(self, session: &mut RoomSession<'_>) -> Result<(), Failure> {
        change_room(session, self.room, "/join_room", "joined", |change| change)
    }
}
