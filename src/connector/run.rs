//! When does the connector do what: once, or for as long as it runs?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use c2c_log_format::payload::Process;

use super::{Backoff, Connector};
use crate::broker::Link;
use crate::clock;
use crate::code::Code;
use crate::failure::Failure;
use crate::limits::RELAY_WAIT_S_MAX;

/// What one round did.
#[derive(Debug, Default)]
pub struct Tick {
    pub registered: usize,
    pub heartbeated: usize,
    /// Aliases that the relay does not admit.
    pub refused: usize,
    pub forwarded: usize,
    pub failed: usize,
    pub bounced: usize,
    pub inbound: usize,
    /// Bytes of the log that were copied to the relay.
    pub mirrored: u64,
    /// What went wrong for some and kept nobody else out.
    pub errors: Vec<Failure>,
    /// Why something waits to be pushed again.
    pub parked: Option<String>,
}

impl Tick {
    fn admits_nobody(&self) -> bool {
        self.refused > 0 && self.registered + self.heartbeated == 0
    }

    /// Whether there is anything to tell.
    pub fn is_quiet(&self) -> bool {
        let Self { registered, forwarded, failed, bounced, inbound, .. } = self;
        registered + forwarded + failed + bounced + inbound == 0 && self.errors.is_empty()
    }
}

/// How long the relay is asked to wait for news, at most and at least.
pub(super) const PATIENCE: Duration = Duration::from_secs(RELAY_WAIT_S_MAX - 5);
const PATIENCE_LEAST: Duration = Duration::from_secs(1);

/// Batches of one round, so that it ends although others go on writing.
const ROUNDS_MAX: usize = 10_000;

impl Connector {
    /// One round: who is here, what leaves, what comes, and the receipts for that.
    pub fn tick(&mut self) -> Result<Tick, Failure> {
        let ticked = self.round();
        self.note(None, &ticked);
        ticked
    }

    /// Leaves word how the relay is, if that has changed.
    fn note(&mut self, process: Option<Process>, ticked: &Result<Tick, Failure>) {
        let error = match ticked {
            // A relay that admits nobody of this machine is no way out, either.
            Ok(tick) if tick.admits_nobody() => tick.errors.first().map(Failure::message),
            Ok(_) => None,
            Err(failure) => Some(failure.message()),
        };
        let waits = ticked.as_ref().ok().and_then(|tick| tick.parked.clone());
        let relay_url = self.client.base_url().to_owned();
        let node_id = self.node_id.clone();
        let since_us = clock::now_us();
        let link = Link { relay_url, node_id, process, since_us, error, waits };
        let same = |before: &Link| Link { since_us: before.since_us, ..link.clone() } == *before;
        // A lost note costs nothing.
        if self.broker.root().is_dir() && !self.broker.link().as_ref().is_some_and(same) {
            let _ = link.keep(self.broker.root());
        }
    }

    fn round(&mut self) -> Result<Tick, Failure> {
        let mut tick = Tick::default();
        self.hello()?;
        self.look()?;
        let beaten = self.beat(true, &mut tick.errors)?;
        tick.registered = beaten.registered;
        tick.heartbeated = beaten.heartbeated;
        (tick.failed, tick.refused) = (beaten.failed, beaten.failed);
        self.push_all(true, &mut tick)?;
        for _ in 0..ROUNDS_MAX {
            let came = self.pull(Duration::ZERO)?;
            tick.inbound += came.inbound;
            if came.events == 0 {
                break;
            }
        }
        self.push_all(false, &mut tick)?;
        self.mirror_on(&mut tick);
        Ok(tick)
    }

    /// Goes on until `stop`: one thread pushes when this log grows, one waits at the relay for what
    /// comes. `tell` hears of every round.
    pub fn follow(
        mut self,
        interval: Duration,
        stop: &Arc<AtomicBool>,
        tell: &(dyn Fn(Result<Tick, Failure>) + Sync),
    ) {
        let mut puller = self.twin();
        let process = self.broker.this_process();
        thread::scope(|scope| {
            scope.spawn(|| keep_on(stop, tell, || pull_on(&mut puller)));
            keep_on(stop, tell, || {
                let pushed = push_on(&mut self, interval, stop);
                self.note(process.clone(), &pushed);
                pushed
            });
        });
    }

