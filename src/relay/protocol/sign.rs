//! Signed texts, Ed25519 keys and signatures, and the `Authorization` header.
//!
//! A signed text consists of a context and fields, joined by the byte 0x1F. The context prevents a
//! signature made for one purpose from being used for another. Keys, signatures, nonces and hashes
//! are unpadded base64url. Fields are signed exactly as sent, before any interpretation.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use c2c_log_format::checksum::sha256;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::route::parameters;
use c2c_core::time;

const SEPARATOR: char = '\u{1f}';
/// All characters except the unreserved ones of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a signature, key or signed text is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Not unpadded base64url, or not of the required length.
    #[error("{0} is not unpadded base64url of the required length")]
    Encoding(&'static str),
    /// Not a point on the curve, or a weak key for which anyone can forge signatures.
    #[error("the public key is invalid or weak")]
    Key,
    /// The signature covers different bytes or was made by a different key.
    #[error("the signature does not match")]
    Mismatch,
    /// The header does not have the required form.
    #[error("the Authorization header is not 'Ed25519 alias=..,ts=..,nonce=..,sig=..'")]
    Header,
    /// A field contains the separator.
    #[error("a signed field contains a control character")]
    Field,
    /// The signing time cannot be parsed.
    #[error("the signing time is not a valid timestamp")]
    Time,
    /// Signed too long ago, seconds.
    #[error("signed {0} s ago: too old")]
    Past(u64),
    /// Signed too far in the future, seconds.
    #[error("signed {0} s in the future: check the clock")]
    Future(u64),
}

/// Encodes a key, signature, nonce or hash as unpadded base64url.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes exactly `N` bytes from unpadded base64url. `what` names the value in the error.
pub fn decode<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], SignError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SignError::Encoding(what))?;
    bytes.try_into().map_err(|_| SignError::Encoding(what))
}

/// An Ed25519 public key that is known not to be weak.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Parses a key. Rejects keys of small order, for which a signature proves nothing.
    pub fn parse(text: &str) -> Result<Self, SignError> {
        let bytes = decode("the public key", text)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| SignError::Key)?;
        if key.is_weak() { Err(SignError::Key) } else { Ok(Self(key)) }
    }

    /// Checks that this key signed this text.
    pub fn verify(&self, signed: &SignedText, signature: &str) -> Result<(), SignError> {
        let signature = Signature::from_bytes(&decode("the signature", signature)?);
        self.0.verify_strict(signed.0.as_bytes(), &signature).map_err(|_| SignError::Mismatch)
    }

    /// The raw key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(self.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An Ed25519 private key.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// Derives the key from its secret seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The secret seed.
    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The corresponding public key.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs a text and returns the signature in base64url.
    pub fn sign(&self, text: &SignedText) -> String {
        encode(&self.0.sign(text.0.as_bytes()).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey of {}", self.public())
    }
}

/// The exact text that a signature covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedText(String);

impl SignedText {
    /// Joins a context and fields. Rejects a field that contains the separator, because it could be
    /// read as two fields.
    fn new(context: &str, fields: &[&str]) -> Result<Self, SignError> {
        if fields.iter().any(|field| field.contains(SEPARATOR)) {
            return Err(SignError::Field);
        }
        let mut text = String::from(context);
        for field in fields {
            text.push(SEPARATOR);
            text.push_str(field);
        }
        Ok(Self(text))
    }
}

/// The parts of an HTTP request that its signature covers.
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// HTTP method, in either case.
    pub method: &'a str,
    /// Path and query as in the request line.
    pub target: &'a str,
    /// The raw body.
    pub body: &'a [u8],
    /// Signing time, as in the header.
    pub ts: &'a str,
    /// Nonce, as in the header.
    pub nonce: &'a str,
}

impl SignedRequest<'_> {
    /// The text that the caller signs.
    pub fn text(&self) -> Result<SignedText, SignError> {
        let (path, query) = self.target.split_once('?').unwrap_or((self.target, ""));
        let method = self.method.to_ascii_uppercase();
        let (query, body) = (canonical_query(query), body_hash(self.body));
        let fields = [method.as_str(), path, &query, &body, self.ts, self.nonce];
        SignedText::new("c2c/v1/request", &fields)
    }
}

/// The query with its parameters sorted by key and percent-encoded in one canonical way.
fn canonical_query(query: &str) -> String {
    let mut sorted: Vec<_> = parameters(query).collect();
    sorted.sort_by(|left, right| left.0.cmp(&right.0));
    let encoded = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    let pairs = sorted.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// SHA-256 of a body in base64url; empty for an empty body.
pub fn body_hash(body: &[u8]) -> String {
    if body.is_empty() { String::new() } else { encode(&sha256(body)) }
}

/// The `Authorization` header of a signed request. All values are kept as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationHeader {
    /// Alias of the caller.
    pub alias: String,
    /// Signing time: seconds since 1970, or RFC 3339.
    pub ts: String,
    /// Nonce, base64url.
    pub nonce: String,
    /// Signature, base64url.
    pub sig: String,
}

impl AuthorizationHeader {
    /// Whether a header value uses the `Ed25519` scheme, valid or not.
    pub fn is_claimed(value: &str) -> bool {
        scheme(value).is_some_and(|(name, _)| name.eq_ignore_ascii_case("Ed25519"))
    }

