//! What is in the JSON bodies of requests and answers?
//!
//! Both older generations of relay and client understand these: requests take the keys of either,
//! answers carry the keys of both. Unknown keys are ignored. Times are seconds since 1970 with a
//! fraction; a request may also say RFC 3339, and an answer says it again as `ts_iso`.

use serde::de::{self, DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::cursor::Cursor;
use super::sign::{self, Moment, PublicKey, SecretKey, SignError};
use crate::time;

/// What is wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BodyError {
    /// The key concerned; empty for the body as a whole.
    pub field: String,
    pub message: String,
}

/// Reads a body. An empty one is `{}`: a GET may have either.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyError> {
    let body = body.trim_ascii();
    let body = if body.is_empty() { b"{}" } else { body };
    let whole = |message: &str| BodyError { field: String::new(), message: message.into() };
    // A row of values would be taken for the fields in their order.
    if body.first() != Some(&b'{') {
        return Err(whole("the body must be a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let message = error.inner().to_string();
        let path = error.path().to_string();
        // A missing key has no path of its own; the message names it.
        let named = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        let field = named.map_or(path, str::to_owned);
        let field = if field == "." { String::new() } else { field };
        let message = if field.is_empty() { message } else { format!("{field}: {message}") };
        BodyError { field, message }
    })?;
    reader.end().map_err(|_| whole("there is more than one JSON value"))?;
    Ok(parsed)
}

/// A moment as bodies carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seconds {
    /// Microseconds since 1970 UTC.
    pub us: u64,
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time::to_seconds(self.us))
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let us = match Value::deserialize(deserializer)? {
            Value::Number(number) => number.as_f64().and_then(time::from_seconds),
            Value::String(text) => time::parse(&text),
            _ => None,
        };
        let us = us.ok_or_else(|| de::Error::custom("expected seconds since 1970 or RFC 3339"))?;
        Ok(Self { us })
    }
}

/// A moment in an answer: `ts`, and the same as `ts_iso`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Seen", into = "Shown")]
pub struct Stamp {
    /// Microseconds since 1970 UTC.
    pub us: u64,
}

#[derive(Deserialize)]
struct Seen {
    #[serde(default)]
    ts: Seconds,
}

#[derive(Serialize)]
struct Shown {
    ts: Seconds,
    ts_iso: String,
}

impl From<Seen> for Stamp {
    fn from(seen: Seen) -> Self {
        Self { us: seen.ts.us }
    }
}

impl From<Stamp> for Shown {
    fn from(stamp: Stamp) -> Self {
        Self { ts: Seconds { us: stamp.us }, ts_iso: time::rfc3339(stamp.us) }
    }
}

/// A name that must be there and not be empty.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Err(de::Error::custom("must not be empty")) } else { Ok(text) }
}

/// A signature inside a body.
#[derive(Debug, Clone, Copy)]
pub struct Proof<'a> {
    pub key: &'a str,
    pub sig: &'a str,
    pub moment: Moment<'a>,
}

/// All four parts of a proof, or none of them.
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

