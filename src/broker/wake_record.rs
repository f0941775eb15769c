//! The last nudges of each agent, as the `c2c wake` of this root recorded them.
//!
//! A file for each mailbox stands next to the log. It describes one terminal of this machine, and no
//! decision depends on it, so it is not an event: losing it does no harm.

use std::fs;
use std::io;
use std::path::PathBuf;

use c2c_log_format::id::check_name;
use serde::{Deserialize, Serialize};

use super::Broker;
use crate::platform::fs::write_private;

/// Directory of the records under a broker root.
const DIRECTORY: &str = "wakes";

/// A method of `c2c wake` that sees whether a nudge was submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WakeMethod {
    Tmux,
    Terminal,
}

impl WakeMethod {
    /// Name in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tmux => "tmux",
            Self::Terminal => "terminal",
        }
    }
}

/// A wake that was seen to succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenWake {
    /// Microseconds since 1970 UTC.
    pub at_us: u64,
    pub by: WakeMethod,
}

/// A nudge that did not wake its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedWake {
    /// Microseconds since 1970 UTC.
    pub at_us: u64,
    pub by: WakeMethod,
    pub reason: String,
}

/// The last nudges of one agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeRecord {
    /// The last wake that was seen to succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<ProvenWake>,
    /// The last nudge, if it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedWake>,
}

/// # Records of wakes
impl Broker {
    fn wake_record_file(&self, mailbox: &str) -> Option<PathBuf> {
        check_name(mailbox).ok().map(|()| self.root.join(DIRECTORY).join(mailbox))
    }

    /// The last nudges of the agent with this mailbox; empty if none was recorded.
    pub fn wake_record(&self, mailbox: &str) -> WakeRecord {
        let text = self.wake_record_file(mailbox).and_then(|path| fs::read(path).ok());
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Records a nudge of the agent with this mailbox: `Err` holds why it did not wake the agent.
    pub fn record_wake(
        &self,
        mailbox: &str,
        by: WakeMethod,
        at_us: u64,
        outcome: Result<(), String>,
    ) -> io::Result<()> {
        let path = self.wake_record_file(mailbox).ok_or(io::ErrorKind::InvalidInput)?;
        let record = match outcome {
            Ok(()) => WakeRecord { proven: Some(ProvenWake { at_us, by }), failed: None },
            Err(reason) => WakeRecord {
                failed: Some(FailedWake { at_us, by, reason }),
                ..self.wake_record(mailbox)
            },
        };
        write_private(&path, &serde_json::to_vec(&record).unwrap_or_default())
    }
}
