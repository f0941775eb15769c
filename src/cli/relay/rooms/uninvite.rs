//! The `c2c relay rooms uninvite` command.

use clap::Args;

use super::change::change_room;
use super::room::RoomSession;
use crate::error::Failure;
use crate::relay::protocol::request::RoomChangeRequest;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c relay rooms uninvite den --invitee bob@laptop")]
pub struct RelayRoomsUninvite {
    /// Room of the invitation
    room: Option<String>,
    /// Public key that was invited
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    invitee_pk: Option<String>,
    /// Alias that was invited
    #[arg(long, value_name = "ALIAS")]
    invitee: Option<String>,
}

impl RelayRoomsUninvite {
    pub fn run(self, session: &mut RoomSession<'_>) -> Result<(), Failure> {
        let Self { room, invitee_pk, invitee } = self;
        change_room(session, room, "/uninvite_room", "no longer invited to", |change| {
            RoomChangeRequest { invitee_pk, invitee, ..change }
        })
    }
}
