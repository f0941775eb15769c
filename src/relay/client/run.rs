//! Scheduling: a single sync, or continuous replication with one thread per direction.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use c2c_log_format::payload::Process;

use super::backoff::Backoff;
use super::state::{Connector, Generation, LONG_POLL_MAX};
use crate::broker::ConnectorStatus;
use crate::error::Failure;
use crate::platform::clock;
use c2c_core::code::Code;

/// Results of one sync.
#[derive(Debug, Default)]
pub struct SyncReport {
    /// Sessions registered for the first time, or under a new alias.
    pub registered: usize,
    /// Sessions whose lease was renewed.
    pub heartbeated: usize,
    /// Sessions whose alias the relay rejected.
    pub rejected: usize,
    /// Events that the relay accepted.
    pub forwarded: usize,
    /// Sessions and events that are retried later.
    pub failed: usize,
    /// Events that the relay rejected permanently.
    pub bounced: usize,
    /// Messages received.
    pub inbound: usize,
    /// Bytes of the log that were copied to the relay.
    pub mirrored: u64,
    /// Errors that did not stop the sync.
    pub errors: Vec<Failure>,
    /// Reason why an event is retried later.
    pub delayed: Option<String>,
}

impl SyncReport {
    /// Whether the relay rejected every alias of this root.
    fn is_fully_rejected(&self) -> bool {
        self.rejected > 0 && self.registered + self.heartbeated == 0
    }

    /// Whether nothing happened but renewals of leases.
    pub fn is_quiet(&self) -> bool {
        let Self { registered, forwarded, failed, bounced, inbound, .. } = self;
        registered + forwarded + failed + bounced + inbound == 0 && self.errors.is_empty()
    }

    /// Adds the results of a later part of the same round.
    fn add(&mut self, part: Self) {
        self.registered += part.registered;
        self.forwarded += part.forwarded;
        self.failed += part.failed;
        self.bounced += part.bounced;
        self.inbound += part.inbound;
        self.errors.extend(part.errors);
        self.delayed = part.delayed.or(self.delayed.take());
    }
}

/// Writes the syncs of one node to the log.
struct SyncLog {
    node: String,
    /// `push`, `pull` or `both`.
    direction: &'static str,
}

impl SyncLog {
    /// Logs what a sync did since `began`, and each error that did not stop it. A sync without
    /// effects is logged for debugging only.
    fn completed(&self, report: &SyncReport, began: Instant) {
        let Self { node, direction } = self;
        for failure in &report.errors {
            let code = failure.code().name();
            tracing::warn!(node, direction, code, error = %failure, "sync incomplete");
        }
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(
                    node,
                    direction,
                    registered = report.registered,
                    renewed = report.heartbeated,
                    pushed = report.forwarded,
                    pulled = report.inbound,
                    retried = report.failed,
                    bounced = report.bounced,
                    mirrored_bytes = report.mirrored,
                    latency_ms = clock::milliseconds(clock::since(began)),
                    "sync"
                )
            };
        }
        let has_effects = !report.is_quiet() || report.heartbeated > 0 || report.mirrored > 0;
        if has_effects { event!(info) } else { event!(debug) }
    }

    /// Logs the error that stopped a sync, and the delay before the next one if there will be one.
    fn failed(&self, failure: &Failure, began: Instant, delay: Option<Duration>) {
        let Self { node, direction } = self;
        tracing::warn!(
            node,
            direction,
            code = failure.code().name(),
            error = %failure,
            latency_ms = clock::milliseconds(clock::since(began)),
            retry_ms = delay.map(clock::milliseconds),
            "sync failed"
        );
    }
}

/// Shortest time that a pull asks the relay to wait for events.
const LONG_POLL_MIN: Duration = Duration::from_secs(1);

/// Limit on the batches of one sync, so that it ends even if other processes keep writing.
const SYNC_BATCHES_MAX: usize = 10_000;

impl Connector {
    /// Syncs once: registers sessions, pushes, pulls, and pushes the receipts of what was pulled.
    pub fn sync_once(&mut self) -> Result<SyncReport, Failure> {
        let began = clock::monotonic();
        let result = self.sync();
        let log = self.sync_log("both");
        match &result {
            Ok(report) => log.completed(report, began),
            Err(failure) => log.failed(failure, began, None),
        }
        self.record_link_status(None, &result);
        result
    }

