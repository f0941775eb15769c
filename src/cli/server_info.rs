//! `c2c server-info`: show version and features.

use clap::Args;

use super::context::{Context, Run};
use super::output;
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c server-info\n  c2c server-info --json")]
pub struct ServerInfo {}

impl Run for ServerInfo {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let info = crate::mcp::server_info();
        if context.common.json {
            return output::print_json(&info);
        }
        let features = info["features"].as_array().map_or(0, Vec::len);
        output::print(&format!(
            "name: c2c\nversion: {}\nfeatures: {features}\n",
            env!("CARGO_PKG_VERSION")
        ))
    }
}
