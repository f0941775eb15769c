//! What JSON do programs see, whichever door they come through?

use c2c_log_format::payload::address;
use serde_json::{Value, json};

use crate::broker::{Message, Peer, RoomInfo, Said, Way};
use crate::clock;
use crate::code::Code;
use crate::decide::{Sent, SweepPlan};
use crate::state::RemotePeer;

/// One message as programs see it.
pub fn message(message: &Message, to: &str) -> Value {
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

/// A receipt as programs see it.
pub fn sent(sent: &Sent, broker_id: &str, way: &Way) -> Value {
    let mut row = json!({
        "queued": true,
        "ts": clock::rfc3339(sent.sent_us),
        "from_alias": sent.from,
        "to_alias": sent.to,
        "message_id": sent.message_id,
        "recipient_state": sent.recipient_state,
        "broker_id": broker_id,
    });
    if sent.duplicate {
        row["duplicate"] = json!(true);
    }
    if sent.recipient_state == "dnd" {
        row["recipient_dnd"] = json!(true);
    }
    warned(row, way)
}

/// A receipt with the reason why something of it waits here.
pub fn warned(mut row: Value, way: &Way) -> Value {
    if let Some(warning) = held_up(way) {
        row["warning"] = json!(warning);
        if matches!(way, Way::Unavailable { .. }) {
            row["remote"] = json!(Code::RemoteUnavailable.name());
        }
    }
    row
}

/// A receipt for something said in a room.
pub fn said_in(sent: &Sent, broker_id: &str, way: &Way) -> Value {
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
    warned(row, way)
}

/// Why a message for another machine waits here longer than a moment; it is accepted all the same.
pub fn held_up(way: &Way) -> Option<String> {
    match way {
        Way::Open => None,
        Way::Never => Some("waits in the outbox: no connector has run on this root".into()),
        Way::NoConnector => {
            Some("waits in the outbox: no connector is running; c2c relay connect".into())
        }
        Way::Unavailable { since_us, error } => {
            let since = clock::rfc3339(*since_us);
            Some(format!("waits in the outbox: remote_unavailable since {since}: {error}"))
        }
    }
}

/// One registered alias as programs see it.
pub fn peer(peer: &Peer) -> Value {
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

/// An alias on another machine, as the relay last said.
pub fn remote_peer(peer: &RemotePeer) -> Value {
    json!({
        "session_id": "",
        "alias": address(&peer.alias, &peer.node_id),
        "alive": Value::Null,
        "remote": true,
        "node_id": peer.node_id,
        "client_type": peer.client_type,
        "last_seen": clock::rfc3339(peer.changed_us),
    })
}

/// A message in the history of a room.
pub fn said(said: &Said) -> Value {
    let sent = &said.message.sent;
    let mut row = json!({
        "ts": clock::rfc3339(sent.sent_us),
        "from_alias": sent.from,
        "content": sent.body,
        "message_id": sent.message_id,
        "room_sequence": said.room_sequence,
    });
    if said.room_sequence.is_none() {
        row["pending"] = json!(true);
    }
    row
}

/// One room as programs see it; the union of the keys of both older generations.
pub fn room(info: &RoomInfo) -> Value {
    use crate::decide::Liveness::{Alive, Dead, Unknown};
    let count = |wanted| info.members.iter().filter(|(_, _, is, _)| *is == wanted).count();
    let names = |alive_only: bool| -> Vec<&String> {
        let rows = info.members.iter().filter(|(_, _, is, _)| !alive_only || *is == Alive);
        rows.map(|(alias, ..)| alias).collect()
    };
    let details = info.members.iter().map(|(alias, session, is, _)| {
        json!({ "alias": alias, "session_id": session, "alive": is.as_option() })
    });
    json!({
        "room_id": info.room.room_id,
        "member_count": info.members.len(),
        "members": names(false),
        "alive_count": count(Alive),
        "alive_members": names(true),
        "alive_member_count": count(Alive),
        "dead_member_count": count(Dead),
        "unknown_member_count": count(Unknown),
        "member_details": details.collect::<Vec<_>>(),
        "visibility": info.room.visibility,
        "invited_members": info.room.invited,
        "created_by": info.room.created_by,
    })
}

/// A sweep as programs see it.
pub fn sweep(plan: &SweepPlan) -> Value {
    let dropped = plan.dropped.iter();
    let dropped: Vec<_> = dropped
        .map(|(session_id, alias)| json!({ "session_id": session_id, "alias": alias }))
        .collect();
    let evicted = plan.evicted.iter();
    let evicted: Vec<_> =
        evicted.map(|(room_id, alias)| json!({ "room_id": room_id, "alias": alias })).collect();
    let inboxes: Vec<_> = plan.dropped.iter().map(|(session_id, _)| session_id).collect();
    json!({
        "dropped_regs": dropped,
        "deleted_inboxes": inboxes,
        "preserved_messages": plan.preserved,
        "evicted_room_members": evicted,
    })
}
