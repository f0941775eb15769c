//! JSON bodies of the requests that a relay accepts.
//!
//! Requests accept the keys of both older generations of clients. Unknown keys are ignored.

use c2c_log_format::payload::ReportedLiveness;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cursor::WireCursor;
use super::json::{BodyError, Seconds, non_empty};
use super::sign::{self, Moment, PublicKey, SecretKey, SignError};

/// A signature inside a body, as the strings sent.
#[derive(Debug, Clone, Copy)]
pub struct Proof<'a> {
    /// Public key of the signer, base64url.
    pub key: &'a str,
    /// Signature, base64url.
    pub sig: &'a str,
    /// Timestamp and nonce that are part of the signed text.
    pub moment: Moment<'a>,
}

/// Assembles a proof from its four optional fields. Returns `None` if all are absent, and an error
/// that names the first missing field if only some are present.
fn proof<'a>(
    [key, sig, nonce, ts]: [(&'static str, &'a Option<String>); 4],
) -> Result<Option<Proof<'a>>, BodyError> {
    match (key.1, sig.1, nonce.1, ts.1) {
        (Some(key), Some(sig), Some(nonce), Some(ts)) => {
            Ok(Some(Proof { key, sig, moment: Moment { ts, nonce } }))
        }
        (None, None, None, None) => Ok(None),
        _ => {
            let missing = [key, sig, nonce, ts].into_iter().find(|(_, part)| part.is_none());
            let field = missing.map_or("", |(field, _)| field);
            let message = format!("{field}: a proof needs all of its fields");
            Err(BodyError { field: field.into(), message })
        }
    }
}

/// Declares request bodies: non-empty strings, required values, optional values.
macro_rules! requests {
    ($($(#[$doc:meta])* $request:ident {
        names: [$($name:ident),*], values: [$($value:ident : $vtype:ty),*],
        optional: [$($option:ident : $otype:ty),*]
    })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        pub struct $request {
            $(#[serde(deserialize_with = "non_empty")] pub $name: String,)*
            $(pub $value: $vtype,)*
            $(#[serde(default, skip_serializing_if = "Option::is_none")] pub $option: Option<$otype>,)*
        }
    )* };
}

requests! {
    /// `/register` for one session.
    RegisterRequest {
        names: [node_id, session_id, alias], values: [],
        optional: [client_type: String, ttl: f64, identity_pk: String, signature: String,
            nonce: String, timestamp: String, enc_pubkey: String, signed_at: Value, sig_b64: String,
            liveness: ReportedLiveness, replicated: bool]
    }
    /// `/heartbeat`
    HeartbeatRequest {
        names: [node_id, session_id], values: [], optional: [ttl: f64, liveness: ReportedLiveness]
    }
    /// `/poll_inbox` and `/peek_inbox`. Repeating a `drain_id` returns the same messages; the relay
    /// removes them when a later request names that id in `confirm`.
    PollRequest {
        names: [node_id, session_id], values: [],
        optional: [drain_id: String, confirm: String, limit: u64, wait_s: f64]
    }
    /// `/list` by POST. `include_dead` needs the same access here as in the query of a GET.
    ListRequest { names: [], values: [], optional: [include_dead: bool] }
    /// `/send`
    SendRequest {
        names: [from_alias, to_alias], values: [content: String],
        optional: [message_id: String, ts: Seconds, tag: String, reply_to: String]
    }
    /// `/send_all`
    SendAllRequest {
        names: [from_alias], values: [content: String],
        optional: [message_id: String, ts: Seconds, tag: String]
    }
    /// `/join_room`, `/leave_room`, `/set_room_visibility`, `/invite_room` and `/uninvite_room`.
    RoomChangeRequest {
        names: [alias, room_id], values: [],
        optional: [visibility: String, invitee_pk: String, invitee: String, identity_pk: String, sig: String,
            nonce: String, ts: String]
    }
    /// `/send_room`
    SendRoomRequest {
        names: [from_alias, room_id], values: [content: String],
        optional: [message_id: String, ts: Seconds, tag: String, envelope: SignedEnvelope]
    }
    /// `/room_history`
    RoomHistoryRequest { names: [room_id], values: [], optional: [limit: u64] }
    /// `/admin/unbind`
    UnbindRequest { names: [alias], values: [], optional: [] }
    /// `/admin/replay`: redelivers one dead letter or all, to the original mailboxes or to
    /// `to_alias`.
    ReplayRequest { names: [], values: [], optional: [message_id: String, to_alias: String] }
    /// `/rotate_key`: the statement that a new key replaces an old one, signed by both.
    KeyRotation { names: [old_pk, new_pk, ts, nonce, sig, new_sig], values: [], optional: [] }
    /// `/pull`: requests the events after `cursor` and waits up to `wait_s` seconds for the first
    /// one. `log` is the id of the log that receives them.
    PullRequest {
        names: [node_id, log], values: [cursor: WireCursor], optional: [wait_s: f64, zstd: bool]
    }
}

/// `/register` for all sessions of one node in one request, each with a proof by the same key.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RegisterAllRequest {
    /// The registrations; `None` if the body registers a single session instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registrations: Option<Vec<RegisterRequest>>,
}

