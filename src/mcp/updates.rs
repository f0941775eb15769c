//! Notifications about updated resources.

use std::path::{Path, PathBuf};

use rmcp::model::ResourceUpdatedNotificationParam;
use rmcp::service::{Peer, RoleServer, SubscriptionSink};

use super::resources;
use super::shared::SharedSession;
use super::wait::wait_on_thread;
use crate::broker::Check;
use c2c_core::decide::Actor;

/// Waits until the version of a resource differs from `seen`, and returns it.
pub async fn wait_for_change(root: &Path, actor: &Actor, uri: &str, seen: u64) -> u64 {
    let (actor, uri) = (actor.clone(), uri.to_owned());
    let changed = wait_on_thread(root, None, move |broker| {
        let version = resources::version(broker, &actor, &uri);
        Ok(match version == seen {
            true => Check::Again(resources::next_wakeup(broker, &actor)),
            false => Check::Done(version),
        })
    });
    changed.await.unwrap_or(seen)
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
