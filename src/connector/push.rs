//! What leaves this log, and what did the relay do with it?

use c2c_log_format::id::hex;
use c2c_log_format::{Payload, Sequence};

use super::Connector;
use crate::code::Code;
use crate::decide::{Command, Leaving, Outcome, Position, Pushed, Received, Refusal};
use crate::failure::Failure;
use crate::replication::{self, to_cursor, to_position};
use crate::wire::batch::{Batch, Compression};
use crate::wire::body::{self, Verdict};

/// Events that are read at once.
const CHUNK: u64 = 512;
/// A cursor that stands this many events behind is moved, although nothing leaves.
const LAG_MAX: u64 = 4_096;

/// Up to where nothing leaves the log, beyond the cursor.
#[derive(Debug, Default)]
pub struct Scanned(u64);

/// How far this round has tried again what the relay did not take before.
#[derive(Debug, Default)]
pub struct Retried {
    /// The relay has answered about these.
    after: Sequence,
    /// What is asked now ends here.
    upto: Sequence,
    more: bool,
}

impl Retried {
    /// From the first one again.
    pub fn begin(&mut self) {
        *self = Self::default();
    }
}

/// What came of a push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// Messages that the relay holds now.
    pub forwarded: usize,
    /// What is tried again later, with the reason for the first.
    pub parked: usize,
    /// What came back for good.
    pub bounced: usize,
    pub reason: Option<String>,
    /// Whether there is more to push now.
    pub more: bool,
}

impl Connector {
    /// Pushes once. With `again`, what the relay did not take before goes first; with `ask`, an empty
    /// batch still asks whether the relay is where it was.
    pub fn push(&mut self, again: bool, ask: bool) -> Result<Sent, Failure> {
        let (hub, Some(log)) = (self.hub()?, self.own_log()?) else { return Ok(Sent::default()) };
        let Some(speaker) = self.speaker() else { return Ok(Sent::default()) };
        let mut batch = self.outgoing(log, &hub.log_id, again)?;
        let lag = batch.upto().sequence - batch.begins().sequence;
        if batch.items().is_empty() && lag < LAG_MAX {
            if !ask {
                return Ok(Sent::default());
            }
            // It asks and no more: a cursor that moves is an event, at both ends.
            batch = Batch::after(batch.begins());
        }
        let full = batch.is_full();
        let bytes = batch.encode(Compression::Zstd).map_err(|e| {
            Failure::from(Refusal::new(Code::Internal, "", format!("cannot push: {e}")))
        })?;
        let target = format!("/push?node_id={}", self.node_id);
        let answer = self.client.send_bytes::<body::Pushed>(&target, bytes, Some(&speaker));
        let (position, outcomes, diverged) = match answer {
            Ok(pushed) => {
                self.retried.after = self.retried.upto;
                let position = to_position(&pushed.cursor.unwrap_or(batch.upto()));
                (position, pushed.outcomes.iter().map(outcome).collect(), false)
            }
            Err(refused) => match refused.expected {
                Some(expected) => {
                    // Nothing of it counts: what was tried again is tried again, in its order.
                    self.retried.begin();
                    (self.common(&to_position(&expected))?, Vec::new(), true)
                }
                None => {
                    if refused.failure.code() == Code::ForeignSender {
                        // It does not know us any more: the next round registers everybody.
                        self.forgotten();
                    }
                    return Err(refused.failure);
                }
            },
        };
        let mut sent = summary(&outcomes);
        sent.more = full || diverged || self.retried.more;
        // The id may have changed just now.
        let log = self.own_log()?.unwrap_or(log);
        let received = Received { log: hex(&log), position, outcomes };
        let (relay, relay_name) = (hub.log_id, hub.name);
        let refused = self.refused_in_rooms(&received)?;
        let command = Command::Pushed(Pushed { relay, relay_name, received, refused });
        let actor = self.actor();
        self.broker.execute(&command, &actor)?;
        Ok(sent)
    }

    /// What happened in rooms and is refused for good.
    fn refused_in_rooms(
        &mut self,
        received: &Received,
    ) -> Result<Vec<(Sequence, Payload)>, Failure> {
        let refused = received.outcomes.iter().filter_map(|(sequence, outcome)| match outcome {
            Outcome::Refused(_) => Some(*sequence),
            _ => None,
        });
        let mut wanted: Vec<Sequence> = refused.collect();
        wanted.dedup();
        let events = self.broker.fetch(&wanted)?.into_iter();
        let of_room = events.map(|event| (event.head.sequence, event.payload));
        Ok(of_room
            .filter_map(|(at, payload)| {
                Some((at, payload.filter(|payload| payload.room_id().is_some())?))
            })
            .collect())
    }

