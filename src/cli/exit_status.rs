//! Exit statuses that do not come from an error code.

/// The command succeeded.
pub const SUCCESS: u8 = 0;
/// The command line is invalid.
pub const USAGE: u8 = 2;
