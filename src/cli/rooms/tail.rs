//! `c2c rooms tail`: show room messages as they arrive.

use clap::Args;

use super::room_info::{find, history_line};
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;
use crate::present::json_view;
use c2c_core::view::RoomMessageView;

/// Messages that are read again after each change, to find the new ones.
const WINDOW: usize = 200;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c rooms tail lobby\n  \
    c2c rooms tail lobby --lines 5 --no-follow")]
pub struct RoomTailArgs {
    /// Name of the room
    room: String,
    /// Number of earlier messages to start with
    #[arg(long, short = 'l', value_name = "N", default_value_t = 20)]
    lines: usize,
    /// Exit without waiting for new messages
    #[arg(long, short = 'n')]
    no_follow: bool,
}

impl Run for RoomTailArgs {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let info = find(context, &self.room)?;
        let (as_json, utc) = (context.common.json, context.common.utc);
        let line = |row: &RoomMessageView| match as_json {
            true => output::json_line(&json_view::room_message(row)),
            false => history_line(row, utc),
        };
        let mut shown = 0;
        let mut limit = self.lines;
        loop {
            let rows = context.broker.room_history(&info.room.room_id, limit, 0)?;
            let new = rows.iter().filter(|row| row.message.sequence > shown);
            let text: String = new.map(line).collect();
            if !text.is_empty() {
                output::print(&text)?;
            }
            if self.no_follow {
                return Ok(());
            }
            shown = rows.iter().map(|row| row.message.sequence).fold(shown, u64::max);
            limit = WINDOW;
            context.broker.wait_for_events(&context.actor)?;
        }
    }
}
