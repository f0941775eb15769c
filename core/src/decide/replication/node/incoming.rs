//! Incoming events: direct messages, receipts, peers.

use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    DeadLettersReturned, MessageSent, PeerSeen, Receipt, ReceiptLevel, ReceiptsRecorded, Target,
};
use c2c_log_format::{Payload, Sequence};

use super::addresses::sender_address;
use super::notices::record_receipts;
use super::rooms::{room_event, room_message};
use crate::address::{Address, node_of};
use crate::batch::{Item, Outcome};
use crate::code::Code;
use crate::decide::replication::intake::{Intake, received_message};
use crate::decide::replication::served::REPLAY_SOURCE;
use crate::ids::NodeId;
use crate::older_relay::{is_from_older_relay, is_part};
use crate::state::sequence_in_key;

/// Takes in one item. `receipts` collects the receipts to send for it.
pub(in crate::decide) fn take_in<'a>(
    intake: &mut Intake<'a>,
    item: &'a Item,
    receipts: &mut Vec<Receipt>,
) -> Outcome {
    let is_new = match &item.payload {
        Payload::MessageSent(sent) => match &sent.target {
            Target::Mailbox(mailbox) => direct_message(intake, item, sent, mailbox, receipts),
            Target::Room { room_id, label, .. } => {
                room_message(intake, item, sent, room_id, *label)
            }
            _ => false,
        },
        Payload::ReceiptsRecorded(fact) => receipts_recorded(intake, item, fact),
        Payload::PeerSeen(fact) => peer_seen(intake, fact),
        payload => room_event(intake, item, payload),
    };
    if is_new { Outcome::Accepted } else { Outcome::Duplicate }
}

/// The event that sends receipts for a batch, if there are any.
pub(in crate::decide) fn receipts_to_send(receipts: Vec<Receipt>) -> Option<Payload> {
    let fact = ReceiptsRecorded { receipts, origin: None };
    (!fact.receipts.is_empty()).then_some(Payload::ReceiptsRecorded(fact))
}

/// Takes in a direct message; true if it is new.
fn direct_message<'a>(
    intake: &mut Intake<'a>,
    item: &'a Item,
    sent: &'a MessageSent,
    mailbox: &str,
    receipts: &mut Vec<Receipt>,
) -> bool {
    let facts = intake.facts;
    let alias = Address::parse(mailbox).alias();
    let sender = sender_address(sent, &intake.batch.node_id);
    let origin = sent.origin.clone().unwrap_or_else(|| intake.origin(item));
    let recipient = intake.state.mailbox_for_alias(alias);
    let reason = Code::UnknownAlias.name();
    let is_from_older = is_part(&intake.batch.log);
    let name = recipient.as_ref().map_or(alias, |row| &row.name);
    let earlier = intake
        .find_earlier_of_older_relay(&sent.message_id, &sender, name)
        // The same id to another recipient is another message.
        .or_else(|| {
            let earlier = intake.find_earlier(&sent.message_id, &sender);
            earlier
                .filter(|earlier| !is_from_older && !is_from_older_relay(earlier.origin.as_ref()))
        })
        .map(|sent| sent.target.clone());
    let dead_letter = recipient
        .as_ref()
        .and_then(|row| find_replayed_dead_letter(intake, sent, &sender).map(|at| (at, row)))
        .map(|(at, row)| DeadLettersReturned { mailbox: row.name.clone(), messages: vec![at] });
    // A message that was received before gets its receipt again, because the first one may be lost.
    // One that was rejected stays rejected.
    let is_rejected = match &earlier {
        Some(target) => matches!(target, Target::DeadLetter { .. }) && dead_letter.is_none(),
        None => recipient.is_none(),
    };
    let receipt = Receipt {
        message_id: sent.message_id.clone(),
        sender: sender.clone(),
        origin: origin.clone(),
        level: if is_rejected { ReceiptLevel::Rejected } else { ReceiptLevel::Delivered },
        by: Address::on(alias, &facts.actor.node_id).to_string(),
        at_us: facts.now_us,
        code: is_rejected.then(|| reason.to_owned()),
    };
    // An older relay has no way to pass it on.
    receipts.extend((!is_from_older).then_some(receipt));
    if let Some(returned) = dead_letter {
        intake.record_and_apply(Payload::DeadLettersReturned(returned));
        return true;
    }
    if earlier.is_some() {
        return false;
    }
    let (to, target) = match recipient {
        Some(row) => (row.alias.into(), Target::Mailbox(row.name)),
        None => {
            let (alias, reason) = (alias.to_owned(), reason.into());
            (alias.clone(), Target::DeadLetter { mailbox: String::new(), alias, reason })
        }
    };
    intake.record_message(sent, received_message(sent, sender, to, target, origin));
    true
}

/// Finds the dead letter of a message that was rejected when no agent had its alias. It counts only
/// if an operator of the relay has replayed the message; otherwise it stays rejected, because its
/// sender was notified.
fn find_replayed_dead_letter(
    intake: &Intake<'_>,
    sent: &MessageSent,
    sender: &str,
) -> Option<Sequence> {
    if sent.source.as_deref() != Some(REPLAY_SOURCE) {
        return None;
    }
    let is_rejected = |prior: &MessageSent| {
        prior.message_id == sent.message_id
            && prior.origin.is_some()
            && fold(&prior.from) == fold(sender)
            && matches!(prior.target, Target::DeadLetter { .. })
    };
    let (sequence, _) = intake.facts.prior.iter().find(|(_, prior)| is_rejected(prior))?;
    let dead_letters = intake.state.dead_letters.scan([]).into_iter();
    dead_letters.map(|(key, _)| sequence_in_key(&key)).find(|at| at == sequence)
}

/// Takes in receipts for messages of this node. The sender of a message that was rejected receives
/// a notice, once.
fn receipts_recorded(intake: &mut Intake<'_>, item: &Item, fact: &ReceiptsRecorded) -> bool {
    let node_id = Some(NodeId::from(fold(&intake.facts.actor.node_id)));
    let is_own = |receipt: &&Receipt| node_of(&receipt.sender) == node_id;
    let receipts: Vec<Receipt> = fact.receipts.iter().filter(is_own).cloned().collect();
    if receipts.is_empty() {
        return false;
    }
    let origin = intake.origin(item);
    for event in record_receipts(&intake.state, receipts, origin, intake.facts) {
        intake.record_and_apply(event);
    }
    true
}

/// Takes in the status of a remote agent; recorded only if it has changed.
fn peer_seen(intake: &mut Intake<'_>, fact: &PeerSeen) -> bool {
    if fold(&fact.node_id) == fold(&intake.facts.actor.node_id) {
        return false;
    }
    let peers = intake.state.peers_with_alias(&fact.alias).into_iter();
    let is_known = peers.filter(|row| fold(&row.node_id) == fold(&fact.node_id)).any(|row| {
        (row.bare, row.gone, &row.client_type) == (fact.bare, fact.gone, &fact.client_type)
    });
    if !is_known {
        intake.record_and_apply(Payload::PeerSeen(fact.clone()));
    }
    !is_known
}
