//! Relays of the older generation, which offer JSON routes and no replication.
//!
//! Such a relay hands out each message once, keeps no record of what it accepted, and reports no
//! delivery. Each step is therefore recorded in the log: mail before the relay is asked to remove
//! it, and a request before it is sent. The steps are repeated with the same message ids.

mod direct;
mod inbox;
mod leases;
mod peers;
pub(super) mod progress;
mod room;
mod rows;

use std::time::Duration;

use c2c_log_format::payload::CursorDirection;
use c2c_log_format::{Payload, Sequence};

use self::progress::OlderRelay;
use super::relay_client::{RequestError, RequestProgress};
use super::run::SyncReport;
use super::state::{Connector, RelayInfo};
use crate::error::Failure;
use crate::platform::clock;
use c2c_core::code::Code;
use c2c_core::command::{AdvanceCursor, RecordAnswer};
use c2c_core::decide::{Position, Rejection, RequestAnswer};
use c2c_core::older_relay::Part;

/// Time between two polls, for each session: older relays limit the requests of one address.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Time after which a request is repeated that the relay rejected for now.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Number of requests for one event without an answer, after which the event is not sent again.
const ATTEMPTS_MAX: u32 = 10;

/// # Relays of the older generation
impl Connector {
    /// Prepares for a relay that offers no replication. Fails if a relay at this URL has replicated
    /// with this root before: no answer may make a connector give up what replication proves.
    pub(super) fn join_older_relay(&mut self) -> Result<(), Failure> {
        if self.older.is_some() {
            return Ok(());
        }
        self.refresh()?;
        let url = self.client.base_url().to_owned();
        if self.broker.state().has_replicated_with(&url) {
            let message = format!(
                "the relay at {url} offers no replication any more, but this root has replicated \
                 with it before; nothing is exchanged with it"
            );
            return Err(Rejection::new(Code::UpgradeNeeded, "relay_url", message)
                .hint("update the relay, or connect to another URL")
                .into());
        }
        self.older = Some(OlderRelay::new(&url));
        Ok(())
    }

    /// Changes over to replication: settles what the requests to an older relay have left open, and
    /// records that the relay replicates, so that it is never treated as an older one again.
    pub(super) fn change_to_replication(
        &mut self,
        relay: &RelayInfo,
        report: &mut SyncReport,
    ) -> Result<(), Failure> {
        if self.own_log()?.is_none() {
            return Ok(());
        }
        let log = Part::Replication.log_id(self.client.base_url(), &[]);
        let known = self.broker.state().cursor(&CursorDirection::In, &log);
        if known.sequence == 0 || self.older.is_some() {
            self.settle_drains(report)?;
            self.older = None;
        }
        if known.digest == relay.log_id {
            return Ok(());
        }
        let position = Position { sequence: known.sequence + 1, digest: relay.log_id.clone() };
        self.advance(CursorDirection::In, log, relay.name.clone(), position)
    }

    fn advance(
        &mut self,
        direction: CursorDirection,
        log: String,
        node_id: String,
        position: Position,
    ) -> Result<(), Failure> {
        let actor = self.actor();
        let node_id = node_id.into();
        let command = AdvanceCursor { direction, log, node_id, position };
        self.broker.execute(&command, &actor)?;
        Ok(())
    }

    /// The older relay. Called only after [`Connector::join_older_relay`].
    fn older(&mut self) -> &mut OlderRelay {
        let url = self.client.base_url();
        self.older.get_or_insert_with(|| OlderRelay::new(url))
    }

    /// A full round: renews all leases, and exchanges everything.
    pub(super) fn older_round(&mut self, report: &mut SyncReport) -> Result<(), Failure> {
        self.refresh()?;
        self.older().not_admitted.clear();
        let stats = self.older_heartbeat(true, &mut report.errors)?;
        report.registered = stats.registered;
        report.heartbeated = stats.heartbeated;
        report.failed = stats.failed;
        report.rejected = stats.failed;
        if self.mirror_progress.enabled {
            let message = "this relay is of an older generation and cannot mirror the log";
            report.errors.push(Rejection::new(Code::UpgradeNeeded, "mirror", message).into());
        }
        self.older().poll_at = None;
        self.older_peers(&mut report.errors)?;
        self.older_exchange(report)
    }

    /// Registers new sessions, sends what is due, and polls if it is time.
    pub(super) fn older_part(&mut self, report: &mut SyncReport) -> Result<(), Failure> {
        self.refresh()?;
        report.registered = self.older_heartbeat(false, &mut report.errors)?.registered;
        self.older_exchange(report)
    }