    fn sync_log(&self, direction: &'static str) -> SyncLog {
        SyncLog { node: self.node_id.clone(), direction }
    }

    /// Writes the status of the link to the relay into the root, if it has changed.
    fn record_link_status(
        &mut self,
        process: Option<Process>,
        result: &Result<SyncReport, Failure>,
    ) {
        let error = match result {
            // Without an admitted alias, nothing can be sent.
            Ok(report) if report.is_fully_rejected() => report.errors.first().map(Failure::message),
            Ok(_) => None,
            Err(failure) => Some(failure.message()),
        };
        let recorded = self.broker.connector_status();
        let of_relay = recorded.as_ref().filter(|link| link.relay_url == self.client.base_url());
        let link = ConnectorStatus {
            relay_url: self.client.base_url().to_owned(),
            node_id: self.node_id.clone(),
            process,
            since_us: clock::now_us(),
            error,
            rejection: result.as_ref().ok().and_then(|report| report.delayed.clone()),
            older_relay: self.older.is_some(),
            possibly_lost: of_relay.map_or(0, |link| link.possibly_lost) + self.possibly_lost,
        };
        let is_unchanged = |recorded: &ConnectorStatus| {
            ConnectorStatus { since_us: recorded.since_us, ..link.clone() } == *recorded
        };
        if self.broker.root().is_dir() && !recorded.as_ref().is_some_and(is_unchanged) {
            // The status is informational: a failed write is ignored.
            let _ = link.write(self.broker.root());
        }
        self.possibly_lost = 0;
    }

    fn sync(&mut self) -> Result<SyncReport, Failure> {
        let mut report = SyncReport::default();
        self.begin_round(&mut report)?;
        if self.older.is_some() {
            return Ok(report);
        }
        for _ in 0..SYNC_BATCHES_MAX {
            let pulled = self.pull(Duration::ZERO)?;
            report.inbound += pulled.inbound;
            if pulled.events == 0 {
                break;
            }
        }
        self.push_all(false, &mut report)?;
        self.mirror_some(&mut report);
        Ok(report)
    }

    /// Registers all sessions and pushes everything, retries included. With a relay of an older
    /// generation, also receives everything.
    fn begin_round(&mut self, report: &mut SyncReport) -> Result<(), Failure> {
        let relay = match self.handshake()? {
            Generation::Replicating(relay) => relay,
            Generation::Older => return self.older_round(report),
        };
        self.refresh()?;
        let stats = self.heartbeat(true, &mut report.errors)?;
        report.registered = stats.registered;
        report.heartbeated = stats.heartbeated;
        report.failed = stats.failed;
        report.rejected = stats.failed;
        self.change_to_replication(&relay, report)?;
        self.push_all(true, report)
    }

    /// Registers new sessions and pushes new events.
    fn continue_round(&mut self, report: &mut SyncReport) -> Result<(), Failure> {
        if self.older.is_some() {
            return self.older_part(report);
        }
        self.refresh()?;
        report.registered = self.heartbeat(false, &mut report.errors)?.registered;
        self.push_all(false, report)
    }

    /// Replicates until `stop` is set: one thread pushes whenever the log grows, another one waits
    /// at the relay for events. `report` is called with the result of every round of either.
    pub fn run(
        mut self,
        interval: Duration,
        stop: &Arc<AtomicBool>,
        report: &(dyn Fn(Result<SyncReport, Failure>) + Sync),
    ) {
        let mut puller = self.clone_for_thread();
        let process = self.broker.this_process();
        let (push_log, pull_log) = (self.sync_log("push"), self.sync_log("pull"));
        thread::scope(|scope| {
            scope.spawn(|| run_loop(stop, report, &pull_log, || pull_round(&mut puller)));
            run_loop(stop, report, &push_log, || {
                let result = push_round(&mut self, interval, stop);
                self.record_link_status(process.clone(), &result);
                result
            });
        });
    }

    /// Copies part of the log to the relay. An error is reported and does not stop the sync.
    fn mirror_some(&mut self, report: &mut SyncReport) {
        match self.mirror() {
            Ok(bytes) => report.mirrored = bytes,
            Err(failure) => report.errors.push(failure),
        }
    }

