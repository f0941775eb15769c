//! `c2c rooms send`: send a message to all members of a room.

use clap::Args;

use crate::cli::context::{Context, Run};
use crate::cli::outgoing::OutgoingMessage;
use crate::cli::output;
use crate::error::Failure;
use crate::present::json_view;
use c2c_core::command;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c rooms send lobby \"good morning\"\n  \
    git log -1 | c2c rooms send review -")]
pub struct RoomSendArgs {
    /// Name of the room
    room: String,
    #[command(flatten)]
    message: OutgoingMessage,
}

impl Run for RoomSendArgs {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let send = self.message.read()?;
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
        output::note_delay(&link);
        Ok(())
    }
}
