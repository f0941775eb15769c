//! Command execution on one broker root.
//!
//! A command catches up without a lock, takes the writer lock, catches up with the rest, gathers
//! facts, decides, appends, unlocks, waits for the disk and replies. Queries take no lock and write
//! nothing.

mod background_checkpoint;
mod catch_up;
mod checkpoints;
#[cfg(test)]
mod damage_tests;
mod deliver;
mod doorbell;
mod elsewhere;
mod events;
mod execute;
mod group;
mod legacy_import;
mod legacy_views;
mod link;
pub mod liveness;
mod message_index;
mod relocate;
mod returning;
mod views;
mod wait;
mod wake_record;

use std::path::{Path, PathBuf};
use std::time::Duration;

use c2c_log_format::Payload;

use self::background_checkpoint::BackgroundCheckpointer;
use self::message_index::MessageIndex;
use crate::env::root::{Root, RootClaim};
use crate::error::Failure;
use crate::legacy;
use crate::store::{SegmentedStore, Store};
use c2c_core::decide::RelayFacts;
use c2c_core::state::{CheckpointBase, State};
use c2c_core::view::LoggedEvent;

pub use deliver::{Delivery, DeliveryOptions};
pub use elsewhere::IN_ROOT;
pub use events::RecordedEvent;
pub use execute::Executed;
pub use legacy_import::Imported;
pub use link::ConnectorStatus;
pub use wait::{CancelFlag, Check};
pub use wake_record::{FailedWake, ProvenWake, WakeMethod, WakeRecord};

/// Directory of the log under a broker root.
pub const LOG_DIRECTORY: &str = "log";

/// One broker root, as one process sees it.
pub struct Broker {
    root: PathBuf,
    store: Box<dyn Store>,
    state: State,
    /// Highest sequence that must be on disk before anything read here may be reported.
    relied_on: u64,
    loaded: bool,
    /// Events from legacy files that the log has not imported: visible here, not written.
    merged: Vec<LoggedEvent>,
    foreign: legacy::LegacyFileFinder,
    /// Histories in legacy files that the log has not imported, as of the last refresh.
    foreign_histories: Vec<legacy::LegacyFile>,
    /// Rows of the checkpoint that the state is based on.
    base: Option<CheckpointBase>,
    /// Whether [`Self::base`] is verified when it is loaded, and not only as its rows are read.
    verifies_base: bool,
    log_id: String,
    /// Set when this broker is a relay.
    relay: Option<RelayFacts>,
    /// Set in a process that looks up many messages by id.
    message_index: Option<MessageIndex>,
    /// Number of events so far that changed which key an alias belongs to.
    key_changes: u64,
    /// Sequence that the open group of commands has to wait for.
    group: Option<u64>,
    /// Events that groups have written; see [`Self::drop_committed_events`].
    committed: Vec<Vec<Payload>>,
    checkpointer: BackgroundCheckpointer,
    /// The repository to pin to this root with the first write.
    claim: Option<RootClaim>,
    /// The alias of the user, if this process has registered it.
    new_user: Option<String>,
}

/// # Opening
impl Broker {
    /// Opens a root. Creates nothing.
    pub fn open(root: &Path) -> Self {
        Self::with_store(root, Box::new(SegmentedStore::open(&root.join(LOG_DIRECTORY))))
    }

    /// Opens a root whose events are in the given store.
    pub fn with_store(root: &Path, store: Box<dyn Store>) -> Self {
        Self {
            root: root.to_owned(),
            store,
            state: State::default(),
            relied_on: 0,
            loaded: false,
            merged: Vec::new(),
            foreign: legacy::LegacyFileFinder::default(),
            foreign_histories: Vec::new(),
            base: None,
            verifies_base: false,
            log_id: String::new(),
            relay: None,
            message_index: None,
            key_changes: 0,
            group: None,
            committed: Vec::new(),
            checkpointer: BackgroundCheckpointer::default(),
            claim: None,
            new_user: None,
        }
    }

    /// Opens a root that was found for a working directory. The first write pins the repository to
    /// it.
    pub fn open_found(root: &Root) -> Self {
        Self { claim: root.claim.clone(), ..Self::open(&root.path) }
    }

    /// Turns this broker into a relay.
    pub fn with_relay(self, relay: RelayFacts) -> Self {
        Self { relay: Some(relay), ..self }
    }

    /// At a relay: sets the host name that the client of the next commands used. Commands treat it as
    /// an alias of this relay.
    pub fn set_requested_host(&mut self, name: Option<String>) {
        if let Some(relay) = &mut self.relay {
            relay.requested_host = name;
        }
    }
}

/// # Properties
impl Broker {
    /// Directory of this root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// State as of the last refresh, which verified that no row is missing.
    pub fn state(&self) -> &State {
        self.assert_verified();
        &self.state
    }

    /// A counter that changes when an alias comes to belong to another key.
    pub fn key_changes(&self) -> u64 {
        self.key_changes
    }

    /// Id of the log, 32 hex digits; empty before the first append.
    pub fn log_id(&mut self) -> Result<&str, Failure> {
        if self.log_id.is_empty() {
            self.log_id = self.store.log_id()?;
        }
        Ok(&self.log_id)
    }
}

/// # Waiting for appends
impl Broker {
    /// A counter that changes with every append.
    pub fn version(&self) -> u32 {
        self.store.version()
    }

    /// Sleeps until the change counter differs from `seen`, or until the timeout.
    pub fn wait(&mut self, seen: u32, timeout: Duration) {
        self.store.wait(seen, timeout);
    }
}
