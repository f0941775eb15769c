//! `c2c rename`: change the alias and keep the mailbox.

use c2c_core::command;
use clap::Args;

use super::context::{Context, Run};
use super::registration::register_and_print;
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c rename reviewer")]
pub struct RenameArgs {
    /// The new alias
    alias: String,
}

impl Run for RenameArgs {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let command = command::Rename { alias: self.alias.into() };
        register_and_print(context, &command, "renamed to")
    }
}
