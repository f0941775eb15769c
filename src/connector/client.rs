//! How is a relay asked, with which credentials, and what does its answer mean?

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::transport::{Incoming, Outgoing, Transport, Unreachable};
use crate::clock;
use crate::code::{Code, TABLE};
use crate::decide::Refusal;
use crate::failure::Failure;
use crate::identity::{self, Identity, random};
use crate::time;
use crate::wire::body::{self, Problem, Register};
use crate::wire::cursor::Cursor;
use crate::wire::route::{self, Access};
use crate::wire::sign::{self, Header, Moment, Request};

/// What a caller can show.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    pub identity: Option<Identity>,
    /// Where that lies: it is read again when it does not count at the relay any more.
    pub key_file: Option<PathBuf>,
    pub token: Option<String>,
}

/// One relay, asked with the same credentials each time. Clones share a key that was read again.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    identity: Arc<RwLock<Option<Arc<Identity>>>>,
    key_file: Option<PathBuf>,
    token: Option<String>,
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
        let Credentials { identity, key_file, token } = credentials;
        let identity = Arc::new(RwLock::new(identity.map(Arc::new)));
        Self { transport, identity, key_file, token }
    }

    /// The relay's URL.
    pub fn base_url(&self) -> &str {
        self.transport.base_url()
    }

    /// The key that signs.
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the relay how the key that it knows became the one of today; whether there was anything
    /// to tell. The key may have been changed while this process ran.
    pub(super) fn hand_over(&self) -> Result<bool, Failure> {
        if let Some(found) = self.key_file.as_ref().and_then(|path| identity::load(path).ok()) {
            *self.identity.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(found));
        }
        let Some(identity) = self.identity() else { return Ok(false) };
        for statement in &identity.rotations {
            self.post::<body::Rotated>("/rotate_key", statement, None)?;
        }
        Ok(!identity.rotations.is_empty())
    }

    /// Takes an alias, with a proof of the key.
    pub fn register(&self, wish: &Register) -> Result<body::Registered, Failure> {
        let once = || self.post("/register", &self.signed(wish.clone())?, None);
        match once().map_err(Failure::from) {
            Err(failure) if failure.code() == Code::KeyMismatch && self.hand_over()? => Ok(once()?),
            registered => registered,
        }
    }

    /// Asks without a body. With an alias the request is signed, without it shows the token.
    pub fn get<T: DeserializeOwned>(
        &self,
        target: &str,
        alias: Option<&str>,
    ) -> Result<T, Failure> {
        Ok(read(&self.ask(Plain { method: "GET", target, alias, ..Plain::default() })?)?)
    }

    /// Asks with a JSON body.
    pub fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &impl Serialize,
        alias: Option<&str>,
    ) -> Result<T, Refused> {
        // Structs with string keys and plain values: serialisation has no way to fail.
        let body = serde_json::to_vec(body).unwrap_or_default();
        read(&self.ask(Plain { target, alias, body, ..Plain::default() })?)
    }

    /// Sends bytes and reads JSON.
    pub(super) fn send_bytes<T: DeserializeOwned>(
        &self,
        target: &str,
        body: Vec<u8>,
        alias: Option<&str>,
    ) -> Result<T, Refused> {
        let content_type = "application/octet-stream";
        read(&self.ask(Plain { target, alias, body, content_type, ..Plain::default() })?)
    }

    /// Sends JSON and reads bytes.
    pub(super) fn fetch_bytes(
        &self,
        target: &str,
        body: &impl Serialize,
        alias: Option<&str>,
        wait: Duration,
    ) -> Result<Vec<u8>, Refused> {
        let body = serde_json::to_vec(body).unwrap_or_default();
        let answer = self.ask(Plain { target, alias, body, wait, ..Plain::default() })?;
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

    /// What says who asks.
    fn authorization(&self, asked: &Plain<'_>) -> Result<Option<String>, Failure> {
        let Plain { method, target, ref body, .. } = *asked;
        if let (Some(alias), Some(identity)) = (asked.alias, self.identity()) {
            let now_us = clock::now_us();
            let ts = format!("{}.{:06}", now_us / 1_000_000, now_us % 1_000_000);
            let nonce = nonce()?;
            let request = Request { method, target, body, ts: &ts, nonce: &nonce };
            let text = request.text().map_err(cannot_sign)?;
            let sig = identity.key.sign(&text);
            return Ok(Some(Header { alias: alias.to_owned(), ts, nonce, sig }.to_string()));
        }
        // The operator's token is shown where it is asked for, and nowhere else.
        let access = route::find(method, target).map(|found| found.access);
        let token = self.token.as_ref().filter(|_| access == Ok(Access::Admin));
        Ok(token.map(|token| format!("Bearer {token}")))
    }

    /// Asks; once more if the key that signs is not the one that the relay knows, and follows it.
    fn ask(&self, asked: Plain<'_>) -> Result<Incoming, Failure> {
        let Plain { method, target, content_type, wait, .. } = asked;
        let authorization = self.authorization(&asked)?;
        let signs = asked.alias.is_some() && authorization.is_some();
        let again = signs.then(|| asked.body.clone());
        let target = target.to_owned();
        let mut request =
            Outgoing { method, target, authorization, content_type, body: asked.body, wait };
        let answer = self.reach(&request)?;
        let Some(body) = again.filter(|_| key_is_unknown(&answer)) else { return Ok(answer) };
        if !self.hand_over()? {
            return Ok(answer);
        }
        request.authorization = self.authorization(&Plain { body, ..asked })?;
        self.reach(&request)
    }

    fn reach(&self, request: &Outgoing) -> Result<Incoming, Failure> {
        self.transport.ask(request).map_err(|Unreachable(why)| {
            let message = format!("relay UNREACHABLE: {} ({why})", self.base_url());
            Refusal::new(Code::RemoteUnavailable, "relay_url", message)
                .hint("is `c2c relay serve` up, and the URL right?")
                .into()
        })
    }
}