    /// Where to go on when the relay stands elsewhere: there, if this log has that place; else from
    /// the beginning, as another log.
    fn common(&mut self, expected: &Position) -> Result<Position, Failure> {
        self.scanned = Scanned::default();
        if replication::holds(&mut self.broker, expected)? {
            return Ok(expected.clone());
        }
        self.renew_log()?;
        Ok(Position::default())
    }

    /// The next batch for a relay.
    fn outgoing(&mut self, log: [u8; 16], relay: &str, again: bool) -> Result<Batch, Failure> {
        let state = self.broker.state();
        let cursor = state.cursor("out", relay);
        let start = Position { sequence: cursor.sequence, digest: cursor.digest };
        let mut retries =
            if again { Leaving::new(state, &self.node_id, relay).retries() } else { Vec::new() };
        retries.retain(|sequence| *sequence > self.retried.after);
        // A message behind one that waits is due later: beyond it nothing counts as looked at.
        let open = state.open_outbox().into_iter().map(|(at, _)| at);
        let first_open = open.filter(|at| *at > start.sequence).min().unwrap_or(u64::MAX);
        let mut at = self.scanned.0.min(first_open - 1).max(start.sequence);
        let mut batch = Batch::after(to_cursor(log, &start));
        self.retried.more = false;
        let mut last_retried = self.retried.after;
        for sequence in retries {
            let Some(event) = self.broker.fetch(&[sequence])?.pop() else { continue };
            let Some(payload) = &event.payload else { continue };
            let item = replication::item_of(log, &event, payload);
            if batch.is_full() || !batch.has_room(std::slice::from_ref(&item)) {
                self.retried.more = true;
                break;
            }
            // The place moves with the events after it.
            let place = batch.upto();
            batch.push(item, place);
            last_retried = sequence;
        }
        if at > start.sequence
            && let Some(event) = self.broker.fetch(&[at])?.first()
        {
            batch.pass(replication::place_of(log, event));
        }
        let head = self.broker.state().head;
        // One event in any case: a batch with items must move the cursor.
        while at < head && (batch.upto() == batch.begins() || !batch.is_full()) {
            let (events, upto) = self.broker.events_after(at, CHUNK)?;
            let leaving = Leaving::new(self.broker.state(), &self.node_id, relay);
            let mut full = false;
            for event in &events {
                let payload = event.payload.as_ref();
                let items = payload.map(|payload| leaving.items(event.head.sequence, payload));
                full = !replication::push(&mut batch, log, event, items.unwrap_or_default());
                if full {
                    break;
                }
            }
            at = upto;
            if full {
                break;
            }
        }
        if batch.upto() == batch.begins() && !batch.items().is_empty() {
            // Nothing new fits beside what is tried again, so that waits for its next turn.
            return self.outgoing(log, relay, false);
        }
        if batch.items().is_empty() {
            self.scanned.0 = batch.upto().sequence;
        }
        self.retried.upto = last_retried;
        Ok(batch)
    }
}

/// The relay's answer about one event, as the core understands it.
fn outcome(verdict: &Verdict) -> (u64, Outcome) {
    let outcome = match verdict.outcome.as_str() {
        "accepted" => Outcome::Accepted,
        "duplicate" => Outcome::Duplicate,
        "delivered" => Outcome::Delivered,
        _ => {
            let name = verdict.error_code.as_deref().unwrap_or_default();
            let row = crate::code::TABLE.iter().find(|row| row.name == name);
            // What this program does not know may pass: it is tried again.
            let code = row.map_or(Code::Busy, |row| row.code);
            let message = verdict.error.clone().unwrap_or_default();
            Outcome::Refused(Refusal::new(code, "", message))
        }
    };
    (verdict.sequence, outcome)
}

fn summary(outcomes: &[(u64, Outcome)]) -> Sent {
    let mut sent = Sent::default();
    for (_, outcome) in outcomes {
        match outcome {
            Outcome::Refused(refusal) if refusal.code.retryable() => {
                sent.parked += 1;
                sent.reason.get_or_insert_with(|| refusal.message.clone());
            }
            Outcome::Refused(refusal) => {
                sent.bounced += 1;
                sent.reason.get_or_insert_with(|| refusal.message.clone());
            }
            _ => sent.forwarded += 1,
        }
    }
    sent
}
