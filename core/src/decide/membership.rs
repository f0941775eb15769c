//! Room membership: who may see and join a room, and who receives its messages.

use c2c_log_format::id::fold;
use c2c_log_format::payload::RoomVisibility;

use super::address::display_name;
use crate::address::Address;
use crate::facts::{Facts, Liveness};
use crate::reply::Skipped;
use crate::state::{Room, State, compound_key};

/// Prefix of a public key in the list of invitations: the holder of the key may join under any
/// alias. It cannot be confused with an alias, which has no colon.
const KEY: &str = "key:";

/// A public key, in the form that the list of invitations contains.
pub fn invitation_of_key(public_key: &str) -> String {
    format!("{KEY}{public_key}")
}

/// The public key in an entry of the list of invitations, if the entry is one.
pub fn invited_key(invited: &str) -> Option<&str> {
    invited.strip_prefix(KEY)
}

/// Whether a string has the form of a public key: 32 bytes in base64url.
pub(super) fn is_key(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    text.len() == 43 && text.bytes().all(is_allowed)
}

/// Whether a mailbox may see that a room exists.
pub fn may_see_room(state: &State, room: &Room, mailbox: &str) -> bool {
    room.visibility != RoomVisibility::InviteOnly
        || is_member(state, &room.room_id, mailbox)
        || is_mailbox_invited(state, room, mailbox)
}

/// Whether a mailbox may join an invite-only room.
pub(super) fn is_mailbox_invited(state: &State, room: &Room, mailbox: &str) -> bool {
    state.mailboxes.get(mailbox).is_some_and(|row| is_invited(state, room, &row.address()))
}

/// Whether an address may join an invite-only room: it is invited by name or, at a
/// relay, by the key that it belongs to.
pub(super) fn is_invited(state: &State, room: &Room, address: &str) -> bool {
    let is_named = |alias: &String| fold(alias) == fold(address);
    if is_named(&room.created_by) || room.invited.iter().any(is_named) {
        return true;
    }
    let parsed = Address::parse(address);
    let Some(node_id) = parsed.node() else { return false };
    let binding = state.bindings.get(compound_key(&node_id, fold(parsed.alias()).as_bytes()));
    let key = binding.map(|row| row.public_key).filter(|key| !key.is_empty());
    key.is_some_and(|key| room.invited.contains(&invitation_of_key(&key)))
}

pub(super) fn is_member(state: &State, room_id: &str, mailbox: &str) -> bool {
    state.members.get(compound_key(&fold(room_id), mailbox.as_bytes())).is_some()
}

/// The members of a room, as they are shown to agents.
pub(super) fn member_names(state: &State, room_id: &str) -> Vec<String> {
    let name = |mailbox: String| match state.mailboxes.get(&mailbox) {
        Some(row) => display_name(state, &row),
        // A member on another node has no mailbox here; the list contains its address.
        None => mailbox,
    };
    state.members_of_room(room_id).into_iter().map(|(mailbox, _)| name(mailbox)).collect()
}

/// The recipients of a room message.
#[derive(Default)]
pub(super) struct Recipients {
    pub delivered_to: Vec<String>,
    /// Members on other nodes.
    pub queued: Vec<String>,
    /// Members that are not alive.
    pub skipped: Vec<Skipped>,
    /// Mailboxes of the skipped members.
    pub dead: Vec<String>,
}

/// The recipients of a room message from a mailbox: every other member. Dead members are listed
/// separately. At a node their mail waits in the mailbox all the same; at a relay only mail that a
/// connector fetches does.
pub(super) fn recipients(
    state: &State,
    room_id: &str,
    from: &str,
    facts: &Facts<'_>,
) -> Recipients {
    let mut recipients = Recipients::default();
    for (mailbox, _) in state.members_of_room(room_id).into_iter().filter(|(name, _)| name != from)
    {
        let Some(row) = state.mailboxes.get(&mailbox) else {
            recipients.queued.push(mailbox);
            continue;
        };
        let alias = display_name(state, &row);
        if row.replicated {
            recipients.queued.push(alias);
        } else if facts.mailbox_liveness(state, &row) == Liveness::Dead {
            let at_node = "not_alive: waits in the mailbox";
            let reason = if facts.relay.is_some() { "not_alive" } else { at_node };
            recipients.skipped.push(Skipped { alias, reason: reason.into() });
            recipients.dead.push(mailbox);
        } else {
            recipients.delivered_to.push(alias);
        }
    }
    recipients
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_by_key_contains_the_key() {
        let key = "A".repeat(43);
        assert!(is_key(&key) && !is_key("ann"));
        assert_eq!(invited_key(&invitation_of_key(&key)), Some(key.as_str()));
        assert_eq!(invited_key("ann"), None);
    }
}
