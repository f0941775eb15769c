//! Errors that end a command, with their code, message and hint.

#[cfg(test)]
pub mod samples;

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::platform::fs::{OtherUsersFile, is_disk_full};
use crate::store::StoreError;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// Everything that can end a command early.
#[derive(Debug)]
pub enum Failure {
    /// A rule rejected the command.
    Rejected(Rejection),
    /// A rule rejected the command, and the command's JSON output already says so.
    AlreadyReported(Rejection),
    /// The event store could not be read or written.
    Store(StoreError),
    /// An operation on a file or a process outside of the broker root failed.
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    /// The output could not be written.
    Output(io::Error),
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) | Self::AlreadyReported(rejection) => {
                f.write_str(&rejection.message)
            }
            Self::Store(error) => error.fmt(f),
            Self::Io { operation, path, source } => {
                write!(f, "cannot {operation} {}: {source}", path.display())
            }
            Self::Output(source) => write!(f, "cannot write the output: {source}"),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Rejected(_) | Self::AlreadyReported(_) => None,
            Self::Store(error) => error.source(),
            Self::Io { source, .. } | Self::Output(source) => Some(source),
        }
    }
}

/// The path of an error about the working directory, which then has no path.
const WORKING_DIRECTORY: &str = "the working directory";

impl Failure {
    /// A failed operation on a file or a program. `operation` is a verb: "cannot {operation} {path}".
    pub fn io(operation: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { operation, path: path.as_ref().to_owned(), source }
    }

    /// The working directory of this process cannot be determined, usually because it was removed.
    pub fn working_directory(source: io::Error) -> Self {
        Self::io("find", WORKING_DIRECTORY, source)
    }

    /// The stable error code.
    pub fn code(&self) -> Code {
        match self {
            Self::Rejected(rejection) | Self::AlreadyReported(rejection) => rejection.code,
            Self::Store(error) => code_of(error),
            Self::Io { source, .. } if is_disk_full(source.kind()) => Code::DiskFull,
            Self::Io { .. } => Code::StorageFailed,
            Self::Output(_) => Code::OutputFailed,
        }
    }

    /// One sentence that states what failed.
    pub fn message(&self) -> String {
        self.to_string()
    }

    /// What the caller can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Rejected(rejection) | Self::AlreadyReported(rejection) => rejection.hint.clone(),
            Self::Store(error) => match error.foreign_file() {
                Some(OtherUsersFile { path, owner }) => {
                    let shown = path.display();
                    Some(format!(
                        "{shown} belongs to user {owner}; give it to the owner of the broker root with \
                         chown, or run c2c as user {owner}"
                    ))
                }
                None => hint_for(error).map(str::to_owned),
            },
            Self::Io { path, source, .. } => io_hint(path, source),
            Self::Output(_) => {
                Some("no message is lost: messages that were not shown are pending again".into())
            }
        }
    }

    /// The error as a JSON object, for programs.
    pub fn to_json(&self) -> Value {
        let code = self.code();
        let mut out = json!({
            "ok": false,
            "error_code": code.name(),
            "error": self.message(),
            "retryable": code.retryable(),
        });
        if let Self::Rejected(rejection) | Self::AlreadyReported(rejection) = self {
            if !rejection.field.is_empty() {
                out["field"] = json!(rejection.field);
            }
            if let Some(alias) = &rejection.suggestion {
                out["suggested_alias"] = json!(alias);
            }
        }
        if let Some(hint) = self.hint() {
            out["hint"] = json!(hint);
        }
        out
    }
}

fn code_of(error: &StoreError) -> Code {
    match error {
        StoreError::Full { .. } => Code::DiskFull,
        StoreError::TooLarge { .. } => Code::BodyTooLarge,
        StoreError::Corrupt { .. } => Code::Corrupt,
        StoreError::Unknown { .. } => Code::OutcomeUnknown,
        StoreError::Busy { .. } | StoreError::Conflict { .. } | StoreError::Reload => Code::Busy,
        StoreError::UpgradeNeeded { .. } => Code::UpgradeNeeded,
        StoreError::ArchiveNeeded { .. } => Code::ArchiveNeeded,
        StoreError::Backend { .. } => Code::StorageFailed,
    }
}

fn hint_for(error: &StoreError) -> Option<&'static str> {
    Some(match error {
        StoreError::Full { .. } => "free some disk space; polls and acks still work",
        StoreError::Unknown { .. } => "retry with the same message id",
        StoreError::Busy { .. } => "a stopped process may hold the lock; try again",
        StoreError::UpgradeNeeded { .. } => "update c2c on this machine",
        StoreError::ArchiveNeeded { .. } => "move the archived segments back to log/archive",
        StoreError::Corrupt { .. } => "check the log for damage",
        StoreError::Backend { .. } => match error.io_kind()? {
            io::ErrorKind::PermissionDenied => "check the owner and the mode of the broker root",
            io::ErrorKind::ReadOnlyFilesystem => {
                "the broker root cannot be written; mail can still be read. To send, set \
                 C2C_MCP_BROKER_ROOT to a writable root"
            }
            _ => return None,
        },
        StoreError::Conflict { .. } | StoreError::Reload | StoreError::TooLarge { .. } => {
            return None;
        }
    })
}

/// The hint that is certain for an I/O error on this path; none otherwise.
fn io_hint(path: &Path, error: &io::Error) -> Option<String> {
    let shown = path.display();
    match error.kind() {
        kind if is_disk_full(kind) => Some(format!("free some space for {shown}")),
        io::ErrorKind::PermissionDenied => {
            Some(format!("check the owner and the mode of {shown} and of its directory"))
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            Some(format!("{shown} is on a read-only file system; nothing was changed"))
        }
        io::ErrorKind::NotFound if path == Path::new(WORKING_DIRECTORY) => {
            Some("it was removed: change to an existing directory".into())
        }
        _ => None,
    }
}
