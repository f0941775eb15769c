//! Who is here? Each agent of the root keeps a lease at the relay.

use std::collections::{BTreeMap, BTreeSet};

use super::Connector;
use crate::broker::Peer;
use crate::clock;
use crate::code::Code;
use crate::decide::Liveness;
use crate::failure::Failure;
use crate::wire::body::{self, Register};

/// What the relay was told about a session, and when.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    alias: String,
    client_type: Option<String>,
    liveness: &'static str,
    at_us: u64,
}

/// Leases by session.
#[derive(Debug, Default)]
pub struct Beats(BTreeMap<String, Told>);

impl Beats {
    pub fn first_alias(&self) -> Option<String> {
        self.0.values().next().map(|told| told.alias.clone())
    }

    /// The relay knows nobody any more.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

/// What came of a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beaten {
    pub registered: usize,
    pub heartbeated: usize,
    pub failed: usize,
}

fn word(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Alive => "alive",
        Liveness::Dead => "dead",
        Liveness::Unknown => "unknown",
    }
}

impl Connector {
    /// Registers who is new or changed, and renews leases of which a third has passed; all of them
    /// if `all`. What one alias is refused keeps no other out.
    pub fn beat(&mut self, all: bool, errors: &mut Vec<Failure>) -> Result<Beaten, Failure> {
        let mut beaten = Beaten::default();
        let peers = self.broker.peers();
        let here: BTreeSet<&String> =
            peers.iter().filter_map(|peer| Some(&peer.session.as_ref()?.session_id)).collect();
        self.beats.0.retain(|id, _| here.contains(id));
        for peer in &peers {
            let Some(session) = peer.session.as_ref() else { continue };
            let told = self.beats.0.get(&session.session_id).cloned();
            match self.beat_one(peer, &session.session_id, told, all) {
                Ok(None) => {}
                Ok(Some(true)) => beaten.registered += 1,
                Ok(Some(false)) => beaten.heartbeated += 1,
                Err(failure) if failure.code() == Code::RemoteUnavailable => return Err(failure),
                Err(failure) => {
                    self.beats.0.remove(&session.session_id);
                    beaten.failed += 1;
                    errors.push(failure);
                }
            }
        }
        self.set_speaker(self.beats.first_alias());
        Ok(beaten)
    }

    /// Whether it was registered, or its lease renewed; nothing if neither was due.
    fn beat_one(
        &mut self,
        peer: &Peer,
        session_id: &str,
        told: Option<Told>,
        all: bool,
    ) -> Result<Option<bool>, Failure> {
        let now = Told {
            alias: peer.mailbox.alias.clone(),
            client_type: peer.session.as_ref().and_then(|session| session.client_type.clone()),
            liveness: word(peer.liveness),
            at_us: clock::now_us(),
        };
        let renews = told
            .as_ref()
            .is_some_and(|told| told.alias == now.alias && told.client_type == now.client_type);
        let due = told.as_ref().is_none_or(|told| {
            now.at_us >= told.at_us + self.ttl_s * 1_000_000 / 3
                || Told { at_us: told.at_us, ..now.clone() } != *told
        });
        if !due && !all {
            return Ok(None);
        }
        let renewed = if renews { self.renew(session_id, &now)? } else { false };
        if !renewed {
            self.register(session_id, &now)?;
        }
        self.beats.0.insert(session_id.to_owned(), now);
        Ok(Some(!renewed))
    }

    /// Whether the relay still had the lease.
    fn renew(&self, session_id: &str, now: &Told) -> Result<bool, Failure> {
        let wish = body::Heartbeat {
            node_id: self.node_id.clone(),
            session_id: session_id.to_owned(),
            liveness: Some(now.liveness.into()),
            ..body::Heartbeat::default()
        };
        let renewed = self.client.post::<body::Registered>("/heartbeat", &wish, Some(&now.alias));
        match renewed.map_err(Failure::from) {
            Ok(_) => Ok(true),
            Err(failure) if failure.code() == Code::RemoteUnavailable => Err(failure),
            // It forgot us, or its keys: a registration brings either back, or says why not.
            Err(_) => Ok(false),
        }
    }

    fn register(&self, session_id: &str, now: &Told) -> Result<(), Failure> {
        let wish = Register {
            node_id: self.node_id.clone(),
            session_id: session_id.to_owned(),
            alias: now.alias.clone(),
            client_type: now.client_type.clone(),
            ttl: Some(self.ttl_s as f64),
            liveness: Some(now.liveness.into()),
            replicated: Some(true),
            ..Register::default()
        };
        let wish = self.client.signed(wish)?;
        let registered = self.client.post::<body::Registered>("/register", &wish, None);
        match registered.map_err(Failure::from) {
            Err(failure) if failure.code() == Code::KeyMismatch && self.rotate()? => {
                let wish = self.client.signed(wish)?;
                Ok(self.client.post::<body::Registered>("/register", &wish, None).map(drop)?)
            }
            other => other.map(drop),
        }
    }

    /// Tells the relay how the key that it knows became the one of today; whether there was anything
    /// to tell.
    fn rotate(&self) -> Result<bool, Failure> {
        let Some(identity) = self.client.identity() else { return Ok(false) };
        for statement in &identity.rotations {
            self.client.post::<body::Rotated>("/rotate_key", statement, None)?;
        }
        Ok(!identity.rotations.is_empty())
    }
}
