//! The `c2c relay` commands: messages between machines.

mod connect;
mod dead_letter;
mod dm;
mod gc;
mod identity;
mod inbox;
mod key;
mod list;
mod logging;
mod poll_inbox;
mod progress;
mod register;
mod restore;
mod rooms;
mod serve;
mod service_unit;
mod setup;
mod status;
mod target;
mod text;
mod unbind;

use clap::{Args, Subcommand};

use crate::cli::context::{Context, Run};
use crate::error::Failure;

pub use target::{health, save_url};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c relay serve --token TOKEN                             on the host of the relay\n  \
    c2c relay setup --url http://host:7331 --token TOKEN      on each machine\n  \
    c2c relay connect                                         on each machine\n  \
    c2c relay status")]
pub struct RelayArgs {
    #[command(subcommand)]
    command: RelayCommand,
}

#[derive(Subcommand)]
enum RelayCommand {
    /// Serve a relay for other machines
    Serve(serve::RelayServe),
    /// Connect this machine's agents to a relay
    Connect(connect::RelayConnect),
    /// Restore a broker root from the copy that `connect --mirror` keeps at the relay
    Restore(restore::RelayRestore),
    /// Save the relay's URL and token
    Setup(setup::RelaySetup),
    /// Show whether the relay responds, and the number of its agents
    Status(status::RelayStatus),
    /// List the agents that the relay knows
    List(list::RelayList),
    /// Remove expired leases
    Gc(gc::RelayGc),
    /// List or replay messages that the relay could not deliver
    DeadLetter(dead_letter::RelayDeadLetter),
    /// Release an alias from its key
    Unbind(unbind::RelayUnbind),
    /// List, join and use rooms on the relay
    Rooms(rooms::RelayRooms),
    /// Register an alias on the relay without a connector
    Register(register::RelayRegister),
    /// Send and take direct messages on the relay without a connector
    Dm(dm::RelayDm),
    /// Take the messages of a session on the relay
    PollInbox(poll_inbox::RelayPollInbox),
    /// Manage this machine's key: init, show, fingerprint, rotate
    Identity(identity::RelayIdentity),
}

impl Run for RelayArgs {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self.command {
            RelayCommand::Serve(command) => command.run(context),
            RelayCommand::Connect(command) => command.run(context),
            RelayCommand::Restore(command) => command.run(context),
            RelayCommand::Setup(command) => command.run(context),
            RelayCommand::Status(command) => command.run(context),
            RelayCommand::List(command) => command.run(context),
            RelayCommand::Gc(command) => command.run(context),
            RelayCommand::DeadLetter(command) => command.run(context),
            RelayCommand::Unbind(command) => command.run(context),
            RelayCommand::Rooms(command) => command.run(context),
            RelayCommand::Register(command) => command.run(context),
            RelayCommand::Dm(command) => command.run(context),
            RelayCommand::PollInbox(command) => command.run(context),
            RelayCommand::Identity(command) => command.run(context),
        }
    }
}
