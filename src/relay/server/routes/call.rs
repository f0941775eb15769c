//! What a route handler receives and returns.

use std::cell::Cell;

use serde::de::DeserializeOwned;

use crate::error::Failure;
use crate::relay::protocol::json;
use crate::relay::server::access::Caller;
use crate::relay::server::answer::{RelayAnswer, bad_body};
use crate::relay::server::core::system_actor;
use crate::relay::server::request::RelayRequest;
use c2c_core::code::Code;
use c2c_core::decide::{Actor, Batch, Rejection};

/// An admitted request.
pub struct Call<'a> {
    pub request: &'a RelayRequest,
    /// The decoded batch of a push, if it was decoded before the writer's turn.
    pub batch: Cell<Option<Result<Batch, Rejection>>>,
    /// The decoded name in the path; empty for a path without one.
    pub name: &'a str,
    pub caller: &'a Caller,
    /// The log up to this sequence holds nothing for the request; 0 at the first attempt.
    pub seen: u64,
    /// Whether the wait is over, so that an empty answer is returned.
    pub is_last: bool,
    pub now_us: u64,
}

/// The outcome of a handler that can wait.
pub enum RouteOutcome {
    Answer(RelayAnswer),
    /// The log up to `seen` holds nothing for the request, and the client waits.
    Pending {
        seen: u64,
    },
}

/// The outcome of a handler that always answers. An error answer is an `Err`.
pub type AnswerResult = Result<RelayAnswer, RelayAnswer>;

impl Call<'_> {
    /// Parses the JSON body. The body of a GET request is ignored.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, RelayAnswer> {
        let body = if self.request.method == "GET" { b"" } else { self.request.body.as_slice() };
        json::parse(body).map_err(|error| bad_body(error).into())
    }

    /// The actor for an alias that the caller acts as.
    pub fn acting_as(&self, alias: &str) -> Result<Actor, RelayAnswer> {
        self.caller.check_acts_as(alias)?;
        Ok(Actor { alias: Some(alias.into()), key: self.caller.key(), ..system_actor() })
    }
}

/// The answer to a request for something that does not exist here.
pub fn not_found(message: String) -> RelayAnswer {
    Rejection::new(Code::NotFound, "", message).into()
}

/// The answer to a command that failed.
pub fn failed(failure: Failure) -> RelayAnswer {
    failure.into()
}