    fn older_exchange(&mut self, report: &mut SyncReport) -> Result<(), Failure> {
        self.join_rooms(&mut report.errors)?;
        if self.settle_room_event(report)? {
            self.send_direct_messages(report)?;
            self.send_room_events(report)?;
        }
        if self.older().poll_at.is_some_and(|at| clock::monotonic() < at) {
            return Ok(());
        }
        self.receive_mail(report)?;
        let sessions = self.leases.reported.len().max(2) as u32;
        self.older().poll_at = Some(clock::monotonic() + POLL_INTERVAL * sessions);
        Ok(())
    }

    /// Settles a room event that was sent without an answer: only one request is open at a time.
    /// Returns whether other events may be sent.
    fn settle_room_event(&mut self, report: &mut SyncReport) -> Result<bool, Failure> {
        let (open, log) = (self.open_attempt(), self.older().log.clone());
        let state = self.broker.state();
        let is_direct = state.outbox.get(open.to_be_bytes()).is_some();
        if is_direct || open <= state.cursor(&CursorDirection::Out, &log).sequence {
            return Ok(true);
        }
        self.send_room_events(report)?;
        Ok(self.older().scanned >= open)
    }

    /// Whether requests that send something wait.
    fn is_paused(&mut self) -> bool {
        self.older().paused_until.is_some_and(|until| clock::monotonic() < until)
    }

    /// The event of which a request was begun and has no recorded answer; 0 if there is none.
    fn open_attempt(&mut self) -> Sequence {
        let attempts = self.older().attempts.clone();
        self.broker.state().cursor(&CursorDirection::Out, &attempts).sequence
    }

    /// Records that a request for an event is sent next.
    fn begin_attempt(&mut self, sequence: Sequence) -> Result<(), Failure> {
        let (log, name) = (self.older().attempts.clone(), self.older().name.clone());
        let position = Position { sequence, digest: String::new() };
        self.advance(CursorDirection::Out, log, name, position)
    }

    /// Records the answer to a request for an event. `room_event` is the event if it is about a
    /// room.
    fn record_answer(
        &mut self,
        sequence: Sequence,
        room_event: Option<Payload>,
        answer: RequestAnswer,
    ) -> Result<(), Failure> {
        let older = self.older();
        older.unanswered = (0, 0);
        let (relay, attempts) = (older.log.clone(), older.attempts.clone());
        let relay_name = older.name.clone();
        let log = self.broker.log_id()?.to_owned();
        let command =
            RecordAnswer { relay, attempts, relay_name, log, sequence, room_event, answer };
        let actor = self.actor();
        self.broker.execute(&command, &actor)?;
        Ok(())
    }

    /// Counts a request for an event that got no answer. Returns whether the limit is
    /// reached, so that the event is not sent again.
    fn is_given_up(&mut self, sequence: Sequence) -> bool {
        let older = self.older();
        let (at, count) = older.unanswered;
        older.unanswered = (sequence, if at == sequence { count + 1 } else { 1 });
        older.unanswered.1 >= ATTEMPTS_MAX
    }
}

/// What to do about a request that did not succeed.
enum Consequence {
    /// The relay rejects it for good.
    Final(Rejection),
    /// The relay rejects it for now. With true, it rejects all requests for now.
    Later(Rejection, bool),
    /// The relay does not know the session of the sender.
    NoLease(Rejection),
    /// It did not leave this machine.
    NotSent(Failure),
    /// The relay may have executed it.
    Unanswered(Failure),
}

fn consequence(error: RequestError) -> Consequence {
    let failure = *error.failure;
    match error.progress {
        RequestProgress::NotSent => return Consequence::NotSent(failure),
        RequestProgress::Unanswered => return Consequence::Unanswered(failure),
        RequestProgress::Rejected => {}
    }
    let rejection = Rejection::new(failure.code(), "", failure.message());
    match rejection.code {
        Code::Unauthorized | Code::SignatureInvalid | Code::NotRegistered => {
            Consequence::NoLease(rejection)
        }
        Code::RateLimitExceeded | Code::TimestampOutOfWindow => Consequence::Later(rejection, true),
        // Codes that this version does not know may be temporary.
        code if code.retryable() || code == Code::Internal => Consequence::Later(rejection, false),
        _ => Consequence::Final(rejection),
    }
}
