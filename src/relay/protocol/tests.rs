//! Tests of request and response bodies.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::json::{Seconds, Stamp, parse};
use super::request::{
    HeartbeatRequest, KeyRotation, ListRequest, PollRequest, RegisterRequest, RoomChangeRequest,
    RoomHistoryRequest, SendRequest, SendRoomRequest,
};
use super::response::{
    ErrorResponse, EventOutcome, EventResult, InboxMessage, PollResponse, SendResponse, decode,
    encode,
};
use super::sign::{Moment, SecretKey, SignError};

fn field<T: DeserializeOwned>(body: Value) -> String {
    parse::<T>(body.to_string().as_bytes()).map(|_| ()).expect_err("rejected").field
}

#[test]
fn bodies_of_older_clients_are_accepted() {
    let first = br#"{"node_id":"n","session_id":"s","alias":"a","client_type":"codex","ttl":300}"#;
    let read: RegisterRequest = parse(first).expect("first generation");
    assert_eq!((read.ttl_s(), read.proof().expect("none").is_none()), (300.0, true));
    let second = br#"{"node_id":"n","session_id":"s","alias":"a","identity_pk":"k",
        "signature":"g","nonce":"o","timestamp":"t","enc_pubkey":"e","unknown":[1]}"#;
    let read: RegisterRequest = parse(second).expect("second generation");
    let proof = read.proof().expect("whole").expect("a proof");
    assert_eq!((proof.key, proof.sig, proof.moment.nonce, proof.moment.ts), ("k", "g", "o", "t"));
    assert_eq!(
        parse::<ListRequest>(b"").expect("empty"),
        parse::<ListRequest>(b" {} ").expect("braces")
    );
    assert_eq!(parse::<RoomHistoryRequest>(br#"{"room_id":"r"}"#).expect("a room").limit(), 50);
}

#[test]
fn an_error_names_the_offending_field() {
    assert_eq!(field::<SendRequest>(json!({ "from_alias": "a", "to_alias": "b" })), "content");
    let wrong = json!({ "from_alias": "a", "to_alias": 5, "content": "" });
    assert_eq!(field::<SendRequest>(wrong), "to_alias");
    assert_eq!(field::<PollRequest>(json!({ "node_id": "", "session_id": "s" })), "node_id");
    let nested = json!({ "from_alias": "a", "room_id": "r", "content": "c",
        "envelope": { "ct": "", "enc": 1 } });
    assert_eq!(field::<SendRoomRequest>(nested), "envelope.enc");
    let late = json!({ "from_alias": "a", "to_alias": "b", "content": "c", "ts": "soon" });
    assert_eq!(field::<SendRequest>(late), "ts");
    let partial = json!({ "alias": "a", "room_id": "r", "sig": "s", "nonce": "n" });
    let partial: RoomChangeRequest = serde_json::from_value(partial).expect("a body");
    assert_eq!(partial.proof().expect_err("partial").field, "identity_pk");
}

#[test]
fn a_key_rotation_needs_both_signatures() {
    let [old, new, eve] = [1, 2, 3].map(|seed| SecretKey::from_seed(&[seed; 32]));
    let moment = Moment { ts: "2026-02-02T02:40:00Z", nonce: "n" };
    let stated = KeyRotation::signed(&old, &new, moment).expect("signed");
    assert_eq!(stated.verify(), Ok((old.public(), new.public())));
    let by_eve = KeyRotation::signed(&eve, &eve, moment).expect("signed");
    for forged in [
        KeyRotation { sig: by_eve.sig.clone(), ..stated.clone() },
        KeyRotation { new_sig: by_eve.new_sig.clone(), ..stated.clone() },
        KeyRotation { new_pk: by_eve.new_pk.clone(), ..stated.clone() },
        KeyRotation {
            old_pk: stated.new_pk.clone(),
            new_pk: stated.old_pk.clone(),
            ..stated.clone()
        },
        KeyRotation { nonce: "m".into(), ..stated.clone() },
    ] {
        assert_eq!(forged.verify(), Err(SignError::Mismatch));
    }
}

#[test]
fn a_body_must_be_exactly_one_json_object() {
    for bad in ["[\"n\",\"s\"]", "null", "\"x\"", "{", "{}{}", "{} x", "\u{feff}{}"] {
        assert!(parse::<ListRequest>(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(parse::<HeartbeatRequest>(b"[\"n\",\"s\"]").is_err());
    assert!(parse::<ListRequest>(&[b'{', 0xff, b'}']).is_err());
}

#[test]
fn timestamps_are_accepted_in_either_form_and_returned_in_both() {
    let body = |ts: Value| json!({ "from_alias": "a", "to_alias": "b", "content": "c", "ts": ts });
    for ts in [json!(1770000000.25), json!("2026-02-02T02:40:00.25Z"), json!("1770000000.25")] {
        let sent: SendRequest = parse(body(ts).to_string().as_bytes()).expect("a time");
        assert_eq!(sent.ts, Some(Seconds { us: 1_770_000_000_250_000 }));
    }
    let sent = SendResponse { ts: Stamp { us: 1_770_000_000_250_000 }, ..SendResponse::default() };
    let shown: Value = serde_json::from_slice(&encode(true, &sent)).expect("JSON");
    assert_eq!(shown["ok"], true);
    assert_eq!(shown["ts"], json!(1770000000.25));
    assert_eq!(shown["ts_iso"], "2026-02-02T02:40:00.250Z");
    assert_eq!(shown.get("duplicate"), None);
}

#[test]
fn current_and_older_responses_are_decoded() {
    let inbox = PollResponse {
        messages: vec![InboxMessage { message_id: "m".into(), ..InboxMessage::default() }],
        ..PollResponse::default()
    };
    assert_eq!(decode::<PollResponse>(&encode(true, &inbox)), Ok(Ok(inbox)));
    let older = br#"{"ok":true,"messages":[{"from_alias":"a","content":"c","ts":1.5}]}"#;
    let read_back = decode::<PollResponse>(older).expect("a body").expect("granted");
    assert_eq!(read_back.messages[0].ts.us, 1_500_000);
    let limited = br#"{"error":"rate_limit_exceeded","retry_after":2.5}"#;
    let problem = decode::<PollResponse>(limited).expect("a body").expect_err("a problem");
    assert_eq!((&*problem.error, problem.retry_after), ("rate_limit_exceeded", Some(2.5)));
    let problem = ErrorResponse { error_code: "unknown_alias".into(), ..ErrorResponse::default() };
    assert_eq!(decode::<SendResponse>(&encode(false, &problem)), Ok(Err(problem)));
}

#[test]
fn an_unknown_or_missing_outcome_of_an_event_counts_as_a_rejection() {
    let names = ["accepted", "duplicate", "delivered", "refused"];
    let known = [
        EventOutcome::Accepted,
        EventOutcome::Duplicate,
        EventOutcome::Delivered,
        EventOutcome::Rejected,
    ];
    for (name, outcome) in names.into_iter().zip(known) {
        let body = json!({ "sequence": 7, "outcome": name });
        let result: EventResult = parse(body.to_string().as_bytes()).expect("a result");
        assert_eq!(result.outcome, outcome);
        assert_eq!(serde_json::to_value(&result).expect("JSON"), body);
    }
    for body in [json!({ "outcome": "postponed" }), json!({})] {
        let result: EventResult = parse(body.to_string().as_bytes()).expect("a result");
        assert_eq!(result.outcome, EventOutcome::Rejected, "{body}");
    }
    assert_eq!(field::<EventResult>(json!({ "outcome": 1 })), "outcome");
}
