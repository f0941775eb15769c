//! How does a client learn of mail without asking?
//!
//! By resources that it subscribed to, which announce and take nothing; and by the channel
//! notification, which hands mail over: only to a client that declared the capability itself, and
//! only with `C2C_MCP_AUTO_DRAIN_CHANNEL=1`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmcp::model::{
    ClientCapabilities, CustomNotification, Resource, ResourceContents,
    ResourceUpdatedNotificationParam, ServerNotification,
};
use rmcp::service::{Peer, RoleServer, SubscriptionSink};
use serde_json::{Value, json};

use super::serve::Shared;
use crate::broker::{Broker, Delivery, Wish};
use crate::clock;
use crate::decide::Actor;
use crate::diagnosis::note;
use crate::failure::Failure;
use crate::limits::{POLL_BYTES, POLL_MESSAGES};
use crate::shape;
use crate::state::Unread;
use crate::wake::{Nudges, SENTINEL};

/// Unread mail of the caller.
pub const INBOX: &str = "c2c://inbox";
const ROOM: &str = "c2c://room/";
const CHANNEL: &str = "claude/channel";
/// A waiting thread looks again after this long even if no wake-up came.
const LOOK_AGAIN: Duration = Duration::from_secs(600);
/// Pause before a push that failed is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The resources of a caller: its inbox, and each room that it is in.
pub fn resources(broker: &mut Broker, actor: &Actor) -> Result<Vec<Resource>, Failure> {
    broker.look(actor)?;
    let mailbox = broker.own_mailbox(actor);
    let own = mailbox.as_ref().map_or("", |mailbox| mailbox.alias.as_str());
    let rooms = broker.rooms(mailbox.as_ref()).into_iter();
    let mine = rooms.filter(|info| info.members.iter().any(|(alias, ..)| alias == own));
    let rooms = mine.map(|info| {
        let room_id = info.room.room_id;
        Resource::new(format!("{ROOM}{room_id}"), format!("room {room_id}"))
    });
    Ok(std::iter::once(Resource::new(INBOX, "inbox")).chain(rooms).collect())
}

/// The content of a resource; `None` if there is no such one. Takes nothing.
pub fn read(
    broker: &mut Broker,
    actor: &Actor,
    uri: &str,
) -> Result<Option<Vec<ResourceContents>>, Failure> {
    broker.look(actor)?;
    let mailbox = broker.own_mailbox(actor);
    let rows: Vec<Value> = if uri == INBOX {
        let Some(mailbox) = mailbox else { return Ok(Some(contents(uri, &[]))) };
        let (messages, _) = broker.peek(&mailbox)?;
        messages.iter().map(|message| shape::message(message, &mailbox.alias)).collect()
    } else {
        let Some(room_id) = uri.strip_prefix(ROOM) else { return Ok(None) };
        let rooms = broker.rooms(mailbox.as_ref());
        if !rooms.iter().any(|info| info.room.room_id.eq_ignore_ascii_case(room_id)) {
            return Ok(None);
        }
        let history = broker.room_history(room_id, POLL_MESSAGES, 0)?;
        history.iter().map(|said| shape::message(&said.message, room_id)).collect()
    };
    Ok(Some(contents(uri, &rows)))
}

fn contents(uri: &str, rows: &[Value]) -> Vec<ResourceContents> {
    vec![ResourceContents::text(json!(rows).to_string(), uri)]
}

/// A number that changes when a resource does. Who is not to be disturbed hears of no mail.
pub fn mark(broker: &mut Broker, actor: &Actor, uri: &str) -> u64 {
    if broker.look(actor).is_err() {
        return 0;
    }
    let state = broker.state();
    if let Some(room_id) = uri.strip_prefix(ROOM) {
        return state.rooms.get(room_id.to_ascii_lowercase()).map_or(0, |room| room.head);
    }
    let mailbox = broker.own_mailbox(actor).filter(|mailbox| !mailbox.is_dnd(clock::now_us()));
    mailbox.map_or(0, |mailbox| {
        let unread = state.unread(&mailbox.name).in_order();
        unread.last().map_or(0, |(sequence, ..)| *sequence)
    })
}

/// How long nothing can change without an append: until do-not-disturb ends by itself.
pub fn quiet_time(broker: &Broker, actor: &Actor) -> Duration {
    let until = broker.own_mailbox(actor).and_then(|mailbox| mailbox.dnd_until_us);
    let left = until.map_or(0, |until| until.saturating_sub(clock::now_us()));
    if left == 0 { LOOK_AGAIN } else { LOOK_AGAIN.min(Duration::from_micros(left)) }
}

/// Tells a waiting thread that nobody waits for it any more.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Sleeps on a thread of its own until a resource is not as `seen`.
async fn changed(root: &Path, actor: &Actor, uri: &str, seen: u64) -> u64 {
    let (root, actor, uri) = (root.to_owned(), actor.clone(), uri.to_owned());
    let gone = Arc::new(AtomicBool::new(false));
    let _guard = Gone(Arc::clone(&gone));
    let waiting = tokio::task::spawn_blocking(move || {
        let mut broker = Broker::open(&root);
        loop {
            let pulse = broker.pulse();
            let now = mark(&mut broker, &actor, &uri);
            if now != seen || gone.load(Ordering::Acquire) {
                return now;
            }
            let pause = quiet_time(&broker, &actor);
            broker.wait(pulse, pause);
        }
    });
    waiting.await.unwrap_or(seen)
}

