//! Intake at a node: what a relay sends, and how it answers a push.

mod acknowledged;
mod addresses;
mod answered;
mod incoming;
mod notices;
mod rejected;
mod rooms;

pub(in crate::decide) use acknowledged::pushed;
pub(in crate::decide) use answered::answered;
pub(super) use incoming::{receipts_to_send, take_in};
