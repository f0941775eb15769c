//! Exit statuses and errors of the commands.

use crate::log::LogError;
use crate::store::StoreError;

/// Exit status: the log is intact, or the command succeeded.
pub const CLEAN: u8 = 0;
/// Exit status: the log ends in an incomplete batch.
pub const TORN: u8 = 1;
/// Exit status: the log is damaged.
pub const CORRUPT: u8 = 2;
/// Exit status: the command failed.
pub const FAILED: u8 = 3;

/// Reason why a command could not complete.
pub enum ToolError {
    /// The command failed for the reason in the message.
    Failed(String),
    /// The reader of the output is gone, which is not a failure.
    OutputClosed,
}

/// Exit status of a command, or the error that ended it.
pub type ExitResult = Result<u8, ToolError>;

impl From<LogError> for ToolError {
    fn from(error: LogError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<StoreError> for ToolError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}
