//! Tests of the read models on events alone, without a log.

use c2c_log_format::Payload;
use serde_json::{Value, json};

use super::history::DeliveredHistory;
use super::rooms::RoomHistory;
use super::trace::{AcceptedMessage, trace};
use super::{LoggedEvent, health};
use crate::decide::Liveness;
use crate::limits::UNCONFIRMED_AFTER_S;
use crate::state::State;

fn event(sequence: u64, kind: u16, payload: &Value) -> LoggedEvent {
    let json = payload.to_string();
    let payload = Payload::decode(kind, json.as_bytes()).expect("a known kind").expect("a payload");
    LoggedEvent { sequence, time_us: sequence * 10, payload }
}

fn message(sequence: u64, body: &str, target: &Value) -> LoggedEvent {
    let sent = json!({
        "message_id": body, "from": "bob", "from_mailbox": "bob", "to": "ann", "body": body,
        "sent_us": sequence * 10, "target": target,
    });
    event(sequence, 200, &sent)
}

fn claimed(sequence: u64, claim: &str, messages: &[u64]) -> LoggedEvent {
    let fact = json!({ "claim": claim, "mailbox": "ann", "messages": messages, "surface": "hook" });
    event(sequence, 201, &fact)
}

fn acked(sequence: u64, claim: &str) -> LoggedEvent {
    event(sequence, 202, &json!({ "claim": claim, "mailbox": "ann", "level": "written" }))
}

fn accepted(sent: LoggedEvent) -> AcceptedMessage {
    let LoggedEvent { sequence, time_us, payload: Payload::MessageSent(sent) } = sent else {
        panic!("not a message")
    };
    AcceptedMessage { sequence, time_us, sent }
}

#[test]
fn a_history_holds_only_messages_whose_claim_was_acknowledged() {
    let mailbox = json!({ "mailbox": "ann" });
    let mut history = DeliveredHistory::new("ann");
    // Newest first, as a search of the log visits them.
    history.add(acked(6, "first"));
    history.add(claimed(5, "second", &[3]));
    history.add(claimed(4, "first", &[1, 2]));
    for (sequence, body) in [(3, "claimed"), (2, "later"), (1, "earlier")] {
        history.add(message(sequence, body, &mailbox));
    }
    history.add(message(7, "other", &json!({ "mailbox": "joe" })));
    assert_eq!(history.count(), 2);
    let shown: Vec<_> = history
        .newest(5)
        .into_iter()
        .map(|row| (row.sent.body.into_string(), row.drained_us))
        .collect();
    assert_eq!(shown, [("later".to_owned(), Some(60)), ("earlier".to_owned(), Some(60))]);
    assert_eq!(history.newest(1).len(), 1);
}

#[test]
fn a_trace_follows_the_claims_that_hold_the_message() {
    let sent = accepted(message(1, "hello", &json!({ "mailbox": "ann" })));
    let later = vec![
        acked(5, "own"),
        acked(4, "other"),
        claimed(3, "other", &[2]),
        claimed(2, "own", &[1]),
    ];
    let trace = trace(&State::default(), sent, later, 1_000);
    let what: Vec<&str> = trace.hops.iter().map(|hop| hop.what.as_str()).collect();
    assert_eq!(what, ["accepted", "claimed by hook", "written"]);
    assert!(trace.open_since_us.is_none() && !trace.is_unconfirmed());
}

#[test]
fn an_outbox_message_without_a_receipt_is_unconfirmed_after_the_limit() {
    let sent = message(1, "hello", &json!({ "outbox": { "alias": "ann", "host": "far" } }));
    let mut state = State::default();
    state.apply(sent.sequence, sent.time_us, &sent.payload);
    let queued_us = state.outbox.get(1_u64.to_be_bytes()).expect("a row").queued_us;
    let limit_us = queued_us + UNCONFIRMED_AFTER_S * 1_000_000;
    let at = |now_us| trace(&state, accepted(sent.clone()), Vec::new(), now_us);
    assert_eq!(at(limit_us).open_since_us, Some(queued_us));
    assert!(at(limit_us).is_unconfirmed() && !at(limit_us - 1).is_unconfirmed());
    let health = |now_us| {
        health::health(&state, health::RootFacts::default(), now_us, &|_| Liveness::Unknown)
    };
    assert_eq!((health(limit_us).outbox, health(limit_us).unconfirmed), (1, 1));
    assert_eq!(health(limit_us - 1).unconfirmed, 0);
}

#[test]
fn a_room_history_starts_after_the_last_deletion_of_a_room_of_that_name() {
    let room = |label: u64| json!({ "room": { "room_id": "plans", "label": label } });
    let mut history = RoomHistory::new("Plans", 0);
    for event in [
        message(4, "third", &room(2)),
        message(3, "second", &room(1)),
        event(2, 305, &json!({ "room_id": "plans" })),
        message(1, "first", &room(1)),
    ] {
        history.add(event.sequence, event.payload);
    }
    assert!(history.has_enough(3) && !history.has_enough(4) && !history.has_enough(0));
    let rows = history.finish(&State::default(), 0);
    let shown: Vec<_> =
        rows.iter().map(|row| (row.message.sent.body.as_str(), row.room_sequence)).collect();
    assert_eq!(shown, [("second", Some(1)), ("third", Some(2))]);
}
