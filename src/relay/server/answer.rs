//! Answers to HTTP requests, and the HTTP form of errors.

use serde::Serialize;

use crate::error::Failure;
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
        let (Failure::Rejected(rejection) | Failure::AlreadyReported(rejection)) = failure else {
            let code = failure.code();
            let problem = ErrorResponse {
                error_code: code.name().to_owned(),
                error: failure.message(),
                hint: failure.hint(),
                retryable: Some(code.retryable()),
                ..ErrorResponse::default()
            };
            return Self::problem(&problem, status_of(code));
        };
        rejection.into()
    }
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
