//! MCP resources: the inbox of the caller, and each room that it is in. Reading them claims nothing.

use std::time::Duration;

use rmcp::model::{Resource, ResourceContents};
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::error::Failure;
use crate::platform::clock;
use crate::present::json_view;
use c2c_core::decide::Actor;
use c2c_core::limits::MCP_POLL_MESSAGES;

/// Unread mail of the caller.
pub const INBOX: &str = "c2c://inbox";
/// Prefix of the resource of a room.
const ROOM: &str = "c2c://room/";
/// A waiting thread checks again after this time even without an append.
const RECHECK: Duration = Duration::from_secs(600);

/// The resources of a caller.
pub fn list(broker: &mut Broker, actor: &Actor) -> Result<Vec<Resource>, Failure> {
    broker.refresh(actor)?;
    let mailbox = broker.own_mailbox(actor);
    let own_alias = mailbox.as_ref().map_or("", |mailbox| mailbox.alias.as_str());
    let rooms = broker
        .rooms(mailbox.as_ref())
        .into_iter()
        .filter(|view| view.members.iter().any(|member| member.alias == own_alias))
        .map(|view| {
            let room_id = view.room.room_id;
            Resource::new(format!("{ROOM}{room_id}"), format!("room {room_id}"))
        });
    Ok(std::iter::once(Resource::new(INBOX, "inbox")).chain(rooms).collect())
}

/// The content of a resource; `None` if no resource has this URI.
pub fn read(
    broker: &mut Broker,
    actor: &Actor,
    uri: &str,
) -> Result<Option<Vec<ResourceContents>>, Failure> {
    broker.refresh(actor)?;
    let mailbox = broker.own_mailbox(actor);
    let rows: Vec<Value> = if uri == INBOX {
        let Some(mailbox) = mailbox else { return Ok(Some(contents(uri, &[]))) };
        let (messages, _) = broker.peek(&mailbox)?;
        messages.iter().map(|message| json_view::message(message, &mailbox.alias)).collect()
    } else {
        let Some(room_id) = uri.strip_prefix(ROOM) else { return Ok(None) };
        let rooms = broker.rooms(mailbox.as_ref());
        if !rooms.iter().any(|view| view.room.room_id.eq_ignore_ascii_case(room_id)) {
            return Ok(None);
        }
        let history = broker.room_history(room_id, MCP_POLL_MESSAGES, 0)?;
        history.iter().map(|row| json_view::message(&row.message, room_id)).collect()
    };
    Ok(Some(contents(uri, &rows)))
}

fn contents(uri: &str, rows: &[Value]) -> Vec<ResourceContents> {
    vec![ResourceContents::text(json!(rows).to_string(), uri)]
}

/// A number that changes when a resource does, and grows with each new message. 0 for the inbox of a
/// caller on do-not-disturb, and after an error.
pub fn version(broker: &mut Broker, actor: &Actor, uri: &str) -> u64 {
    if broker.refresh(actor).is_err() {
        return 0;
    }
    let state = broker.state();
    if let Some(room_id) = uri.strip_prefix(ROOM) {
        return state.rooms.get(room_id.to_ascii_lowercase()).map_or(0, |room| room.head);
    }
    let mailbox = broker.own_mailbox(actor).filter(|mailbox| !mailbox.is_dnd(clock::now_us()));
    mailbox.map_or(0, |mailbox| {
        let unread = state.unread(&mailbox.name).in_order();
        unread.last().map_or(0, |message| message.sequence)
    })
}

/// Time until a resource may change without an append: until do-not-disturb ends by itself, and at
/// most [`RECHECK`].
pub fn next_wakeup(broker: &Broker, actor: &Actor) -> Duration {
    let until_us = broker.own_mailbox(actor).and_then(|mailbox| mailbox.dnd_until_us);
    let left_us = until_us.map_or(0, |until_us| until_us.saturating_sub(clock::now_us()));
    if left_us == 0 { RECHECK } else { RECHECK.min(Duration::from_micros(left_us)) }
}
