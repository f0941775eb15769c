//! Commands that serve, or tell about the program.

use clap::Args;
use clap_complete::Shell;

use super::{Context, Run, output};
use crate::failure::Failure;

#[derive(Args)]
pub struct Mcp {}

impl Run for Mcp {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let mut actor = crate::actor::complete(&context.actor);
        actor.fallback_alias = None;
        actor.exact = true;
        crate::mcp::serve(&context.root.path, actor).map_err(Failure::Output)
    }
}

#[derive(Args)]
pub struct ServerInfo {}

impl Run for ServerInfo {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let info = crate::mcp::server_info();
        if context.common.json {
            return output::say_json(&info);
        }
        let features = info["features"].as_array().map_or(0, Vec::len);
        output::say(&format!(
            "name: c2c\nversion: {}\nfeatures: {features}\n",
            env!("CARGO_PKG_VERSION")
        ))
    }
}

#[derive(Args)]
pub struct Completion {
    /// Shell to write them for
    shell: Shell,
}

impl Run for Completion {
    fn run(self, _context: &mut Context) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::whole(), "c2c", &mut script);
        output::say(&String::from_utf8_lossy(&script))
    }
}
