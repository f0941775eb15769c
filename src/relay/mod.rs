//! Messages between machines: protocol, keys, the relay and its connectors.

pub mod client;
pub mod convert;
pub mod keys;
pub mod protocol;
pub mod server;
