//! One HTTP exchange: where a request begins and where its answer is written.
//!
//! [`respond`] is the only place that sees a request and its answer together, with the request id,
//! the route and the status. Latency metrics belong here; [`ExchangeLog`] writes the log.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, ORIGIN, RETRY_AFTER,
};
use hyper::http::request::Parts;

use super::answer::RelayAnswer;
use super::body_reader::BodyReader;
use super::exchange_log::ExchangeLog;
use super::request::RelayRequest;
use super::service::Prepared;
use super::writer::RelayHandle;
use crate::present::diagnostics::note;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// What the requests of one connection share.
#[derive(Clone)]
pub struct ConnectionContext {
    pub relay: RelayHandle,
    pub client: SocketAddr,
    /// Whether each request is reported on standard error.
    pub verbose: bool,
    /// The scheme of the listener, `http` or `https`; a proxy can override it with a header.
    pub scheme: &'static str,
    /// Whether the relay has no token.
    pub is_open: bool,
    /// Whether a relay without a token accepts any host name.
    pub accepts_any_host: bool,
    pub reader: BodyReader,
}

/// Header with the id that connects an answer with its line on standard error.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Header in which a proxy names the scheme that the client used.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Longest request line in a report, characters.
const REQUEST_LINE_CHARS_MAX: usize = 200;

/// Answers one request. Never fails: every error is an answer.
pub async fn respond(
    context: ConnectionContext,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let request_id = uuid::Uuid::now_v7().to_string();
    let (head, body) = request.into_parts();
    let prepared = Prepared::from(request_of(&head, context.scheme));
    let request_line = format!("{} {}", prepared.request.method, prepared.request.target);
    let mut log = ExchangeLog::begin(&head.method, &prepared, &request_id, context.client.ip());
    let answer = answer(&context, &head.headers, prepared, body, &mut log).await;
    log.finish(&answer);
    if context.verbose {
        report(&context, &request_line, &answer, &request_id);
    }
    let is_head = head.method == hyper::Method::HEAD;
    Ok(http_response(answer, &request_id, is_head))
}

/// Reads the body, and passes the request to the writer.
async fn answer(
    context: &ConnectionContext,
    headers: &HeaderMap,
    mut prepared: Prepared,
    body: Incoming,
    log: &mut ExchangeLog<'_>,
) -> RelayAnswer {
    let host = if context.accepts_any_host { None } else { header_text(headers, &HOST) };
    let is_page = context.is_open && is_from_web_page(headers, host.unwrap_or_default());
    let is_known = context.relay.knows(prepared.request.authorization.as_deref());
    match context.reader.read(body, is_known).await {
        _ if is_page => page_rejected(),
        Ok(body) => {
            log.received(body.len());
            prepared.request.body = body;
            context.relay.answer(prepared, &context.client.ip().to_string()).await
        }
        Err(answer) => answer,
    }
}

/// The request without its body.
fn request_of(head: &Parts, scheme: &str) -> RelayRequest {
    let host = header_text(&head.headers, &HOST).unwrap_or_default();
    let scheme = header_text(&head.headers, &FORWARDED_PROTO).unwrap_or(scheme);
    RelayRequest {
        method: head.method.as_str().to_owned(),
        target: head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        authorization: header_text(&head.headers, &AUTHORIZATION).map(str::to_owned),
        base_url: format!("{scheme}://{host}").to_lowercase(),
        body: Vec::new(),
    }
}

fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Reports one exchange on standard error.
fn report(context: &ConnectionContext, request_line: &str, answer: &RelayAnswer, request_id: &str) {
    let escaped = request_line.chars().flat_map(char::escape_default);
    let request_line: String = escaped.take(REQUEST_LINE_CHARS_MAX).collect();
    note(&format!("{} {} {request_line} {request_id}", context.client.ip(), answer.status));
}

fn http_response(
    answer: RelayAnswer,
    request_id: &str,
    is_head: bool,
) -> hyper::Response<Full<Bytes>> {
    let mut response = hyper::Response::builder()
        .status(answer.status)
        .header(CONTENT_TYPE, answer.content_type)
        .header(REQUEST_ID, request_id);
    if let Some(seconds) = answer.retry_after_s {
        response = response.header(RETRY_AFTER, seconds);
    }
    let body = if is_head { Vec::new() } else { answer.body };
    // The status is from a table and the headers are plain ASCII, so building cannot fail.
    response.body(Full::new(Bytes::from(body))).unwrap_or_default()
}

/// Whether a request may come from a web page.
///
/// Browsers send `Origin` or `Sec-Fetch-Site`. A page whose own domain name resolves to the relay
/// (DNS rebinding) uses that name as the host, so only `localhost` and IP addresses are accepted.
/// Without this check a page could send messages to agents through a relay that has no token.
fn is_from_web_page(headers: &HeaderMap, host: &str) -> bool {
    let is_cross_site = headers.get("sec-fetch-site").is_some_and(|site| site != "none");
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let is_local_name = name.is_empty() || name == "localhost" || name.parse::<IpAddr>().is_ok();
    headers.contains_key(ORIGIN) || is_cross_site || !is_local_name
}

fn page_rejected() -> RelayAnswer {
    let message = "a relay without a token accepts no web pages, and no host names but localhost";
    Rejection::new(Code::Forbidden, "", message).hint("start the relay with --token").into()
}
