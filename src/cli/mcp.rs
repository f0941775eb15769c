//! `c2c mcp`: serve MCP on standard input and output.

use clap::Args;

use super::context::{Context, Run};
use crate::error::Failure;

/// Name of the command.
pub const NAME: &str = "mcp";

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c mcp                                      started by an MCP client\n  \
    C2C_MCP_AUTO_REGISTER_ALIAS=alice c2c mcp    with an alias to register")]
pub struct Mcp {}

impl Run for Mcp {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let mut actor = crate::env::actor::complete(&context.actor, &context.root.path);
        actor.fallback_alias = None;
        actor.exact = true;
        crate::mcp::serve(&context.root, actor).map_err(Failure::Output)
    }
}
