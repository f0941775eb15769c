//! How does mail reach whoever shows it: claim, show, ack?
//!
//! Taking a message is not showing it. The ack is written only after the showing succeeded; a
//! showing that fails gives everything back, and one whose process dies is given back by the next
//! poll.

use std::io;

use super::{Broker, Message};
use crate::code::Code;
use crate::decide::{Actor, Command, Refusal, Reply};
use crate::failure::Failure;

/// How much to take, and for which surface.
#[derive(Debug, Clone)]
pub struct Wish {
    pub limit: usize,
    pub max_bytes: usize,
    pub surface: &'static str,
    pub manual: bool,
    /// Whether messages that may wait are wanted, too.
    pub deferrable: bool,
}

impl Wish {
    /// Everything there is.
    pub fn all(surface: &'static str) -> Self {
        Self { limit: usize::MAX, max_bytes: usize::MAX, surface, manual: false, deferrable: true }
    }
}

/// Mail that was taken.
#[derive(Debug, Clone, Default)]
pub struct Delivery {
    /// Alias that it is for.
    pub alias: String,
    /// The open claim, if anything was taken.
    pub claim: Option<String>,
    pub messages: Vec<Message>,
    /// Unread and not taken now.
    pub remaining: usize,
    /// Held by another poller.
    pub claimed: usize,
}

impl Broker {
    /// Takes mail without saying that it was shown: the caller acks or gives back.
    pub fn claim(&mut self, actor: &Actor, wish: &Wish) -> Result<Delivery, Failure> {
        self.look(actor)?;
        let mailbox = self.own_mailbox(actor);
        // The common case of a hook: nobody has written. No lock, no event, nothing created.
        match &mailbox {
            Some(mailbox) if !self.has_mail(mailbox) => {
                return Ok(Delivery { alias: mailbox.alias.clone(), ..Delivery::default() });
            }
            None if actor.session_id.is_none() => return Ok(Delivery::default()),
            _ => {}
        }
        let command = Command::Claim {
            limit: wish.limit,
            max_bytes: wish.max_bytes,
            surface: wish.surface.to_owned(),
            manual: wish.manual,
            deferrable: wish.deferrable,
        };
        let Reply::Claimed(claimed) = self.execute(&command, actor)?.reply else {
            return Ok(Delivery::default());
        };
        let messages = self.messages(&claimed.items)?;
        Ok(Delivery {
            alias: claimed.alias,
            claim: claimed.claim,
            messages,
            remaining: claimed.remaining,
            claimed: claimed.claimed,
        })
    }

    /// Says that a claim's messages were shown.
    pub fn ack(&mut self, actor: &Actor, claim: &str, level: &str) -> Result<(), Failure> {
        let command = Command::Ack { claim: claim.to_owned(), level: level.to_owned() };
        match self.execute(&command, actor)?.reply {
            Reply::Moved { .. } => {
                let message = format!("claim '{claim}' is not open");
                Err(Refusal::new(Code::ClaimNotOpen, "claim", message)
                    .hint("poll again: its messages went back to the mailbox")
                    .into())
            }
            _ => Ok(()),
        }
    }

    /// Gives a claim's messages back to the mailbox.
    pub fn give_back(&mut self, actor: &Actor, claim: &str, reason: &str) -> Result<(), Failure> {
        let command = Command::Return { claim: claim.to_owned(), reason: reason.to_owned() };
        self.execute(&command, actor).map(|_| ())
    }

    /// Claims, shows, and acks or gives back.
    pub fn deliver(
        &mut self,
        actor: &Actor,
        wish: &Wish,
        show: &mut dyn FnMut(&Delivery) -> io::Result<()>,
    ) -> Result<Delivery, Failure> {
        let delivery = self.claim(actor, wish)?;
        match (show(&delivery), &delivery.claim) {
            (Ok(()), Some(claim)) if !wish.manual => self.ack(actor, claim, "written")?,
            (Ok(()), _) => {}
            (Err(cause), Some(claim)) => {
                self.give_back(actor, claim, "output_failed")?;
                return Err(Failure::Output(cause));
            }
            (Err(cause), None) => return Err(Failure::Output(cause)),
        }
        Ok(delivery)
    }
}
