//! Leases at an older relay: one request for each session.

use crate::error::Failure;
use crate::relay::client::heartbeat::HeartbeatStats;
use crate::relay::client::progress::LeaseRecord;
use crate::relay::client::relay_client::{RequestError, RequestProgress};
use crate::relay::client::state::Connector;
use crate::relay::protocol::request::{HeartbeatRequest, RegisterRequest};
use crate::relay::protocol::response::Ignored;
use c2c_core::code::Code;

impl Connector {
    /// Registers new and changed sessions and renews leases of which a third has passed; with
    /// `renew_all`, every session. A session whose lease the relay has lost is registered again.
    pub(super) fn older_heartbeat(
        &mut self,
        renew_all: bool,
        errors: &mut Vec<Failure>,
    ) -> Result<HeartbeatStats, Failure> {
        let mut stats = HeartbeatStats::default();
        for (session, record) in self.due_leases(renew_all) {
            let previous = self.leases.reported.get(&session);
            let is_known = previous.is_some_and(|previous| previous.alias == record.alias);
            match self.report_session(&session, &record, is_known) {
                Ok(()) => {
                    stats.registered += usize::from(!is_known);
                    stats.heartbeated += usize::from(is_known);
                    self.leases.reported.insert(session, record);
                }
                Err(error) if error.progress == RequestProgress::Rejected => {
                    let is_limited = error.failure.code() == Code::RateLimitExceeded;
                    errors.push(*error.failure);
                    stats.failed += 1;
                    if is_limited {
                        // The rest is reported with the next round.
                        break;
                    }
                    self.leases.reported.remove(&session);
                    self.leases.rejected.insert((session, record.alias));
                }
                Err(error) => return Err(*error.failure),
            }
        }
        Ok(stats)
    }

    fn report_session(
        &mut self,
        session: &str,
        record: &LeaseRecord,
        is_known: bool,
    ) -> Result<(), RequestError> {
        if is_known {
            match self.renew_lease(session, &record.alias) {
                Err(error)
                    if error.progress == RequestProgress::Rejected
                        && error.failure.code() != Code::RateLimitExceeded => {}
                result => return result,
            }
        }
        let request = self.client.sign_registration(RegisterRequest {
            node_id: self.node_id.clone(),
            session_id: session.to_owned(),
            alias: record.alias.to_string(),
            client_type: record.client_type.clone(),
            ttl: Some(self.ttl_s as f64),
            ..RegisterRequest::default()
        })?;
        self.client.post::<Ignored>("/register", &request.with_whole_ttl(), None)?;
        // A relay that has lost the lease has lost the memberships with it.
        self.older().joined.retain(|(_, alias)| record.alias != *alias);
        Ok(())
    }

    fn renew_lease(&self, session: &str, alias: &str) -> Result<(), RequestError> {
        let request = HeartbeatRequest {
            node_id: self.node_id.clone(),
            session_id: session.to_owned(),
            ..HeartbeatRequest::default()
        };
        self.client.post::<Ignored>("/heartbeat", &request, Some(alias))?;
        Ok(())
    }

    /// Forgets the lease of an alias, so that the next round registers it again.
    pub(super) fn forget_lease(&mut self, alias: &str) {
        self.leases.reported.retain(|_, record| record.alias != alias);
    }

    /// The alias of a local mailbox, if the relay has admitted it.
    pub(super) fn admitted_alias(&self, mailbox: &str) -> Option<String> {
        let alias = self.broker.state().mailboxes.get(mailbox)?.alias;
        let is_admitted = self.leases.reported.values().any(|record| record.alias == alias);
        is_admitted.then(|| alias.into_string())
    }

    /// Whether the relay has rejected the alias of a local mailbox, or the mailbox has no session
    /// that could be registered.
    pub(super) fn is_rejected_at_relay(&self, mailbox: &str) -> bool {
        let Some(row) = self.broker.state().mailboxes.get(mailbox) else { return true };
        row.session.is_none() || self.leases.rejected.iter().any(|(_, alias)| *alias == row.alias)
    }
}
