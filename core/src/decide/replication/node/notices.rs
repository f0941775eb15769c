//! Messages from the system to agents, and the receipts that cause them.

use c2c_log_format::Payload;
use c2c_log_format::payload::{
    MessageSent, Origin, Receipt, ReceiptLevel, ReceiptsRecorded, Target,
};

use crate::batch::Pushed;
use crate::facts::Facts;
use crate::state::{OutboxMessage, State};

/// Sender of system messages.
const SYSTEM: &str = "c2c-system";

/// A message from the system to a mailbox; `reply_to` is the id of the message concerned, if any.
pub(super) fn system_message(
    alias: &str,
    mailbox: &str,
    body: String,
    reply_to: Option<&str>,
    facts: &Facts<'_>,
) -> Payload {
    Payload::MessageSent(MessageSent {
        sent_us: facts.now_us,
        tag: Some("fail".into()),
        reply_to: reply_to.filter(|id| !id.is_empty()).map(str::to_owned),
        source: Some("bounce".into()),
        ..MessageSent::new((facts.mint)(), SYSTEM, alias, Target::Mailbox(mailbox.to_owned()), body)
    })
}

/// Records receipts, and notifies the sender of each message that they reject.
pub(super) fn record_receipts(
    state: &State,
    receipts: Vec<Receipt>,
    origin: Origin,
    facts: &Facts<'_>,
) -> Vec<Payload> {
    let rejections = receipts.iter().filter(|receipt| receipt.level == ReceiptLevel::Rejected);
    let bounces = rejections.filter_map(|receipt| {
        let (_, row) = state.outbox_message_for_receipt(receipt)?;
        Some(bounce(receipt, &row, facts))
    });
    let bounces: Vec<Payload> = bounces.collect();
    let recorded = ReceiptsRecorded { receipts, origin: Some(origin) };
    std::iter::once(Payload::ReceiptsRecorded(recorded)).chain(bounces).collect()
}

fn bounce(receipt: &Receipt, row: &OutboxMessage, facts: &Facts<'_>) -> Payload {
    let code = receipt.code.as_deref().unwrap_or(ReceiptLevel::Rejected.as_str());
    let body = format!(
        "Your message {} to {}@{} was not delivered: {code} (reported by {}). It was moved to the \
         dead letters.",
        receipt.message_id, row.alias, row.host, receipt.by
    );
    system_message(&row.from, &row.from_mailbox, body, Some(&receipt.message_id), facts)
}

/// Origin of the events that a relay's answer to a push causes.
pub(super) fn origin_of_relay(pushed: &Pushed) -> Origin {
    Origin {
        log: pushed.relay.clone(),
        sequence: 0,
        node: pushed.relay_name.clone(),
        digest: String::new(),
    }
}
