//! `c2c rooms send`: send a message to all members of a room.

use clap::Args;

use crate::cli::context::{Context, Run};
use crate::cli::message_body::message_body;
use crate::cli::output;
use crate::cli::tags::Tags;
use crate::error::Failure;
use crate::present::json_view;
use c2c_core::command;
use c2c_core::decide::{self};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c rooms send lobby \"good morning\"\n  \
    git log -1 | c2c rooms send review -")]
pub struct RoomSendArgs {
    /// Name of the room
    room: String,
    /// Message text; without it or with `-`, read standard input
    words: Vec<String>,
    /// Alias to send as, if this session has none
    #[arg(long, short = 'F', value_name = "ALIAS")]
    from: Option<String>,
    #[command(flatten)]
    tags: Tags,
    /// Idempotency key: a message with this id is accepted once
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
}

impl Run for RoomSendArgs {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let send = decide::Send {
            body: message_body(&self.words)?,
            from: self.from.map(Into::into),
            tag: self.tags.tag(),
            message_id: self.message_id.map(Into::into),
            ..decide::Send::default()
        };
        let command = command::SendToRoom { room_id: self.room.into(), send };
        let sent = context.broker.execute(&command, &context.actor)?.reply;
        let link = context.broker.link_status_for(&sent);
        if context.common.json {
            let broker_id = context.broker.log_id()?.to_owned();
            return output::print_json(&json_view::room_receipt(&sent, &broker_id, &link));
        }
        let queued = match sent.queued.len() {
            0 => String::new(),
            queued => format!("{queued} queued, "),
        };
        output::print(&format!(
            "Sent to room {} ({} delivered, {queued}{} skipped)\n",
            sent.to,
            sent.delivered_to.len(),
            sent.skipped.len()
        ))?;
        if let Some(warning) = json_view::delay_reason_with_hint(&link) {
            output::note(&format!("note: {warning}"));
        }
        Ok(())
    }
}
