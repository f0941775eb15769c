//! Which bytes are signed, how does a signature travel, and is it good?
//!
//! A signed text is a context and its fields, joined by the byte 0x1F; the context keeps a
//! signature made for one purpose from serving another. Keys, signatures, nonces and hashes are
//! base64url without padding. Fields are signed as they were sent, never as they were understood.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use c2c_log_format::checksum::sha256;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::route::parameters;
use crate::time;

const SEPARATOR: char = '\u{1f}';
/// Everything but what RFC 3986 leaves unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Not base64url without padding, or of the wrong length.
    #[error("{0} is not base64url without padding of the right length")]
    Encoding(&'static str),
    /// Not a point on the curve, or one for which everybody can sign.
    #[error("the public key is not one that can be trusted")]
    Key,
    /// The signature is of other bytes or by another key.
    #[error("the signature does not match")]
    Mismatch,
    /// The header has another form.
    #[error("the Authorization header is not 'Ed25519 alias=..,ts=..,nonce=..,sig=..'")]
    Header,
    /// A field holds the separator.
    #[error("a signed field holds a control character")]
    Field,
    /// Not a time.
    #[error("the time of signing is not a time")]
    Time,
    /// Signed too long ago.
    #[error("signed {0} s ago: too old")]
    Past(u64),
    /// Signed in the future.
    #[error("signed {0} s in the future: check the clock")]
    Future(u64),
}

/// Bytes as keys, signatures, nonces and hashes travel.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Exactly `N` bytes.
pub fn decode<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], SignError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SignError::Encoding(what))?;
    bytes.try_into().map_err(|_| SignError::Encoding(what))
}

/// A key that others sign with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads a key and refuses those of small order, for which signatures prove nothing.
    pub fn parse(text: &str) -> Result<Self, SignError> {
        let bytes = decode("the public key", text)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| SignError::Key)?;
        if key.is_weak() { Err(SignError::Key) } else { Ok(Self(key)) }
    }

    /// Whether this key signed this text.
    pub fn verify(&self, signed: &SignedText, signature: &str) -> Result<(), SignError> {
        let signature = Signature::from_bytes(&decode("the signature", signature)?);
        self.0.verify_strict(signed.0.as_bytes(), &signature).map_err(|_| SignError::Mismatch)
    }

    /// The 32 bytes.
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

/// A key to sign with.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of a seed, which only its owner may know.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed.
    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs.
    pub fn sign(&self, text: &SignedText) -> String {
        encode(&self.0.sign(text.0.as_bytes()).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey of {}", self.public())
    }
}

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedText(String);

impl SignedText {
    /// A field with the separator in it could be read as two, so it is refused.
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

/// One HTTP request. Time and nonce are the strings in its header.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Path and query as in the request line.
    pub target: &'a str,
    /// The body as it came.
    pub body: &'a [u8],
    pub ts: &'a str,
    pub nonce: &'a str,
}

impl Request<'_> {
    /// What the caller signs for it.
    pub fn text(&self) -> Result<SignedText, SignError> {
        let (path, query) = self.target.split_once('?').unwrap_or((self.target, ""));
        let method = self.method.to_ascii_uppercase();
        let (query, body) = (canonical_query(query), body_hash(self.body));
        let fields = [method.as_str(), path, &query, &body, self.ts, self.nonce];
        SignedText::new("c2c/v1/request", &fields)
    }
}

/// Parameters sorted by key, each percent-encoded in the one canonical way.
fn canonical_query(query: &str) -> String {
    let mut sorted: Vec<_> = parameters(query).collect();
    sorted.sort_by(|one, other| one.0.cmp(&other.0));
    let encoded = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    let pairs = sorted.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Hash of a body; of an empty one, nothing.
pub fn body_hash(body: &[u8]) -> String {
    if body.is_empty() { String::new() } else { encode(&sha256(body)) }
}

/// The `Authorization` header of a signed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub alias: String,
    pub ts: String,
    pub nonce: String,
    pub sig: String,
}

impl Header {
    /// Whether a header claims to be one of these, good or bad.
    pub fn is_claimed(value: &str) -> bool {
        scheme(value).is_some_and(|(name, _)| name.eq_ignore_ascii_case("Ed25519"))
    }

    /// Reads the header; order and unknown fields do not matter, a field given twice is refused.
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

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { alias, ts, nonce, sig } = self;
        write!(f, "Ed25519 alias={alias},ts={ts},nonce={nonce},sig={sig}")
    }
}

fn scheme(value: &str) -> Option<(&str, &str)> {
    value.trim().split_once(' ')
}

/// When and with which nonce something in a body was signed, as the strings sent.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    pub ts: &'a str,
    pub nonce: &'a str,
}

