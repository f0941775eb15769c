//! The embedding interface: one agent's mailbox in a broker root.

use std::path::Path;

use c2c_core::command;
use c2c_core::decide::{Actor, Registered, Send, Sent};
use c2c_core::view::MessageView;
use c2c_log_format::payload::{AckLevel, ClaimReturnReason};

use crate::broker::{Broker, DeliveryOptions};
use crate::error::Failure;
use crate::platform::process;

/// Where the log records that this interface showed a message.
const SURFACE: &str = "library";

/// Messages of one poll, under an open claim.
#[derive(Debug, Clone, Default)]
pub struct PolledMail {
    /// In order of sequence.
    pub messages: Vec<MessageView>,
    /// Id for [`AgentMailbox::ack`] and [`AgentMailbox::release`]; `None` without messages.
    pub claim: Option<String>,
}

/// An agent's session in a broker root.
///
/// Every method returns once the events that its result depends on are on disk. Several processes
/// can use one root at the same time.
///
/// ```
/// use c2c::mailbox::AgentMailbox;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let root = directory.path().join("broker");
/// let mut alice = AgentMailbox::open(&root, "session-1", "alice")?;
/// let mut bob = AgentMailbox::open(&root, "session-2", "bob")?;
///
/// let sent = alice.send("bob", "are the tests green?")?;
/// assert_eq!(sent.to, "bob");
///
/// let mail = bob.poll()?;
/// assert_eq!(mail.messages[0].sent.body.as_str(), "are the tests green?");
/// // A claim is acknowledged after the messages were shown. Without an ack, the next poll returns
/// // them again once this process has ended.
/// if let Some(claim) = &mail.claim {
///     bob.ack(claim)?;
/// }
/// assert!(bob.poll()?.messages.is_empty());
/// # Ok(())
/// # }
/// ```
///
/// A rejected command changes nothing and says why:
///
/// ```
/// use c2c::mailbox::AgentMailbox;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let root = directory.path().join("broker");
/// let mut alice = AgentMailbox::open(&root, "session-1", "alice")?;
/// let failure = alice.send("nobody", "hello").unwrap_err();
/// assert_eq!(failure.code().name(), "unknown_alias");
/// # Ok(())
/// # }
/// ```
pub struct AgentMailbox {
    broker: Broker,
    actor: Actor,
    alias: String,
}

impl AgentMailbox {
    /// Opens a root, which is created if necessary, and registers a session under an alias. If a
    /// live session holds the alias, the registration fails with `alias_conflict`.
    pub fn open(root: &Path, session_id: &str, alias: &str) -> Result<Self, Failure> {
        let actor = Actor {
            session_id: Some(session_id.into()),
            process: process::this_process(),
            exact: true,
            ..Actor::default()
        };
        let mut broker = Broker::open(root);
        let command = command::Register { alias: Some(alias.into()) };
        let Registered { alias, .. } = broker.execute(&command, &actor)?.reply;
        Ok(Self { broker, actor, alias: alias.to_string() })
    }

    /// The alias of this session.
    pub fn alias(&self) -> &str {
        &self.alias
    }

    /// Sends a message to an alias, or to `alias@host`. Returns its receipt.
    pub fn send(&mut self, to: &str, body: &str) -> Result<Sent, Failure> {
        let send = Send { to: to.into(), body: body.into(), ..Send::default() };
        Ok(self.broker.execute(&send, &self.actor)?.reply)
    }

    /// Claims all unread messages. No other poller gets them while the claim is open.
    pub fn poll(&mut self) -> Result<PolledMail, Failure> {
        let delivery = self.broker.claim(&self.actor, &DeliveryOptions::all(SURFACE))?;
        Ok(PolledMail { messages: delivery.messages, claim: delivery.claim })
    }

    /// Acknowledges a claim: its messages were shown. Fails with `claim_not_open` if the claim has
    /// ended.
    pub fn ack(&mut self, claim: &str) -> Result<(), Failure> {
        self.broker.ack(&self.actor, claim, AckLevel::Written)
    }

    /// Releases a claim: its messages are unread again.
    pub fn release(&mut self, claim: &str) -> Result<(), Failure> {
        self.broker.release(&self.actor, claim, ClaimReturnReason::OutputFailed)
    }
}
