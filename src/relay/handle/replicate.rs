//! How do logs read each other through a relay?

use c2c_log_format::id::hex;
use c2c_log_format::payload::{MessageSent, Origin, Target};
use c2c_log_format::{Payload, Sequence};

use super::{Answer, Call, Done, Found, failed, internal};
use crate::broker::Kept;
use crate::code::Code;
use crate::decide::{
    self, Actor, Command, Outcome, REPLAYED, Refusal, Reply, brought_back, said_before, serves,
};
use crate::failure::Failure;
use crate::limits::REPLICATION_SCAN_MAX;
use crate::relay::answer::{Request, problem_of};
use crate::relay::service::{Relay, nobody};
use crate::replication::{self, log_bytes, to_position};
use crate::state::PAST;
use crate::wire::batch::Compression;
use crate::wire::body::{self, Problem};
use crate::wire::route::parameters;
use crate::wire::{Batch, Cursor};

/// Media type of batches.
const BATCH: &str = "application/octet-stream";
/// Events that are read at once.
const CHUNK: u64 = 512;

/// The batch of a node's log that a request brings. Who keeps the log says the query, which is
/// signed.
pub fn batch_of(request: &Request) -> Result<decide::Batch, Refusal> {
    let node_id = parameters(request.query()).find(|(key, _)| key == "node_id");
    let node_id = node_id.map(|(_, value)| value).filter(|value| !value.is_empty());
    let node_id =
        node_id.ok_or_else(|| Refusal::new(Code::BadRequest, "node_id", "?node_id= is missing"))?;
    let batch = Batch::decode(&request.body)
        .map_err(|e| Refusal::new(Code::BatchInvalid, "", e.to_string()))?;
    replication::to_decide(&batch, &node_id)
}

/// Takes a batch of a node's log.
pub fn push(relay: &mut Relay, call: &Call<'_>) -> Done {
    let batch = call.batch.take().unwrap_or_else(|| batch_of(call.request))?;
    let log = log_bytes(&batch.log)?;
    let actor = Actor { key: call.caller.key(), ..nobody() };
    let said = |item: &decide::Item| match &item.payload {
        Payload::MessageSent(sent) => matches!(sent.target, Target::Room { .. }),
        _ => false,
    };
    if batch.items.iter().any(said) {
        relay.note_said();
    }
    let command = Command::Receive(batch);
    let done = relay.broker.execute(&command, &actor);
    relay.spent.push(command);
    let received = match done {
        Ok(executed) => match executed.reply {
            Reply::Received(received) => received,
            _ => return Err(internal()),
        },
        Err(Failure::Refused(refusal)) => return Err(diverged(&refusal, log)),
        Err(failure) => return Err(failure.into()),
    };
    let outcomes = received.outcomes.iter().map(|(sequence, outcome)| verdict(*sequence, outcome));
    Ok(Answer::ok(&body::Pushed {
        relay_id: relay.broker.log_id().map_err(failed)?.to_owned(),
        relay_name: relay.about.names.first().cloned().unwrap_or_default(),
        outcomes: outcomes.collect(),
        cursor: Some(replication::to_cursor(log, &received.position)),
    }))
}

fn verdict(sequence: u64, outcome: &Outcome) -> body::Verdict {
    let (word, refusal) = match outcome {
        Outcome::Accepted => ("accepted", None),
        Outcome::Duplicate => ("duplicate", None),
        Outcome::Delivered => ("delivered", None),
        Outcome::Refused(refusal) => ("refused", Some(refusal)),
    };
    body::Verdict {
        sequence,
        outcome: word.into(),
        error_code: refusal.map(|refusal| refusal.code.name().into()),
        error: refusal.map(|refusal| refusal.message.clone()),
        field: refusal.map(|refusal| refusal.field.into()),
    }
}

/// A refusal that says where to go on.
fn diverged(refusal: &Refusal, log: [u8; 16]) -> Answer {
    let expected = refusal.expected.as_ref().map(|cursor| {
        let (sequence, digest) = (cursor.sequence, cursor.digest.clone());
        replication::to_cursor(log, &crate::decide::Position { sequence, digest })
    });
    let status = Answer::from(refusal.clone()).status;
    Answer::problem(&Problem { expected, ..problem_of(refusal) }, status)
}

