//! Mail through the channel notification (`notifications/claude/channel`).
//!
//! Enabled by `C2C_MCP_AUTO_DRAIN_CHANNEL=1`. A client that declared the channel receives the mail
//! itself. Any other client receives only a notice that mail waits: it may read the channel without
//! having declared it, but that cannot be verified.

use c2c_log_format::payload::{AckLevel, ClaimReturnReason};
use std::path::PathBuf;
use std::time::Duration;

use rmcp::model::{ClientCapabilities, CustomNotification, ServerNotification};
use rmcp::service::{Peer, RoleServer};
use serde_json::{Value, json};

use super::resources::INBOX;
use super::shared::SharedSession;
use super::updates::wait_for_change;
use crate::broker::{Delivery, DeliveryOptions};
use crate::env::C2C_MCP_AUTO_DRAIN_CHANNEL;
use crate::error::Failure;
use crate::platform::clock;
use crate::present::diagnostics::note;
use crate::wake::{NOTICE, NudgeSchedule};
use c2c_core::ids::Alias;
use c2c_core::limits::{MCP_POLL_BYTES, MCP_POLL_MESSAGES};
use c2c_core::state::Unread;
use c2c_core::view::MessageView;

/// Name of the capability.
pub const CHANNEL: &str = "claude/channel";
/// Pause before a failed delivery is retried.
const RETRY: Duration = Duration::from_secs(1);

/// Whether the environment enables the channel.
pub fn is_enabled() -> bool {
    C2C_MCP_AUTO_DRAIN_CHANNEL.text().is_some_and(|value| value == "1")
}

/// Whether the client declared the channel.
pub fn is_declared(capabilities: &ClientCapabilities) -> bool {
    capabilities.experimental.as_ref().is_some_and(|named| named.contains_key(CHANNEL))
}

/// Sends one notification through the channel; false if the client is gone.
async fn notify(peer: &Peer<RoleServer>, params: Value) -> bool {
    let method = format!("notifications/{CHANNEL}");
    let notification = CustomNotification::new(method, Some(params));
    peer.send_notification(ServerNotification::CustomNotification(notification)).await.is_ok()
}

/// Reports through the channel that mail waits, to a client that did not declare the channel. The
/// mail stays unread.
pub async fn announce_mail(root: PathBuf, session: SharedSession, peer: Peer<RoleServer>) {
    let mut nudges = NudgeSchedule::default();
    let mut seen = 0;
    loop {
        let now_us = clock::now_us();
        let (alias, unread) = unread_mail(&session, now_us);
        let pressing = unread.as_ref().and_then(Unread::urgent_range);
        if nudges.is_due(pressing, now_us) {
            let count = unread.map_or(0, |unread| unread.len()).to_string();
            let meta = json!({ "to": alias, "unread": count });
            if !notify(&peer, json!({ "content": NOTICE, "meta": meta })).await {
                return;
            }
        }
        let actor = session.actor();
        let pause_us = nudges.next_us().map(|next_us| next_us.saturating_sub(clock::now_us()));
        let change = wait_for_change(&root, &actor, INBOX, seen);
        seen = match pause_us.map(Duration::from_micros) {
            None => change.await,
            Some(pause) => tokio::time::timeout(pause, change).await.unwrap_or(seen),
        };
    }
}

/// Alias and unread mail of the client; `None` if it has no mailbox or is on do-not-disturb.
fn unread_mail(session: &SharedSession, now_us: u64) -> (Option<Alias>, Option<Unread>) {
    session.with(|broker, actor| {
        let is_current = broker.refresh(actor).is_ok();
        let mailbox = broker.own_mailbox(actor).filter(|row| is_current && !row.is_dnd(now_us));
        let unread = mailbox.as_ref().map(|row| broker.state().unread(&row.name));
        (mailbox.map(|row| row.alias), unread)
    })
}

/// Delivers mail as channel notifications, to a client that declared the channel. A message counts as
/// shown once it was written to the client.
pub async fn deliver_mail(root: PathBuf, session: SharedSession, peer: Peer<RoleServer>) {
    let mut seen = 0;
    loop {
        let delivery = match claim(&session) {
            Ok(delivery) => delivery,
            Err(failure) => {
                note(&format!("c2c: cannot deliver through the channel: {}", failure.message()));
                if !failure.code().retryable() {
                    return;
                }
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let mut is_written = true;
        for message in &delivery.messages {
            let params = channel_message(message, &delivery.alias);
            is_written = is_written && notify(&peer, params).await;
        }
        if let Some(claim) = &delivery.claim {
            if !is_written {
                session.release(claim, ClaimReturnReason::OutputFailed);
                return;
            }
            session.ack(claim, AckLevel::Written);
        }
        if delivery.remaining == 0 || delivery.messages.is_empty() {
            seen = wait_for_change(&root, &session.actor(), INBOX, seen).await;
        }
    }
}

/// Claims the mail to deliver next; nothing while the client is on do-not-disturb.
fn claim(session: &SharedSession) -> Result<Delivery, Failure> {
    let options = DeliveryOptions {
        limit: MCP_POLL_MESSAGES,
        max_bytes: MCP_POLL_BYTES,
        surface: "mcp_channel",
        manual: false,
        deferrable: false,
    };
    session.with(|broker, actor| {
        broker.refresh(actor)?;
        let now_us = clock::now_us();
        let is_dnd = broker.own_mailbox(actor).is_some_and(|mailbox| mailbox.is_dnd(now_us));
        if is_dnd { Ok(Delivery::default()) } else { broker.claim(actor, &options) }
    })
}

/// Parameters of the notification that carries a message.
fn channel_message(message: &MessageView, to: &str) -> Value {
    let sent = &message.sent;
    json!({
        "content": sent.body,
        "meta": {
            "from": sent.from,
            "to": to,
            "ts": clock::rfc3339(sent.sent_us),
            "message_id": sent.message_id,
        },
    })
}
