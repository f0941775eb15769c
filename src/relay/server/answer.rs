//! Answers to HTTP requests, and the HTTP form of errors.

use serde::Serialize;

use crate::error::Failure;
use crate::present::diagnostics::note;
use crate::relay::protocol::json::{BodyError, Seconds};
use crate::relay::protocol::response::{self, ErrorResponse};
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// An HTTP response without its connection.
#[derive(Debug, Clone, PartialEq)]
pub struct RelayAnswer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    /// Seconds after which the client may retry.
    pub retry_after_s: Option<u64>,
    /// The stable code of an error answer.
    pub error_code: Option<String>,
}

/// Media type of JSON answers.
const JSON: &str = "application/json";

impl RelayAnswer {
    /// A successful answer: 200 with a JSON object.
    pub fn ok<T: Serialize>(value: &T) -> Self {
        Self::of(200, JSON, response::encode(true, value))
    }

    /// An answer with a body of any media type.
    pub fn of(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status, content_type, body, retry_after_s: None, error_code: None }
    }

    /// An error answer with its JSON object.
    pub fn problem(problem: &ErrorResponse, status: u16) -> Self {
        let retry_after_s = problem.retry_after.map(|seconds| seconds.ceil() as u64);
        let error_code = Some(problem.error_code.clone());
        let answer = Self::of(status, JSON, response::encode(false, problem));
        Self { retry_after_s, error_code, ..answer }
    }

    /// Whether the request succeeded.
    pub fn is_ok(&self) -> bool {
        self.status < 300
    }
}

/// The JSON form of a rejection.
pub fn problem_of(rejection: &Rejection) -> ErrorResponse {
    ErrorResponse {
        error_code: rejection.code.name().to_owned(),
        error: rejection.message.clone(),
        field: (!rejection.field.is_empty()).then(|| rejection.field.clone().into_owned()),
        hint: rejection.hint.clone(),
        suggested_alias: rejection.suggestion.clone().map(String::from),
        retryable: Some(rejection.code.retryable()),
        ..ErrorResponse::default()
    }
}

impl From<Rejection> for RelayAnswer {
    fn from(rejection: Rejection) -> Self {
        Self::problem(&problem_of(&rejection), status_of(rejection.code))
    }
}

impl From<Failure> for RelayAnswer {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected(rejection) | Failure::AlreadyReported(rejection)
                if !names_a_directory(rejection.code) =>
            {
                rejection.into()
            }
            local => local_failure(&local),
        }
    }
}

/// Whether the message of a rejection names a directory of this machine.
fn names_a_directory(code: Code) -> bool {
    matches!(code, Code::BadRoot | Code::BrokerMoved)
}

/// The answer after a failure of this machine. Its details, with the paths of files, are for the
/// operator: they go to standard error, and the client receives only the code and its meaning.
fn local_failure(failure: &Failure) -> RelayAnswer {
    let code = failure.code();
    if tracing::event_enabled!(tracing::Level::ERROR) {
        tracing::error!(code = code.name(), error = %failure, "storage failed");
    } else {
        note(&format!("storage: {}", failure.message()));
    }
    let hint = match code {
        Code::OutcomeUnknown => "retry with the same message_id",
        _ if code.retryable() => "try again later; if it fails again, ask the relay's operator",
        _ => "ask the relay's operator",
    };
    let message = format!("the relay's storage failed: {}", code.meaning());
    Rejection::new(code, "", message).hint(hint).into()
}

/// A rejected timestamp, with the relay's time so that the client can see the difference.
pub fn clock_skew(message: String, now_us: u64) -> RelayAnswer {
    let rejection = Rejection::new(Code::TimestampOutOfWindow, "", message)
        .hint("set the clock of this machine");
    let problem =
        ErrorResponse { server_time: Some(Seconds { us: now_us }), ..problem_of(&rejection) };
    RelayAnswer::problem(&problem, status_of(Code::TimestampOutOfWindow))
}

/// The rejection of a body that cannot be parsed.
pub fn bad_body(error: BodyError) -> Rejection {
    Rejection::new(Code::BadRequest, error.field, error.message)
}

/// The HTTP status of an error code: 400 for an invalid request, 409 for a conflict with the state.
fn status_of(code: Code) -> u16 {
    match code {
        Code::InvalidAlias
        | Code::InvalidSessionId
        | Code::InvalidRoomId
        | Code::InvalidMessageId
        | Code::InvalidArgument
        | Code::InvalidUtf8
        | Code::EmptyBody
        | Code::BatchInvalid
        | Code::MissingProofField
        | Code::BadRequest => 400,
        Code::Unauthorized | Code::TimestampOutOfWindow | Code::NonceReplay => 401,
        Code::SignatureInvalid
        | Code::Forbidden
        | Code::ForeignSender
        | Code::AliasNotAllowed
        | Code::NotInvited => 403,
        Code::NotFound => 404,
        Code::MethodNotAllowed => 405,
        Code::Timeout => 408,
        Code::BodyTooLarge => 413,
        Code::RateLimitExceeded => 429,
        Code::DiskFull
        | Code::StorageFailed
        | Code::OutcomeUnknown
        | Code::Busy
        | Code::RemoteUnavailable => 503,
        Code::Corrupt | Code::Internal => 500,
        _ => 409,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;
    use crate::store::StoreError;

    fn text_of(failure: impl Into<Failure>) -> (u16, String) {
        let answer = RelayAnswer::from(failure.into());
        (answer.status, String::from_utf8(answer.body).expect("JSON"))
    }

    #[test]
    fn no_answer_contains_a_path_of_the_relays_machine() {
        let file = || String::from("/srv/relay/relay.db");
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let path = PathBuf::from("/srv/relay/mirrors");
        let moved = "this root moved to /srv/relay";
        let failures = [
            (Failure::Store(StoreError::io("open", "/srv/relay/relay.db", denied())), 503),
            (StoreError::Full { file: file() }.into(), 503),
            (StoreError::Unknown { file: file(), sequence: 1 }.into(), 503),
            (StoreError::Corrupt { file: file(), source: Box::new(denied()) }.into(), 500),
            (StoreError::UpgradeNeeded { file: file() }.into(), 409),
            (StoreError::ArchiveNeeded { file: file(), archive: Some(file()) }.into(), 409),
            (Failure::Io { operation: "read", path, source: denied() }, 503),
            (Rejection::new(Code::BrokerMoved, "broker_root", moved).into(), 409),
            (Rejection::new(Code::BadRoot, "broker_root", moved).into(), 409),
        ];
        for (failure, expected) in failures {
            let code = failure.code();
            let (status, text) = text_of(failure);
            assert_eq!(status, expected, "{text}");
            assert!(text.contains(&format!("\"{}\"", code.name())), "{text}");
            assert!(!text.contains("/srv") && !text.contains("relay.db"), "{text}");
        }
    }

    #[test]
    fn the_answer_to_a_rejected_command_keeps_its_message() {
        let rejection = Rejection::new(Code::UnknownAlias, "to_alias", "no agent is 'bob'");
        assert!(text_of(rejection).1.contains("no agent is 'bob'"));
    }
}
