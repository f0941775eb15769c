//! Types that several event families share.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::Sequence;

/// For `skip_serializing_if`: leaves a false flag out of the JSON.
pub(super) fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The identity of a running process, precise enough to tell it from a later process with the
/// same number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id in its own namespace.
    pub pid: u32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`), 0 if unknown.
    #[serde(default)]
    pub start: u64,
    /// Boot id, empty if unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot: String,
    /// Inode of the pid namespace, 0 if unknown.
    #[serde(default)]
    pub ns: u64,
}

/// The place where an event was first written, if that was another log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Log id, 32 hex digits.
    pub log: String,
    /// Sequence in that log.
    pub sequence: Sequence,
    /// Node that wrote the event.
    pub node: String,
    /// Digest of the event in that log; see [`crate::event::Event::digest`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
}
