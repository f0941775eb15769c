//! `c2c register`: register an alias for this session.

use c2c_core::command;
use clap::Args;

use super::context::{Context, Run};
use super::registration::register_and_print;
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c register --alias alice --role \"reviews\"\n  \
    c2c register --alias alice --session-id s-alice")]
pub struct RegisterArgs {
    /// Alias to register [default: this session's alias, else C2C_MCP_AUTO_REGISTER_ALIAS]
    #[arg(long, short = 'a')]
    alias: Option<String>,
    /// Description of what this agent does
    #[arg(long, value_name = "TEXT")]
    role: Option<String>,
}

impl Run for RegisterArgs {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.actor.role = self.role;
        // The user requested this registration, so no note about it follows.
        context.actor.fallback_alias = None;
        if context.actor.session_id.is_none() {
            context.actor.session_id =
                self.alias.clone().filter(|alias| !alias.is_empty()).map(Into::into);
        }
        let command = command::Register { alias: self.alias.map(Into::into) };
        register_and_print(context, &command, "registered")
    }
}
