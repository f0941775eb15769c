//! The `c2c relay rooms` commands.

mod change;
mod history;
mod invite;
mod join;
mod leave;
mod list;
mod room;
mod send;
mod set_visibility;
mod uninvite;

use clap::{Args, Subcommand};

use super::target::RelayTarget;
use crate::cli::context::{Context, Run};
use crate::error::Failure;
use room::RoomSession;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c relay rooms list\n  \
    c2c relay rooms join swarm-lounge --alias ann\n  \
    c2c relay rooms send swarm-lounge \"hello\"\n  \
    c2c relay rooms history swarm-lounge --limit 20")]
pub struct RelayRooms {
    /// Alias to act as
    #[arg(long, value_name = "ALIAS", global = true)]
    alias: Option<String>,
    /// Room, if it is not given as an argument
    #[arg(long, value_name = "ROOM", global = true)]
    room: Option<String>,
    #[command(flatten)]
    target: RelayTarget,
    #[command(subcommand)]
    command: RelayRoomsCommand,
}

#[derive(Subcommand)]
enum RelayRoomsCommand {
    /// List the rooms on the relay
    #[command(after_help = "Examples:\n  c2c relay rooms list --json")]
    List,
    /// Join a room; the first member creates it
    Join(join::RelayRoomsJoin),
    /// Leave a room
    Leave(leave::RelayRoomsLeave),
    /// Send a message to a room
    Send(send::RelayRoomsSend),
    /// Show the last messages of a room
    History(history::RelayRoomsHistory),
    /// Invite an alias or a key to a room
    Invite(invite::RelayRoomsInvite),
    /// Withdraw an invitation
    Uninvite(uninvite::RelayRoomsUninvite),
    /// Set the visibility of a room
    SetVisibility(set_visibility::RelayRoomsSetVisibility),
}

impl Run for RelayRooms {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, _) = self.target.client(context)?;
        let mut session = RoomSession { client, alias: self.alias, room: self.room, context };
        match self.command {
            RelayRoomsCommand::List => list::run(&mut session),
            RelayRoomsCommand::Join(command) => command.run(&mut session),
            RelayRoomsCommand::Leave(command) => command.run(&mut session),
            RelayRoomsCommand::Send(command) => command.run(&mut session),
            RelayRoomsCommand::History(command) => command.run(&mut session),
            RelayRoomsCommand::Invite(command) => command.run(&mut session),
            RelayRoomsCommand::Uninvite(command) => command.run(&mut session),
            RelayRoomsCommand::SetVisibility(command) => command.run(&mut session),
        }
    }
}
