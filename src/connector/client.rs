//! How is a relay asked, with which credentials, and what does its answer mean?

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::transport::{Incoming, Outgoing, Transport, Unreachable};
use crate::clock;
use crate::code::{Code, TABLE};
use crate::decide::Refusal;
use crate::failure::Failure;
use crate::identity::{Identity, random};
use crate::time;
use crate::wire::body::{self, Problem, Register};
use crate::wire::cursor::Cursor;
use crate::wire::route::{self, Access};
use crate::wire::sign::{self, Header, Moment, Request};

/// What a caller can show.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    pub identity: Option<Identity>,
    pub token: Option<String>,
}

/// One relay, asked with the same credentials each time.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    credentials: Credentials,
}

/// What a relay refused.
#[derive(Debug)]
pub struct Refused {
    pub failure: Failure,
    /// Where to go on in a log.
    pub expected: Option<Box<Cursor>>,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { failure, expected: None }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        refused.failure
    }
}

impl Client {
    /// Over a transport.
    pub fn new(transport: Arc<dyn Transport>, credentials: Credentials) -> Self {
        Self { transport, credentials }
    }

    /// The relay's URL.
    pub fn base_url(&self) -> &str {
        self.transport.base_url()
    }

    /// The key that signs.
    pub fn identity(&self) -> Option<&Identity> {
        self.credentials.identity.as_ref()
    }

    /// Asks without a body. With an alias the request is signed, without it shows the token.
    pub fn get<T: DeserializeOwned>(
        &self,
        target: &str,
        alias: Option<&str>,
    ) -> Result<T, Failure> {
        let request = self.request("GET", target, Vec::new(), alias)?;
        Ok(read(&self.ask(&request)?)?)
    }

    /// Asks with a JSON body.
    pub fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &impl Serialize,
        alias: Option<&str>,
    ) -> Result<T, Refused> {
        // Structs with string keys and plain values: serialisation has no way to fail.
        let bytes = serde_json::to_vec(body).unwrap_or_default();
        let request = self.request("POST", target, bytes, alias)?;
        read(&self.ask(&request)?)
    }

    /// Sends bytes and reads JSON.
    pub(super) fn send_bytes<T: DeserializeOwned>(
        &self,
        target: &str,
        bytes: Vec<u8>,
        alias: Option<&str>,
    ) -> Result<T, Refused> {
        let mut request = self.request("POST", target, bytes, alias)?;
        request.content_type = "application/octet-stream";
        read(&self.ask(&request)?)
    }

    /// Sends JSON and reads bytes.
    pub(super) fn fetch_bytes(
        &self,
        target: &str,
        body: &impl Serialize,
        alias: Option<&str>,
        wait: Duration,
    ) -> Result<Vec<u8>, Refused> {
        let bytes = serde_json::to_vec(body).unwrap_or_default();
        let request = Outgoing { wait, ..self.request("POST", target, bytes, alias)? };
        let answer = self.ask(&request)?;
        if answer.status == 200 {
            return Ok(answer.body);
        }
        Err(read::<body::Peers>(&answer).err().unwrap_or_else(|| unexpected(&answer).into()))
    }

    /// A registration with the proof of the key, if there is one.
    pub fn signed(&self, wish: Register) -> Result<Register, Failure> {
        let Some(identity) = self.identity() else { return Ok(wish) };
        let (timestamp, nonce) = (time::rfc3339_seconds(clock::now_us()), nonce()?);
        let key = identity.key.public().to_string();
        let moment = Moment { ts: &timestamp, nonce: &nonce };
        let text =
            sign::register(&wish.alias, self.base_url(), &key, moment).map_err(cannot_sign)?;
        let signature = identity.key.sign(&text);
        Ok(Register {
            identity_pk: Some(key),
            signature: Some(signature),
            nonce: Some(nonce),
            timestamp: Some(timestamp),
            ..wish
        })
    }

    fn request(
        &self,
        method: &'static str,
        target: &str,
        body: Vec<u8>,
        alias: Option<&str>,
    ) -> Result<Outgoing, Failure> {
        let authorization = match (alias, self.identity()) {
            (Some(alias), Some(identity)) => {
                let now_us = clock::now_us();
                let ts = format!("{}.{:06}", now_us / 1_000_000, now_us % 1_000_000);
                let nonce = nonce()?;
                let request = Request { method, target, body: &body, ts: &ts, nonce: &nonce };
                let text = request.text().map_err(cannot_sign)?;
                let sig = identity.key.sign(&text);
                Some(Header { alias: alias.to_owned(), ts, nonce, sig }.to_string())
            }
            // The operator's token is shown where it is asked for, and nowhere else.
            _ => {
                let asked = route::find(method, target).map(|found| found.access);
                let token = self.credentials.token.as_ref().filter(|_| asked == Ok(Access::Admin));
                token.map(|token| format!("Bearer {token}"))
            }
        };
        let content_type = "application/json";
        let target = target.to_owned();
        Ok(Outgoing { method, target, authorization, content_type, body, wait: Duration::ZERO })
    }

    fn ask(&self, request: &Outgoing) -> Result<Incoming, Failure> {
        self.transport.ask(request).map_err(|Unreachable(why)| {
            let message = format!("relay UNREACHABLE: {} ({why})", self.base_url());
            Refusal::new(Code::RemoteUnavailable, "relay_url", message)
                .hint("is `c2c relay serve` up, and the URL right?")
                .into()
        })
    }
}

fn cannot_sign(error: sign::SignError) -> Failure {
    Refusal::new(Code::InvalidArgument, "", error.to_string()).into()
}

fn nonce() -> Result<String, Failure> {
    let bytes = random::<16>()
        .map_err(|e| Failure::from(Refusal::new(Code::Internal, "", e.to_string())))?;
    Ok(sign::encode(&bytes))
}

fn read<T: DeserializeOwned>(answer: &Incoming) -> Result<T, Refused> {
    match body::read::<T>(&answer.body) {
        Ok(Ok(granted)) if answer.status < 300 => Ok(granted),
        Ok(Err(problem)) => Err(refused(problem)),
        _ => Err(unexpected(answer).into()),
    }
}

/// Something that is not a relay answered: a proxy, for one.
fn unexpected(answer: &Incoming) -> Failure {
    let message = format!("the relay's URL answered {} with something else", answer.status);
    let code = Code::RemoteUnavailable;
    Refusal::new(code, "relay_url", message).hint("is the URL that of a relay?").into()
}

/// The relay's own words. An unknown code is the relay's fault, not the caller's.
fn refused(problem: Problem) -> Refused {
    let code = TABLE.iter().find(|row| row.name == problem.error_code).map(|row| row.code);
    let code = code.unwrap_or(match problem.error.as_str() {
        "rate_limit_exceeded" => Code::RateLimited,
        _ => Code::Internal,
    });
    let mut message = problem.error;
    if let Some(server) = problem.server_time {
        message = format!("{message}; the time there is {}", time::rfc3339(server.us));
    }
    let mut refusal = Refusal::new(code, "", message);
    (refusal.hint, refusal.suggestion) = (problem.hint, problem.suggested_alias);
    Refused { failure: refusal.into(), expected: problem.expected.map(Box::new) }
}
