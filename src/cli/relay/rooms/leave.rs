//! The `c2c relay rooms leave` command.

use clap::Args;

use super::change::change_room;
use super::room::RoomSession;
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c relay rooms leave swarm-lounge --alias ann")]
pub struct RelayRoomsLeave {
    /// Room to leave
    room: Option<String>,
}

impl RelayRoomsLeave {
    pub fn run(self, session: &mut RoomSession<'_>) -> Result<(), Failure> {
        change_room(session, self.room, "/leave_room", "left", |change| change)
    }
}
