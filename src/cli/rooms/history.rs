//! `c2c rooms history`: show a room's messages.

use clap::Args;
use serde_json::json;

use super::room_info::{find, history_line};
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;
use crate::platform::clock;
use crate::present::json_view;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c rooms history lobby\n  \
    c2c rooms history lobby --since 24h --limit 0")]
pub struct RoomHistoryArgs {
    /// Name of the room
    room: String,
    /// Show only the newest N messages; 0 for all
    #[arg(long, short = 'l', value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Show only messages since this time: RFC 3339, seconds since 1970, or 30m, 24h, 7d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

impl Run for RoomHistoryArgs {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let info = find(context, &self.room)?;
        let since_us = self.since.as_deref().map_or(Ok(0), parse_since)?;
        let rows = context.broker.room_history(&info.room.room_id, self.limit, since_us)?;
        if context.common.json {
            return output::print_json(&json!(
                rows.iter().map(json_view::room_message).collect::<Vec<_>>()
            ));
        }
        let utc = context.common.utc;
        output::print(&rows.iter().map(|row| history_line(row, utc)).collect::<String>())
    }
}

/// Parses `--since`, a time or an age; returns microseconds since 1970.
fn parse_since(text: &str) -> Result<u64, Failure> {
    let since_us = match parse_age(text) {
        Some(age_us) => Some(clock::now_us().saturating_sub(age_us)),
        None => clock::parse(text),
    };
    since_us.ok_or_else(|| {
        let expected = "expected an age such as 30m, 24h or 7d, or an RFC 3339 time";
        output::usage_error(&format!("invalid --since '{text}': {expected}"))
    })
}

/// Parses an age such as `30m`, `24h` or `7d`; returns microseconds.
fn parse_age(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let unit_s = match unit {
        's' => 1.0,
        'm' => 60.0,
        'h' => 3_600.0,
        'd' => 86_400.0,
        _ => return None,
    };
    let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
    Some((number.max(0.0) * unit_s * 1e6) as u64)
}
