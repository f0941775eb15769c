//! `c2c send-all`: send a message to all agents.

use c2c_core::address::is_remote;
use c2c_core::command;
use c2c_core::decide::BroadcastReply;
use clap::Args;
use serde_json::json;

use super::context::{Context, Run};
use super::message_body::message_body;
use super::output;
use super::tags::Tags;
use crate::error::Failure;
use crate::present::json_view;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c send-all \"main is frozen for the release\"\n  \
    c2c send-all \"rebase, please\" --exclude alice,bob")]
pub struct SendAllArgs {
    /// Message text; without it or with `-`, read standard input
    words: Vec<String>,
    /// Aliases to leave out, separated by commas
    #[arg(long, short = 'x', value_name = "ALIASES", value_delimiter = ',')]
    exclude: Vec<String>,
    /// Alias to send as, if this session has none
    #[arg(long, short = 'F', value_name = "ALIAS", visible_alias = "from-alias")]
    from: Option<String>,
    /// Idempotency key: a repeated broadcast reaches only agents that have not received it
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    #[command(flatten)]
    tags: Tags,
}

impl Run for SendAllArgs {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let command = command::SendAll {
            body: message_body(&self.words)?,
            exclude: self.exclude,
            tag: self.tags.tag(),
            from: self.from.map(Into::into),
            message_id: self.message_id.map(Into::into),
        };
        let reply = context.broker.execute(&command, &context.actor)?.reply;
        let BroadcastReply { message_ids, sent_to, skipped } = reply;
        let link = context.broker.link_status_if(sent_to.iter().any(|to| is_remote(to)));
        if context.common.json {
            let row = json!({ "sent_to": sent_to, "skipped": skipped, "message_ids": message_ids });
            return output::print_json(&json_view::with_delay_warning(row, &link));
        }
        output::note_delay(&link);
        let mut text = match sent_to.as_slice() {
            [] => String::from("No recipients.\n"),
            sent_to => format!("Sent to: {}\n", sent_to.join(", ")),
        };
        for row in &skipped {
            text.push_str(&format!("  skipped {} ({})\n", row.alias, row.reason));
        }
        output::print(&text)
    }
}