/// A request: required names, required texts, optional values.
macro_rules! requests {
    ($($(#[$doc:meta])* $request:ident {
        names: [$($name:ident),*], values: [$($value:ident : $vtype:ty),*],
        optional: [$($option:ident : $otype:ty),*]
    })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        pub struct $request {
            $(#[serde(deserialize_with = "name")] pub $name: String,)*
            $(pub $value: $vtype,)*
            $(#[serde(default, skip_serializing_if = "Option::is_none")] pub $option: Option<$otype>,)*
        }
    )* };
}

requests! {
    /// `/register`
    Register {
        names: [node_id, session_id, alias], values: [],
        optional: [client_type: String, ttl: f64, identity_pk: String, signature: String,
            nonce: String, timestamp: String, enc_pubkey: String, signed_at: Value, sig_b64: String,
            liveness: String, replicated: bool]
    }
    /// `/heartbeat`
    Heartbeat {
        names: [node_id, session_id], values: [], optional: [ttl: f64, liveness: String]
    }
    /// `/poll_inbox`, `/peek_inbox`. The same `drain_id` gives the same messages again; they leave
    /// the relay when a later request names it in `confirm`.
    Poll {
        names: [node_id, session_id], values: [],
        optional: [drain_id: String, confirm: String, limit: u64, wait_s: f64]
    }
    /// `/list` by POST. Who says `include_dead` here needs what `?include_dead=1` needs.
    List { names: [], values: [], optional: [include_dead: bool] }
    /// `/send`
    Send {
        names: [from_alias, to_alias], values: [content: String],
        optional: [message_id: String, ts: Seconds, tag: String, reply_to: String]
    }
    /// `/send_all`
    SendAll {
        names: [from_alias], values: [content: String],
        optional: [message_id: String, ts: Seconds, tag: String]
    }
    /// `/join_room`, `/leave_room`, `/set_room_visibility`, `/invite_room`, `/uninvite_room`
    RoomChange {
        names: [alias, room_id], values: [],
        optional: [visibility: String, invitee_pk: String, invitee: String, identity_pk: String, sig: String,
            nonce: String, ts: String]
    }
    /// `/send_room`
    SendRoom {
        names: [from_alias, room_id], values: [content: String],
        optional: [message_id: String, ts: Seconds, tag: String, envelope: Envelope]
    }
    /// `/room_history`
    RoomHistory { names: [room_id], values: [], optional: [limit: u64] }
    /// `/admin/unbind`
    Unbind { names: [alias], values: [], optional: [] }
    /// `/admin/replay`: one dead letter or all, to their mailboxes or to another.
    Replay { names: [], values: [], optional: [message_id: String, to_alias: String] }
    /// `/rotate_key`: one key follows another; both sign.
    RotateKey { names: [old_pk, new_pk, ts, nonce, sig, new_sig], values: [], optional: [] }
    /// `/pull`: what comes after a cursor, waiting for it if there is nothing yet. `log` is the log
    /// that it goes into.
    Pull {
        names: [node_id, log], values: [cursor: Cursor], optional: [wait_s: f64, zstd: bool]
    }
}

/// `/register` for all sessions of one node at once, each with its proof by the same key.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RegisterAll {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registrations: Option<Vec<Register>>,
}

/// The signed form of a room message. The text in `ct` is base64url and says the same.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Envelope {
    pub ct: String,
    pub enc: String,
    pub sender_pk: String,
    pub sig: String,
    pub ts: String,
    pub nonce: String,
}

impl Register {
    /// The proof of the key, if there is one.
    pub fn proof(&self) -> Result<Option<Proof<'_>>, BodyError> {
        proof([
            ("identity_pk", &self.identity_pk),
            ("signature", &self.signature),
            ("nonce", &self.nonce),
            ("timestamp", &self.timestamp),
        ])
    }

    /// How long the lease lasts, seconds.
    pub fn ttl_s(&self) -> f64 {
        self.ttl.unwrap_or(300.0)
    }
}

impl RoomChange {
    /// The proof of the key, if there is one.
    pub fn proof(&self) -> Result<Option<Proof<'_>>, BodyError> {
        proof([
            ("identity_pk", &self.identity_pk),
            ("sig", &self.sig),
            ("nonce", &self.nonce),
            ("ts", &self.ts),
        ])
    }
}

impl Envelope {
    /// The signature.
    pub fn proof(&self) -> Proof<'_> {
        let moment = Moment { ts: &self.ts, nonce: &self.nonce };
        Proof { key: &self.sender_pk, sig: &self.sig, moment }
    }
}

impl RotateKey {
    /// States that `new` follows `old`.
    pub fn signed(old: &SecretKey, new: &SecretKey, moment: Moment<'_>) -> Result<Self, SignError> {
        let (old_pk, new_pk) = (old.public().to_string(), new.public().to_string());
        let text = sign::rotate_key(&old_pk, &new_pk, moment)?;
        let (sig, new_sig) = (old.sign(&text), new.sign(&text));
        let (ts, nonce) = (moment.ts.to_owned(), moment.nonce.to_owned());
        Ok(Self { old_pk, new_pk, ts, nonce, sig, new_sig })
    }

