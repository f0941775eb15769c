//! Client of one relay: signs requests, sends them, and interprets responses.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::transport::{Transport, TransportRequest, TransportResponse, Unreachable};
use crate::error::Failure;
use crate::platform::clock;
use crate::relay::keys::{self, Identity, random};
use crate::relay::protocol::cursor::WireCursor;
use crate::relay::protocol::request::{
    RegisterRequest, RoomChangeRequest, SendRoomRequest, SignedEnvelope,
};
use crate::relay::protocol::response::{
    self, ErrorResponse, Ignored, RegisterResponse, RotateKeyResponse,
};
use crate::relay::protocol::route::{self, Access};
use crate::relay::protocol::sign::{self, AuthorizationHeader, Moment, RoomOp, SignedRequest};
use c2c_core::code::Code;
use c2c_core::decide::Rejection;
use c2c_core::ids::Alias;
use c2c_core::time;

/// The credentials of a client.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Key that signs requests.
    pub identity: Option<Identity>,
    /// File of that key. It is read again when the relay no longer accepts the key.
    pub key_file: Option<PathBuf>,
    /// The operator's bearer token.
    pub token: Option<String>,
}

/// A client of one relay with fixed credentials. Clones share the key, including one that was read
/// again from its file.
#[derive(Clone)]
pub struct RelayClient {
    transport: Arc<dyn Transport>,
    identity: Arc<RwLock<Option<Arc<Identity>>>>,
    key_file: Option<PathBuf>,
    token: Option<String>,
}

/// How far a request came that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestProgress {
    /// It did not leave this machine.
    NotSent,
    /// The relay may have executed it: the response is missing, or is not from the relay itself.
    Unanswered,
    /// The relay rejected it.
    Rejected,
}

/// A request that failed or was rejected by the relay.
#[derive(Debug)]
pub struct RequestError {
    /// The error.
    pub failure: Box<Failure>,
    /// The cursor that the relay expects instead of the one in the request.
    pub expected: Option<Box<WireCursor>>,
    /// How far the request came.
    pub progress: RequestProgress,
}

impl RequestError {
    fn new(failure: Failure, progress: RequestProgress) -> Self {
        Self { failure: Box::new(failure), expected: None, progress }
    }
}

/// An error before the request was sent.
impl From<Failure> for RequestError {
    fn from(failure: Failure) -> Self {
        Self::new(failure, RequestProgress::NotSent)
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        *error.failure
    }
}

impl RelayClient {
    /// Creates a client that uses a transport.
    pub fn new(transport: Arc<dyn Transport>, credentials: Credentials) -> Self {
        let Credentials { identity, key_file, token } = credentials;
        let identity = Arc::new(RwLock::new(identity.map(Arc::new)));
        Self { transport, identity, key_file, token }
    }

    /// The relay's URL.
    pub fn base_url(&self) -> &str {
        self.transport.base_url()
    }

    /// The key that signs requests.
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Submits the signed statements that lead from earlier keys to the current one. Returns whether
    /// there were any. Reads the key file first, because another process may have replaced the key.
    pub(super) fn submit_key_rotation(&self) -> Result<bool, Failure> {
        if let Some(current) = self.key_file.as_ref().and_then(|path| keys::load(path).ok()) {
            let mut identity = self.identity.write().unwrap_or_else(PoisonError::into_inner);
            *identity = Some(Arc::new(current));
        }
        let Some(identity) = self.identity() else { return Ok(false) };
        for rotation in &identity.rotations {
            self.post::<RotateKeyResponse>("/rotate_key", rotation, None)?;
        }
        Ok(!identity.rotations.is_empty())
    }

    /// Registers a session, with a proof of the key. If the alias is bound to an earlier key, submits
    /// the key rotation and tries again.
    pub fn register(&self, request: &RegisterRequest) -> Result<RegisterResponse, Failure> {
        let register = || -> Result<RegisterResponse, Failure> {
            Ok(self.post("/register", &self.sign_registration(request.clone())?, None)?)
        };
        match register() {
            Err(failure)
                if failure.code() == Code::AliasIdentityMismatch
                    && self.submit_key_rotation()? =>
            {
                register()
            }
            result => result,
        }
    }

    /// Sends a GET request. With an alias it is signed; without one it carries the operator's token
    /// where the route needs it.
    pub fn get<T: DeserializeOwned>(
        &self,
        target: &str,
        alias: Option<&str>,
    ) -> Result<T, Failure> {
        Ok(self.try_get(target, alias)?)
    }

    /// Like [`RelayClient::get`], and reports how far a failed request came.
    pub(super) fn try_get<T: DeserializeOwned>(
        &self,
        target: &str,
        alias: Option<&str>,
    ) -> Result<T, RequestError> {
        let request = UnsignedRequest { method: "GET", target, alias, ..Default::default() };
        decode_response(&self.request(request)?)
    }

