//! Administrative events: import of legacy files and relocation of a broker root.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::body::Body;
use super::shared::is_false;

payload! {
    /// An older file was imported; its entries are events of the same batch.
    LegacyImported {
        /// File name under the root.
        file: String,
        /// Size in bytes and modification time, used to skip an unchanged file. Of a file of lines
        /// also how far it was imported, and a hash of the bytes before that point.
        stamp: String,
        /// Keys of the imported entries: message_id, or row hash and ordinal.
        entries: Vec<String>,
    }
}

payload! {
    /// What an older file records about the event before this one, which is in the same batch and
    /// has no field for it: its room, its session, its time.
    #[derive(Default)]
    LegacyDetails {
        /// The mailbox that the event before concerns; empty if it has none in this log.
        mailbox: String,
        /// The room of an unread message or dead letter, or the room that the mailbox joined.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        room_id: Option<String>,
        /// The session that did not receive the dead letter.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_id: Option<String>,
        /// When the older version registered the session, added the member or gave up delivery,
        /// microseconds since 1970 UTC.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_us: Option<u64>,
    }
}

payload! {
    /// A message that an older version delivered. It is history and changes nothing else.
    LegacyDelivered {
        /// Idempotency key: that of the older file, or one that the import minted.
        message_id: String,
        /// The mailbox it was in.
        mailbox: String,
        /// The session that received it.
        session_id: String,
        /// The sender's alias.
        from: String,
        /// Recipient as addressed: alias, or `alias#room`.
        to: String,
        /// The text.
        body: Body,
        /// When it was delivered, microseconds since 1970 UTC.
        drained_us: u64,
        /// How it was delivered, as the older version calls it; empty if unknown.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        surface: String,
        /// Whether it could wait for the recipient's next poll.
        #[serde(default, skip_serializing_if = "is_false")]
        deferrable: bool,
    }
}

payload! {
    /// The broker root moved, and this copy no longer accepts writes.
    ///
    /// An empty path marks the copy that was moved to.
    RootMoved {
        /// Path of the new root.
        to: String,
    }
}
