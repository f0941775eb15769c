//! Who is here? Each agent of the root keeps a lease at the relay.

use std::collections::{BTreeMap, BTreeSet};

use super::Connector;
use crate::broker::Peer;
use crate::clock;
use crate::code::{Code, TABLE};
use crate::decide::{Liveness, Refusal};
use crate::failure::Failure;
use crate::limits::RELAY_REGISTRATIONS_MAX;
use crate::wire::body::{Register, RegisterAll, RegisteredAll, RegisteredOne};

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
pub struct Beats {
    told: BTreeMap<String, Told>,
    /// Sessions and aliases that the relay did not admit: they wait for the next full round.
    refused: BTreeSet<(String, String)>,
}

impl Beats {
    fn first_alias(&self) -> Option<String> {
        self.told.values().next().map(|told| told.alias.clone())
    }

    /// The relay knows nobody any more.
    pub fn forget(&mut self) {
        *self = Self::default();
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

/// What is so about a peer now; nothing for an alias that nobody holds.
fn now(peer: &Peer) -> Option<(String, Told)> {
    let session = peer.session.as_ref()?;
    let told = Told {
        alias: peer.mailbox.alias.clone(),
        client_type: session.client_type.clone(),
        liveness: word(peer.liveness),
        at_us: clock::now_us(),
    };
    Some((session.session_id.clone(), told))
}

impl Connector {
    /// Registers who is new or changed, and renews leases of which a third has passed; all of them if
    /// `all`. They go in one request, so that the relay never knows only a part of this node. What
    /// one alias is refused keeps no other out.
    pub fn beat(&mut self, all: bool, errors: &mut Vec<Failure>) -> Result<Beaten, Failure> {
        let here: Vec<(String, Told)> = self.broker.peers().iter().filter_map(now).collect();
        let sessions: BTreeSet<&String> = here.iter().map(|(session, _)| session).collect();
        self.beats.told.retain(|session, _| sessions.contains(session));
        if all {
            self.beats.refused.clear();
        }
        let third_us = self.ttl_s * 1_000_000 / 3;
        let is_due = |(session, now): &&(String, Told)| {
            let waits = self.beats.refused.contains(&(session.clone(), now.alias.clone()));
            let is_news = self.beats.told.get(session).is_none_or(|told| {
                now.at_us >= told.at_us + third_us
                    || Told { at_us: now.at_us, ..told.clone() } != *now
            });
            is_news && !waits || all
        };
        let due: Vec<(String, Told)> = here.iter().filter(is_due).cloned().collect();
        let mut beaten = Beaten::default();
        if due.is_empty() {
            return Ok(beaten);
        }
        let mut results = self.register(&due)?;
        let mismatch =
            |row: &RegisteredOne| row.error_code.as_deref() == Some(Code::KeyMismatch.name());
        if results.iter().any(mismatch) && self.client.hand_over()? {
            results = self.register(&due)?;
        }
        for ((session, told), result) in due.into_iter().zip(results) {
            let renewed =
                self.beats.told.get(&session).is_some_and(|before| before.alias == told.alias);
            match refused(&result) {
                Some(failure) => {
                    self.beats.told.remove(&session);
                    self.beats.refused.insert((session, told.alias));
                    beaten.failed += 1;
                    errors.push(failure);
                }
                None => {
                    self.beats.told.insert(session, told);
                    beaten.registered += usize::from(!renewed);
                    beaten.heartbeated += usize::from(renewed);
                }
            }
        }
        self.set_speaker(self.beats.first_alias());
        Ok(beaten)
    }

    fn register(&self, due: &[(String, Told)]) -> Result<Vec<RegisteredOne>, Failure> {
        let mut results = Vec::with_capacity(due.len());
        for part in due.chunks(RELAY_REGISTRATIONS_MAX) {
            results.extend(self.register_part(part)?);
        }
        Ok(results)
    }

    fn register_part(&self, due: &[(String, Told)]) -> Result<Vec<RegisteredOne>, Failure> {
        let wishes = due.iter().map(|(session, told)| {
            self.client.signed(Register {
                node_id: self.node_id.clone(),
                session_id: session.clone(),
                alias: told.alias.clone(),
                client_type: told.client_type.clone(),
                ttl: Some(self.ttl_s as f64),
                liveness: Some(told.liveness.into()),
                replicated: Some(true),
                ..Register::default()
            })
        });
        let registrations = Some(wishes.collect::<Result<Vec<_>, _>>()?);
        let wish = RegisterAll { registrations };
        let answer: RegisteredAll = self.client.post("/register", &wish, None)?;
        if answer.results.len() == due.len() {
            return Ok(answer.results);
        }
        let message = "the relay did not answer each registration";
        Err(Refusal::new(Code::Internal, "", message).into())
    }
}

/// Why an alias was not admitted.
fn refused(result: &RegisteredOne) -> Option<Failure> {
    let name = result.error_code.as_ref()?;
    let code = TABLE.iter().find(|row| row.name == name).map_or(Code::Internal, |row| row.code);
    let message = result.error.clone().unwrap_or_default();
    let mut refusal = Refusal::new(code, "alias", message);
    refusal.hint = result.hint.clone();
    Some(refusal.into())
}
