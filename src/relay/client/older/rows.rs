//! Messages as an older relay returns them.

use c2c_log_format::checksum::sha256;
use c2c_log_format::id::hex;
use c2c_log_format::payload::{MessageSent, Target};

use crate::relay::protocol::response::InboxMessage;
use c2c_core::decide::check_message_id;
use c2c_core::limits::BODY_BYTES_MAX;

/// Sender of the messages of a relay about members that join or leave a room.
const SYSTEM: &str = "c2c-system";
/// Tags that a message may have.
const TAGS: [&str; 3] = ["fail", "blocking", "urgent"];
/// End of a text that was cut.
const CUT: &str = "\n[cut: the message was longer than c2c accepts]";

/// Messages, oldest first. Some relays return the newest first.
pub(super) fn in_order(mut rows: Vec<InboxMessage>) -> Vec<InboxMessage> {
    if let (Some(first), Some(last)) = (rows.first(), rows.last())
        && first.ts.us > last.ts.us
    {
        rows.reverse();
    }
    rows.sort_by_key(|row| row.ts.us);
    rows
}

/// The room of a message. Some relays name it only in the address of the recipient.
pub(super) fn room_of(row: &InboxMessage) -> Option<&str> {
    let in_address = || row.to_alias.as_deref()?.split_once('#').map(|(_, room)| room);
    row.room_id.as_deref().filter(|room| !room.is_empty()).or_else(in_address)
}

/// Whether a message only reports that a member joined or left a room.
pub(super) fn is_membership_notice(row: &InboxMessage) -> bool {
    row.from_alias == SYSTEM && room_of(row).is_some()
}

/// The message ids of the messages of one inbox. A message without a valid one gets an id that is
/// the same whenever the relay returns the message, and in a room the same for all members.
pub(super) fn message_ids(rows: &[InboxMessage], inbox: &str) -> Vec<String> {
    let mut ids = Vec::with_capacity(rows.len());
    for row in rows {
        let id = if check_message_id("message_id", &row.message_id).is_ok() {
            row.message_id.clone()
        } else {
            let place = room_of(row).unwrap_or(inbox);
            (0..)
                .map(|copy| derived_id(row, place, copy))
                .find(|id| !ids.contains(id))
                .unwrap_or_default()
        };
        ids.push(id);
    }
    ids
}

fn derived_id(row: &InboxMessage, place: &str, copy: u32) -> String {
    let parts = [place, &row.from_alias, &row.ts.us.to_string(), &row.content, &copy.to_string()];
    format!("older-{}", hex(&sha256(parts.join("\u{1f}").as_bytes())[..16]))
}

/// A mark of the messages in an inbox: that of the last one, and that of all.
pub(super) fn mark(ids: &[String]) -> String {
    let last = ids.last().map_or_else(String::new, |id| mark_of(id));
    last + &hex(&sha256(ids.join("\u{1f}").as_bytes())[..16])
}

/// The part of a mark that identifies one message.
pub(super) fn mark_of(id: &str) -> String {
    hex(&sha256(id.as_bytes())[..16])
}

/// The event of a message. `now_us` is its time if the relay gives none.
pub(super) fn to_event(
    row: InboxMessage,
    message_id: String,
    from: String,
    target: Target,
    to: &str,
    now_us: u64,
) -> MessageSent {
    let is_valid = |id: &String| check_message_id("reply_to", id).is_ok();
    MessageSent {
        sent_us: if row.ts.us > 0 { row.ts.us } else { now_us },
        tag: row.tag.filter(|tag| TAGS.contains(&tag.as_str())),
        reply_to: row.reply_to.filter(is_valid),
        ..MessageSent::new(message_id, &from, to, target, cut(row.content))
    }
}

/// A text that is not longer than a message may be.
fn cut(mut text: String) -> String {
    if text.len() > BODY_BYTES_MAX {
        let end = (0..=BODY_BYTES_MAX - CUT.len()).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        text.push_str(CUT);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::protocol::json::Stamp;

    fn row(id: &str, content: &str, us: u64) -> InboxMessage {
        InboxMessage {
            message_id: id.into(),
            from_alias: "ann".into(),
            content: content.into(),
            ts: Stamp { us },
            ..InboxMessage::default()
        }
    }

    #[test]
    fn messages_are_ordered_oldest_first_whichever_way_the_relay_returns_them() {
        let texts = |rows: Vec<InboxMessage>| -> Vec<String> {
            in_order(rows).into_iter().map(|row| row.content).collect()
        };
        let newest_first = vec![row("3", "c", 9), row("2", "b", 5), row("1", "a", 5)];
        assert_eq!(texts(newest_first), ["a", "b", "c"]);
        assert_eq!(texts(vec![row("1", "a", 5), row("2", "b", 5)]), ["a", "b"]);
    }

    #[test]
    fn messages_without_an_id_get_one_that_is_stable_and_their_own() {
        let rows = [row("", "again", 5), row("", "again", 5), row("x-1", "again", 5)];
        let ids = message_ids(&rows, "inbox");
        assert_eq!(ids, message_ids(&rows, "inbox"));
        assert!(ids[0] != ids[1] && ids[2] == "x-1");
        let of_room = |to: &str| InboxMessage { to_alias: Some(to.into()), ..row("", "hi", 5) };
        let [amy, ann] = ["amy#den", "ann#den"].map(of_room);
        assert_eq!(message_ids(&[amy], "one"), message_ids(&[ann], "two"));
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_at_a_character() {
        let text = cut("\u{f6}".repeat(BODY_BYTES_MAX));
        assert!(text.len() <= BODY_BYTES_MAX && text.ends_with(CUT));
    }
}
