//! How does a request reach the relay?

use std::time::Duration;

use reqwest::blocking;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};

/// A request on its way.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    pub authorization: Option<String>,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    /// How long the relay may take on purpose.
    pub wait: Duration,
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct Incoming {
    pub status: u16,
    pub retry_after_s: Option<u64>,
    pub body: Vec<u8>,
}

/// The relay could not be asked, or did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable(pub String);

/// Carries requests to one relay and answers back.
pub trait Transport: Send + Sync {
    /// The relay's URL without a last slash: what a registration is signed for.
    fn base_url(&self) -> &str;

    /// Asks once.
    fn ask(&self, request: &Outgoing) -> Result<Incoming, Unreachable>;
}

/// How long a connection may take to be made, and an answer beyond what the relay waits on purpose.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Over HTTP.
pub struct Http {
    base_url: String,
    client: blocking::Client,
}

impl Http {
    /// To a relay; `ca_bundle` is PEM with further authorities to trust.
    pub fn new(base_url: &str, ca_bundle: Option<&[u8]>) -> Result<Self, Unreachable> {
        let failed = |e: reqwest::Error| Unreachable(reason(&e));
        let mut builder = blocking::Client::builder()
            .connect_timeout(CONNECT_WAIT)
            .tcp_keepalive(Duration::from_secs(15))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("c2c/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = ca_bundle {
            let found = reqwest::Certificate::from_pem_bundle(pem).map_err(failed)?;
            if found.is_empty() {
                return Err(Unreachable("the file holds no certificate".into()));
            }
            for certificate in found {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let client = builder.build().map_err(failed)?;
        Ok(Self { base_url: base_url.trim_end_matches('/').to_owned(), client })
    }
}

impl Transport for Http {
    fn base_url(&self) -> &str {
        &self.base_url
    }

    fn ask(&self, request: &Outgoing) -> Result<Incoming, Unreachable> {
        let failed = |e: reqwest::Error| Unreachable(reason(&e));
        let url = format!("{}{}", self.base_url, request.target);
        let method =
            if request.method == "GET" { reqwest::Method::GET } else { reqwest::Method::POST };
        let mut builder = self.client.request(method, url).timeout(request.wait + ANSWER_WAIT);
        if !request.body.is_empty() {
            builder = builder.header(CONTENT_TYPE, request.content_type).body(request.body.clone());
        }
        if let Some(authorization) = &request.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        let response = builder.send().map_err(failed)?;
        let status = response.status().as_u16();
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after_s = after.and_then(|value| value.parse().ok());
        let body = response.bytes().map_err(failed)?.to_vec();
        Ok(Incoming { status, retry_after_s, body })
    }
}

/// The innermost cause: what a person can act on. It holds no header.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
