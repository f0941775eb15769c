//! Message events: acceptance, expiry and dead letters.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::body::Body;
use super::shared::{Origin, is_false};
use super::values::DeadLetterReason;
use crate::Sequence;

payload! {
    /// A message was accepted for a local mailbox, a remote address or a room.
    MessageSent {
        /// Idempotency key, minted once at the origin.
        message_id: String,
        /// The sender's alias when it sent the message; `alias@node` if it is on another node.
        from: String,
        /// The sender's mailbox; empty if the sender has none in this log.
        #[serde(default)]
        from_mailbox: String,
        /// Recipient as addressed: alias, `alias@host` or room id.
        to: String,
        /// The text.
        body: Body,
        /// When the message was accepted at its origin, microseconds since 1970 UTC.
        sent_us: u64,
        /// Where the message goes.
        target: Target,
        /// `fail`, `blocking` or `urgent`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag: Option<String>,
        /// message_id of the message that this one answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<String>,
        /// When the message expires, microseconds since 1970 UTC.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_us: Option<u64>,
        /// Whether the message may wait for the recipient's next poll instead of being pushed.
        #[serde(default, skip_serializing_if = "is_false")]
        deferrable: bool,
        /// How the message was created: `send`, `send_all`, `import`, ...
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// Where the message was first written, if that was another log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    }
}

impl MessageSent {
    /// Creates a message with the required fields.
    ///
    /// `from_mailbox` is empty, `sent_us` is 0, and the optional fields are unset; set them with
    /// struct update syntax.
    pub fn new(
        message_id: impl Into<String>,
        from: impl Into<String>,
        to: impl Into<String>,
        target: Target,
        body: impl Into<Body>,
    ) -> Self {
        Self {
            message_id: message_id.into(),
            from: from.into(),
            from_mailbox: String::new(),
            to: to.into(),
            body: body.into(),
            sent_us: 0,
            target,
            tag: None,
            reply_to: None,
            expires_us: None,
            deferrable: false,
            source: None,
            origin: None,
        }
    }
}

/// The destination of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One mailbox of this log.
    Mailbox(String),
    /// Every member of a room.
    Room {
        /// The room.
        room_id: String,
        /// Room sequence assigned by the room's home node, if known yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<u64>,
        /// Mailboxes of members that do not receive the message; each gets a dead letter.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        skipped: Vec<String>,
    },
    /// Straight to the dead letters, because no agent can receive the message.
    DeadLetter {
        /// The addressed mailbox; empty if none exists.
        mailbox: String,
        /// The addressed alias.
        alias: String,
        /// Why the message cannot be delivered.
        reason: DeadLetterReason,
    },
    /// The outbox, for another host.
    Outbox {
        /// Alias on the other host.
        alias: String,
        /// Host part of the address.
        host: String,
    },
}

payload! {
    /// Messages expired unread.
    MessagesExpired {
        /// The mailbox.
        mailbox: String,
        /// Their sequences.
        messages: Vec<Sequence>,
    }
}

payload! {
    /// Messages moved to the dead letters.
    MessagesDeadLettered {
        /// The mailbox they were in; empty for the outbox.
        mailbox: String,
        /// The alias they were addressed to.
        alias: String,
        /// Their sequences.
        messages: Vec<Sequence>,
        /// Why they could not be delivered.
        reason: DeadLetterReason,
    }
}

payload! {
    /// Dead letters were moved back to a mailbox.
    DeadLettersReturned {
        /// The mailbox.
        mailbox: String,
        /// Their sequences.
        messages: Vec<Sequence>,
    }
}

payload! {
    /// Dead letters were removed from the list; the log still holds them.
    DeadLettersPurged {
        /// Their sequences.
        messages: Vec<Sequence>,
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn a_new_message_encodes_only_its_required_fields() {
        let message = MessageSent::new("m-1", "ann", "bob", Target::Mailbox("bob".into()), "hi");
        let json = serde_json::to_string(&message);
        let expected = concat!(
            r#"{"message_id":"m-1","from":"ann","from_mailbox":"","to":"bob","body":"hi","#,
            r#""sent_us":0,"target":{"mailbox":"bob"}}"#
        );
        assert_eq!(json.ok().as_deref(), Some(expected), "{message:?}");
    }
}