    /// Sends a POST request with a JSON body. Credentials are as for [`RelayClient::get`].
    pub fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &impl Serialize,
        alias: Option<&str>,
    ) -> Result<T, RequestError> {
        // Serialising structs with string keys and plain values cannot fail.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let request = UnsignedRequest { target, alias, body, ..Default::default() };
        decode_response(&self.request(request)?)
    }

    /// Sends a POST request with a binary body and decodes a JSON response.
    pub(super) fn send_bytes<T: DeserializeOwned>(
        &self,
        target: &str,
        body: Vec<u8>,
        alias: Option<&str>,
    ) -> Result<T, RequestError> {
        let content_type = "application/octet-stream";
        let request = UnsignedRequest { target, alias, body, content_type, ..Default::default() };
        decode_response(&self.request(request)?)
    }

    /// Sends a POST request with a JSON body and returns a binary response. The relay may delay the
    /// response by up to `wait`.
    pub(super) fn fetch_bytes(
        &self,
        target: &str,
        body: &impl Serialize,
        alias: Option<&str>,
        wait: Duration,
    ) -> Result<Vec<u8>, RequestError> {
        let body = serde_json::to_vec(body).unwrap_or_default();
        let request = UnsignedRequest { target, alias, body, wait, ..Default::default() };
        let response = self.request(request)?;
        if response.status == 200 {
            return Ok(response.body);
        }
        let error = decode_response::<Ignored>(&response).err();
        Err(error.unwrap_or_else(|| unexpected(&response)))
    }

    /// Adds the signature of a room operation to its body.
    pub(super) fn sign_room_change(
        &self,
        op: RoomOp,
        request: RoomChangeRequest,
    ) -> Result<RoomChangeRequest, Failure> {
        let Some(identity) = self.identity() else { return Ok(request) };
        let (ts, nonce) = (time::rfc3339_seconds(clock::now_us()), random_nonce()?);
        let (key, moment) = (identity.key.public().to_string(), Moment { ts: &ts, nonce: &nonce });
        let text = sign::room_op(op, &request.room_id, &request.alias, &key, moment);
        let sig = identity.key.sign(&text.map_err(cannot_sign)?);
        Ok(RoomChangeRequest {
            identity_pk: Some(key),
            sig: Some(sig),
            nonce: Some(nonce),
            ts: Some(ts),
            ..request
        })
    }

    /// Adds the signed envelope to a room message.
    pub(super) fn sign_room_message(
        &self,
        request: SendRoomRequest,
    ) -> Result<SendRoomRequest, Failure> {
        let Some(identity) = self.identity() else { return Ok(request) };
        let (ts, nonce) = (time::rfc3339_seconds(clock::now_us()), random_nonce()?);
        let (key, enc) = (identity.key.public().to_string(), "none");
        let SendRoomRequest { room_id, from_alias, content, .. } = &request;
        let moment = Moment { ts: &ts, nonce: &nonce };
        let text = sign::room_send(room_id, from_alias, &key, enc, content, moment);
        let sig = identity.key.sign(&text.map_err(cannot_sign)?);
        let ct = sign::encode(content.as_bytes());
        let envelope = SignedEnvelope { ct, enc: enc.into(), sender_pk: key, sig, ts, nonce };
        Ok(SendRoomRequest { envelope: Some(envelope), ..request })
    }

    /// Adds a proof of the key to a registration. Without a key, returns it unchanged.
    pub(super) fn sign_registration(
        &self,
        request: RegisterRequest,
    ) -> Result<RegisterRequest, Failure> {
        let Some(identity) = self.identity() else { return Ok(request) };
        let timestamp = time::rfc3339_seconds(clock::now_us());
        let nonce = random_nonce()?;
        let key = identity.key.public().to_string();
        let moment = Moment { ts: &timestamp, nonce: &nonce };
        let text =
            sign::register(&request.alias, self.base_url(), &key, moment).map_err(cannot_sign)?;
        let signature = identity.key.sign(&text);
        Ok(RegisterRequest {
            identity_pk: Some(key),
            signature: Some(signature),
            nonce: Some(nonce),
            timestamp: Some(timestamp),
            ..request
        })
    }

    /// Value of the `Authorization` header for a request.
    fn authorization(&self, request: &UnsignedRequest<'_>) -> Result<Option<String>, Failure> {
        let UnsignedRequest { method, target, ref body, .. } = *request;
        if let (Some(alias), Some(identity)) = (request.alias, self.identity()) {
            let now_us = clock::now_us();
            let ts = format!("{}.{:06}", now_us / 1_000_000, now_us % 1_000_000);
            let nonce = random_nonce()?;
            let signed = SignedRequest { method, target, body, ts: &ts, nonce: &nonce };
            let sig = identity.key.sign(&signed.text().map_err(cannot_sign)?);
            let header = AuthorizationHeader { alias: alias.to_owned(), ts, nonce, sig };
            return Ok(Some(header.to_string()));
        }
        // The operator's token is sent only to routes that require it.
        let access = route::find(method, target).map(|route| route.access);
        let token = self.token.as_ref().filter(|_| access == Ok(Access::Admin));
        Ok(token.map(|token| format!("Bearer {token}")))
    }

    /// Sends a request with its credentials. If the relay does not know the key that signed it,
    /// submits the key rotation and sends the request once more.
    fn request(&self, unsigned: UnsignedRequest<'_>) -> Result<TransportResponse, RequestError> {
        let authorization = self.authorization(&unsigned)?;
        let is_signed = unsigned.alias.is_some() && authorization.is_some();
        let mut request = TransportRequest {
            method: unsigned.method,
            target: unsigned.target.to_owned(),
            authorization,
            content_type: unsigned.content_type,
            body: unsigned.body.clone(),
            wait: unsigned.wait,
        };
        let response = self.send(&request)?;
        if !is_signed || !is_unknown_key(&response) || !self.submit_key_rotation()? {
            return Ok(response);
        }
        request.authorization = self.authorization(&unsigned)?;
        self.send(&request)
    }

    fn send(&self, request: &TransportRequest) -> Result<TransportResponse, RequestError> {
        self.transport.send(request).map_err(|Unreachable { reason, may_have_arrived }| {
            let progress = match may_have_arrived {
                true => RequestProgress::Unanswered,
                false => RequestProgress::NotSent,
            };
            let message = format!("relay UNREACHABLE: {} ({reason})", self.base_url());
            let rejection = Rejection::new(Code::RemoteUnavailable, "relay_url", message)
                .hint("check that `c2c relay serve` is running and that the URL is correct");
            RequestError::new(rejection.into(), progress)
        })
    }
}

