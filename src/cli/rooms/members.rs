//! `c2c rooms members`: list a room's members.

use clap::Args;

use super::room_info::{find, member_rows};
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c rooms members lobby")]
pub struct Members {
    /// Name of the room
    room: String,
}

impl Run for Members {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let info = find(context, &self.room)?;
        if context.common.json {
            return output::print_json(&member_rows(&info));
        }
        let lines = info.members.iter().map(|member| {
            format!("  {:20}  {}\n", member.alias, output::liveness_label(member.liveness))
        });
        output::print(&lines.collect::<String>())
    }
}
