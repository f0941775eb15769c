//! Errors of the log, with the file they concern.

use std::io;

use c2c_log_format::error::Problem;
use c2c_log_format::{FormatError, Sequence};

use crate::platform::fs::is_disk_full;

/// An operation on the files of a log failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system reported an error.
    #[error("cannot {operation} {file}: {source}")]
    Io { operation: &'static str, file: String, source: io::Error },
    /// The disk or the quota is full.
    #[error("no space left to write {file}")]
    Full { file: String },
    /// The bytes of a file cannot be decoded.
    #[error("{file}: {source}")]
    Format { file: String, source: FormatError },
    /// A sync failed while the caller waited for this event: it may or may not be on disk.
    #[error("sync of {file} failed: event {sequence} may or may not be on disk")]
    Unknown { file: String, sequence: Sequence },
    /// Another process held the writer lock for too long.
    #[error("another process held the log lock for more than {waited_ms} ms")]
    Busy { waited_ms: u64 },
    /// Another writer appended after the caller's last read.
    #[error("the log has moved on to event {head}")]
    Conflict { head: Sequence },
    /// Events that were read earlier became void after a failed sync, or the directory was replaced:
    /// the caller must rebuild its state from the log.
    #[error("events were discarded after a failed sync; state must be reloaded")]
    Reload,
    /// A batch exceeds the size limits of a frame.
    #[error("a batch of {events} events and {bytes} bytes exceeds the size limit of a frame")]
    TooLarge { events: usize, bytes: usize },
    /// The segments before the base are archived elsewhere, and this program cannot use the base.
    #[error(
        "{file} is damaged or from another version, and the segments before it are archived{}",
        archive.as_ref().map_or_else(String::new, |directory| format!(" in {directory}"))
    )]
    ArchiveNeeded { file: String, archive: Option<String> },
    /// A newer program wrote the file.
    #[error("{file} was written by a newer version of c2c")]
    UpgradeNeeded { file: String },
}

impl LogError {
    /// Wraps an I/O error; a full disk or quota becomes [`LogError::Full`].
    pub(crate) fn io(operation: &'static str, file: &str, source: io::Error) -> Self {
        if is_disk_full(source.kind()) {
            return Self::Full { file: file.into() };
        }
        Self::Io { operation, file: file.into(), source }
    }

    /// Wraps a decoding error; a future format version becomes [`LogError::UpgradeNeeded`].
    pub(crate) fn format(file: &str, source: FormatError) -> Self {
        match source.problem {
            Problem::FutureVersion { .. } => Self::UpgradeNeeded { file: file.into() },
            _ => Self::Format { file: file.into(), source },
        }
    }
}