/// A request without credentials.
struct UnsignedRequest<'a> {
    method: &'static str,
    /// Path and query.
    target: &'a str,
    /// The alias that signs the request.
    alias: Option<&'a str>,
    content_type: &'static str,
    body: Vec<u8>,
    /// How long the relay may delay the response deliberately.
    wait: Duration,
}

impl Default for UnsignedRequest<'_> {
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

/// Whether a relay rejected a request because it does not know the key that signed it.
fn is_unknown_key(response: &TransportResponse) -> bool {
    let error = || response::decode::<Ignored>(&response.body).ok()?.err();
    response.status == 401
        && error().is_some_and(|error| error.error_code == Code::Unauthorized.name())
}

fn cannot_sign(error: sign::SignError) -> Failure {
    Rejection::new(Code::InvalidArgument, "", error.to_string()).into()
}

fn random_nonce() -> Result<String, Failure> {
    let bytes = random::<16>()
        .map_err(|e| Failure::from(Rejection::new(Code::Internal, "", e.to_string())))?;
    Ok(sign::encode(&bytes))
}

/// Decodes a JSON response, or the relay's rejection.
fn decode_response<T: DeserializeOwned>(response: &TransportResponse) -> Result<T, RequestError> {
    match response::decode::<T>(&response.body) {
        Ok(Ok(value)) if response.status < 300 => Ok(value),
        Ok(Err(error)) if !error.error.is_empty() => Err(RequestError {
            // An error inside the relay may have occurred after it executed the request.
            progress: match response.status {
                500.. => RequestProgress::Unanswered,
                _ => RequestProgress::Rejected,
            },
            ..rejection(error)
        }),
        _ => Err(unexpected(response)),
    }
}

/// The error for a response that is not one of a relay, for example from a proxy.
fn unexpected(response: &TransportResponse) -> RequestError {
    let message = format!("unexpected response ({}) from the relay URL", response.status);
    let rejection = Rejection::new(Code::RemoteUnavailable, "relay_url", message)
        .hint("check that the URL is the URL of a c2c relay");
    RequestError::new(rejection.into(), RequestProgress::Unanswered)
}

/// Converts a relay's rejection, keeping its message and hint. An unknown code becomes an internal
/// error, because it is the relay's fault and not the caller's.
fn rejection(error: ErrorResponse) -> RequestError {
    let code =
        Code::from_name(&error.error_code).unwrap_or_else(|| code_without_name(&error.error));
    let message = match error.server_time {
        Some(time) => {
            format!("{}; the relay's clock reads {}", error.error, time::rfc3339(time.us))
        }
        None => error.error,
    };
    let mut rejection = Rejection::new(code, error.field.unwrap_or_default(), message);
    rejection.hint = error.hint;
    rejection.suggestion = error.suggested_alias.map(Alias::from);
    RequestError {
        expected: error.expected.map(Box::new),
        ..RequestError::new(rejection.into(), RequestProgress::Rejected)
    }
}

/// The code of a rejection by an older relay, which names the code in the message or not at all.
fn code_without_name(message: &str) -> Code {
    match message {
        "rate_limit_exceeded" => Code::RateLimitExceeded,
        _ => Code::Internal,
    }
}
