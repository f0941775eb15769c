//! JSON bodies of a relay's responses.
//!
//! Responses carry the keys that both older generations of clients expect.

use c2c_log_format::payload::RoomVisibility;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cursor::WireCursor;
use super::json::{BodyError, Seconds, Stamp, parse};
use super::request::SignedEnvelope;

/// Declares response bodies: plain values, optional values, and optionally a timestamp.
macro_rules! responses {
    ($($(#[$doc:meta])* $response:ident {
        $($value:ident : $vtype:ty),*; $($option:ident : $otype:ty),* $(; $stamp:ident)?
    })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $response {
            $(pub $value: $vtype,)*
            $(#[serde(skip_serializing_if = "Option::is_none")] pub $option: Option<$otype>,)*
            $(#[serde(flatten)] pub $stamp: Stamp,)?
        }
    )* };
}

responses! {
    /// One registered session.
    PeerLease {
        node_id: String, session_id: String, alias: String, client_type: String,
        registered_at: Seconds, last_seen: Seconds, ttl: f64, alive: bool;
        identity_pk: String, enc_pubkey: String, signed_at: Value, sig_b64: String
    }
    /// One message in an inbox or a room history.
    InboxMessage {
        message_id: String, from_alias: String, content: String;
        to_alias: String, room_id: String, envelope: SignedEnvelope, tag: String, reply_to: String,
        sequence: u64, redelivered: bool; ts
    }
    /// One message that could not be delivered.
    UndeliveredMessage {
        message_id: String, from_alias: String, to_alias: String, content: String, reason: String;
        room_id: String, envelope: SignedEnvelope, phase: String; ts
    }
    /// One room.
    RoomSummary {
        room_id: String, member_count: u64, members: Vec<String>; visibility: RoomVisibility
    }
    /// `/health`
    HealthResponse {
        version: String, git_hash: String, auth_mode: String, storage: String, alive_peers: u64,
        total_peers: u64; persist_dir: String, relay_name: String, relay_id: String; ts
    }
    /// `/register` for one session, and `/heartbeat`.
    RegisterResponse {
        result: String, alias: String, node_id: String, last_seen: Seconds, lease: PeerLease;
        bare_alias: bool, redelivered: u64, relay_id: String
    }
    /// `/register` for several sessions; the results are in the order of the registrations.
    RegisterAllResponse { results: Vec<RegistrationResult>, relay_id: String; }
    /// One of several registrations: granted unless it has an `error_code`.
    RegistrationResult {
        alias: String, node_id: String;
        bare_alias: bool, redelivered: u64, error_code: String, error: String, hint: String
    }
    /// `/list`
    ListResponse { peers: Vec<PeerLease>; }
    /// `/send`
    SendResponse {
        result: String, to_alias: String, message_id: String;
        duplicate: bool, recipient_state: String; ts
    }
    /// `/send_all` and `/send_room`. Both spellings of the list of recipients are present.
    FanOutResponse {
        result: String, delivered: Vec<String>, delivered_to: Vec<String>, skipped: Vec<String>,
        message_id: String; room_id: String, duplicate: bool; ts
    }
    /// `/remote_inbox`: messages as the remote broker stores them, and when they were fetched.
    /// `error` is the reason why no newer messages are available.
    RemoteInboxResponse {
        messages: Vec<Value>, broker_id: String, fetched_at: Seconds; error: String
    }
    /// `/poll_inbox` and `/peek_inbox`
    PollResponse { messages: Vec<InboxMessage>; drain_id: String, remaining: u64 }
    /// `/join_room` and `/leave_room`
    MembershipResponse {
        result: String, room_id: String, alias: String, member_count: u64;
        already_member: bool, removed: bool
    }
    /// `/set_room_visibility`, `/invite_room` and `/uninvite_room`
    RoomSettingsResponse {
        room_id: String; visibility: RoomVisibility, invited_members: Vec<String>
    }
    /// `/room_history`, oldest first.
    RoomHistoryResponse { room_id: String, history: Vec<InboxMessage>; }
    /// `/list_rooms`
    ListRoomsResponse { rooms: Vec<RoomSummary>; }
    /// `/gc`. Both spellings of each key are present.
    GcResponse {
        expired: Vec<String>, expired_leases: Vec<String>, pruned: u64, pruned_inboxes: u64;
    }
    /// `/dead_letter`
    DeadLettersResponse { dead_letter: Vec<UndeliveredMessage>; }
    /// `/pubkey/<alias>`
    PubkeyResponse { alias: String, ed25519_pubkey: String; }
    /// `/admin/unbind`
    UnbindResponse { alias: String, removed: bool; }
    /// One segment of a mirrored log.
    MirroredSegment { log: String, segment: u64, bytes: u64, changed_at: Seconds; }
    /// `/mirror` by GET: the segments that the relay has.
    MirrorListResponse { segments: Vec<MirroredSegment>; }
    /// `/mirror` by POST: length of the segment at the relay after the write, bytes.
    MirrorWriteResponse { bytes: u64; }
    /// `/admin/replay`: number of dead letters that are pending again.
    ReplayResponse { replayed: u64; }
    /// `/rotate_key`: the aliases that are now bound to the new key.
    RotateKeyResponse { aliases: Vec<String>; }
    /// `/push`: how far the relay now holds the pusher's log, and the result for each event.
    PushResponse {
        relay_id: String, relay_name: String, outcomes: Vec<EventResult>; cursor: WireCursor
    }
    /// Result for one event of a pushed batch.
    EventResult {
        sequence: u64, outcome: EventOutcome; error_code: String, error: String, field: String
    }
    /// Response to any request that was rejected.
    ErrorResponse {
        error_code: String, error: String;
        field: String, hint: String, suggested_alias: String, existing_lease: PeerLease,
        retry_after: f64, server_time: Seconds, expected: WireCursor, retryable: bool,
        request_id: String
    }
}

/// What a relay did with one event of a pushed batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "&'static str")]
pub enum EventOutcome {
    /// It is recorded.
    Accepted,
    /// It was received before and is not delivered yet.
    Duplicate,
    /// It was received before and is delivered.
    Delivered,
    /// It is not recorded, or the relay states an outcome that this version does not know.
    #[default]
    Rejected,
}

impl EventOutcome {
    /// Returns the name in the response.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Delivered => "delivered",
            Self::Rejected => "refused",
        }
    }
}

