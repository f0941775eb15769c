//! Status of the link to other machines, as the connector of this root last recorded it.
//!
//! The connector writes the status to a file next to the log. The file describes the present, so
//! losing it does no harm.

use std::fs;
use std::io;
use std::path::Path;

use c2c_log_format::payload::Process;
use serde::{Deserialize, Serialize};

use super::Broker;
use crate::platform::fs::write_private;
use crate::platform::process::{liveness_of, this_process};
use c2c_core::decide::{Liveness, Sent};
use c2c_core::view::LinkStatus;

/// Name of the status file in the broker root.
const FILE: &str = "connector.json";

/// Last known status of a connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorStatus {
    pub relay_url: String,
    pub node_id: String,
    /// The connector's process; `None` after a single sync.
    pub process: Option<Process>,
    /// Time of the last change of status, microseconds since 1970 UTC.
    pub since_us: u64,
    /// Why the relay cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why the relay rejects an event that the connector keeps pushing.
    #[serde(rename = "waits", default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<String>,
    /// Whether the relay is of an older generation, which confirms no delivery.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub older_relay: bool,
    /// Number of times that such a relay may have removed mail that did not arrive here.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub possibly_lost: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl ConnectorStatus {
    /// Writes the status file.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        write_private(&root.join(FILE), &serde_json::to_vec(self).unwrap_or_default())
    }
}

/// # Link to other machines
impl Broker {
    /// Last known status of this root's connector; `None` if no connector ran here.
    pub fn connector_status(&self) -> Option<ConnectorStatus> {
        let text = fs::read(self.root.join(FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Status of the link for a message that was just sent; `Open` for a message that stays on this
    /// machine.
    pub fn link_status_for(&self, sent: &Sent) -> LinkStatus {
        self.link_status_if(sent.outbox || !sent.queued.is_empty())
    }

    /// Status of the link for mail that leaves this machine; `Open` for mail that does not.
    pub fn link_status_if(&self, is_outgoing: bool) -> LinkStatus {
        if is_outgoing { self.link_status() } else { LinkStatus::Open }
    }

    fn link_status(&self) -> LinkStatus {
        let Some(link) = self.connector_status() else {
            // Unreadable rows do not prove that no connector has run.
            let has_connected = self.state.cursors.any([]) || self.check_base().is_err();
            return if has_connected { LinkStatus::Open } else { LinkStatus::NeverConnected };
        };
        let is_dead = |process: &Process| liveness_of(Some(process)) == Liveness::Dead;
        match link.error {
            _ if link.process.as_ref().is_some_and(is_dead) => LinkStatus::NoConnector,
            Some(error) => LinkStatus::Unavailable { since_us: link.since_us, error },
            None if link.older_relay => LinkStatus::Unconfirmed,
            None => LinkStatus::Open,
        }
    }

    /// This process, as the connector's status file records it.
    pub fn this_process(&self) -> Option<Process> {
        this_process()
    }
}
