//! What do a relay and those who talk to it say to each other?
//!
//! Bytes in, values out, and back: routes, JSON bodies, signatures, replication batches. No socket
//! and no clock; the relay and the connector share only this room.

pub mod batch;
pub mod body;
pub mod cursor;
pub mod route;
pub mod sign;

pub use batch::{Batch, BatchError, Item};
pub use cursor::{Cursor, Digest, Standing};
pub use route::{Access, Found, NoRoute, Route};
