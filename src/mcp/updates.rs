//! Notifications about updated resources.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rmcp::model::ResourceUpdatedNotificationParam;
use rmcp::service::{Peer, RoleServer, SubscriptionSink};

use super::resources;
use super::shared::SharedSession;
use crate::broker::Broker;
use c2c_core::decide::Actor;

/// Sets a flag when it is dropped, so that a blocking thread learns that its task was cancelled.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Waits until the version of a resource differs from `seen`, and returns it. Waits on a thread of
/// its own, which ends soon after this future is dropped.
pub async fn wait_for_change(root: &Path, actor: &Actor, uri: &str, seen: u64) -> u64 {
    let (root, actor, uri) = (root.to_owned(), actor.clone(), uri.to_owned());
    let cancelled = Arc::new(AtomicBool::new(false));
    let _guard = CancelOnDrop(Arc::clone(&cancelled));
    let waiting = tokio::task::spawn_blocking(move || {
        let mut broker = Broker::open(&root);
        loop {
            let log_version = broker.version();
            let version = resources::version(&mut broker, &actor, &uri);
            if version != seen || cancelled.load(Ordering::Acquire) {
                return version;
            }
            let pause = resources::next_wakeup(&broker, &actor);
            broker.wait(log_version, pause);
        }
    });
    waiting.await.unwrap_or(seen)
}

/// Receiver of notifications about a resource.
pub enum Subscriber {
    /// The whole client session, after `resources/subscribe`.
    Session(Peer<RoleServer>),
    /// One subscription of the newer protocol.
    Subscription(SubscriptionSink),
}

impl Subscriber {
    /// Reports an update; false if the subscriber is gone.
    async fn notify(&self, uri: &str) -> bool {
        match self {
            Self::Session(peer) => {
                let update = ResourceUpdatedNotificationParam::new(uri);
                peer.notify_resource_updated(update).await.is_ok()
            }
            Self::Subscription(sink) => sink.notify_resource_updated(uri).await.is_ok(),
        }
    }
}

/// Reports every update of one resource after version `seen`, until the subscriber is gone.
pub async fn report_updates(
    root: PathBuf,
    session: SharedSession,
    uri: String,
    mut seen: u64,
    subscriber: Subscriber,
) {
    loop {
        let version = wait_for_change(&root, &session.actor(), &uri, seen).await;
        // A lower version means that messages were read: nothing to report.
        if version > seen && !subscriber.notify(&uri).await {
            return;
        }
        seen = version;
    }
}
