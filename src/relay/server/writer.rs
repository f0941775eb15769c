//! The writer thread: it owns the relay and commits many requests with one disk sync.
//!
//! The thread takes all queued requests, executes them one after the other, waits once for the disk,
//! and then sends all answers.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::answer::RelayAnswer;
use super::keyring::Keyring;
use super::routes;
use super::service::{PendingRequest, Prepared, RelayService, Step};
use crate::error::Failure;
use crate::platform::clock;
use crate::relay::protocol::route::Route;
use c2c_core::code::Code;
use c2c_core::decide::{Collected, Rejection};
use c2c_core::limits::RELAY_IDLE_S;

/// Most requests that share one sync.
const GROUP_MAX: usize = 256;

/// Work for the writer thread.
enum Job {
    Answer { prepared: Box<Prepared>, client_address: String, reply: oneshot::Sender<Step> },
    Resume { pending: Box<PendingRequest>, reply: oneshot::Sender<Step> },
    CollectLeases { reply: oneshot::Sender<Result<Collected, Failure>> },
}

/// A handle to the writer thread. Clones share the thread.
#[derive(Clone)]
pub struct RelayHandle {
    jobs: Sender<Job>,
    /// The last sequence that is on disk.
    durable_head: watch::Receiver<u64>,
    keys: Keyring,
    /// Whether the relay is stopping; waiting requests then get their answer.
    stopping: watch::Sender<bool>,
}

impl RelayHandle {
    /// Starts the thread. It ends when the last clone of the handle is dropped.
    pub fn start(mut relay: RelayService) -> Result<(Self, JoinHandle<()>), Failure> {
        let (jobs, queue) = channel();
        let (durable, durable_head) = watch::channel(relay.head());
        let keys = Keyring::default();
        relay.refresh_keyring(&keys);
        let thread_keys = keys.clone();
        let work = move || {
            while run_group(&mut relay, &queue, &durable) {
                relay.refresh_keyring(&thread_keys);
            }
            relay.checkpoint_at_end();
        };
        let thread = thread::Builder::new()
            .name("writer".into())
            .spawn(work)
            .map_err(|e| Failure::io("start", "the writer thread", e))?;
        let stopping = watch::Sender::new(false);
        Ok((Self { jobs, durable_head, keys, stopping }, thread))
    }

    /// Answers one request. Waits for new events as long as the client is willing to.
    pub async fn answer(&self, request: impl Into<Prepared>, client_address: &str) -> RelayAnswer {
        let mut durable_head = self.durable_head.clone();
        let mut prepared = request.into();
        prepared.signer = self.keys.signer(&prepared.request);
        let Some(prepared) = decode_ahead(prepared).await else { return stopping() };
        let (prepared, client_address) = (Box::new(prepared), client_address.to_owned());
        let mut step = self.submit(|reply| Job::Answer { prepared, client_address, reply }).await;
        loop {
            let mut pending = match step {
                Some(Step::Answer(answer)) => return answer,
                Some(Step::Pending(pending)) => pending,
                None => return stopping(),
            };
            let left = Duration::from_micros(pending.until_us.saturating_sub(clock::now_us()));
            let mut is_stopping = self.stopping.subscribe();
            tokio::select! {
                _ = durable_head.wait_for(|head| *head > pending.seen) => {}
                // The wait is over: the resumed request gets an empty answer.
                () = tokio::time::sleep(left) => {}
                _ = is_stopping.wait_for(|is_stopping| *is_stopping) => pending.until_us = 0,
            }
            step = self.submit(|reply| Job::Resume { pending, reply }).await;
        }
    }

    /// Ends the wait of all waiting requests.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether an `Authorization` header names an alias that is known here. This proves nothing.
    pub fn knows(&self, authorization: Option<&str>) -> bool {
        authorization.is_some_and(|header| self.keys.knows(header))
    }

    /// Ends expired leases.
    pub async fn collect_leases(&self) -> Result<Collected, Failure> {
        let collected = self.submit(|reply| Job::CollectLeases { reply }).await;
        collected.unwrap_or_else(|| Ok(Collected::default()))
    }

