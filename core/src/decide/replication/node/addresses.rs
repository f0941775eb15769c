//! Addresses as a node writes them.

use c2c_log_format::payload::MessageSent;

use crate::address::Address;

/// The sender's address, which always has a host: the relay's name if it has no other.
pub(super) fn sender_address(sent: &MessageSent, relay: &str) -> String {
    let sender = Address::parse(&sent.from);
    if sender.is_remote() { sender } else { Address::on(&sent.from, relay) }.to_string()
}
