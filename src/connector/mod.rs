//! How does one machine take part: who is here, what leaves, what comes?
//!
//! The connector registers the agents of one root with a relay, pushes what leaves its log, and
//! pulls what is for it. It keeps nothing that the log does not: a crash repeats a step, and every
//! step may be repeated.

mod backoff;
mod beat;
mod client;
pub mod config;
mod mirror;
mod pull;
mod push;
mod run;
mod transport;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::broker::{Broker, LOG_DIRECTORY};
use crate::code::Code;
use crate::decide::{Actor, Command, Refusal};
use crate::failure::Failure;
use crate::log::{Directory, LockFile, Log, LogError, Options, Storage};
use crate::replication::log_bytes;
use crate::wire::body;

pub use backoff::Backoff;
pub use client::{Client, Credentials};
pub use mirror::{Restored, restore};
pub use run::Tick;
pub use transport::{Http, Incoming, Outgoing, Transport, Unreachable};

/// The relay at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// Id of its log.
    pub log: [u8; 16],
    pub log_id: String,
    /// How it signs what it says.
    pub name: String,
}

/// One root and one relay.
pub struct Connector {
    broker: Broker,
    client: Client,
    node_id: String,
    ttl_s: u64,
    hub: Option<Hub>,
    beats: beat::Beats,
    scanned: push::Scanned,
    retried: push::Retried,
    mirror: mirror::Mirror,
    /// How long it asks the relay to wait for news.
    patience: Duration,
    /// The alias that signs for this root: one that the relay has admitted.
    speaker: Arc<Mutex<Option<String>>>,
}

impl Connector {
    /// A connector of a root.
    pub fn new(root: &Path, client: Client, node_id: &str, ttl_s: u64) -> Self {
        Self {
            broker: Broker::open(root),
            client,
            node_id: node_id.to_owned(),
            ttl_s,
            hub: None,
            beats: beat::Beats::default(),
            scanned: push::Scanned::default(),
            retried: push::Retried::default(),
            mirror: mirror::Mirror::default(),
            patience: run::PATIENCE,
            speaker: Arc::default(),
        }
    }

    /// From here on the relay is to have a copy of the whole log, local messages included.
    pub fn with_mirror(mut self, wanted: bool) -> Self {
        self.mirror.wanted = wanted;
        self
    }

    /// Keeps a second connector that goes on away from this root, as long as the answer is kept.
    pub fn hold(&self) -> Result<Arc<dyn LockFile>, Failure> {
        let root = self.broker.root();
        let io = |e| LogError::io("lock", &root.display().to_string(), e);
        let lock = Directory::new(root).lock_file("connector.lock").map_err(io)?;
        if lock.try_lock().map_err(io)? {
            return Ok(lock);
        }
        let message = format!("a connector serves {} already", root.display());
        Err(Refusal::new(Code::ConnectorRunning, "broker_root", message)
            .hint("one is enough; --once works beside it")
            .into())
    }

    /// Another one for the same root and relay, for another thread.
    fn twin(&self) -> Self {
        let mut twin =
            Self::new(self.broker.root(), self.client.clone(), &self.node_id, self.ttl_s);
        twin.speaker = Arc::clone(&self.speaker);
        twin
    }

    /// Who acts.
    fn actor(&self) -> Actor {
        Actor { node_id: self.node_id.clone(), ..Actor::default() }
    }

    /// Asks which relay this is.
    pub fn hello(&mut self) -> Result<Hub, Failure> {
        let health: body::Health = self.client.get("/health", None)?;
        let log_id = health.relay_id.unwrap_or_default();
        let name = health.relay_name.unwrap_or_else(|| "relay".into());
        let log = log_bytes(&log_id).map_err(|_| {
            let message = "the relay does not say which log it keeps";
            Refusal::new(Code::UpgradeNeeded, "relay_url", message).hint("update the relay")
        })?;
        let hub = Hub { log, log_id, name };
        if self.hub.as_ref() != Some(&hub) {
            // Another relay, or one that began anew, knows nobody.
            (self.beats, self.scanned) = Default::default();
        }
        self.hub = Some(hub.clone());
        Ok(hub)
    }

    /// The relay, as it was last heard of.
    fn hub(&mut self) -> Result<Hub, Failure> {
        match &self.hub {
            Some(hub) => Ok(hub.clone()),
            None => self.hello(),
        }
    }

    /// What the log says now; rows of older files become part of it.
    fn look(&mut self) -> Result<(), Failure> {
        let actor = self.actor();
        let files = self.broker.foreign_files()?;
        if !files.is_empty() {
            self.broker.execute(&Command::Import { files }, &actor)?;
        }
        self.broker.look(&actor)
    }

    /// Id of the log, if there is one yet.
    fn own_log(&mut self) -> Result<Option<[u8; 16]>, Failure> {
        let log_id = self.broker.log_id()?;
        if log_id.is_empty() { Ok(None) } else { Ok(Some(log_bytes(log_id)?)) }
    }

    fn speaker(&self) -> Option<String> {
        self.speaker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From here on somebody else signs, or nobody until somebody is admitted.
    fn set_speaker(&self, alias: Option<String>) {
        *self.speaker.lock().unwrap_or_else(PoisonError::into_inner) = alias;
    }

    /// The relay knows nobody of us any more: the next round registers everybody.
    fn forgotten(&mut self) {
        self.beats.forget();
        self.set_speaker(None);
    }

    /// Goes on as another log: the relay knows events of this one that are not here.
    fn renew_log(&mut self) -> Result<(), Failure> {
        let root = self.broker.root().to_owned();
        let storage = Arc::new(Directory::new(&root.join(LOG_DIRECTORY)));
        Log::open(storage, Options::default()).renew_id()?;
        self.broker = Broker::open(&root);
        self.look()
    }
}