    /// Queues a job and waits for its reply; `None` if the thread has ended.
    async fn submit<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).ok()?;
        answer.await.ok()
    }
}

/// Decodes the batch of a push outside the writer thread, if its signer is verified: an unknown client
/// must not cause this work. `None` if the task failed.
async fn decode_ahead(mut prepared: Prepared) -> Option<Prepared> {
    if prepared.signer.is_none() || !prepared.is_for(&[Route::Push]) {
        return Some(prepared);
    }
    let decode = move || {
        prepared.batch = Some(routes::decode_batch(&prepared.request));
        prepared
    };
    tokio::task::spawn_blocking(decode).await.ok()
}

fn stopping() -> RelayAnswer {
    Rejection::new(Code::Busy, "", "the relay is stopping").hint("try again").into()
}

/// A reply that must wait for the disk.
enum HeldReply {
    Step(oneshot::Sender<Step>, Step),
    Collected(oneshot::Sender<Result<Collected, Failure>>, Result<Collected, Failure>),
}

impl HeldReply {
    /// Sends the reply after the sync of its group. A client that is gone does not receive it and
    /// will retry.
    fn send(self, is_durable: bool) {
        match self {
            Self::Step(reply, Step::Answer(answer)) if !is_durable && answer.is_ok() => {
                // What a successful answer reports may never reach the disk.
                let unknown = Rejection::new(Code::OutcomeUnknown, "", "a disk sync failed")
                    .hint("retry with the same message_id");
                drop(reply.send(Step::Answer(unknown.into())));
            }
            Self::Step(reply, step) => drop(reply.send(step)),
            Self::Collected(reply, collected) => drop(reply.send(collected)),
        }
    }
}

/// Waits for the next job, and writes a due checkpoint while idle. `None` if all handles are dropped.
fn next_job(relay: &mut RelayService, queue: &Receiver<Job>) -> Option<Job> {
    while relay.checkpoint_due() {
        match queue.recv_timeout(Duration::from_secs(RELAY_IDLE_S)) {
            Err(RecvTimeoutError::Timeout) => relay.checkpoint_while_idle(),
            received => return received.ok(),
        }
    }
    queue.recv().ok()
}

/// Executes all queued jobs as one group. Returns false if there will be no more jobs.
fn run_group(
    relay: &mut RelayService,
    queue: &Receiver<Job>,
    durable: &watch::Sender<u64>,
) -> bool {
    let Some(first) = next_job(relay, queue) else { return false };
    relay.begin_group();
    let mut replies = vec![execute(relay, first)];
    while replies.len() < GROUP_MAX {
        let Ok(job) = queue.try_recv() else { break };
        replies.push(execute(relay, job));
    }
    let is_durable = commit(relay, replies.len());
    if is_durable {
        relay.write_histories();
    }
    durable.send_if_modified(|head| std::mem::replace(head, relay.head()) != relay.head());
    for reply in replies {
        reply.send(is_durable);
    }
    relay.drop_committed();
    true
}

/// Waits until a group of requests is on disk. Returns false if that failed.
fn commit(relay: &mut RelayService, requests: usize) -> bool {
    let began = clock::monotonic();
    let committed = relay.commit_group();
    let sync_ms = clock::milliseconds(clock::since(began));
    match &committed {
        Ok(()) => tracing::debug!(requests, sync_ms, "group committed"),
        Err(failure) => {
            let code = failure.code().name();
            tracing::error!(requests, sync_ms, code, error = %failure, "group not on disk");
        }
    }
    committed.is_ok()
}

fn execute(relay: &mut RelayService, job: Job) -> HeldReply {
    match job {
        Job::Answer { prepared, client_address, reply } => {
            HeldReply::Step(reply, relay.answer(*prepared, &client_address))
        }
        Job::Resume { pending, reply } => HeldReply::Step(reply, relay.resume(pending)),
        Job::CollectLeases { reply } => HeldReply::Collected(reply, relay.collect_leases()),
    }
}
