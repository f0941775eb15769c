//! Heartbeat: registers the sessions of a root with the relay and renews their leases.

use c2c_log_format::payload::ReportedLiveness;
use std::collections::BTreeSet;

use super::progress::LeaseRecord;
use super::state::Connector;
use crate::error::Failure;
use crate::platform::clock;
use crate::relay::protocol::request::{RegisterAllRequest, RegisterRequest};
use crate::relay::protocol::response::{RegisterAllResponse, RegistrationResult};
use c2c_core::code::Code;
use c2c_core::decide::{Liveness, Rejection};
use c2c_core::ids::SessionId;
use c2c_core::limits::RELAY_REGISTRATIONS_MAX;
use c2c_core::view::AgentView;

/// Numbers of sessions by the result of a heartbeat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeartbeatStats {
    /// Registered for the first time, or under a new alias.
    pub registered: usize,
    /// Renewed.
    pub heartbeated: usize,
    /// Rejected by the relay.
    pub failed: usize,
}

/// A liveness as requests report it.
fn reported_liveness(liveness: Liveness) -> ReportedLiveness {
    match liveness {
        Liveness::Alive => ReportedLiveness::Alive,
        Liveness::Dead => ReportedLiveness::Dead,
        Liveness::Unknown => ReportedLiveness::Unknown,
    }
}

/// Session id and lease of a peer; `None` for an alias without a session.
fn lease_of(peer: &AgentView) -> Option<(SessionId, LeaseRecord)> {
    let session = peer.session.as_ref()?;
    let record = LeaseRecord {
        alias: peer.mailbox.alias.clone(),
        client_type: session.client_type.clone(),
        liveness: reported_liveness(peer.liveness),
        reported_us: clock::now_us(),
    };
    Some((session.session_id.clone(), record))
}

impl Connector {
    /// Registers new and changed sessions and renews leases of which a third has passed; with
    /// `renew_all`, every session. A rejected alias is added to `errors` and does not affect others.
    pub fn heartbeat(
        &mut self,
        renew_all: bool,
        errors: &mut Vec<Failure>,
    ) -> Result<HeartbeatStats, Failure> {
        let mut stats = HeartbeatStats::default();
        let due = self.due_leases(renew_all);
        if due.is_empty() {
            return Ok(stats);
        }
        let mut results = self.register(&due)?;
        let has_other_key = |result: &RegistrationResult| {
            result.error_code.as_deref() == Some(Code::AliasIdentityMismatch.name())
        };
        if results.iter().any(has_other_key) && self.client.submit_key_rotation()? {
            results = self.register(&due)?;
        }
        for ((session, record), result) in due.into_iter().zip(results) {
            if let Some(failure) = rejection(&result) {
                self.leases.reported.remove(&session);
                self.leases.rejected.insert((session, record.alias));
                stats.failed += 1;
                errors.push(failure);
                continue;
            }
            let previous = self.leases.reported.get(&session);
            let is_renewal = previous.is_some_and(|previous| previous.alias == record.alias);
            stats.registered += usize::from(!is_renewal);
            stats.heartbeated += usize::from(is_renewal);
            self.leases.reported.insert(session, record);
        }
        self.set_signing_alias(self.leases.first_alias());
        Ok(stats)
    }

    /// The sessions to report now. Drops the leases of sessions that no longer exist.
    pub(super) fn due_leases(&mut self, renew_all: bool) -> Vec<(SessionId, LeaseRecord)> {
        let current: Vec<(SessionId, LeaseRecord)> =
            self.broker.agents().iter().filter_map(lease_of).collect();
        let sessions: BTreeSet<&SessionId> = current.iter().map(|(session, _)| session).collect();
        self.leases.reported.retain(|session, _| sessions.contains(session));
        if renew_all {
            self.leases.rejected.clear();
            return current;
        }
        let renew_after_us = self.ttl_s * 1_000_000 / 3;
        let is_due = |(session, record): &(SessionId, LeaseRecord)| {
            if self.leases.rejected.contains(&(session.clone(), record.alias.clone())) {
                return false;
            }
            self.leases.reported.get(session).is_none_or(|reported| {
                record.reported_us >= reported.reported_us + renew_after_us
                    || !record.reports_same_as(reported)
            })
        };
        current.into_iter().filter(is_due).collect()
    }

    /// Registers sessions and returns the results in the same order.
    fn register(
        &self,
        leases: &[(SessionId, LeaseRecord)],
    ) -> Result<Vec<RegistrationResult>, Failure> {
        let mut results = Vec::with_capacity(leases.len());
        for part in leases.chunks(RELAY_REGISTRATIONS_MAX) {
            results.extend(self.register_in_one_request(part)?);
        }
        Ok(results)
    }

    /// Registers sessions in a single request, so that the relay never knows only some of them.
    fn register_in_one_request(
        &self,
        leases: &[(SessionId, LeaseRecord)],
    ) -> Result<Vec<RegistrationResult>, Failure> {
        let registrations = leases.iter().map(|(session, record)| {
            self.client.sign_registration(RegisterRequest {
                node_id: self.node_id.clone(),
                session_id: session.clone().into(),
                alias: record.alias.clone().into(),
                client_type: record.client_type.clone(),
                ttl: Some(self.ttl_s as f64),
                liveness: Some(record.liveness.clone()),
                replicated: Some(true),
                ..RegisterRequest::default()
            })
        });
        let registrations = Some(registrations.collect::<Result<Vec<_>, _>>()?);
        let request = RegisterAllRequest { registrations };
        let response: RegisterAllResponse = self.client.post("/register", &request, None)?;
        if response.results.len() == leases.len() {
            return Ok(response.results);
        }
        let message = format!(
            "the relay returned {} results for {} registrations",
            response.results.len(),
            leases.len()
        );
        Err(Rejection::new(Code::Internal, "", message).into())
    }
}

/// The reason why the relay rejected a registration; `None` if it was granted.
fn rejection(result: &RegistrationResult) -> Option<Failure> {
    let name = result.error_code.as_ref()?;
    let code = Code::from_name(name).unwrap_or(Code::Internal);
    let message = result.error.clone().unwrap_or_default();
    let mut rejection = Rejection::new(code, "alias", message);
    rejection.hint = result.hint.clone();
    Some(rejection.into())
}
