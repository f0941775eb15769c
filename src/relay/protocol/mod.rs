//! The protocol between a relay and its clients.
//!
//! Routes, JSON bodies, signatures and replication batches: bytes in, values out, and back. This
//! module uses no sockets and no clock. Timestamps in bodies are seconds since 1970 with a fraction.

pub mod batch;
pub mod cursor;
pub mod json;
pub mod request;
pub mod response;
pub mod route;
pub mod sign;

#[cfg(test)]
mod tests;

pub use batch::{BatchError, WireBatch, WireItem};
pub use cursor::{Digest, WireCursor};
pub use route::{Access, NoRoute, Route, RouteMatch};