    /// Parses a header value. Fields may be in any order and unknown ones are ignored; a repeated
    /// field is rejected.
    pub fn parse(value: &str) -> Result<Self, SignError> {
        let (_, fields) =
            scheme(value).filter(|_| Self::is_claimed(value)).ok_or(SignError::Header)?;
        let (mut alias, mut ts, mut nonce, mut sig) = (None, None, None, None);
        for field in fields.split(',') {
            let (key, value) = field.split_once('=').ok_or(SignError::Header)?;
            let slot = match key.trim() {
                "alias" => &mut alias,
                "ts" => &mut ts,
                "nonce" => &mut nonce,
                "sig" => &mut sig,
                _ => continue,
            };
            if slot.replace(value.trim().to_owned()).is_some() {
                return Err(SignError::Header);
            }
        }
        match (alias, ts, nonce, sig) {
            (Some(alias), Some(ts), Some(nonce), Some(sig)) => Ok(Self { alias, ts, nonce, sig }),
            _ => Err(SignError::Header),
        }
    }
}

impl fmt::Display for AuthorizationHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { alias, ts, nonce, sig } = self;
        write!(f, "Ed25519 alias={alias},ts={ts},nonce={nonce},sig={sig}")
    }
}

fn scheme(value: &str) -> Option<(&str, &str)> {
    value.trim().split_once(' ')
}

/// Timestamp and nonce of a signature inside a body, as the strings sent.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Signing time: seconds since 1970, or RFC 3339.
    pub ts: &'a str,
    /// Nonce, base64url.
    pub nonce: &'a str,
}

/// The text signed by the proof in the body of `/register`. `relay_url` is the base URL of the
/// relay; case and a trailing slash do not matter.
pub fn register(
    alias: &str,
    relay_url: &str,
    key: &str,
    moment: Moment<'_>,
) -> Result<SignedText, SignError> {
    let url = relay_url.trim_end_matches('/').to_lowercase();
    SignedText::new("c2c/v1/register", &[alias, &url, key, moment.ts, moment.nonce])
}

/// A room operation that a client can sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomOp {
    /// Join the room.
    Join,
    /// Leave the room.
    Leave,
    /// Invite a key or an alias.
    Invite,
    /// Revoke an invitation.
    Uninvite,
    /// Change the visibility of the room.
    SetVisibility,
}

/// The text signed by the proof in the body of a room operation.
pub fn room_op(
    op: RoomOp,
    room_id: &str,
    alias: &str,
    key: &str,
    moment: Moment<'_>,
) -> Result<SignedText, SignError> {
    let context = match op {
        RoomOp::Join => "c2c/v1/room-join",
        RoomOp::Leave => "c2c/v1/room-leave",
        RoomOp::Invite => "c2c/v1/room-invite",
        RoomOp::Uninvite => "c2c/v1/room-uninvite",
        RoomOp::SetVisibility => "c2c/v1/room-set-visibility",
    };
    SignedText::new(context, &[room_id, alias, key, moment.ts, moment.nonce])
}

/// The text signed by the envelope of a room message. `enc` is `none`: the content is plain text.
pub fn room_send(
    room_id: &str,
    from_alias: &str,
    key: &str,
    enc: &str,
    content: &str,
    moment: Moment<'_>,
) -> Result<SignedText, SignError> {
    let hash = encode(&sha256(content.as_bytes()));
    let fields = [room_id, from_alias, key, enc, &hash, moment.ts, moment.nonce];
    SignedText::new("c2c/v1/room-send", &fields)
}

/// The statement that the key `new` replaces the key `old`; both keys sign it.
pub fn rotate_key(old: &str, new: &str, moment: Moment<'_>) -> Result<SignedText, SignError> {
    SignedText::new("c2c/v1/key-rotate", &[old, new, moment.ts, moment.nonce])
}

/// Accepted distance of a signing time from the verifier's clock, and lifetime of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigningWindow {
    /// Maximum age of a signature, seconds.
    pub past_s: u64,
    /// Maximum distance of a signing time into the future, seconds.
    pub future_s: u64,
    /// How long the verifier remembers a nonce, seconds.
    pub nonce_s: u64,
}

/// The window of a signed request.
pub const REQUEST_WINDOW: SigningWindow = SigningWindow { past_s: 30, future_s: 5, nonce_s: 120 };
/// The window of a proof inside a body.
pub const PROOF_WINDOW: SigningWindow = SigningWindow { past_s: 120, future_s: 30, nonce_s: 600 };

impl SigningWindow {
    /// Checks that a signing time is inside the window.
    pub fn check(&self, ts: &str, now_us: u64) -> Result<(), SignError> {
        let signed_us = time::parse(ts).ok_or(SignError::Time)?;
        let past_us = now_us.saturating_sub(signed_us);
        let future_us = signed_us.saturating_sub(now_us);
        if past_us > self.past_s * 1_000_000 {
            return Err(SignError::Past(past_us / 1_000_000));
        }
        if future_us > self.future_s * 1_000_000 {
            return Err(SignError::Future(future_us / 1_000_000));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
