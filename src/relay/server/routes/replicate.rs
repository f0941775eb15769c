//! Replication: nodes push their logs to the relay and pull what is addressed to them.

use c2c_log_format::id::hex;
use c2c_log_format::payload::{MessageSent, Origin, Target};
use c2c_log_format::{Payload, Sequence};

use super::call::{AnswerResult, Call, RouteOutcome, failed};
use crate::broker::RecordedEvent;
use crate::error::Failure;
use crate::relay::convert::{self, parse_log_id, to_position};
use crate::relay::protocol::batch::Compression;
use crate::relay::protocol::request;
use crate::relay::protocol::response::{self, ErrorResponse, EventOutcome};
use crate::relay::protocol::route::parameters;
use crate::relay::protocol::{WireBatch, WireCursor};
use crate::relay::server::answer::{RelayAnswer, problem_of};
use crate::relay::server::core::{RelayCore, system_actor};
use crate::relay::server::request::RelayRequest;
use c2c_core::code::Code;
use c2c_core::command;
use c2c_core::decide::{
    self, Actor, Outcome, Position, REPLAY_SOURCE, Rejection, events_for_node, returned_mail,
    room_backfill,
};
use c2c_core::limits::REPLICATION_SCAN_MAX;
use c2c_core::state::BACKFILL_SOURCE;

/// Media type of batches.
const BATCH: &str = "application/octet-stream";
/// Number of events to read from the log in one pass.
const CHUNK: u64 = 512;

/// Decodes the batch of a push. The node id is in the query, which the signature covers.
pub fn decode_batch(request: &RelayRequest) -> Result<decide::Batch, Rejection> {
    let node_id = parameters(request.query())
        .find(|(key, _)| key == "node_id")
        .map(|(_, value)| value)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| Rejection::new(Code::BadRequest, "node_id", "?node_id= is missing"))?;
    let batch = WireBatch::decode(&request.body)
        .map_err(|e| Rejection::new(Code::BatchInvalid, "", e.to_string()))?;
    convert::to_decide(&batch, &node_id)
}

/// Receives a batch of a node's log.
pub fn push(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let batch = call.batch.take().unwrap_or_else(|| decode_batch(call.request))?;
    let log = parse_log_id(&batch.log)?;
    let actor = Actor { key: call.caller.key(), ..system_actor() };
    let is_room_message = |item: &decide::Item| match &item.payload {
        Payload::MessageSent(sent) => matches!(sent.target, Target::Room { .. }),
        _ => false,
    };
    if batch.items.iter().any(is_room_message) {
        relay.note_room_message();
    }
    let command = command::ReceiveBatch(batch);
    let result = relay.broker.execute(&command, &actor);
    relay.received.push(command);
    let received = match result {
        Ok(executed) => executed.reply,
        Err(Failure::Rejected(rejection)) => return Err(rejected_batch(&rejection, log)),
        Err(failure) => return Err(failure.into()),
    };
    let outcomes = received.outcomes.iter().map(|(sequence, outcome)| verdict(*sequence, outcome));
    Ok(RelayAnswer::ok(&response::PushResponse {
        relay_id: relay.broker.log_id().map_err(failed)?.to_owned(),
        relay_name: relay.profile.names.first().cloned().unwrap_or_default(),
        outcomes: outcomes.collect(),
        cursor: Some(convert::to_cursor(log, &received.position)),
    }))
}

/// The outcome of one item as clients receive it.
fn verdict(sequence: u64, outcome: &Outcome) -> response::EventResult {
    let (outcome, rejection) = match outcome {
        Outcome::Accepted => (EventOutcome::Accepted, None),
        Outcome::Duplicate => (EventOutcome::Duplicate, None),
        Outcome::Delivered => (EventOutcome::Delivered, None),
        Outcome::Rejected(rejection) => (EventOutcome::Rejected, Some(rejection)),
    };
    response::EventResult {
        sequence,
        outcome,
        error_code: rejection.map(|rejection| rejection.code.name().into()),
        error: rejection.map(|rejection| rejection.message.clone()),
        field: rejection.map(|rejection| rejection.field.clone().into_owned()),
    }
}

/// The answer to a rejected batch: it shows the cursor where the next batch must start.
fn rejected_batch(rejection: &Rejection, log: [u8; 16]) -> RelayAnswer {
    let expected = rejection.expected.as_ref().map(|cursor| {
        let position = Position { sequence: cursor.sequence, digest: cursor.digest.clone() };
        convert::to_cursor(log, &position)
    });
    let status = RelayAnswer::from(rejection.clone()).status;
    RelayAnswer::problem(&ErrorResponse { expected, ..problem_of(rejection) }, status)
}

