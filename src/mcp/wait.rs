//! How does a call wait for mail?
//!
//! On a thread of its own that holds no lock and takes nothing; a client that gives up ends it, and one
//! that wants to hear that it still waits does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rmcp::RoleServer;
use rmcp::model::ProgressNotificationParam;
use rmcp::service::RequestContext;

use crate::broker::Broker;
use crate::decide::Actor;
use crate::limits::WAIT_S_MAX;

/// How often a waiting call looks whether it was cancelled.
const CANCEL_LOOK: Duration = Duration::from_millis(200);
/// How often a client that asked for it hears that the call still waits: some give up after a minute
/// without a word.
const PROGRESS: Duration = Duration::from_secs(10);

/// The wait of one call.
pub struct Wait {
    root: PathBuf,
    actor: Actor,
    begin: Instant,
    length: Duration,
    /// Up to this state of the log there was nothing to take.
    seen: Option<u32>,
}

impl Wait {
    /// Waits at most so long; with 0 or less not at all.
    pub fn begin(root: &Path, actor: &Actor, wait_s: f64) -> Self {
        let length = Duration::from_secs_f64(wait_s.clamp(0.0, WAIT_S_MAX as f64));
        let (root, actor) = (root.to_owned(), actor.clone());
        Self { root, actor, begin: Instant::now(), length, seen: None }
    }

    /// Whether the time has run out.
    pub fn is_over(&self) -> bool {
        self.begin.elapsed() >= self.length
    }

    /// Until there is something to take that was not there at the last call, or the time is over;
    /// false when the client gave up.
    pub async fn until_mail(&mut self, context: &RequestContext<RoleServer>) -> bool {
        if self.is_over() {
            return true;
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let (root, actor, gone) = (self.root.clone(), self.actor.clone(), Arc::clone(&cancelled));
        let (deadline, seen) = (self.begin + self.length, self.seen);
        let wait = move || wait_for_mail(&root, &actor, deadline, seen, &gone);
        let mut waiting = tokio::task::spawn_blocking(wait);
        // The first one comes at once.
        let mut ticks = tokio::time::interval(PROGRESS);
        loop {
            tokio::select! {
                pulse = &mut waiting => {
                    self.seen = pulse.ok();
                    return true;
                }
                () = context.ct.cancelled() => {
                    cancelled.store(true, Ordering::Release);
                    return false;
                }
                _ = ticks.tick() => self.tell(context).await,
            }
        }
    }

    async fn tell(&self, context: &RequestContext<RoleServer>) {
        if let Some(token) = context.meta.get_progress_token() {
            let waited_s = self.begin.elapsed().as_secs_f64();
            let progress = ProgressNotificationParam::new(token, waited_s)
                .with_total(self.length.as_secs_f64())
                .with_message("no mail yet");
            let _ = context.peer.notify_progress(progress).await;
        }
    }
}

/// Sleeps until the actor has mail in a state of the log that is not `seen`, the time is over, or
/// nobody waits; that state.
fn wait_for_mail(
    root: &Path,
    actor: &Actor,
    deadline: Instant,
    seen: Option<u32>,
    cancelled: &AtomicBool,
) -> u32 {
    let mut broker = Broker::open(root);
    loop {
        let pulse = broker.pulse();
        let mailbox = match broker.look(actor) {
            Ok(()) => broker.own_mailbox(actor),
            Err(_) => None,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let found = seen != Some(pulse) && mailbox.is_some_and(|mailbox| broker.has_mail(&mailbox));
        if found || left.is_zero() || cancelled.load(Ordering::Acquire) {
            return pulse;
        }
        broker.wait(pulse, left.min(CANCEL_LOOK));
    }
}