    /// Pushes until nothing is left that can be sent now. With `retry`, events that were rejected
    /// for now are sent again, and the relay's cursor is checked even if there is nothing to send.
    fn push_all(&mut self, retry: bool, report: &mut SyncReport) -> Result<(), Failure> {
        self.push_progress.reset_retries();
        let mut probe = retry;
        for _ in 0..SYNC_BATCHES_MAX {
            self.refresh()?;
            let stats = self.push(retry, probe)?;
            report.forwarded += stats.forwarded;
            report.bounced += stats.bounced;
            report.failed += stats.delayed;
            report.delayed = stats.reason.or(report.delayed.take());
            if !stats.more {
                break;
            }
            probe = false;
        }
        Ok(())
    }
}

/// Repeats a step until `stop` is set, with a growing delay after failures.
fn run_loop(
    stop: &AtomicBool,
    report: &(dyn Fn(Result<SyncReport, Failure>) + Sync),
    log: &SyncLog,
    mut step: impl FnMut() -> Result<SyncReport, Failure>,
) {
    let mut backoff = Backoff::default();
    while !stop.load(Ordering::Relaxed) {
        let began = clock::monotonic();
        let result = step();
        let Err(failure) = &result else {
            report(result);
            backoff.reset();
            continue;
        };
        let delay = backoff.next(random_number());
        log.failed(failure, began, Some(delay));
        report(result);
        sleep_unless_stopped(delay, stop);
    }
}

/// A random number; the time if the operating system provides none.
fn random_number() -> u64 {
    crate::relay::keys::random::<8>().map_or_else(|_| clock::now_us(), u64::from_le_bytes)
}

/// Sleeps for `duration`, but at most 100 ms longer once `stop` is set.
fn sleep_unless_stopped(duration: Duration, stop: &AtomicBool) {
    let until = clock::monotonic() + duration;
    while !stop.load(Ordering::Relaxed) {
        let left = clock::until(until);
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(Duration::from_millis(100)));
    }
}

/// Pushes everything once, then new events as soon as they are written, for `interval`.
fn push_round(
    connector: &mut Connector,
    interval: Duration,
    stop: &AtomicBool,
) -> Result<SyncReport, Failure> {
    let began = clock::monotonic();
    let mut report = SyncReport::default();
    connector.begin_round(&mut report)?;
    if connector.older.is_none() {
        connector.mirror_some(&mut report);
    }
    let log = connector.sync_log("push");
    log.completed(&report, began);
    let mut result = Ok(report);
    connector.record_link_status(connector.broker.this_process(), &result);
    let Ok(report) = &mut result else { return result };
    while !stop.load(Ordering::Relaxed) && clock::since(began) < interval {
        // ORDER: read the version before the refresh, so that a write in between ends the wait.
        let version = connector.broker.version();
        let part_began = clock::monotonic();
        let mut part = SyncReport::default();
        connector.continue_round(&mut part)?;
        if !part.is_quiet() {
            log.completed(&part, part_began);
        }
        report.add(part);
        let left = interval.saturating_sub(clock::since(began));
        connector.broker.wait(version, left.min(Duration::from_millis(500)));
    }
    result
}

/// Pulls once, waiting at the relay for events.
fn pull_round(connector: &mut Connector) -> Result<SyncReport, Failure> {
    // The other thread registers the sessions. It alone talks to a relay of an older generation.
    if connector.signing_alias().is_none() {
        thread::sleep(Duration::from_millis(200));
        return Ok(SyncReport::default());
    }
    connector.relay()?;
    connector.refresh()?;
    let began = clock::monotonic();
    let pulled = match connector.pull(connector.long_poll_timeout) {
        Ok(pulled) => pulled,
        // A proxy may cut connections that are silent for this long, which is not a failure. Wait
        // less from now on.
        Err(failure)
            if failure.code() == Code::RemoteUnavailable && clock::since(began) > LONG_POLL_MIN =>
        {
            connector.long_poll_timeout = (clock::since(began) * 3 / 4).max(LONG_POLL_MIN);
            let (node, next_s) = (&connector.node_id, connector.long_poll_timeout.as_secs_f64());
            tracing::debug!(node, error = %failure, next_s, "long poll cut short");
            return Ok(SyncReport::default());
        }
        Err(failure) => return Err(failure),
    };
    // The relay itself may have caused the cut by stopping, so the timeout grows again.
    connector.long_poll_timeout = (connector.long_poll_timeout * 9 / 8).min(LONG_POLL_MAX);
    let report = SyncReport { inbound: pulled.inbound, ..SyncReport::default() };
    connector.sync_log("pull").completed(&report, began);
    Ok(report)
}
