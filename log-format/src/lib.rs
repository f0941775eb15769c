//! The on-disk format of a c2c log.
//!
//! This crate converts between bytes and values, and does nothing else. It is `no_std`, so it
//! cannot open files or read the clock.
//!
//! # A log on one page
//!
//! A log is a sequence of **events**, numbered from 1 without reuse. Events that belong together
//! form a **batch**; a batch is written as one **frame**, the unit of atomic append. Frames follow
//! one another in **segments**, files named after the first sequence that they may hold:
//!
//! ```text
//! 00000000000000000001.seg   [ header 4096 ][ frame ][ frame ] ... [ seal ]
//! 00000000000000032768.seg   [ header 4096 ][ frame ][ frame ][ zeros ............ ]
//! ```
//!
//! All integers are little-endian. All frames start at a multiple of 8. Unused space is zero.
//!
//! | structure | module | size |
//! |---|---|---|
//! | segment header | [`segment`] | 4096 bytes |
//! | frame header | [`frame`] | 56 bytes, then the body, zero-padded to 8 |
//! | event head | [`event`] | 40 bytes, then the JSON payload |
//! | checkpoint header | [`checkpoint`] | 256 bytes, then blocks of sorted rows |
//!
//! Reading order for a newcomer: [`segment`], [`frame`], [`event`], [`payload`], [`scan`],
//! [`verdict`].
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

pub mod bytes;
pub mod checkpoint;
pub mod checksum;
pub mod error;
pub mod event;
pub mod frame;
pub mod id;
pub mod limits;
pub mod payload;
pub mod scan;
pub mod segment;
pub mod verdict;

pub use error::FormatError;
pub use event::{Event, EventHead};
pub use payload::Payload;

/// Position of an event in one log, starting at 1. Zero means "before the first event".
pub type Sequence = u64;
