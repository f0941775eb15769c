//! The JSON form of a message, shared by the routes and the room histories.

use crate::relay::protocol::json::Stamp;
use crate::relay::protocol::response;
use c2c_core::view::MessageView;

/// A message as clients receive it. `to` replaces the address that the sender wrote.
pub fn message_row(message: &MessageView, to: Option<&str>) -> response::InboxMessage {
    let sent = &message.sent;
    let to = to.unwrap_or(&sent.to);
    response::InboxMessage {
        message_id: sent.message_id.clone(),
        from_alias: sent.from.clone(),
        content: sent.body.to_string(),
        to_alias: Some(match &message.room_id {
            Some(room_id) => format!("{to}#{room_id}"),
            None => to.to_owned(),
        }),
        room_id: message.room_id.clone().map(String::from),
        tag: sent.tag.clone(),
        reply_to: sent.reply_to.clone(),
        sequence: Some(message.sequence),
        redelivered: message.redelivered.then_some(true),
        ts: Stamp { us: sent.sent_us },
        ..response::InboxMessage::default()
    }
}
