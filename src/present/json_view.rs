//! JSON views for programs, shared by all front ends.

use c2c_log_format::payload::full_address;
use serde_json::{Value, json};

use crate::platform::clock;
use c2c_core::code::Code;
use c2c_core::decide::{RecipientState, Sent, SweepPlan};
use c2c_core::state::RemotePeer;
use c2c_core::view::{AgentView, LinkStatus, MessageView, RoomMessageView, RoomView};

/// One message delivered to `to`.
pub fn message(message: &MessageView, to: &str) -> Value {
    let sent = &message.sent;
    let mut row = json!({
        "from_alias": sent.from,
        "to_alias": match &message.room_id {
            Some(room_id) => format!("{to}#{room_id}"),
            None => to.to_owned(),
        },
        "content": sent.body,
        "ts": clock::rfc3339(sent.sent_us),
        "message_id": sent.message_id,
        "event": if message.room_id.is_some() { "room_message" } else { "message" },
        "sequence": message.sequence,
    });
    if let Some(room_id) = &message.room_id {
        row["room_id"] = json!(room_id);
    }
    if let Some(tag) = &sent.tag {
        row["tag"] = json!(tag);
    }
    if let Some(reply_to) = &sent.reply_to {
        row["reply_to"] = json!(reply_to);
    }
    if sent.deferrable {
        row["deferrable"] = json!(true);
    }
    if message.redelivered {
        row["redelivered"] = json!(true);
    }
    if let Some(drained_us) = message.drained_us {
        row["drained_at"] = json!(clock::rfc3339(drained_us));
    }
    row
}

/// The receipt of a direct message.
pub fn receipt(sent: &Sent, broker_id: &str, link: &LinkStatus) -> Value {
    let mut row = json!({
        "queued": true,
        "ts": clock::rfc3339(sent.sent_us),
        "from_alias": sent.from,
        "to_alias": sent.to,
        "message_id": sent.message_id,
        "recipient_state": sent.recipient_state.as_str(),
        "broker_id": broker_id,
    });
    if sent.duplicate {
        row["duplicate"] = json!(true);
    }
    if sent.recipient_state == RecipientState::Dnd {
        row["recipient_dnd"] = json!(true);
    }
    with_delay_warning(row, link)
}

/// Adds a warning to a receipt if the link delays the message or does not confirm its delivery.
pub fn with_delay_warning(mut row: Value, link: &LinkStatus) -> Value {
    if let Some(warning) = delay_reason(link) {
        row["warning"] = json!(warning);
        if matches!(link, LinkStatus::Unavailable { .. }) {
            row["remote"] = json!(Code::RemoteUnavailable.name());
        }
    }
    row
}

/// The receipt of a room message.
pub fn room_receipt(sent: &Sent, broker_id: &str, link: &LinkStatus) -> Value {
    let row = json!({
        "room_id": sent.to,
        "from_alias": sent.from,
        "delivered_to": sent.delivered_to,
        "queued": sent.queued,
        "skipped": sent.skipped,
        "ts": clock::rfc3339(sent.sent_us),
        "message_id": sent.message_id,
        "broker_id": broker_id,
        "duplicate": sent.duplicate,
    });
    with_delay_warning(row, link)
}

/// Why a message for another machine waits in the outbox for longer than usual, or is not confirmed;
/// `None` if neither is so. The message is accepted in any case.
fn delay_reason(link: &LinkStatus) -> Option<String> {
    match link {
        LinkStatus::Open => None,
        LinkStatus::Unconfirmed => Some(
            "the relay is of an older generation: it reports that it accepted the message, and \
             no delivery"
                .into(),
        ),
        LinkStatus::NeverConnected => {
            Some("waits in the outbox: no connector has run on this root".into())
        }
        LinkStatus::NoConnector => Some("waits in the outbox: no connector is running".into()),
        LinkStatus::Unavailable { since_us, error } => {
            let since = clock::rfc3339(*since_us);
            Some(format!("waits in the outbox: remote_unavailable since {since}: {error}"))
        }
    }
}

