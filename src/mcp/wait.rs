//! Waiting for changes of the log, and for mail within a call.
//!
//! A wait runs on a separate thread, which holds no lock and claims nothing. A client that cancels
//! the call ends the wait; one that asked for progress is notified while it lasts.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rmcp::RoleServer;
use rmcp::model::ProgressNotificationParam;
use rmcp::service::RequestContext;

use crate::broker::{Broker, CancelFlag, Check};
use crate::error::Failure;
use crate::platform::clock;
use c2c_core::decide::Actor;
use c2c_core::limits::MCP_WAIT_S_MAX;

/// How often a waiting thread checks whether the call was cancelled.
const CANCEL_CHECK: Duration = Duration::from_millis(200);
/// How often progress is sent to a client that asked for it: some give up after a minute without.
const PROGRESS: Duration = Duration::from_secs(10);

/// Runs [`Broker::wait_with`] on a thread of its own, with a broker of its own. Returns `None` if the
/// deadline passes or `check` fails. If this future is dropped, the thread ends at its next check.
pub async fn wait_on_thread<T: Send + 'static>(
    root: &Path,
    deadline: Option<Instant>,
    check: impl FnMut(&mut Broker) -> Result<Check<T>, Failure> + Send + 'static,
) -> Option<T> {
    let root = root.to_owned();
    let cancel = CancelFlag::default();
    let _guard = cancel.set_on_drop();
    let waiting = tokio::task::spawn_blocking(move || {
        Broker::open(&root).wait_with(deadline, &cancel, check)
    });
    waiting.await.ok()?.ok()?
}

/// The wait of one call.
pub struct MailWait {
    root: PathBuf,
    actor: Actor,
    begin: Instant,
    length: Duration,
    /// Change counter at which there was nothing to take.
    seen: Option<u32>,
}

impl MailWait {
    /// Starts a wait of at most `wait_s` seconds; 0 or less does not wait.
    pub fn begin(root: &Path, actor: &Actor, wait_s: f64) -> Self {
        Self {
            root: root.to_owned(),
            actor: actor.clone(),
            begin: clock::monotonic(),
            length: Duration::from_secs_f64(wait_s.clamp(0.0, MCP_WAIT_S_MAX as f64)),
            seen: None,
        }
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        clock::since(self.begin) >= self.length
    }

    /// Waits until there is mail in a later state of the log than at the previous call, or until the
    /// time is over. Returns false if the client cancelled the call.
    pub async fn until_mail(&mut self, context: &RequestContext<RoleServer>) -> bool {
        if self.is_over() {
            return true;
        }
        let (actor, seen) = (self.actor.clone(), self.seen);
        let waiting = wait_on_thread(&self.root, Some(self.begin + self.length), move |broker| {
            Ok(check_mail(broker, &actor, seen))
        });
        tokio::pin!(waiting);
        // The first tick is immediate.
        let mut ticks = tokio::time::interval(PROGRESS);
        loop {
            tokio::select! {
                version = &mut waiting => {
                    self.seen = version;
                    return true;
                }
                () = context.ct.cancelled() => return false,
                _ = ticks.tick() => self.send_progress(context).await,
            }
        }
    }

    async fn send_progress(&self, context: &RequestContext<RoleServer>) {
        if let Some(token) = context.meta.get_progress_token() {
            let waited_s = clock::since(self.begin).as_secs_f64();
            let progress = ProgressNotificationParam::new(token, waited_s)
                .with_total(self.length.as_secs_f64())
                .with_message("no mail yet");
            let _ = context.peer.notify_progress(progress).await;
        }
    }
}

/// Ends a wait with the change counter if the actor has mail at a counter other than `seen`.
fn check_mail(broker: &mut Broker, actor: &Actor, seen: Option<u32>) -> Check<u32> {
    let version = broker.version();
    let mailbox = match broker.refresh(actor) {
        Ok(()) => broker.own_mailbox(actor),
        Err(_) => None,
    };
    let has_mail =
        seen != Some(version) && mailbox.is_some_and(|mailbox| broker.has_mail(&mailbox));
    if has_mail { Check::Done(version) } else { Check::Again(CANCEL_CHECK) }
}