/// The proof inside the body of `/register`. The URL is the relay's base, without a last slash.
pub fn register(
    alias: &str,
    relay_url: &str,
    key: &str,
    moment: Moment<'_>,
) -> Result<SignedText, SignError> {
    let url = relay_url.trim_end_matches('/').to_lowercase();
    SignedText::new("c2c/v1/register", &[alias, &url, key, moment.ts, moment.nonce])
}

/// What somebody does to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomOp {
    Join,
    Leave,
    Invite,
    Uninvite,
    SetVisibility,
}

/// The proof inside the body of a room operation.
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

/// The envelope of a room message. `enc` is `none`: the text travels as it is.
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

/// The statement that one key follows another; both sign it.
pub fn rotate_key(old: &str, new: &str, moment: Moment<'_>) -> Result<SignedText, SignError> {
    SignedText::new("c2c/v1/key-rotate", &[old, new, moment.ts, moment.nonce])
}

/// How far a time of signing may lie from the verifier's clock, and how long a nonce is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub past_s: u64,
    pub future_s: u64,
    pub nonce_s: u64,
}

/// The window of a signed request.
pub const REQUEST_WINDOW: Window = Window { past_s: 30, future_s: 5, nonce_s: 120 };
/// The window of a proof inside a body.
pub const PROOF_WINDOW: Window = Window { past_s: 120, future_s: 30, nonce_s: 600 };

impl Window {
    /// Whether a time of signing lies inside.
    pub fn check(&self, ts: &str, now_us: u64) -> Result<(), SignError> {
        let then_us = time::parse(ts).ok_or(SignError::Time)?;
        let (past_us, future_us) = (now_us.saturating_sub(then_us), then_us.saturating_sub(now_us));
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
mod tests {
    use super::*;

    const KEY: &str = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg";
    const NONCE: &str = "q6urq6urq6urq6urq6urqw";
    const TS: &str = "1770000000.250000";
    const RFC3339: &str = "2026-02-02T02:40:00Z";
    const MOMENT: Moment<'_> = Moment { ts: RFC3339, nonce: NONCE };
    const BODY: &[u8] = br#"{"node_id":"n1","session_id":"s1"}"#;

    fn key() -> SecretKey {
        let mut seed = [0; 32];
        seed.iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
        SecretKey::from_seed(&seed)
    }

    fn request<'a>(method: &'a str, target: &'a str, body: &'a [u8]) -> Request<'a> {
        Request { method, target, body, ts: TS, nonce: NONCE }
    }

    /// The published vectors: what is signed, and the signature.
    fn vectors() -> Vec<(SignedText, &'static str)> {
        let url = "http://127.0.0.1:7331";
        let all = [
            (
                request("POST", "/heartbeat", BODY).text(),
                "pJA6OqMMiI68Qh496VwcW5dK_vivtCxY1TQK3kVi3tKGqCE3bDGKWpDK4b-5aa9nnlW_Mce6ntVmE8RzCH2DCg",
            ),
            (
                request("GET", "/list", b"").text(),
                "hdkPUjThMj25BryT6PosptoREH9WDK70M20ytGltfewF8V4Tu-kCYidQLb29ZJOrRXjCm913W0HU8cIs20BcDA",
            ),
            (
                register("alice", url, KEY, MOMENT),
                "y0ArJulPw7I7ak2y_7TOZO02gByn1ms_Px5EGO3EizdfXMgafLI1HhcZx3HUtWRj2ZdtNhIxqI_xibbK2E6GBg",
            ),
            (
                room_op(RoomOp::Join, "swarm-lounge", "alice", KEY, MOMENT),
                "T2kGN4i15S3aH1bA_l4ZWdNtozJKF76cw4kUcU2tSjSDeCbZeLeZybYzXvR90q8asX-gkszKaP8jwOMah5lyDw",
            ),
            (
                room_send("swarm-lounge", "alice", KEY, "none", "hello", MOMENT),
                "NFokUiMsspnxWZVxsrunKvbrnQ4W-vsk5IhqgCWnFa2-ZYzJ4LPTG8cWqCvyNJJM9w7mqUb8G0_uSBtZFFhSBw",
            ),
        ];
        all.map(|(text, signature)| (text.expect("a text"), signature)).to_vec()
    }

    #[test]
    fn the_published_vectors_come_out_byte_for_byte() {
        assert_eq!(key().public().to_string(), KEY);
        assert_eq!(encode(&[0xab; 16]), NONCE);
        assert_eq!(body_hash(BODY), "5EGZ41zcfAvi1wEKCLgYkKaqyEnI7Qid8Dvdb1LKfJY");
        let public = PublicKey::parse(KEY).expect("a key");
        for (text, signature) in vectors() {
            assert_eq!(key().sign(&text), signature, "{text:?}");
            assert_eq!(public.verify(&text, signature), Ok(()), "{text:?}");
        }
    }

