//! `c2c completion`: print shell completions.

use clap::Args;
use clap_complete::Shell;

use super::context::{Context, Run};
use super::output;
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c completion bash > ~/.local/share/bash-completion/completions/c2c")]
pub struct Completion {
    /// Shell that will read the completions
    shell: Shell,
}

impl Run for Completion {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut context.command_line(), "c2c", &mut script);
        output::print(&String::from_utf8_lossy(&script))
    }
}
