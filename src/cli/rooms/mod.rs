//! `c2c rooms`: manage rooms.

mod create;
mod delete;
mod history;
mod invite;
mod join;
mod leave;
mod list;
mod members;
mod room_info;
mod send;
mod tail;
mod visibility;

use clap::{Args, Subcommand};

use super::context::{Context, Run};
use crate::error::Failure;

pub use list::list;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c rooms list\n  \
    c2c rooms join lobby\n  \
    c2c rooms send lobby \"good morning\"")]
pub struct Rooms {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// List rooms
    #[command(after_help = "Examples:\n  c2c rooms list")]
    List,
    /// Create a room
    Create(create::Create),
    /// Join a room; create it if it does not exist
    Join(join::Join),
    /// Leave a room
    Leave(leave::Leave),
    /// Send a message to all members
    Send(send::RoomSendArgs),
    /// Show a room's messages
    History(history::RoomHistoryArgs),
    /// List a room's members
    Members(members::Members),
    /// Show messages as they arrive
    Tail(tail::RoomTailArgs),
    /// Invite an agent to an invite-only room
    Invite(invite::Invite),
    /// Show or set a room's visibility
    Visibility(visibility::Visibility),
    /// Delete a room
    Delete(delete::Delete),
}

impl Run for Rooms {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self.action.unwrap_or(Action::List) {
            Action::List => list(context, false),
            Action::Create(create) => create.run(context),
            Action::Join(join) => join.run(context),
            Action::Leave(leave) => leave.run(context),
            Action::Send(send) => send.run(context),
            Action::History(history) => history.run(context),
            Action::Members(members) => members.run(context),
            Action::Tail(tail) => tail.run(context),
            Action::Invite(invite) => invite.run(context),
            Action::Visibility(visibility) => visibility.run(context),
            Action::Delete(delete) => delete.run(context),
        }
    }
}