    /// Copies some of the log. What goes wrong there keeps no mail back.
    fn mirror_on(&mut self, tick: &mut Tick) {
        match self.mirror() {
            Ok(bytes) => tick.mirrored = bytes,
            Err(failure) => tick.errors.push(failure),
        }
    }

    /// Pushes until nothing is left that may leave now.
    fn push_all(&mut self, again: bool, tick: &mut Tick) -> Result<(), Failure> {
        self.retried.begin();
        let mut ask = again;
        for _ in 0..ROUNDS_MAX {
            self.look()?;
            let sent = self.push(again, ask)?;
            tick.forwarded += sent.forwarded;
            tick.bounced += sent.bounced;
            tick.failed += sent.parked;
            tick.parked = sent.reason.or(tick.parked.take());
            if !sent.more {
                break;
            }
            ask = false;
        }
        Ok(())
    }
}

/// Repeats a step; after a failure not at once.
fn keep_on(
    stop: &AtomicBool,
    tell: &(dyn Fn(Result<Tick, Failure>) + Sync),
    mut step: impl FnMut() -> Result<Tick, Failure>,
) {
    let mut backoff = Backoff::default();
    while !stop.load(Ordering::Relaxed) {
        let done = step();
        let failed = done.is_err();
        tell(done);
        if failed {
            nap(backoff.next(chance()), stop);
        } else {
            backoff.reset();
        }
    }
}

/// Anything that differs from one process and moment to the next.
fn chance() -> u64 {
    crate::identity::random::<8>().map_or_else(|_| clock::now_us(), u64::from_le_bytes)
}

/// Sleeps, but not for long after it is told to stop.
fn nap(wait: Duration, stop: &AtomicBool) {
    let until = Instant::now() + wait;
    while !stop.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(Duration::from_millis(100)));
    }
}

/// Everything once, then what leaves as soon as it is written, until the next full round is due.
fn push_on(
    connector: &mut Connector,
    interval: Duration,
    stop: &AtomicBool,
) -> Result<Tick, Failure> {
    let mut tick = Tick::default();
    let began = Instant::now();
    connector.hello()?;
    connector.look()?;
    let beaten = connector.beat(true, &mut tick.errors)?;
    (tick.registered, tick.heartbeated) = (beaten.registered, beaten.heartbeated);
    (tick.failed, tick.refused) = (beaten.failed, beaten.failed);
    connector.push_all(true, &mut tick)?;
    connector.mirror_on(&mut tick);
    let mut done = Ok(tick);
    connector.note(connector.broker.this_process(), &done);
    let Ok(tick) = &mut done else { return done };
    while !stop.load(Ordering::Relaxed) && began.elapsed() < interval {
        // ORDER: the pulse before the look, so that what is written between wakes us.
        let pulse = connector.broker.pulse();
        connector.look()?;
        let beaten = connector.beat(false, &mut tick.errors)?;
        tick.registered += beaten.registered;
        connector.push_all(false, tick)?;
        let left = interval.saturating_sub(began.elapsed());
        connector.broker.wait(pulse, left.min(Duration::from_millis(500)));
    }
    done
}

/// Waits at the relay and takes what comes.
fn pull_on(connector: &mut Connector) -> Result<Tick, Failure> {
    connector.hub()?;
    connector.look()?;
    // The other thread registers.
    if connector.speaker().is_none() {
        thread::sleep(Duration::from_millis(200));
        return Ok(Tick::default());
    }
    let began = Instant::now();
    let came = match connector.pull(connector.patience) {
        Ok(came) => came,
        // Something on the way cuts connections that are silent for so long: that is no failure.
        Err(failure)
            if failure.code() == Code::RemoteUnavailable && began.elapsed() > PATIENCE_LEAST =>
        {
            connector.patience = (began.elapsed() * 3 / 4).max(PATIENCE_LEAST);
            return Ok(Tick::default());
        }
        Err(failure) => return Err(failure),
    };
    // Perhaps it was the relay that ended.
    connector.patience = (connector.patience * 9 / 8).min(PATIENCE);
    Ok(Tick { inbound: came.inbound, ..Tick::default() })
}
