//! Who writes, when many ask at once?
//!
//! One thread owns the relay. It takes all requests that wait, does them one after the other, waits
//! once for the disk, and then answers all of them.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::answer::{Answer, Request};
use super::handle;
use super::keyring::Keyring;
use super::service::{Relay, Step, Wait};
use crate::clock;
use crate::code::Code;
use crate::decide::{Collected, Refusal};
use crate::failure::Failure;
use crate::log::LogError;
use crate::wire::route::{self, Route};

/// Requests that share one sync at most.
const GROUP_MAX: usize = 256;

/// When nobody has asked for so long, it is quiet.
const QUIET: Duration = Duration::from_secs(1);

enum Job {
    Answer { request: Box<Request>, from: String, reply: oneshot::Sender<Step> },
    GoOn { wait: Box<Wait>, reply: oneshot::Sender<Step> },
    Collect { reply: oneshot::Sender<Result<Collected, Failure>> },
}

/// A relay that many tasks may ask.
#[derive(Clone)]
pub struct Service {
    jobs: Sender<Job>,
    /// The last sequence that is on disk.
    head: watch::Receiver<u64>,
    keys: Keyring,
    /// Whether nobody is to wait for news any more.
    stops: watch::Sender<bool>,
}

impl Service {
    /// Starts the thread. It ends when the last clone is dropped.
    pub fn start(mut relay: Relay) -> Result<(Self, JoinHandle<()>), Failure> {
        let (jobs, queue) = channel();
        let (told, head) = watch::channel(relay.head());
        let keys = Keyring::default();
        relay.share_keys(&keys);
        let ring = keys.clone();
        let work = move || {
            while group(&mut relay, &queue, &told) {
                relay.share_keys(&ring);
            }
            // The next start need not read what this one has read.
            relay.broker.checkpoint_at_end();
        };
        let thread = thread::Builder::new().name("writer".into()).spawn(work);
        let thread = thread.map_err(|e| LogError::io("start", "the writer", e))?;
        let stops = watch::Sender::new(false);
        Ok((Self { jobs, head, keys, stops }, thread))
    }

    /// Answers one request, waiting as long as it is willing to.
    pub async fn answer(&self, mut request: Request, from: &str) -> Answer {
        let mut head = self.head.clone();
        request.signer = self.keys.signer(&request);
        let Some(request) = read_ahead(request).await else { return stopped() };
        let (request, from) = (Box::new(request), from.to_owned());
        let mut step = self.ask(|reply| Job::Answer { request, from, reply }).await;
        loop {
            let wait = match step {
                Some(Step::Answer(answer)) => return answer,
                Some(Step::Wait(wait)) => wait,
                None => return stopped(),
            };
            let left_us = wait.until_us.saturating_sub(clock::now_us());
            let left = std::time::Duration::from_micros(left_us);
            let mut stops = self.stops.subscribe();
            let mut wait = wait;
            tokio::select! {
                _ = head.wait_for(|head| *head > wait.seen) => {}
                // Nothing new until the time is over: then the answer is that there is nothing.
                () = tokio::time::sleep(left) => {}
                _ = stops.wait_for(|stops| *stops) => wait.until_us = 0,
            }
            step = self.ask(|reply| Job::GoOn { wait, reply }).await;
        }
    }

    /// Whoever waits for news is answered now.
    pub fn stop(&self) {
        self.stops.send_replace(true);
    }

    /// Whether a request says that it comes from an alias that is known here.
    pub fn knows(&self, authorization: Option<&str>) -> bool {
        authorization.is_some_and(|text| self.keys.knows(text))
    }

    /// Ends leases that are over.
    pub async fn collect(&self) -> Result<Collected, Failure> {
        let collected = self.ask(|reply| Job::Collect { reply }).await;
        collected.unwrap_or_else(|| Ok(Collected::default()))
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).ok()?;
        answer.await.ok()
    }
}

/// Reads the batch that a request brings, if it is signed by somebody who is known here, while the
/// writer does something else. `None` if that failed.
async fn read_ahead(mut request: Request) -> Option<Request> {
    let pushes = request.signer.is_some()
        && route::find(&request.method, &request.target)
            .is_ok_and(|found| matches!(found.route, Route::Push));
    if !pushes {
        return Some(request);
    }
    let read = move || {
        request.batch = Some(handle::batch_of(&request));
        request
    };
    tokio::task::spawn_blocking(read).await.ok()
}

fn stopped() -> Answer {
    Refusal::new(Code::Busy, "", "the relay is stopping").hint("try again").into()
}

/// Answers that wait for the disk.
enum Held {
    Step(oneshot::Sender<Step>, Step),
    Collected(oneshot::Sender<Result<Collected, Failure>>, Result<Collected, Failure>),
}

/// The next job, once there is one. Meanwhile a checkpoint that is owed is written.
fn next(relay: &mut Relay, queue: &Receiver<Job>) -> Option<Job> {
    while relay.broker.owes_checkpoint() {
        match queue.recv_timeout(QUIET) {
            Err(RecvTimeoutError::Timeout) => relay.broker.checkpoint_aside_if_due(true),
            found => return found.ok(),
        }
    }
    queue.recv().ok()
}

/// Does what waits; whether there may be more.
fn group(relay: &mut Relay, queue: &Receiver<Job>, told: &watch::Sender<u64>) -> bool {
    let Some(first) = next(relay, queue) else { return false };
    relay.begin_group();
    let mut held = vec![done(relay, first)];
    while held.len() < GROUP_MAX {
        let Ok(job) = queue.try_recv() else { break };
        held.push(done(relay, job));
    }
    let synced = relay.commit_group();
    if synced.is_ok() {
        relay.write_histories();
    }
    told.send_if_modified(|head| std::mem::replace(head, relay.head()) != relay.head());
    for held in held {
        // Whoever has gone away meanwhile will ask again.
        match (held, &synced) {
            (Held::Step(reply, step), Ok(())) => drop(reply.send(step)),
            (Held::Step(reply, Step::Wait(wait)), Err(_)) => drop(reply.send(Step::Wait(wait))),
            (Held::Step(reply, Step::Answer(answer)), Err(_)) => {
                // What it says may never reach the disk; a refusal may rest on such a thing, too.
                let unknown = Refusal::new(Code::OutcomeUnknown, "", "a sync failed")
                    .hint("try again with the same message_id");
                let answer = if answer.is_ok() { unknown.into() } else { answer };
                drop(reply.send(Step::Answer(answer)));
            }
            (Held::Collected(reply, collected), _) => drop(reply.send(collected)),
        }
    }
    relay.free_spent();
    true
}

fn done(relay: &mut Relay, job: Job) -> Held {
    match job {
        Job::Answer { request, from, reply } => Held::Step(reply, relay.answer(*request, &from)),
        Job::GoOn { wait, reply } => Held::Step(reply, relay.go_on(wait)),
        Job::Collect { reply } => Held::Collected(reply, relay.collect()),
    }
}
