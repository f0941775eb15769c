//! What every route of the relay works on: the broker, the keys, and what the operator configured.

use std::collections::BTreeMap;

use super::access::AccessGuard;
use super::mirror_usage::MirrorUsage;
use super::nonces::NonceCache;
use super::remote::RemoteBrokerMonitor;
use crate::broker::Broker;
use crate::error::Failure;
use crate::platform::clock;
use c2c_core::command;
use c2c_core::decide::{self, Actor};

/// What a relay reports about itself.
#[derive(Debug, Clone, Default)]
pub struct RelayProfile {
    /// Name of the storage: `memory`, `log` or `sqlite`.
    pub storage: &'static str,
    pub persist_dir: Option<String>,
    /// Host names that mean this relay in an address. The relay signs with the first.
    pub names: Vec<String>,
    /// Most bytes of all mirrors together; 0 turns mirrors off.
    pub mirror_bytes_max: u64,
}

/// The only keys that may register, by alias in lower case.
pub type AllowedKeys = BTreeMap<String, String>;

/// The state that all routes share.
pub struct RelayCore {
    pub(super) broker: Broker,
    pub(super) nonces: NonceCache,
    /// The operator's token. Without one, the relay ignores all credentials.
    pub(super) token: Option<String>,
    pub(super) profile: RelayProfile,
    /// A broker that is read over SSH.
    pub(super) remote: Option<RemoteBrokerMonitor>,
    /// Nonces used before this time are unknown, so the relay rejects older signatures.
    started_us: u64,
    /// Received batches of the open group. Freeing a large one is slow, so it waits until the group
    /// is answered.
    pub(super) received: Vec<command::ReceiveBatch>,
    /// Size of the mirrors.
    pub(super) mirror_usage: MirrorUsage,
    /// Whether a message was posted to a room since the room histories were last written.
    has_room_messages: bool,
}

/// The actor of operations that are not performed on behalf of a session.
pub fn system_actor() -> Actor {
    Actor { node_id: "relay".into(), ..Actor::default() }
}

impl RelayCore {
    /// Turns a broker into a relay. Creates its log if it has none.
    pub fn new(
        broker: Broker,
        token: Option<String>,
        allowed: Option<AllowedKeys>,
        profile: RelayProfile,
    ) -> Result<Self, Failure> {
        let allowed = allowed.filter(|_| token.is_some());
        let names = profile.names.clone();
        let mut broker = broker.with_relay(decide::RelayFacts {
            names,
            allowed_keys: allowed,
            requested_host: None,
        });
        broker.refresh(&system_actor())?;
        if broker.state().head == 0 {
            // A client must learn the log id with its first request, so an empty log gets one now.
            broker.execute(&command::MoveRoot { to: String::new() }, &system_actor())?;
        }
        broker.index_message_ids()?;
        Ok(Self {
            broker,
            nonces: NonceCache::default(),
            token,
            profile,
            remote: None,
            started_us: clock::now_us(),
            received: Vec::new(),
            mirror_usage: MirrorUsage::default(),
            has_room_messages: false,
        })
    }

    /// The guard that checks credentials at a given time.
    pub(super) fn guard(&mut self, now_us: u64) -> AccessGuard<'_> {
        AccessGuard {
            state: self.broker.state(),
            token: self.token.as_deref(),
            nonces: &mut self.nonces,
            now_us,
            started_us: self.started_us,
        }
    }

    /// Records that a message was posted to a room.
    pub(super) fn note_room_message(&mut self) {
        self.has_room_messages = true;
    }

    /// Whether a message was posted to a room since the last call.
    pub(super) fn take_room_messages(&mut self) -> bool {
        std::mem::take(&mut self.has_room_messages)
    }

    /// The last sequence of the log.
    pub fn head(&self) -> u64 {
        self.broker.state().head
    }
}