    #[test]
    fn a_signature_serves_one_text_only() {
        let public = key().public();
        for (at, (text, _)) in vectors().iter().enumerate() {
            for (other, (_, signature)) in vectors().iter().enumerate() {
                assert_eq!(public.verify(text, signature).is_ok(), at == other);
            }
        }
    }

    #[test]
    fn no_signature_survives_a_flipped_bit() {
        let (public, (text, signature)) = (key().public(), vectors().remove(0));
        let good: [u8; 64] = decode("signature", signature).expect("64 bytes");
        for bit in 0..512 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(public.verify(&text, &encode(&bad)), Err(SignError::Mismatch), "bit {bit}");
        }
        assert_eq!(public.verify(&text, ""), Err(SignError::Encoding("the signature")));
        let padded = format!("{signature}==");
        assert_eq!(public.verify(&text, &padded), Err(SignError::Encoding("the signature")));
    }

    #[test]
    fn keys_of_small_order_are_refused() {
        // The eight points of small order, and the two encodings of them that are not canonical.
        let weak = [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ];
        for hex in weak {
            let bytes = super::super::cursor::from_hex::<32>(hex).expect("hex");
            assert_eq!(PublicKey::parse(&encode(&bytes)), Err(SignError::Key), "{hex}");
        }
        for bad in ["", "AAAA", &KEY[1..], &format!("{KEY}=")] {
            assert!(PublicKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_header_reads_back_in_any_order_and_bad_ones_do_not() {
        let header = Header {
            alias: "alice".into(),
            ts: TS.into(),
            nonce: NONCE.into(),
            sig: vectors()[0].1.into(),
        };
        assert_eq!(Header::parse(&header.to_string()), Ok(header.clone()));
        let shuffled = "ed25519 sig=s , x=y,nonce=n=n, ts = 1 ,alias=a";
        let read = Header::parse(shuffled).expect("a header");
        assert_eq!((&*read.alias, &*read.ts, &*read.nonce, &*read.sig), ("a", "1", "n=n", "s"));
        for bad in [
            "",
            "Ed25519",
            "Bearer x",
            "Ed25519 alias=a,ts=1,nonce=n",
            "Ed25519 alias=a,ts=1,nonce=n,sig=s,alias=b",
            "Ed25519 alias=a,ts=1,nonce=n,sig=s,",
            "Ed25519 alias",
        ] {
            assert_eq!(Header::parse(bad), Err(SignError::Header), "{bad}");
        }
        assert!(Header::is_claimed("Ed25519 nonsense") && !Header::is_claimed("Bearer Ed25519"));
    }

    #[test]
    fn one_request_has_one_signed_text() {
        let text = |target| request("get", target, b"").text().expect("a text");
        assert_eq!(text("/list?b=2&a=1"), text("/list?a=1&b=2"));
        assert_eq!(text("/list?a=%2f"), text("/list?%61=/"));
        assert_ne!(text("/list?a=1"), text("/list?a=2"));
        assert_ne!(text("/list?a=1"), text("/list"));
        let base = |url| register("alice", url, KEY, MOMENT);
        assert_eq!(base("HTTP://Relay.Example:7331/"), base("http://relay.example:7331"));
    }

    #[test]
    fn a_field_cannot_pass_for_two() {
        let forged = Moment { ts: "t\u{1f}n", nonce: "x" };
        assert_eq!(register("a", "u", KEY, forged), Err(SignError::Field));
        assert_eq!(room_op(RoomOp::Join, "r\u{1f}a", "b", KEY, MOMENT), Err(SignError::Field));
    }

    #[test]
    fn the_windows_are_as_wide_as_written() {
        let now_us = 1_770_000_000_000_000;
        let at = |offset_s: i64| (1_770_000_000 + offset_s).to_string();
        for (window, past, future) in [(REQUEST_WINDOW, 30, 5), (PROOF_WINDOW, 120, 30)] {
            assert_eq!(window.check(&at(-past), now_us), Ok(()));
            assert_eq!(window.check(&at(future), now_us), Ok(()));
            let (old, early) = (past as u64 + 1, future as u64 + 1);
            assert_eq!(window.check(&at(-past - 1), now_us), Err(SignError::Past(old)));
            assert_eq!(window.check(&at(future + 1), now_us), Err(SignError::Future(early)));
        }
        assert_eq!(PROOF_WINDOW.check(RFC3339, now_us), Ok(()));
        assert_eq!(PROOF_WINDOW.check("soon", now_us), Err(SignError::Time));
    }
}