/// A request before it says who asks.
struct Plain<'a> {
    method: &'static str,
    target: &'a str,
    /// Who signs it.
    alias: Option<&'a str>,
    content_type: &'static str,
    body: Vec<u8>,
    /// How long the relay may take on purpose.
    wait: Duration,
}

impl Default for Plain<'_> {
    fn default() -> Self {
        Self {
            method: "POST",
            target: "/",
            alias: None,
            content_type: "application/json",
            body: Vec::new(),
            wait: Duration::ZERO,
        }
    }
}

/// Whether a relay does not know the key that signed.
fn key_is_unknown(answer: &Incoming) -> bool {
    let problem = || body::read::<body::Peers>(&answer.body).ok()?.err();
    answer.status == 401 && problem().is_some_and(|it| it.error_code == Code::Unauthorized.name())
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
        Ok(Err(problem)) if !problem.error.is_empty() => Err(refused(problem)),
        _ => Err(unexpected(answer).into()),
    }
}

/// Something that is not a relay answered: a proxy, for one.
fn unexpected(answer: &Incoming) -> Failure {
    let message = format!("the relay's URL answered {} with something else", answer.status);
    let code = Code::RemoteUnavailable;
    Refusal::new(code, "relay_url", message).hint("is the URL that of a relay?").into()
}

/// Fields that a relay may name.
const FIELDS: &[&str] = &[
    "alias",
    "content",
    "from",
    "from_alias",
    "invitee_pk",
    "message_id",
    "node_id",
    "room_id",
    "session_id",
    "tag",
    "to_alias",
    "ttl",
    "visibility",
];

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
    let named = problem.field.as_deref().unwrap_or_default();
    let field = FIELDS.iter().find(|field| **field == named).copied().unwrap_or_default();
    let mut refusal = Refusal::new(code, field, message);
    (refusal.hint, refusal.suggestion) = (problem.hint, problem.suggested_alias);
    Refused { failure: refusal.into(), expected: problem.expected.map(Box::new) }
}