/// Where a client hears of changes: everywhere, or where it subscribed to them.
pub enum Ear {
    Session(Peer<RoleServer>),
    Subscription(SubscriptionSink),
}

impl Ear {
    /// Tells of a change; false when nobody listens any more.
    async fn tell(&self, uri: &str) -> bool {
        match self {
            Self::Session(peer) => {
                let update = ResourceUpdatedNotificationParam::new(uri);
                peer.notify_resource_updated(update).await.is_ok()
            }
            Self::Subscription(sink) => sink.notify_resource_updated(uri).await.is_ok(),
        }
    }
}

/// Announces changes of one resource since `seen` for as long as the client is there.
pub async fn announce(root: PathBuf, shared: Shared, uri: String, mut seen: u64, ear: Ear) {
    loop {
        let now = changed(&root, &shared.actor(), &uri, seen).await;
        // A resource that became less was read, which is no news.
        if now > seen && !ear.tell(&uri).await {
            return;
        }
        seen = now;
    }
}

/// Whether mail may be pushed through the channel, as the environment says.
pub fn channel_wanted() -> bool {
    std::env::var("C2C_MCP_AUTO_DRAIN_CHANNEL").is_ok_and(|wanted| wanted == "1")
}

/// Whether the client itself declared the channel.
pub fn channel_declared(capabilities: &ClientCapabilities) -> bool {
    capabilities.experimental.as_ref().is_some_and(|named| named.contains_key(CHANNEL))
}

/// The name under which the channel is declared.
pub fn channel_name() -> String {
    CHANNEL.to_owned()
}

/// Says through the channel that mail waits, to a client that did not declare it: such a client may
/// read the channel all the same, and nobody can tell. The mail stays where it is.
pub async fn announce_to_channel(root: PathBuf, shared: Shared, peer: Peer<RoleServer>) {
    let (mut nudges, mut seen) = (Nudges::default(), 0);
    loop {
        let now_us = clock::now_us();
        let (alias, unread) = shared.with(|broker, actor| {
            let known = broker.look(actor).is_ok();
            let mailbox = broker.own_mailbox(actor).filter(|row| known && !row.is_dnd(now_us));
            let unread = mailbox.as_ref().map(|row| broker.state().unread(&row.name));
            (mailbox.map(|row| row.alias), unread)
        });
        let pressing = unread.as_ref().and_then(Unread::pressing);
        if nudges.is_due(pressing, now_us) {
            let count = unread.map_or(0, |unread| unread.len()).to_string();
            let meta = json!({ "to": alias, "unread": count });
            let params = json!({ "content": SENTINEL, "meta": meta });
            if !tell(&peer, params).await {
                return;
            }
        }
        let actor = shared.actor();
        let next_us = nudges.next_us().map(|next_us| next_us.saturating_sub(clock::now_us()));
        let change = changed(&root, &actor, INBOX, seen);
        seen = match next_us.map(Duration::from_micros) {
            None => change.await,
            Some(pause) => tokio::time::timeout(pause, change).await.unwrap_or(seen),
        };
    }
}

/// Sends one notification of the channel; false when nobody listens any more.
async fn tell(peer: &Peer<RoleServer>, params: Value) -> bool {
    let method = format!("notifications/{CHANNEL}");
    let notification = CustomNotification::new(method, Some(params));
    peer.send_notification(ServerNotification::CustomNotification(notification)).await.is_ok()
}

/// Hands mail over as channel notifications. A message counts as shown once it was written to a
/// client that declared the channel.
pub async fn drain_to_channel(root: PathBuf, shared: Shared, peer: Peer<RoleServer>) {
    let mut seen = 0;
    loop {
        let wish = Wish {
            limit: POLL_MESSAGES,
            max_bytes: POLL_BYTES,
            surface: "mcp_channel",
            manual: false,
            deferrable: false,
        };
        let delivery = shared.with(|broker, actor| {
            broker.look(actor)?;
            let now_us = clock::now_us();
            let dnd = broker.own_mailbox(actor).is_some_and(|mailbox| mailbox.is_dnd(now_us));
            if dnd { Ok(Delivery::default()) } else { broker.claim(actor, &wish) }
        });
        let delivery = match delivery {
            Ok(delivery) => delivery,
            Err(failure) => {
                note(&format!("c2c: channel: {}", failure.message()));
                if !failure.code().retryable() {
                    return;
                }
                tokio::time::sleep(TRY_AGAIN).await;
                continue;
            }
        };
        let mut written = true;
        for message in &delivery.messages {
            let sent = &message.sent;
            let params = json!({
                "content": sent.body,
                "meta": {
                    "from": sent.from,
                    "to": delivery.alias,
                    "ts": clock::rfc3339(sent.sent_us),
                    "message_id": sent.message_id,
                },
            });
            written = written && tell(&peer, params).await;
        }
        if let Some(claim) = &delivery.claim {
            if !written {
                shared.give_back(claim, "output_failed");
                return;
            }
            shared.ack(claim, "written");
        }
        if delivery.remaining == 0 || delivery.messages.is_empty() {
            let actor = shared.actor();
            seen = changed(&root, &actor, INBOX, seen).await;
        }
    }
}