    /// The old key and the new one, if both have signed.
    pub fn verify(&self) -> Result<(PublicKey, PublicKey), SignError> {
        let moment = Moment { ts: &self.ts, nonce: &self.nonce };
        let text = sign::rotate_key(&self.old_pk, &self.new_pk, moment)?;
        let (old, new) = (PublicKey::parse(&self.old_pk)?, PublicKey::parse(&self.new_pk)?);
        old.verify(&text, &self.sig)?;
        new.verify(&text, &self.new_sig)?;
        Ok((old, new))
    }
}

impl RoomHistory {
    /// How many messages are wanted.
    pub fn limit(&self) -> u64 {
        self.limit.unwrap_or(50)
    }
}

/// An answer: plain values, optional values, and perhaps a moment.
macro_rules! answers {
    ($($(#[$doc:meta])* $answer:ident {
        $($value:ident : $vtype:ty),*; $($option:ident : $otype:ty),* $(; $stamp:ident)?
    })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $answer {
            $(pub $value: $vtype,)*
            $(#[serde(skip_serializing_if = "Option::is_none")] pub $option: Option<$otype>,)*
            $(#[serde(flatten)] pub $stamp: Stamp,)?
        }
    )* };
}

answers! {
    /// One registered session.
    Lease {
        node_id: String, session_id: String, alias: String, client_type: String,
        registered_at: Seconds, last_seen: Seconds, ttl: f64, alive: bool;
        identity_pk: String, enc_pubkey: String, signed_at: Value, sig_b64: String
    }
    /// One message in an inbox or a history.
    Message {
        message_id: String, from_alias: String, content: String;
        to_alias: String, room_id: String, envelope: Envelope, tag: String, reply_to: String,
        sequence: u64, redelivered: bool; ts
    }
    /// One message that could not be delivered.
    DeadLetter {
        message_id: String, from_alias: String, to_alias: String, content: String, reason: String;
        room_id: String, envelope: Envelope, phase: String; ts
    }
    /// One room.
    Room {
        room_id: String, member_count: u64, members: Vec<String>; visibility: String
    }
    /// `/health`
    Health {
        version: String, git_hash: String, auth_mode: String, storage: String, alive_peers: u64,
        total_peers: u64; persist_dir: String, relay_name: String, relay_id: String; ts
    }
    /// `/register` and `/heartbeat`
    Registered {
        result: String, alias: String, node_id: String, last_seen: Seconds, lease: Lease;
        bare_alias: bool, redelivered: u64, relay_id: String
    }
    /// `/register` for all at once, in the order of the question
    RegisteredAll { results: Vec<RegisteredOne>, relay_id: String; }
    /// One of several registrations: granted unless it has an `error_code`
    RegisteredOne {
        alias: String, node_id: String;
        bare_alias: bool, redelivered: u64, error_code: String, error: String, hint: String
    }
    /// `/list`
    Peers { peers: Vec<Lease>; }
    /// `/send`
    Sent {
        result: String, to_alias: String, message_id: String;
        duplicate: bool, recipient_state: String; ts
    }
    /// `/send_all`, `/send_room`: both spellings of the list
    FannedOut {
        result: String, delivered: Vec<String>, delivered_to: Vec<String>, skipped: Vec<String>,
        message_id: String; room_id: String, duplicate: bool; ts
    }
    /// `/remote_inbox`: rows as they are over there, and when they were read; `error` says why
    /// nothing newer is known.
    RemoteInbox {
        messages: Vec<Value>, broker_id: String, fetched_at: Seconds; error: String
    }
    /// `/poll_inbox`, `/peek_inbox`
    Inbox { messages: Vec<Message>; drain_id: String, remaining: u64 }
    /// `/join_room`, `/leave_room`
    Membership {
        result: String, room_id: String, alias: String, member_count: u64;
        already_member: bool, removed: bool
    }
    /// `/set_room_visibility`, `/invite_room`, `/uninvite_room`
    RoomSettings {
        room_id: String; visibility: String, invited_members: Vec<String>
    }
    /// `/room_history`, oldest first
    History { room_id: String, history: Vec<Message>; }
    /// `/list_rooms`
    Rooms { rooms: Vec<Room>; }
    /// `/gc`: both spellings
    Collected {
        expired: Vec<String>, expired_leases: Vec<String>, pruned: u64, pruned_inboxes: u64;
    }
    /// `/dead_letter`
    DeadLetters { dead_letter: Vec<DeadLetter>; }
    /// `/pubkey/<alias>`
    Pubkey { alias: String, ed25519_pubkey: String; }
    /// `/admin/unbind`
    Unbound { alias: String, removed: bool; }
    /// One segment of a mirrored log
    Segment { log: String, segment: u64, bytes: u64, changed_at: Seconds; }
    /// `/mirror` by GET
    Mirrored { segments: Vec<Segment>; }
    /// `/mirror` by POST: where the segment ends now
    MirrorEnd { bytes: u64; }
    /// `/admin/replay`: how many dead letters wait again
    Replayed { replayed: u64; }
    /// `/rotate_key`
    Rotated { aliases: Vec<String>; }
    /// `/push`: how far the relay holds the pusher's log now, and what became of each event
    Pushed { relay_id: String, relay_name: String, outcomes: Vec<Verdict>; cursor: Cursor }
    /// One event of a batch: `accepted`, `duplicate`, `delivered` or `refused`
    Verdict { sequence: u64, outcome: String; error_code: String, error: String, field: String }
    /// Any request that was not granted.
    Problem {
        error_code: String, error: String;
        field: String, hint: String, suggested_alias: String, existing_lease: Lease,
        retry_after: f64, server_time: Seconds, expected: Cursor, retryable: bool, request_id: String
    }
}

/// The bytes of an answer: the value with `ok` before it.
pub fn answer<T: Serialize>(ok: bool, value: &T) -> Vec<u8> {
    #[derive(Serialize)]
    struct Whole<'a, T> {
        ok: bool,
        #[serde(flatten)]
        value: &'a T,
    }
    // Structs with string keys and plain values: serialisation has no way to fail.
    serde_json::to_vec(&Whole { ok, value }).unwrap_or_default()
}

