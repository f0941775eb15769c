//! Errors that every event store reports in the same form.

use std::error::Error;
use std::io;

use c2c_log_format::Sequence;

use crate::log::LogError;
use crate::platform::fs::{OtherUsersFile, is_disk_full};

/// The underlying error, as the store's own library reports it.
pub type Source = Box<dyn Error + Send + Sync>;

/// An operation on an event store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another writer appended after the caller's last read: `head` is the current head.
    #[error("the log has moved on to event {head}")]
    Conflict { head: Sequence },
    /// Another process kept the caller from writing for too long.
    #[error("another process held the log lock for more than {waited_ms} ms")]
    Busy { waited_ms: u64 },
    /// Events that were read earlier became void, or the store was replaced: the caller must rebuild
    /// its state from the log.
    #[error("events were discarded after a failed sync; state must be reloaded")]
    Reload,
    /// A sync failed while the caller waited for this event: it may or may not be on disk.
    #[error("sync of {file} failed: event {sequence} may or may not be on disk")]
    Unknown { file: String, sequence: Sequence },
    /// The disk or the quota is full.
    #[error("no space left to write {file}")]
    Full { file: String },
    /// A batch exceeds the size limits of a frame.
    #[error("a batch of {events} events and {bytes} bytes exceeds the size limit of a frame")]
    TooLarge { events: usize, bytes: usize },
    /// Stored bytes cannot be decoded.
    #[error("{file}: {source}")]
    Corrupt { file: String, source: Source },
    /// The events before the base are archived elsewhere, and this program cannot use the base.
    #[error("{}", LogError::ArchiveNeeded { file: file.clone(), archive: archive.clone() })]
    ArchiveNeeded { file: String, archive: Option<String> },
    /// A newer program wrote the store.
    #[error("{file} was written by a newer version of c2c")]
    UpgradeNeeded { file: String },
    /// The system beneath the store (file system, database) reported an error.
    #[error("cannot {operation} {file}: {source}")]
    Backend { operation: &'static str, file: String, source: Source },
}

impl StoreError {
    /// Wraps an I/O error; a full disk or quota becomes [`StoreError::Full`].
    pub fn io(operation: &'static str, file: &str, source: io::Error) -> Self {
        if is_disk_full(source.kind()) {
            return Self::Full { file: file.into() };
        }
        Self::Backend { operation, file: file.into(), source: Box::new(source) }
    }

    /// The file of another user that the backend could not use, if that is the cause.
    pub fn foreign_file(&self) -> Option<&OtherUsersFile> {
        let Self::Backend { source, .. } = self else { return None };
        source.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
    }

    /// The kind of I/O error that the backend reported, if it was one.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        let Self::Backend { source, .. } = self else { return None };
        source.downcast_ref::<io::Error>().map(io::Error::kind)
    }
}

impl From<LogError> for StoreError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Io { operation, file, source } => {
                Self::Backend { operation, file, source: Box::new(source) }
            }
            LogError::Full { file } => Self::Full { file },
            LogError::Format { file, source } => Self::Corrupt { file, source: Box::new(source) },
            LogError::Unknown { file, sequence } => Self::Unknown { file, sequence },
            LogError::Busy { waited_ms } => Self::Busy { waited_ms },
            LogError::Conflict { head } => Self::Conflict { head },
            LogError::Reload => Self::Reload,
            LogError::TooLarge { events, bytes } => Self::TooLarge { events, bytes },
            LogError::ArchiveNeeded { file, archive } => Self::ArchiveNeeded { file, archive },
            LogError::UpgradeNeeded { file } => Self::UpgradeNeeded { file },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_error_of_the_log_keeps_its_text_kind_and_source() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let log_error = LogError::io("open", "log", denied());
        let text = log_error.to_string();
        let error = StoreError::from(log_error);
        assert_eq!(error.to_string(), text);
        assert_eq!(error.io_kind(), Some(io::ErrorKind::PermissionDenied));
        assert_eq!(error.source().map(ToString::to_string), Some(denied().to_string()));
    }
}
