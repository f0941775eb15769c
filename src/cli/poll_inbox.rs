//! `c2c poll-inbox`: take and show unread messages.

use std::time::Duration;

use clap::Args;

use super::context::{Context, Run};
use super::mail_text::delivery_text;
use super::output;
use super::peek_inbox::PeekInbox;
use crate::broker::{Delivery, DeliveryOptions};
use crate::error::Failure;
use crate::platform::clock;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c poll-inbox\n  \
    c2c poll-inbox --wait 30\n  \
    c2c poll-inbox --limit 5 --manual")]
pub struct PollInbox {
    /// Show messages without taking them
    #[arg(long, short = 'p')]
    peek: bool,
    /// Take at most this many messages
    #[arg(long, short = 'l', value_name = "N")]
    limit: Option<usize>,
    /// Keep the claim open for 60 seconds or until `c2c ack CLAIM`
    #[arg(long)]
    manual: bool,
    /// Print each message as the envelope that agents read
    #[arg(long)]
    envelope: bool,
    /// Wait up to this many seconds for a message
    #[arg(long, value_name = "SECONDS", value_parser = output::parse_seconds,
          allow_negative_numbers = true)]
    wait: Option<Duration>,
}

impl Run for PollInbox {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        if self.peek {
            return PeekInbox {}.run(context);
        }
        if let Some(timeout) = self.wait {
            wait_for_mail(context, timeout)?;
        }
        let options = DeliveryOptions {
            limit: self.limit.unwrap_or(usize::MAX),
            manual: self.manual,
            ..DeliveryOptions::all("cli_poll")
        };
        let as_json = context.common.json;
        let mut show = |delivery: &Delivery| {
            output::write_stdout(&delivery_text(delivery, as_json, self.envelope))
        };
        let delivery = context.broker.deliver(&context.actor, &options, &mut show)?;
        if let Some(claim) = delivery.claim.filter(|_| self.manual) {
            output::note(&format!("claim {claim} is open: c2c ack {claim}"));
        }
        if delivery.claimed > 0 {
            output::note(&format!("{} messages are claimed by another poller", delivery.claimed));
        }
        Ok(())
    }
}

/// Waits until the caller has mail or the time is over. Takes no message.
fn wait_for_mail(context: &mut Context, timeout: Duration) -> Result<(), Failure> {
    let deadline = clock::monotonic() + timeout;
    context.broker.wait_until(Some(deadline), |broker| {
        broker.refresh(&context.actor)?;
        let mailbox = broker.held_mailbox(&context.actor)?;
        Ok(broker.has_mail(&mailbox).then_some(()))
    })?;
    Ok(())
}
