//! What is asked over HTTP, and how is it answered?

use serde::Serialize;

use super::keyring::Signer;
use crate::code::Code;
use crate::decide::{Batch, Refusal};
use crate::failure::Failure;
use crate::wire::body::{self, BodyError, Problem, Seconds};

/// One request, read to its end.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    /// Path and query as in the request line.
    pub target: String,
    /// Value of the `Authorization` header.
    pub authorization: Option<String>,
    /// Scheme and host that the client called, in lower case, without a path.
    pub base_url: String,
    pub body: Vec<u8>,
    /// Who signed it, if somebody has looked already.
    pub signer: Option<Signer>,
    /// The batch that its body is, if somebody has read it already.
    pub batch: Option<Result<Batch, Refusal>>,
}

impl Request {
    /// The query, without its question mark.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    /// Seconds to wait before the next try.
    pub retry_after_s: Option<u64>,
}

/// Media type of JSON answers.
const JSON: &str = "application/json";

impl Answer {
    /// What was asked for.
    pub fn ok<T: Serialize>(value: &T) -> Self {
        Self::of(200, JSON, body::answer(true, value))
    }

    /// Bytes or text of another kind.
    pub fn of(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status, content_type, body, retry_after_s: None }
    }

    /// A request that was not granted.
    pub fn problem(problem: &Problem, status: u16) -> Self {
        let retry_after_s = problem.retry_after.map(|seconds| seconds.ceil() as u64);
        Self { retry_after_s, ..Self::of(status, JSON, body::answer(false, problem)) }
    }

    /// Whether it grants what was asked.
    pub fn is_ok(&self) -> bool {
        self.status < 300
    }
}

/// What a caller learns about a refusal.
pub fn problem_of(refusal: &Refusal) -> Problem {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Problem {
        error_code: refusal.code.name().to_owned(),
        error: refusal.message.clone(),
        field: given(refusal.field),
        hint: refusal.hint.clone(),
        suggested_alias: refusal.suggestion.clone(),
        retryable: Some(refusal.code.retryable()),
        ..Problem::default()
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::problem(&problem_of(&refusal), status_of(refusal.code))
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        let (Failure::Refused(refusal) | Failure::Told(refusal)) = failure else {
            let code = failure.code();
            let problem = Problem {
                error_code: code.name().to_owned(),
                error: failure.message(),
                hint: failure.hint(),
                retryable: Some(code.retryable()),
                ..Problem::default()
            };
            return Self::problem(&problem, status_of(code));
        };
        refusal.into()
    }
}

/// A refusal with the time here, for those whose clock is off.
pub fn clock_skew(message: String, now_us: u64) -> Answer {
    let refusal = Refusal::new(Code::ClockSkew, "", message).hint("set the clock of this machine");
    let server_time = Some(Seconds { us: now_us });
    Answer::problem(&Problem { server_time, ..problem_of(&refusal) }, status_of(Code::ClockSkew))
}

/// A body that makes no sense.
pub fn bad_body(error: BodyError) -> Refusal {
    let mut refusal = Refusal::new(Code::BadRequest, "", error.message);
    refusal.field = FIELDS.iter().find(|name| **name == error.field).copied().unwrap_or_default();
    refusal
}

/// Fields of bodies that a refusal may name.
const FIELDS: &[&str] = &[
    "alias",
    "node_id",
    "session_id",
    "from_alias",
    "to_alias",
    "content",
    "room_id",
    "message_id",
    "ts",
    "ttl",
    "cursor",
    "log",
    "limit",
    "drain_id",
    "confirm",
    "wait_s",
    "identity_pk",
    "signature",
    "nonce",
    "timestamp",
    "sig",
    "invitee_pk",
    "visibility",
    "envelope",
    "include_dead",
];

/// What is wrong with a request is 400, what the state of things forbids is 409.
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
        | Code::MissingProof
        | Code::BadRequest => 400,
        Code::Unauthorized | Code::ClockSkew | Code::NonceReplayed => 401,
        Code::SignatureInvalid
        | Code::Forbidden
        | Code::ForeignSender
        | Code::AliasNotAllowed
        | Code::NotInvited => 403,
        Code::NotFound => 404,
        Code::MethodNotAllowed => 405,
        Code::Timeout => 408,
        Code::BodyTooLarge => 413,
        Code::RateLimited => 429,
        Code::DiskFull
        | Code::StorageFailed
        | Code::OutcomeUnknown
        | Code::Busy
        | Code::RemoteUnavailable => 503,
        Code::Corrupt | Code::Internal => 500,
        _ => 409,
    }
}
