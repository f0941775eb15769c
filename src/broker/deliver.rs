//! Mail delivery: claim, show, acknowledge or release.
//!
//! Claiming a message is not showing it. The ack is written only after the message was shown. If
//! showing fails, the claim is released; if the process dies, the next poll releases it.

use c2c_log_format::payload::{AckLevel, ClaimReturnReason};
use std::io;

use super::Broker;
use crate::error::Failure;
use c2c_core::command;
use c2c_core::decide::Actor;
use c2c_core::ids::Alias;
use c2c_core::view::MessageView;

/// Limits and purpose of a claim.
#[derive(Debug, Clone)]
pub struct DeliveryOptions {
    /// Messages at most.
    pub limit: usize,
    /// Bytes of bodies at most.
    pub max_bytes: usize,
    /// Surface that shows the messages, as recorded in the log.
    pub surface: &'static str,
    /// Whether the recipient acknowledges the claim itself.
    pub manual: bool,
    /// Whether to include deferrable messages.
    pub deferrable: bool,
}

impl DeliveryOptions {
    /// All unread mail.
    pub fn all(surface: &'static str) -> Self {
        Self { limit: usize::MAX, max_bytes: usize::MAX, surface, manual: false, deferrable: true }
    }
}

/// Claimed mail.
#[derive(Debug, Clone, Default)]
pub struct Delivery {
    /// Alias of the recipient.
    pub alias: Alias,
    /// Id of the open claim; `None` if nothing was claimed.
    pub claim: Option<String>,
    pub messages: Vec<MessageView>,
    /// Number of unread messages that were not claimed.
    pub remaining: usize,
    /// Number of messages that another poller holds.
    pub claimed: usize,
}

/// # Delivery
impl Broker {
    /// Claims mail. The caller must [`Self::ack`] or [`Self::release`] the claim.
    pub fn claim(&mut self, actor: &Actor, options: &DeliveryOptions) -> Result<Delivery, Failure> {
        self.refresh_lazily(actor)?;
        let mut mailbox = self.held_mailbox(actor)?;
        if mailbox.session.is_none() {
            self.register_returning(actor)?;
            mailbox = self.held_mailbox(actor)?;
        }
        // The common case of a hook: no new mail. No lock, no event, nothing created.
        if !self.has_mail(&mailbox) {
            self.check_base()?;
            return Ok(Delivery { alias: mailbox.alias, ..Delivery::default() });
        }
        let command = command::ClaimInbox {
            limit: options.limit,
            max_bytes: options.max_bytes,
            surface: options.surface.to_owned(),
            manual: options.manual,
            deferrable: options.deferrable,
        };
        let claimed = self.execute(&command, actor)?.reply;
        let messages = self.messages(&claimed.items)?;
        Ok(Delivery {
            alias: claimed.alias,
            claim: claimed.claim,
            messages,
            remaining: claimed.remaining,
            claimed: claimed.claimed,
        })
    }

    /// Acknowledges a claim: its messages were shown, with `level` as the evidence. Fails with
    /// `claim_not_open` if the claim has expired.
    pub fn ack(&mut self, actor: &Actor, claim: &str, level: AckLevel) -> Result<(), Failure> {
        let command = command::AckClaim { claim: claim.to_owned(), level };
        self.execute(&command, actor).map(|_| ())
    }

    /// Releases a claim: its messages are unread again.
    pub fn release(
        &mut self,
        actor: &Actor,
        claim: &str,
        reason: ClaimReturnReason,
    ) -> Result<(), Failure> {
        let command = command::ReleaseClaim { claim: claim.to_owned(), reason };
        self.execute(&command, actor).map(|_| ())
    }

    /// Claims mail and shows it; then acknowledges the claim, or releases it if `show` fails. A manual
    /// claim stays open after it was shown.
    pub fn deliver(
        &mut self,
        actor: &Actor,
        options: &DeliveryOptions,
        show: &mut dyn FnMut(&Delivery) -> io::Result<()>,
    ) -> Result<Delivery, Failure> {
        let delivery = self.claim(actor, options)?;
        match (show(&delivery), &delivery.claim) {
            (Ok(()), Some(claim)) if !options.manual => {
                self.ack(actor, claim, AckLevel::Written)?;
            }
            (Ok(()), _) => {}
            (Err(source), Some(claim)) => {
                self.release(actor, claim, ClaimReturnReason::OutputFailed)?;
                return Err(Failure::Output(source));
            }
            (Err(source), None) => return Err(Failure::Output(source)),
        }
        Ok(delivery)
    }
}
