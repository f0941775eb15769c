//! `c2c rooms join`: join a room.

use c2c_core::command;
use clap::Args;
use serde_json::json;

use super::room_info::{execute, find, history_line, member_rows};
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;
use crate::present::json_view;

/// Most messages that a join shows.
const HISTORY_MAX: usize = 200;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c rooms join lobby\n  \
    c2c rooms join lobby --history-limit 0")]
pub struct Join {
    /// Name of the room
    room: String,
    /// Number of earlier messages to show
    #[arg(long, value_name = "N", default_value_t = 20)]
    history_limit: usize,
    /// Alias to join as, if this session has none
    #[arg(long, short = 'a')]
    alias: Option<String>,
}

impl Run for Join {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let command =
            command::JoinRoom { room_id: self.room.into(), from: self.alias.map(Into::into) };
        let reply = execute(context, &command)?;
        let info = find(context, &reply.room_id)?;
        let history = match self.history_limit.min(HISTORY_MAX) {
            0 => Vec::new(),
            limit => context.broker.room_history(&reply.room_id, limit, 0)?,
        };
        if context.common.json {
            let rows: Vec<_> = history.iter().map(json_view::room_message).collect();
            return output::print_json(&json!({
                "room_id": info.room.room_id,
                "members": member_rows(&info),
                "history": rows,
            }));
        }
        let utc = context.common.utc;
        let lines: String = history.iter().map(|message| history_line(message, utc)).collect();
        let members = info.members.len();
        output::print(&format!("Joined room {} ({members} members)\n{lines}", info.room.room_id))
    }
}
