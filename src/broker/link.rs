//! How is the way to other machines, as the connector of this root last said?
//!
//! A note beside the log, not a part of it: it is about now, and a lost one costs nothing.

use std::fs;
use std::io;
use std::path::Path;

use c2c_log_format::payload::Process;
use serde::{Deserialize, Serialize};

use super::{Broker, liveness};
use crate::decide::{Liveness, Sent};
use crate::files::write_private;

/// Name of the note in the broker root.
const FILE: &str = "connector.json";

/// What a connector says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub relay_url: String,
    pub node_id: String,
    /// The connector, if it goes on; none after a single round.
    pub process: Option<Process>,
    /// Since when it is as it is.
    pub since_us: u64,
    /// Why the relay cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why the relay does not take something that is pushed again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

/// How mail for other machines fares now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// No connector has run on this root.
    Never,
    /// It leaves at once, or with the next round.
    Open,
    /// The connector has ended.
    NoConnector,
    /// The relay does not answer.
    Unavailable { since_us: u64, error: String },
}

impl Link {
    /// Leaves the note.
    pub fn keep(&self, root: &Path) -> io::Result<()> {
        write_private(&root.join(FILE), &serde_json::to_vec(self).unwrap_or_default())
    }
}

impl Broker {
    /// The note of this root's connector, if one ran here.
    pub fn link(&self) -> Option<Link> {
        let text = fs::read(self.root.join(FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// How a message fares that was sent just now: one that stays here has no way to go.
    pub fn way_of(&self, sent: &Sent) -> Way {
        self.way_if(sent.outbox || !sent.queued.is_empty())
    }

    /// The same, of something that leaves or does not.
    pub fn way_if(&self, leaves: bool) -> Way {
        if leaves { self.way() } else { Way::Open }
    }

    /// How mail for other machines fares now.
    fn way(&self) -> Way {
        let Some(link) = self.link() else {
            return if self.state.cursors.any([]) { Way::Open } else { Way::Never };
        };
        let gone = |process: &Process| liveness::of(Some(process)) == Liveness::Dead;
        match link.error {
            _ if link.process.as_ref().is_some_and(gone) => Way::NoConnector,
            Some(error) => Way::Unavailable { since_us: link.since_us, error },
            None => Way::Open,
        }
    }

    /// This process, for a note of its own.
    pub fn this_process(&self) -> Option<Process> {
        liveness::this_process()
    }
}
