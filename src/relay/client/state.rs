//! State of a connector: one broker root, one relay, and how far they are in step.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::older::progress::OlderRelay;
use super::progress::{Leases, MirrorProgress, PushProgress};
use super::relay_client::RelayClient;
use crate::broker::{Broker, LOG_DIRECTORY};
use crate::error::Failure;
use crate::log::{Directory, LockFile, Log, Options, Storage};
use crate::relay::convert::parse_log_id;
use crate::relay::protocol::response::HealthResponse;
use crate::store::StoreError;
use c2c_core::code::Code;
use c2c_core::decide::{Actor, Rejection};
use c2c_core::limits::RELAY_WAIT_S_MAX;

/// Longest time that a pull asks the relay to wait for events.
pub(super) const LONG_POLL_MAX: Duration = Duration::from_secs(RELAY_WAIT_S_MAX - 5);

/// Identity of the relay at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayInfo {
    /// Id of the relay's log.
    pub log: [u8; 16],
    /// The same in hex digits.
    pub log_id: String,
    /// Name under which the relay sends its own messages.
    pub name: String,
}

/// The generation of the relay.
pub(super) enum Generation {
    /// It replicates.
    Replicating(RelayInfo),
    /// It offers JSON routes only.
    Older,
}

/// Replicates one broker root with one relay.
pub struct Connector {
    pub(super) broker: Broker,
    pub(super) client: RelayClient,
    pub(super) node_id: String,
    /// Duration of a lease, seconds.
    pub(super) ttl_s: u64,
    /// The relay, as of the last handshake.
    pub(super) relay: Option<RelayInfo>,
    pub(super) leases: Leases,
    pub(super) push_progress: PushProgress,
    pub(super) mirror_progress: MirrorProgress,
    /// What is known about the relay, if it is one of an older generation.
    pub(super) older: Option<OlderRelay>,
    /// Number of times that an older relay may have removed mail that did not arrive here, not yet
    /// written to the status of the link.
    pub(super) possibly_lost: u64,
    /// How long the next pull asks the relay to wait for events.
    pub(super) long_poll_timeout: Duration,
    /// The alias that signs requests for this root; one that the relay has admitted.
    signing_alias: Arc<Mutex<Option<String>>>,
}

impl Connector {
    /// Creates a connector for a root. `ttl_s` is the duration of a lease, seconds.
    pub fn new(root: &Path, client: RelayClient, node_id: &str, ttl_s: u64) -> Self {
        Self {
            broker: Broker::open(root),
            client,
            node_id: node_id.to_owned(),
            ttl_s,
            relay: None,
            leases: Leases::default(),
            push_progress: PushProgress::default(),
            mirror_progress: MirrorProgress::default(),
            older: None,
            possibly_lost: 0,
            long_poll_timeout: LONG_POLL_MAX,
            signing_alias: Arc::default(),
        }
    }

    /// Enables or disables the copy of the whole log at the relay, local messages included.
    pub fn with_mirror(mut self, enabled: bool) -> Self {
        self.mirror_progress.enabled = enabled;
        self
    }

    /// Locks the root against a second long-running connector until the returned lock is dropped.
    ///
    /// Fails with [`Code::ConnectorRunning`] if another process holds the lock.
    pub fn lock_root(&self) -> Result<Arc<dyn LockFile>, Failure> {
        let root = self.broker.root();
        let io = |e| StoreError::io("lock", &root.display().to_string(), e);
        let lock = Directory::new(root).lock_file("connector.lock").map_err(io)?;
        if lock.try_lock().map_err(io)? {
            return Ok(lock);
        }
        let message = format!("a connector is already running for {}", root.display());
        Err(Rejection::new(Code::ConnectorRunning, "broker_root", message)
            .hint("stop it first, or sync once beside it: c2c relay connect --once")
            .into())
    }

    /// Creates a second connector for the same root and relay, to be used by another thread. Both
    /// share the signing alias.
    pub(super) fn clone_for_thread(&self) -> Self {
        let mut clone =
            Self::new(self.broker.root(), self.client.clone(), &self.node_id, self.ttl_s);
        clone.signing_alias = Arc::clone(&self.signing_alias);
        clone
    }

    /// The actor in whose name the connector executes commands.
    pub(super) fn actor(&self) -> Actor {
        Actor { node_id: self.node_id.clone().into(), ..Actor::default() }
    }

    /// Asks the relay for its identity. If it differs from the last handshake, all leases and the
    /// push progress are reset, because the relay knows none of them.
    pub(super) fn handshake(&mut self) -> Result<Generation, Failure> {
        let health: HealthResponse = self.client.get("/health", None)?;
        let Some(log_id) = health.relay_id else {
            self.join_older_relay()?;
            return Ok(Generation::Older);
        };
        let log = parse_log_id(&log_id).map_err(|_| {
            let message = "the relay does not report the id of its log";
            Rejection::new(Code::UpgradeNeeded, "relay_url", message).hint("update the relay")
        })?;
        let name = health.relay_name.unwrap_or_else(|| "relay".into());
        let relay = RelayInfo { log, log_id, name };
        if self.relay.as_ref() != Some(&relay) {
            self.leases.clear();
            self.push_progress.reset_scan();
        }
        self.relay = Some(relay.clone());
        Ok(Generation::Replicating(relay))
    }

    /// The identity of the relay, from the last handshake or a new one.
    pub(super) fn relay(&mut self) -> Result<RelayInfo, Failure> {
        match &self.relay {
            Some(relay) => Ok(relay.clone()),
            None => match self.handshake()? {
                Generation::Replicating(relay) => Ok(relay),
                Generation::Older => {
                    let message = "the relay offers no replication";
                    Err(Rejection::new(Code::UpgradeNeeded, "relay_url", message).into())
                }
            },
        }
    }

    /// Imports messages from files of older programs and reads new events of the log.
    pub(super) fn refresh(&mut self) -> Result<(), Failure> {
        let actor = self.actor();
        self.broker.import_legacy_files(&actor)?;
        self.broker.refresh(&actor)
    }

    /// Id of this root's log; `None` if no log exists yet.
    pub(super) fn own_log(&mut self) -> Result<Option<[u8; 16]>, Failure> {
        let log_id = self.broker.log_id()?;
        if log_id.is_empty() { Ok(None) } else { Ok(Some(parse_log_id(log_id)?)) }
    }

    /// The alias that signs requests; `None` until the relay has admitted one.
    pub(super) fn signing_alias(&self) -> Option<String> {
        self.signing_alias.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the alias that signs requests from now on.
    pub(super) fn set_signing_alias(&self, alias: Option<String>) {
        *self.signing_alias.lock().unwrap_or_else(PoisonError::into_inner) = alias;
    }

    /// Drops all leases after the relay has lost them, so that the next round registers everything.
    pub(super) fn reset_registration(&mut self) {
        self.leases.clear();
        self.set_signing_alias(None);
    }

    /// Gives the log a new id and opens it again. Needed when the relay holds events of this log
    /// that are missing here.
    pub(super) fn renew_log(&mut self) -> Result<(), Failure> {
        let root = self.broker.root().to_owned();
        let storage = Arc::new(Directory::new(&root.join(LOG_DIRECTORY)));
        Log::open(storage, Options::default()).renew_id().map_err(StoreError::from)?;
        self.broker = Broker::open(&root);
        self.refresh()
    }
}