impl From<EventOutcome> for &'static str {
    fn from(outcome: EventOutcome) -> Self {
        outcome.as_str()
    }
}

impl From<String> for EventOutcome {
    fn from(name: String) -> Self {
        let known = [Self::Accepted, Self::Duplicate, Self::Delivered];
        known.into_iter().find(|outcome| outcome.as_str() == name).unwrap_or(Self::Rejected)
    }
}

/// The body of a successful response whose contents do not matter.
#[derive(Debug, Deserialize)]
pub struct Ignored {}

/// Encodes a response body: the value, preceded by `ok`.
pub fn encode<T: Serialize>(ok: bool, value: &T) -> Vec<u8> {
    #[derive(Serialize)]
    struct WithOk<'a, T> {
        ok: bool,
        #[serde(flatten)]
        value: &'a T,
    }
    // Serialising structs with string keys and plain values cannot fail.
    serde_json::to_vec(&WithOk { ok, value }).unwrap_or_default()
}

/// Decodes a response body: the expected value if `ok` is true, else the relay's rejection.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<Result<T, ErrorResponse>, BodyError> {
    #[derive(Deserialize)]
    struct Status {
        #[serde(default)]
        ok: bool,
    }
    let Status { ok } = parse(body)?;
    if ok { parse(body).map(Ok) } else { parse(body).map(Err) }
}
