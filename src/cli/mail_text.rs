//! Text of delivered messages, for terminals and programs.

use serde_json::json;

use super::output;
use crate::broker::Delivery;
use crate::present::envelope::{Envelope, for_terminal};
use crate::present::json_view;
use c2c_core::view::MessageView;

/// Renders one message for a terminal.
pub fn message_line(message: &MessageView) -> String {
    let sent = &message.sent;
    let room = message.room_id.as_ref().map_or_else(String::new, |room| format!("#{room} "));
    let tag = sent
        .tag
        .as_ref()
        .map_or_else(String::new, |tag| format!("{}: ", for_terminal(&tag.to_uppercase())));
    let redelivered = if message.redelivered { "(redelivered) " } else { "" };
    let sender = output::bold(&format!("[{room}{}]", for_terminal(&sent.from)));
    format!("{sender} {redelivered}{tag}{}\n", for_terminal(sent.body.as_str()))
}

/// Renders one message as the envelope that agents read.
fn envelope_line(message: &MessageView, alias: &str) -> String {
    let room_id = message.room_id.as_deref();
    let envelope = Envelope::of(&message.sent, alias, room_id, message.redelivered);
    format!("{}\n", envelope.render())
}

/// Renders all messages of a delivery as JSON, as envelopes, or as lines for a terminal.
pub fn delivery_text(delivery: &Delivery, as_json: bool, as_envelopes: bool) -> String {
    let messages = delivery.messages.iter();
    if as_json {
        let rows: Vec<_> = messages.map(|row| json_view::message(row, &delivery.alias)).collect();
        return output::json_block(&json!(rows));
    }
    if delivery.messages.is_empty() {
        return String::from("(no messages)\n");
    }
    if as_envelopes {
        return messages.map(|message| envelope_line(message, &delivery.alias)).collect();
    }
    messages.map(message_line).collect()
}