/// The signed form of a room message. `ct` holds the text of the message in base64url.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SignedEnvelope {
    /// Message text, base64url.
    pub ct: String,
    /// Encryption of `ct`: `none`.
    pub enc: String,
    /// Public key of the sender, base64url.
    pub sender_pk: String,
    /// Signature by that key, base64url.
    pub sig: String,
    /// Signing time, as signed.
    pub ts: String,
    /// Nonce, as signed.
    pub nonce: String,
}

impl RegisterRequest {
    /// The proof of key possession, if the body contains one.
    pub fn proof(&self) -> Result<Option<Proof<'_>>, BodyError> {
        proof([
            ("identity_pk", &self.identity_pk),
            ("signature", &self.signature),
            ("nonce", &self.nonce),
            ("timestamp", &self.timestamp),
        ])
    }

    /// Requested duration of the lease, seconds; 300 by default.
    pub fn ttl_s(&self) -> f64 {
        self.ttl.unwrap_or(300.0)
    }
}

impl RegisterRequest {
    /// The body for an older relay, which accepts only whole seconds as the duration of a lease.
    pub fn with_whole_ttl(&self) -> Value {
        let ttl_s = self.ttl_s() as u64;
        let mut body = serde_json::to_value(self).unwrap_or_default();
        if let Some(ttl) = body.get_mut("ttl") {
            *ttl = ttl_s.into();
        }
        body
    }
}

impl RoomChangeRequest {
    /// The proof of key possession, if the body contains one.
    pub fn proof(&self) -> Result<Option<Proof<'_>>, BodyError> {
        proof([
            ("identity_pk", &self.identity_pk),
            ("sig", &self.sig),
            ("nonce", &self.nonce),
            ("ts", &self.ts),
        ])
    }
}

impl SignedEnvelope {
    /// The sender's signature.
    pub fn proof(&self) -> Proof<'_> {
        let moment = Moment { ts: &self.ts, nonce: &self.nonce };
        Proof { key: &self.sender_pk, sig: &self.sig, moment }
    }
}

impl KeyRotation {
    /// States that `new` replaces `old`, signed by both.
    pub fn signed(old: &SecretKey, new: &SecretKey, moment: Moment<'_>) -> Result<Self, SignError> {
        let (old_pk, new_pk) = (old.public().to_string(), new.public().to_string());
        let text = sign::rotate_key(&old_pk, &new_pk, moment)?;
        Ok(Self {
            old_pk,
            new_pk,
            ts: moment.ts.to_owned(),
            nonce: moment.nonce.to_owned(),
            sig: old.sign(&text),
            new_sig: new.sign(&text),
        })
    }

    /// Returns the old and the new key if both signatures are valid.
    pub fn verify(&self) -> Result<(PublicKey, PublicKey), SignError> {
        let moment = Moment { ts: &self.ts, nonce: &self.nonce };
        let text = sign::rotate_key(&self.old_pk, &self.new_pk, moment)?;
        let (old, new) = (PublicKey::parse(&self.old_pk)?, PublicKey::parse(&self.new_pk)?);
        old.verify(&text, &self.sig)?;
        new.verify(&text, &self.new_sig)?;
        Ok((old, new))
    }
}

impl RoomHistoryRequest {
    /// Maximum number of messages to return; 50 by default.
    pub fn limit(&self) -> u64 {
        self.limit.unwrap_or(50)
    }
}
