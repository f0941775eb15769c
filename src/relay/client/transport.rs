//! Transport of requests to a relay: the trait, and its implementation over HTTP.

use std::time::Duration;

use reqwest::blocking;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};

/// A request as it is sent.
#[derive(Debug, Clone, Default)]
pub struct TransportRequest {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// Value of the `Authorization` header.
    pub authorization: Option<String>,
    /// Media type of the body.
    pub content_type: &'static str,
    /// The body; may be empty.
    pub body: Vec<u8>,
    /// How long the relay may delay the response deliberately.
    pub wait: Duration,
}

/// The response to a request.
#[derive(Debug, Clone, Default)]
pub struct TransportResponse {
    /// HTTP status.
    pub status: u16,
    /// Value of the `Retry-After` header, seconds.
    pub retry_after_s: Option<u64>,
    /// The body.
    pub body: Vec<u8>,
}

/// The relay could not be reached or did not respond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// Why.
    pub reason: String,
    /// Whether the request may have reached the relay.
    pub may_have_arrived: bool,
}

impl Unreachable {
    fn before_sending(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), may_have_arrived: false }
    }
}

/// Carries requests to one relay.
pub trait Transport: Send + Sync {
    /// The relay's URL without a trailing slash. Registrations are signed for this URL.
    fn base_url(&self) -> &str;

    /// Sends one request and waits for the response.
    fn send(&self, request: &TransportRequest) -> Result<TransportResponse, Unreachable>;
}

/// Time limit for establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for a response, in addition to the deliberate delay.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Transport over HTTP or HTTPS.
pub struct HttpTransport {
    base_url: String,
    client: blocking::Client,
}

impl HttpTransport {
    /// Creates a transport to a relay. `ca_bundle` holds additional trusted certificates in PEM.
    pub fn new(base_url: &str, ca_bundle: Option<&[u8]>) -> Result<Self, Unreachable> {
        let failed = |e: reqwest::Error| Unreachable::before_sending(reason(&e));
        let mut builder = blocking::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(Duration::from_secs(15))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("c2c/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = ca_bundle {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(failed)?;
            if certificates.is_empty() {
                let reason = "the CA bundle contains no certificate";
                return Err(Unreachable::before_sending(reason));
            }
            for certificate in certificates {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let client = builder.build().map_err(failed)?;
        Ok(Self { base_url: base_url.trim_end_matches('/').to_owned(), client })
    }
}

impl Transport for HttpTransport {
    fn base_url(&self) -> &str {
        &self.base_url
    }

    fn send(&self, request: &TransportRequest) -> Result<TransportResponse, Unreachable> {
        let failed = |e: reqwest::Error| Unreachable {
            reason: reason(&e),
            may_have_arrived: !e.is_connect(),
        };
        let url = format!("{}{}", self.base_url, request.target);
        let method =
            if request.method == "GET" { reqwest::Method::GET } else { reqwest::Method::POST };
        let mut builder = self.client.request(method, url).timeout(request.wait + RESPONSE_TIMEOUT);
        if !request.body.is_empty() {
            builder = builder.header(CONTENT_TYPE, request.content_type).body(request.body.clone());
        }
        if let Some(authorization) = &request.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        let response = builder.send().map_err(failed)?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after_s =
            retry_after.and_then(|value| value.to_str().ok()).and_then(|value| value.parse().ok());
        let body = response.bytes().map_err(failed)?.to_vec();
        Ok(TransportResponse { status, retry_after_s, body })
    }
}

/// The innermost error, which is the one users can act on. It contains no header.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out waiting for a response".into();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
