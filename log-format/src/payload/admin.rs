//! Administrative events: import of legacy files and relocation of a broker root.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

payload! {
    /// An older file was imported; its entries are events of the same batch.
    LegacyImported {
        /// File name under the root.
        file: String,
        /// Size in bytes and modification time in nanoseconds, used to skip an unchanged file.
        stamp: String,
        /// Keys of the imported entries: message_id, or row hash and ordinal.
        entries: Vec<String>,
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
