//! Broadcasts: one message to every agent, in one part for each recipient.

use std::collections::HashMap;

use c2c_log_format::Payload;
use c2c_log_format::checksum::sha256;
use c2c_log_format::id::{fold, hex};
use c2c_log_format::limits::MESSAGE_ID_BYTES_MAX;
use c2c_log_format::payload::{MessageSent, Target, full_address};

use super::acting::{Acting, sender};
use super::address::display_name;
use super::send::{check_body, check_tag, message_sent};
use crate::address::Address;
use crate::code::Code;
use crate::command::{Send, SendAll};
use crate::facts::{Facts, Liveness};
use crate::ids::{Alias, MessageId};
use crate::rejection::{Rejection, check_message_id};
use crate::reply::{BroadcastReply, Decision, Skipped};
use crate::state::State;

/// Id of the part of a broadcast for one mailbox. An id that would be too long ends with a hash.
fn part_id(message_id: &str, mailbox: &str) -> String {
    let whole = format!("{message_id}#{mailbox}");
    if whole.len() <= MESSAGE_ID_BYTES_MAX {
        return whole;
    }
    let begin: String = message_id.chars().take(MESSAGE_ID_BYTES_MAX / 4).collect();
    format!("{begin}#{}", hex(&sha256(whole.as_bytes())))
}

/// Ids of all parts that a broadcast would have now.
pub fn part_ids(state: &State, message_id: &str) -> Vec<MessageId> {
    let local = state.mailboxes.scan([]).into_iter().map(|(_, row)| row.name);
    let peers = state.peers.scan([]).into_iter();
    let remote = peers.map(|(_, peer)| full_address(&peer.alias, &peer.node_id));
    local.chain(remote).map(|name| part_id(message_id, &name).into()).collect()
}

pub(super) fn send_all(
    state: &State,
    broadcast: &SendAll,
    facts: &Facts<'_>,
) -> Result<Decision<BroadcastReply>, Rejection> {
    check_body(&broadcast.body)?;
    check_tag(broadcast.tag.as_deref())?;
    if let Some(id) = &broadcast.message_id {
        check_message_id("message_id", id)?;
    }
    let acting = sender(state, broadcast.from.as_deref(), facts)?;
    let mut parts = Parts::new(&acting, broadcast, facts)?;
    let mut sent_to = Vec::new();
    let mut skipped = Vec::new();
    let is_excluded =
        |alias: &str| broadcast.exclude.iter().any(|other| fold(other) == fold(alias));
    for (_, mailbox) in state.mailboxes.scan([]) {
        if mailbox.name == acting.mailbox || is_excluded(&mailbox.alias) {
            continue;
        }
        let to = display_name(state, &mailbox);
        if facts.mailbox_liveness(state, &mailbox) == Liveness::Dead {
            if facts.relay.is_some() {
                parts.dead_letter(&to, &mailbox.name, mailbox.alias);
            }
            skipped.push(Skipped { alias: to, reason: "not_alive".into() });
            continue;
        }
        parts.message(&to, &mailbox.name, Target::Mailbox(mailbox.name.clone()));
        sent_to.push(to);
    }
    for (_, peer) in state.peers.scan([]).into_iter().filter(|(_, peer)| !peer.gone) {
        let to = Address::on(&peer.alias, &peer.node_id).to_string();
        if !is_excluded(&peer.alias) && !is_excluded(&to) {
            let mailbox = full_address(&peer.alias, &peer.node_id);
            let target = Target::Outbox { alias: peer.alias.into(), host: peer.node_id.into() };
            parts.message(&to, &mailbox, target);
            sent_to.push(to);
        }
    }
    let Parts { events, message_ids, .. } = parts;
    let reply = BroadcastReply { message_ids, sent_to, skipped };
    Ok(Decision::durable(events, reply))
}

/// The parts of one broadcast.
struct Parts<'a> {
    acting: &'a Acting,
    broadcast: &'a SendAll,
    facts: &'a Facts<'a>,
    /// Parts that are in the log already, by message id.
    earlier: HashMap<&'a str, &'a MessageSent>,
    events: Vec<Payload>,
    message_ids: Vec<MessageId>,
}

impl<'a> Parts<'a> {
    fn new(
        acting: &'a Acting,
        broadcast: &'a SendAll,
        facts: &'a Facts<'a>,
    ) -> Result<Self, Rejection> {
        let mut earlier = HashMap::new();
        for (_, sent) in &facts.prior {
            let is_own = sent.from_mailbox == acting.mailbox && sent.origin.is_none();
            // Unregistered senders at a relay have no mailbox; only their addresses differ.
            if is_own && (!sent.from_mailbox.is_empty() || sent.from == acting.address) {
                if sent.body.as_str() != broadcast.body {
                    let message = "this message_id was used for another broadcast";
                    return Err(Rejection::new(Code::MessageIdReused, "message_id", message)
                        .hint("use a new id"));
                }
                earlier.insert(sent.message_id.as_str(), sent);
            }
        }
        let events = acting.events.clone();
        Ok(Self { acting, broadcast, facts, earlier, events, message_ids: Vec::new() })
    }

    /// Adds the part for one mailbox, unless it is in the log already.
    fn message(&mut self, to: &str, mailbox: &str, target: Target) {
        let message_id = self.add(to, mailbox, target);
        self.message_ids.push(message_id);
    }

    /// Adds the part for a mailbox whose lease has expired.
    fn dead_letter(&mut self, to: &str, mailbox: &str, alias: Alias) {
        let reason = Code::RecipientDead.name().into();
        let target =
            Target::DeadLetter { mailbox: mailbox.to_owned(), alias: alias.into(), reason };
        self.add(to, mailbox, target);
    }

    /// Adds a part and returns its message id.
    fn add(&mut self, to: &str, mailbox: &str, target: Target) -> MessageId {
        let message_id: Option<MessageId> =
            self.broadcast.message_id.as_ref().map(|id| part_id(id, mailbox).into());
        let earlier = message_id.as_ref().and_then(|id| self.earlier.get(id.as_str()));
        if let Some(earlier) = earlier {
            return earlier.message_id.clone().into();
        }
        let send = Send {
            message_id,
            to: to.to_owned(),
            body: self.broadcast.body.clone(),
            tag: self.broadcast.tag.clone(),
            ..Send::default()
        };
        let mut sent = message_sent(&send, self.acting, target, self.facts);
        sent.source = Some("send_all".into());
        let message_id = sent.message_id.clone();
        self.events.push(Payload::MessageSent(sent));
        message_id.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_part_is_never_longer_than_a_message_id_may_be() {
        assert_eq!(part_id("m-1", "bob"), "m-1#bob");
        let longest = "m".repeat(MESSAGE_ID_BYTES_MAX);
        let part = part_id(&longest, "bob");
        assert!(part.len() <= MESSAGE_ID_BYTES_MAX, "{part}");
        assert_ne!(part, part_id(&longest, "ann"));
    }
}
