//! Commands about other machines.

mod identity;

use clap::{Args, Subcommand};

use super::{Context, Run};
use crate::failure::Failure;

#[derive(Args)]
pub struct Relay {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The key of this machine: init, show, fingerprint, rotate
    Identity(identity::Identity),
}

impl Run for Relay {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self.what {
            What::Identity(command) => command.run(context),
        }
    }
}
