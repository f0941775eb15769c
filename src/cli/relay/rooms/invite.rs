//! The `c2c relay rooms invite` command.

use clap::Args;

use super::change::change_room;
use super::room::RoomSession;
use crate::error::Failure;
use crate::relay::protocol::request::RoomChangeRequest;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c relay rooms invite den --invitee bob@laptop")]
pub struct RelayRoomsInvite {
    /// Room to invite to
    room: Option<String>,
    /// Public key to invite
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    invitee_pk: Option<String>,
    /// Alias to invite
    #[arg(long, value_name = "ALIAS")]
    invitee: Option<String>,
}

impl RelayRoomsInvite {
    pub fn run(self, session: &mut RoomSession<'_>) -> Result<(), Failure> {
        let Self { room, invitee_pk, invitee } = self;
        change_room(session, room, "/invite_room", "invited to", |change| RoomChangeRequest {
            invitee_pk,
            invitee,
            ..change
        })
    }
}