/// The same reason for the command line, with the command that starts a connector where that helps.
pub fn delay_reason_with_hint(link: &LinkStatus) -> Option<String> {
    let reason = delay_reason(link)?;
    match link {
        LinkStatus::NeverConnected | LinkStatus::NoConnector => {
            Some(format!("{reason}; start one with: c2c relay connect"))
        }
        _ => Some(reason),
    }
}

/// One alias with its session.
pub fn agent(peer: &AgentView) -> Value {
    let session = peer.session.as_ref();
    let mut row = json!({
        "session_id": session.map_or("", |session| &session.session_id),
        "alias": peer.mailbox.alias,
        "alive": peer.liveness.as_option(),
    });
    let registered_us = session.map_or(peer.mailbox.created_us, |session| session.registered_us);
    row["registered_at"] = json!(clock::rfc3339(registered_us));
    if let Some(session) = session {
        row["last_seen"] = json!(clock::rfc3339(session.active_us));
        row["node_id"] = json!(session.node_id);
        if let Some(process) = &session.process {
            row["pid"] = json!(process.pid);
        }
        for (key, value) in [
            ("client_type", &session.client_type),
            ("role", &session.role),
            ("cwd", &session.cwd),
            ("tmux_location", &session.tmux_location),
        ] {
            if let Some(value) = value {
                row[key] = json!(value);
            }
        }
    }
    row
}

/// An alias on another machine, as the relay last reported it.
pub fn remote_agent(peer: &RemotePeer) -> Value {
    json!({
        "session_id": "",
        "alias": full_address(&peer.alias, &peer.node_id),
        "alive": Value::Null,
        "remote": true,
        "node_id": peer.node_id,
        "client_type": peer.client_type,
        "last_seen": clock::rfc3339(peer.changed_us),
    })
}

/// One message of the history of a room.
pub fn room_message(room_message: &RoomMessageView) -> Value {
    let sent = &room_message.message.sent;
    let mut row = json!({
        "ts": clock::rfc3339(sent.sent_us),
        "from_alias": sent.from,
        "content": sent.body,
        "message_id": sent.message_id,
        "room_sequence": room_message.room_sequence,
    });
    if room_message.room_sequence.is_none() {
        row["pending"] = json!(true);
    }
    row
}

/// One room with its members. Contains the keys of both older generations.
pub fn room(view: &RoomView) -> Value {
    use c2c_core::decide::Liveness::{Alive, Dead, Unknown};
    let count = |state| view.members.iter().filter(|member| member.liveness == state).count();
    let names = |alive_only: bool| -> Vec<&String> {
        let members = view.members.iter();
        members
            .filter(|member| !alive_only || member.liveness == Alive)
            .map(|member| &member.alias)
            .collect()
    };
    let details = view.members.iter().map(|member| {
        json!({
            "alias": member.alias,
            "session_id": member.session_id,
            "alive": member.liveness.as_option(),
        })
    });
    json!({
        "room_id": view.room.room_id,
        "member_count": view.members.len(),
        "members": names(false),
        "alive_count": count(Alive),
        "alive_members": names(true),
        "alive_member_count": count(Alive),
        "dead_member_count": count(Dead),
        "unknown_member_count": count(Unknown),
        "member_details": details.collect::<Vec<_>>(),
        "visibility": view.room.visibility,
        "invited_members": view.room.invited,
        "created_by": view.room.created_by,
    })
}

/// The effects of a sweep.
pub fn sweep(plan: &SweepPlan) -> Value {
    let dropped: Vec<_> = plan
        .dropped
        .iter()
        .map(|session| json!({ "session_id": session.session_id, "alias": session.alias }))
        .collect();
    let evicted: Vec<_> = plan
        .evicted
        .iter()
        .map(|member| json!({ "room_id": member.room_id, "alias": member.alias }))
        .collect();
    let inboxes: Vec<_> = plan.dropped.iter().map(|session| &session.session_id).collect();
    json!({
        "dropped_regs": dropped,
        "deleted_inboxes": inboxes,
        "preserved_messages": plan.preserved,
        "evicted_room_members": evicted,
    })
}
