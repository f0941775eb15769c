//! What failed, on which file, and may the caller go on?

use std::io;

use c2c_log_format::{FormatError, Sequence};

/// Trouble with the files of a log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused.
    #[error("cannot {operation} {file}: {cause}")]
    Io { operation: &'static str, file: String, cause: io::Error },
    /// No space for another event.
    #[error("no space left for {file}")]
    Full { file: String },
    /// Bytes that are not what they should be.
    #[error("{file}: {cause}")]
    Format { file: String, cause: FormatError },
    /// A sync failed while the event waited for it: it may or may not be on disk.
    #[error("sync of {file} failed: whether event {sequence} is on disk is not known")]
    Unknown { file: String, sequence: Sequence },
    /// The writer lock was not free in time.
    #[error("another process held the log for more than {waited_ms} ms")]
    Busy { waited_ms: u64 },
    /// The log moved on between a read and an append.
    #[error("log head is {head}")]
    Conflict { head: Sequence },
    /// Frames that were void after a failed sync have been read: state must be built anew.
    #[error("events after a failed sync were given up; state must be reloaded")]
    Reload,
    /// More than one frame may hold.
    #[error("a batch of {events} events and {bytes} bytes is more than a frame may hold")]
    TooLarge { events: usize, bytes: usize },
    /// The events before the base are archived elsewhere, and the base is not for this program.
    #[error(
        "{file} is damaged or of another version, and the segments before it are archived{}",
        archive.as_ref().map_or_else(String::new, |place| format!(" in {place}"))
    )]
    ArchiveNeeded { file: String, archive: Option<String> },
    /// Written by a newer program.
    #[error("{file} was written by a newer version of c2c")]
    UpgradeNeeded { file: String },
}

impl LogError {
    /// Wraps an I/O error, telling a full disk from all else.
    pub(crate) fn io(operation: &'static str, file: &str, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full { file: file.into() },
            _ => Self::Io { operation, file: file.into(), cause },
        }
    }

    /// Wraps a decoding error; a future version has its own meaning.
    pub(crate) fn format(file: &str, cause: FormatError) -> Self {
        match cause.problem {
            c2c_log_format::error::Problem::FutureVersion { .. } => {
                Self::UpgradeNeeded { file: file.into() }
            }
            _ => Self::Format { file: file.into(), cause },
        }
    }
}
