//! `c2c history`: show messages received earlier.

use clap::Args;
use serde_json::json;

use super::context::{Context, Run};
use super::output;
use crate::error::Failure;
use crate::platform::clock;
use crate::present::envelope::for_terminal;
use crate::present::json_view;
use c2c_core::ids::Alias;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c history\n  c2c history --limit 5 --alias bob")]
pub struct HistoryArgs {
    /// Show at most this many messages, newest first
    #[arg(long, short = 'l', value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Show the mailbox of this alias instead of this session's
    #[arg(long, short = 'a')]
    alias: Option<String>,
    /// Show only the text
    #[arg(long)]
    no_headers: bool,
}

impl Run for HistoryArgs {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.refresh(&context.actor)?;
        let mailbox = match &self.alias {
            Some(alias) => context.broker.state().mailbox_for_alias(alias),
            None => Some(context.own_mailbox()?),
        };
        let (alias, messages) = match mailbox {
            Some(mailbox) => {
                let messages = context.broker.history(&mailbox, self.limit)?;
                (mailbox.alias, messages)
            }
            None => (Alias::default(), Vec::new()),
        };
        if context.common.json {
            let rows: Vec<_> = messages.iter().map(|row| json_view::message(row, &alias)).collect();
            return output::print_json(&json!(rows));
        }
        if messages.is_empty() {
            return output::print("(no history)\n");
        }
        let mut text = String::new();
        for message in &messages {
            if !self.no_headers {
                let time = clock::human(message.sent.sent_us, context.common.utc);
                let from = for_terminal(&message.sent.from);
                let room = message.room_id.as_ref().map(|room| format!("#{room}"));
                let room = for_terminal(&room.unwrap_or_default());
                text.push_str(&format!("[{time}] {from} -> {alias}{room}\n"));
            }
            text.push_str(&for_terminal(message.sent.body.as_str()));
            text.push_str("\n\n");
        }
        output::print(&text)
    }
}
