//! The log event of one HTTP exchange.

use std::net::IpAddr;
use std::time::Instant;

use hyper::Method;

use super::answer::RelayAnswer;
use super::service::Prepared;
use crate::platform::clock;
use crate::relay::protocol::route::Route;

/// Longest HTTP method in an event, bytes. A client may invent one.
const METHOD_BYTES_MAX: usize = 16;

/// Route of a request that matches none. Its path is not logged: it may contain anything.
const UNKNOWN_ROUTE: &str = "unknown";
/// Outcome of a request whose client disconnected, or whose relay stopped, before the answer.
const ABANDONED: &str = "abandoned";
/// Outcome of a request without an error.
const OK: &str = "ok";

/// One exchange, from the head of the request to the answer. Logs exactly one event, which contains
/// no path, credentials or body.
pub struct ExchangeLog<'a> {
    request_id: &'a str,
    client: IpAddr,
    method: &'a str,
    route: Option<Route>,
    began: Instant,
    /// Size of the body; none before it was read.
    request_bytes: Option<usize>,
    is_finished: bool,
}

impl<'a> ExchangeLog<'a> {
    /// Starts the clock.
    pub fn begin(
        method: &'a Method,
        prepared: &Prepared,
        request_id: &'a str,
        client: IpAddr,
    ) -> Self {
        // Methods are ASCII.
        let method = method.as_str();
        Self {
            request_id,
            client,
            method: method.get(..METHOD_BYTES_MAX).unwrap_or(method),
            route: prepared.route.as_ref().ok().map(|found| found.route),
            began: clock::monotonic(),
            request_bytes: None,
            is_finished: false,
        }
    }

    /// Records the size of the request's body.
    pub fn received(&mut self, bytes: usize) {
        self.request_bytes = Some(bytes);
    }

    /// Logs the exchange: a failure of the relay as a warning.
    pub fn finish(mut self, answer: &RelayAnswer) {
        self.is_finished = true;
        let outcome = answer.error_code.as_deref().unwrap_or(OK);
        let sent_bytes = if self.method == "HEAD" { 0 } else { answer.body.len() };
        self.write(Some(answer.status), outcome, Some(sent_bytes));
    }

    fn write(&self, status: Option<u16>, outcome: &str, response_bytes: Option<usize>) {
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(
                    request_id = self.request_id,
                    client = %self.client,
                    method = self.method,
                    route = self.route.map_or(UNKNOWN_ROUTE, Route::path),
                    status,
                    outcome,
                    latency_ms = clock::milliseconds(clock::since(self.began)),
                    request_bytes = self.request_bytes,
                    response_bytes,
                    "request"
                )
            };
        }
        if status.is_some_and(|status| status >= 500) { event!(warn) } else { event!(info) }
    }
}

impl Drop for ExchangeLog<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.write(None, ABANDONED, None);
        }
    }
}