/// Reads an answer: what was asked for, or the relay's refusal.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<Result<T, Problem>, BodyError> {
    #[derive(Deserialize)]
    struct Granted {
        #[serde(default)]
        ok: bool,
    }
    let Granted { ok } = parse(body)?;
    if ok { parse(body).map(Ok) } else { parse(body).map(Err) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field<T: DeserializeOwned>(body: Value) -> String {
        parse::<T>(body.to_string().as_bytes()).map(|_| ()).expect_err("refused").field
    }

    #[test]
    fn what_older_clients_send_is_understood() {
        let first =
            br#"{"node_id":"n","session_id":"s","alias":"a","client_type":"codex","ttl":300}"#;
        let read: Register = parse(first).expect("first generation");
        assert_eq!((read.ttl_s(), read.proof().expect("none").is_none()), (300.0, true));
        let second = br#"{"node_id":"n","session_id":"s","alias":"a","identity_pk":"k",
            "signature":"g","nonce":"o","timestamp":"t","enc_pubkey":"e","unknown":[1]}"#;
        let read: Register = parse(second).expect("second generation");
        let proof = read.proof().expect("whole").expect("a proof");
        assert_eq!(
            (proof.key, proof.sig, proof.moment.nonce, proof.moment.ts),
            ("k", "g", "o", "t")
        );
        assert_eq!(parse::<List>(b"").expect("empty"), parse::<List>(b" {} ").expect("braces"));
        assert_eq!(parse::<RoomHistory>(br#"{"room_id":"r"}"#).expect("a room").limit(), 50);
    }

    #[test]
    fn an_error_names_the_field() {
        assert_eq!(field::<Send>(json!({ "from_alias": "a", "to_alias": "b" })), "content");
        let wrong = json!({ "from_alias": "a", "to_alias": 5, "content": "" });
        assert_eq!(field::<Send>(wrong), "to_alias");
        assert_eq!(field::<Poll>(json!({ "node_id": "", "session_id": "s" })), "node_id");
        let nested = json!({ "from_alias": "a", "room_id": "r", "content": "c",
            "envelope": { "ct": "", "enc": 1 } });
        assert_eq!(field::<SendRoom>(nested), "envelope.enc");
        let late = json!({ "from_alias": "a", "to_alias": "b", "content": "c", "ts": "soon" });
        assert_eq!(field::<Send>(late), "ts");
        let partial = json!({ "alias": "a", "room_id": "r", "sig": "s", "nonce": "n" });
        let partial: RoomChange = serde_json::from_value(partial).expect("a body");
        assert_eq!(partial.proof().expect_err("partial").field, "identity_pk");
    }

    #[test]
    fn a_new_key_needs_both_signatures() {
        let [old, new, eve] = [1, 2, 3].map(|seed| SecretKey::from_seed(&[seed; 32]));
        let moment = Moment { ts: "2026-02-02T02:40:00Z", nonce: "n" };
        let stated = RotateKey::signed(&old, &new, moment).expect("signed");
        assert_eq!(stated.verify(), Ok((old.public(), new.public())));
        let by_eve = RotateKey::signed(&eve, &eve, moment).expect("signed");
        for forged in [
            RotateKey { sig: by_eve.sig.clone(), ..stated.clone() },
            RotateKey { new_sig: by_eve.new_sig.clone(), ..stated.clone() },
            RotateKey { new_pk: by_eve.new_pk.clone(), ..stated.clone() },
            RotateKey {
                old_pk: stated.new_pk.clone(),
                new_pk: stated.old_pk.clone(),
                ..stated.clone()
            },
            RotateKey { nonce: "m".into(), ..stated.clone() },
        ] {
            assert_eq!(forged.verify(), Err(SignError::Mismatch));
        }
    }

    #[test]
    fn only_one_object_is_a_body() {
        for bad in ["[\"n\",\"s\"]", "null", "\"x\"", "{", "{}{}", "{} x", "\u{feff}{}"] {
            assert!(parse::<List>(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse::<Heartbeat>(b"[\"n\",\"s\"]").is_err());
        assert!(parse::<List>(&[b'{', 0xff, b'}']).is_err());
    }

    #[test]
    fn a_time_may_be_spelt_either_way_and_is_answered_both_ways() {
        let body =
            |ts: Value| json!({ "from_alias": "a", "to_alias": "b", "content": "c", "ts": ts });
        for ts in [json!(1770000000.25), json!("2026-02-02T02:40:00.25Z"), json!("1770000000.25")] {
            let sent: Send = parse(body(ts).to_string().as_bytes()).expect("a time");
            assert_eq!(sent.ts, Some(Seconds { us: 1_770_000_000_250_000 }));
        }
        let sent = Sent { ts: Stamp { us: 1_770_000_000_250_000 }, ..Sent::default() };
        let shown: Value = serde_json::from_slice(&answer(true, &sent)).expect("JSON");
        assert_eq!(shown["ok"], true);
        assert_eq!(shown["ts"], json!(1770000000.25));
        assert_eq!(shown["ts_iso"], "2026-02-02T02:40:00.250Z");
        assert_eq!(shown.get("duplicate"), None);
    }

    #[test]
    fn an_answer_reads_back_and_so_does_an_older_one() {
        let inbox = Inbox {
            messages: vec![Message { message_id: "m".into(), ..Message::default() }],
            ..Inbox::default()
        };
        assert_eq!(read::<Inbox>(&answer(true, &inbox)), Ok(Ok(inbox)));
        let older = br#"{"ok":true,"messages":[{"from_alias":"a","content":"c","ts":1.5}]}"#;
        let read_back = read::<Inbox>(older).expect("a body").expect("granted");
        assert_eq!(read_back.messages[0].ts.us, 1_500_000);
        let limited = br#"{"error":"rate_limit_exceeded","retry_after":2.5}"#;
        let problem = read::<Inbox>(limited).expect("a body").expect_err("a problem");
        assert_eq!((&*problem.error, problem.retry_after), ("rate_limit_exceeded", Some(2.5)));
        let problem = Problem { error_code: "unknown_alias".into(), ..Problem::default() };
        assert_eq!(read::<Sent>(&answer(false, &problem)), Ok(Err(problem)));
    }
}