/// Gives what comes after a cursor. Asking says that everything before it was taken.
pub fn pull(relay: &mut Relay, call: &Call<'_>) -> Result<Found, Answer> {
    let wish: body::Pull = call.body()?;
    let own = log_bytes(relay.broker.log_id().map_err(failed)?)?;
    let log = hex(&log_bytes(&wish.log)?);
    let position = to_position(&wish.cursor);
    let same = wish.cursor.log == own
        && replication::holds(&mut relay.broker, &position).map_err(failed)?;
    if !same {
        let message = "this log does not hold the event at the cursor";
        let refusal = Refusal::new(Code::CursorDiverged, "cursor", message);
        let expected = Some(Cursor::start(own));
        return Err(Answer::problem(&Problem { expected, ..problem_of(&refusal) }, 409));
    }
    if call.seen == 0 {
        let actor = Actor { key: call.caller.key(), ..nobody() };
        let node_id = wish.node_id.clone();
        let confirm = Command::Confirm { log: log.clone(), node_id, position };
        relay.broker.execute(&confirm, &actor).map_err(failed)?;
    }
    let batch = collect(relay, &wish, &log, own, call.seen).map_err(failed)?;
    if batch.items().is_empty() && batch.upto().sequence == relay.head() && !call.last {
        return Ok(Found::Nothing { seen: relay.head() });
    }
    let compression = match wish.zstd {
        Some(true) => Compression::Zstd,
        _ => Compression::None,
    };
    let bytes = batch
        .encode(compression)
        .map_err(|e| Answer::from(Refusal::new(Code::Internal, "", e.to_string())))?;
    Ok(Found::Answer(Answer::of(200, BATCH, bytes)))
}

/// The next batch for a node. Up to `seen` there is nothing for it.
fn collect(
    relay: &mut Relay,
    wish: &body::Pull,
    log: &str,
    own: [u8; 16],
    seen: u64,
) -> Result<Batch, Failure> {
    let start = wish.cursor.sequence;
    let mut batch = Batch::after(wish.cursor);
    let mut at = start.max(seen);
    if at > start
        && let Some(event) = relay.broker.fetch(&[at])?.first()
    {
        batch.pass(replication::place_of(own, event));
    }
    let stop = at + REPLICATION_SCAN_MAX;
    while at < relay.head() && at < stop {
        let (events, upto) = relay.broker.events_after(at, CHUNK)?;
        at = upto;
        for event in events {
            let leaving = leaving(relay, &wish.node_id, log, &event)?;
            if !replication::push(&mut batch, own, &event, leaving) {
                return Ok(batch);
            }
        }
    }
    Ok(batch)
}

/// What a node gets because of one event of this relay's log.
fn leaving(
    relay: &mut Relay,
    node_id: &str,
    log: &str,
    event: &Kept,
) -> Result<Vec<Payload>, Failure> {
    let Some(payload) = &event.payload else { return Ok(Vec::new()) };
    let (state, sequence) = (relay.broker.state(), event.head.sequence);
    let mut items = serves(state, node_id, log, sequence, payload);
    let past = said_before(state, node_id, sequence, payload);
    let back = brought_back(state, node_id, payload);
    if let Some((mailbox, messages)) = back {
        let again = |sent| MessageSent {
            target: Target::Mailbox(mailbox.clone()),
            source: Some(REPLAYED.to_owned()),
            ..sent
        };
        items.extend(
            messages_at(relay, &messages)?.into_iter().map(again).map(Payload::MessageSent),
        );
    }
    if !past.is_empty() {
        let source = || Some(PAST.to_owned());
        let history = |sent| Payload::MessageSent(MessageSent { source: source(), ..sent });
        items.extend(messages_at(relay, &past)?.into_iter().map(history));
    }
    Ok(items)
}

/// Messages of this relay's log, with the place where each was first written.
fn messages_at(relay: &mut Relay, sequences: &[Sequence]) -> Result<Vec<MessageSent>, Failure> {
    let log = relay.broker.log_id()?.to_owned();
    let node = relay.about.names.first().cloned().unwrap_or_default();
    let found = relay.broker.fetch(sequences)?.into_iter();
    let messages = found.filter_map(|event| {
        let (sequence, digest) = (event.head.sequence, hex(&event.digest()));
        let Some(Payload::MessageSent(sent)) = event.payload else { return None };
        let here = Origin { log: log.clone(), sequence, node: node.clone(), digest };
        let origin = sent.origin.or(Some(here));
        Some(MessageSent { origin, ..sent })
    });
    Ok(messages.collect())
}