/// Returns the events after a cursor. The request confirms that the node has stored all events before
/// it.
pub fn pull(relay: &mut RelayCore, call: &Call<'_>) -> Result<RouteOutcome, RelayAnswer> {
    let request: request::PullRequest = call.body()?;
    let own = parse_log_id(relay.broker.log_id().map_err(failed)?)?;
    let log = hex(&parse_log_id(&request.log)?);
    let position = to_position(&request.cursor);
    let is_in_log = request.cursor.log == own
        && convert::holds_position(&mut relay.broker, &position).map_err(failed)?;
    if !is_in_log {
        let message = "the event at the cursor is not in this log";
        let rejection = Rejection::new(Code::CursorDiverged, "cursor", message);
        let expected = Some(WireCursor::start(own));
        return Err(RelayAnswer::problem(
            &ErrorResponse { expected, ..problem_of(&rejection) },
            409,
        ));
    }
    if call.seen == 0 {
        let actor = Actor { key: call.caller.key(), ..system_actor() };
        let confirm = command::ConfirmPosition {
            log: log.clone(),
            node_id: request.node_id.clone().into(),
            position,
        };
        relay.broker.execute(&confirm, &actor).map_err(failed)?;
    }
    let batch = next_batch(relay, &request, &log, own, call.seen).map_err(failed)?;
    if batch.items().is_empty() && batch.end().sequence == relay.head() && !call.is_last {
        return Ok(RouteOutcome::Pending { seen: relay.head() });
    }
    let compression = match request.zstd {
        Some(true) => Compression::Zstd,
        _ => Compression::None,
    };
    let bytes = batch
        .encode(compression)
        .map_err(|e| RelayAnswer::from(Rejection::new(Code::Internal, "", e.to_string())))?;
    Ok(RouteOutcome::Answer(RelayAnswer::of(200, BATCH, bytes)))
}

/// The next batch for a node. The log up to `seen` holds nothing for it.
fn next_batch(
    relay: &mut RelayCore,
    request: &request::PullRequest,
    log: &str,
    own: [u8; 16],
    seen: u64,
) -> Result<WireBatch, Failure> {
    let start = request.cursor.sequence;
    let mut batch = WireBatch::after(request.cursor);
    let mut at = start.max(seen);
    if at > start
        && let Some(event) = relay.broker.fetch(&[at])?.first()
    {
        batch.skip_to(convert::cursor_of(own, event));
    }
    let stop = at + REPLICATION_SCAN_MAX;
    while at < relay.head() && at < stop {
        let (events, upto) = relay.broker.events_after(at, CHUNK)?;
        at = upto;
        for event in events {
            let items = items_for_node(relay, &request.node_id, log, &event)?;
            if !convert::push_event(&mut batch, own, &event, items) {
                return Ok(batch);
            }
        }
    }
    Ok(batch)
}

/// The payloads that a node receives for one event of this relay's log: the event itself, mail of an
/// alias that returned to the node, and earlier messages of a room that the node joined.
fn items_for_node(
    relay: &mut RelayCore,
    node_id: &str,
    log: &str,
    event: &RecordedEvent,
) -> Result<Vec<Payload>, Failure> {
    let Some(payload) = &event.payload else { return Ok(Vec::new()) };
    let (state, sequence) = (relay.broker.state(), event.head.sequence);
    let mut items = events_for_node(state, node_id, log, sequence, payload);
    let earlier = room_backfill(state, node_id, sequence, payload);
    let returned = returned_mail(state, node_id, payload);
    if let Some((mailbox, messages)) = returned {
        let replayed = |sent| MessageSent {
            target: Target::Mailbox(mailbox.clone()),
            source: Some(REPLAY_SOURCE.to_owned()),
            ..sent
        };
        items.extend(
            messages_at(relay, &messages)?.into_iter().map(replayed).map(Payload::MessageSent),
        );
    }
    if !earlier.is_empty() {
        let history = |sent| {
            Payload::MessageSent(MessageSent { source: Some(BACKFILL_SOURCE.to_owned()), ..sent })
        };
        items.extend(messages_at(relay, &earlier)?.into_iter().map(history));
    }
    Ok(items)
}

/// Messages of this relay's log, each with the position where it was first written.
fn messages_at(relay: &mut RelayCore, sequences: &[Sequence]) -> Result<Vec<MessageSent>, Failure> {
    let log = relay.broker.log_id()?.to_owned();
    let node = relay.profile.names.first().cloned().unwrap_or_default();
    let events = relay.broker.fetch(sequences)?.into_iter();
    let messages = events.filter_map(|event| {
        let own_origin = Origin {
            log: log.clone(),
            sequence: event.head.sequence,
            node: node.clone(),
            digest: hex(&event.digest()),
        };
        let Some(Payload::MessageSent(sent)) = event.payload else { return None };
        let origin = sent.origin.or(Some(own_origin));
        Some(MessageSent { origin, ..sent })
    });
    Ok(messages.collect())
}
