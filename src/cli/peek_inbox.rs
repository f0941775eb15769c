//! `c2c peek-inbox`: show unread messages without taking them.

use clap::Args;

use super::context::{Context, Run};
use super::mail_text::delivery_text;
use super::output;
use crate::broker::Delivery;
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c peek-inbox\n  c2c peek-inbox --json")]
pub struct PeekInbox {}

impl Run for PeekInbox {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.refresh(&context.actor)?;
        let mailbox = context.own_mailbox()?;
        let (messages, claimed) = context.broker.peek(&mailbox)?;
        let delivery = Delivery { alias: mailbox.alias, messages, claimed, ..Delivery::default() };
        output::print(&delivery_text(&delivery, context.common.json, false))?;
        if delivery.claimed > 0 {
            output::note(&format!("{} messages are claimed by another poller", delivery.claimed));
        }
        Ok(())
    }
}
