//! What does a caller learn when something went wrong?

use serde_json::{Value, json};

use crate::code::Code;
use crate::decide::Refusal;
use crate::log::LogError;

/// Everything that can end a command early.
#[derive(Debug)]
pub enum Failure {
    /// A rule said no.
    Refused(Refusal),
    /// The same, where the one JSON value of this command already says so.
    Told(Refusal),
    /// The log could not be read or written.
    Store(LogError),
    /// What was to be shown could not be written out.
    Output(std::io::Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(refusal) | Self::Told(refusal) => refusal.code,
            Self::Output(_) => Code::OutputFailed,
            Self::Store(error) => match error {
                LogError::Full { .. } => Code::DiskFull,
                LogError::TooLarge { .. } => Code::BodyTooLarge,
                LogError::Format { .. } => Code::Corrupt,
                LogError::Unknown { .. } => Code::OutcomeUnknown,
                LogError::Busy { .. } | LogError::Conflict { .. } | LogError::Reload => Code::Busy,
                LogError::UpgradeNeeded { .. } => Code::UpgradeNeeded,
                LogError::ArchiveNeeded { .. } => Code::ArchiveNeeded,
                LogError::Io { .. } => Code::StorageFailed,
            },
        }
    }

    /// One sentence about what happened.
    pub fn message(&self) -> String {
        match self {
            Self::Refused(refusal) | Self::Told(refusal) => refusal.message.clone(),
            Self::Output(cause) => format!("cannot write the output: {cause}"),
            Self::Store(error) => error.to_string(),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(refusal) | Self::Told(refusal) => refusal.hint.clone(),
            Self::Output(_) => Some("nothing is lost: what was not shown is pending again".into()),
            Self::Store(error) => {
                let hint = match error {
                    LogError::Full { .. } => "free some space; polls and acks still work",
                    LogError::Unknown { .. } => "send again with the same --message-id",
                    LogError::Busy { .. } => "a stopped process may hold the lock; try again",
                    LogError::UpgradeNeeded { .. } => "update c2c on this machine",
                    LogError::ArchiveNeeded { .. } => {
                        "put the archived segments back into log/archive"
                    }
                    LogError::Format { .. } => "run c2c-log verify",
                    LogError::Io { cause, .. } => match cause.kind() {
                        std::io::ErrorKind::PermissionDenied => {
                            "the broker root belongs to another user"
                        }
                        std::io::ErrorKind::ReadOnlyFilesystem => {
                            "the broker root cannot be written"
                        }
                        _ => return None,
                    },
                    _ => return None,
                };
                Some(hint.to_owned())
            }
        }
    }

    /// The form for programs.
    pub fn to_json(&self) -> Value {
        let code = self.code();
        let mut out = json!({
            "ok": false,
            "error_code": code.name(),
            "error": self.message(),
            "retryable": code.retryable(),
        });
        if let Self::Refused(refusal) | Self::Told(refusal) = self {
            if !refusal.field.is_empty() {
                out["field"] = json!(refusal.field);
            }
            if let Some(alias) = &refusal.suggestion {
                out["suggested_alias"] = json!(alias);
            }
        }
        if let Some(hint) = self.hint() {
            out["hint"] = json!(hint);
        }
        out
    }
}
