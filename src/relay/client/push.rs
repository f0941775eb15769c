//! Push: sends events that leave the log to the relay and records the relay's results.

use c2c_log_format::id::hex;
use c2c_log_format::payload::CursorDirection;
use c2c_log_format::{Payload, Sequence};

use super::relay_client::RequestError;
use super::state::{Connector, RelayInfo};
use crate::error::Failure;
use crate::relay::convert::{self, to_cursor, to_position};
use crate::relay::protocol::batch::{Compression, WireBatch};
use crate::relay::protocol::response::{EventOutcome, EventResult, PushResponse};
use c2c_core::code::Code;
use c2c_core::decide::{Outcome, OutgoingEvents, Position, Pushed, Received, Rejection};

/// Number of events to read from the log in one pass.
const READ_CHUNK_EVENTS: u64 = 512;
/// A batch without events is sent once the cursor has fallen this far behind.
const IDLE_CURSOR_LAG_MAX: u64 = 4_096;

/// Numbers of events by the result of a push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushStats {
    /// Accepted by the relay.
    pub forwarded: usize,
    /// Rejected for now; retried later.
    pub delayed: usize,
    /// Rejected permanently.
    pub bounced: usize,
    /// Reason of the first rejection.
    pub reason: Option<String>,
    /// Whether there is more to push now.
    pub more: bool,
}

/// The relay's response to a batch.
struct PushResult {
    /// Where the next batch starts.
    position: Position,
    outcomes: Vec<(Sequence, Outcome)>,
    /// Whether the relay expected a batch that starts elsewhere and took nothing.
    diverged: bool,
}

impl Connector {
    /// Pushes once. With `retry`, events that the relay rejected for now are sent first. With
    /// `probe`, an empty batch is sent to check that the relay still expects the recorded cursor.
    pub fn push(&mut self, retry: bool, probe: bool) -> Result<PushStats, Failure> {
        let (relay, own_log) = (self.relay()?, self.own_log()?);
        let (Some(log), Some(alias)) = (own_log, self.signing_alias()) else {
            return Ok(PushStats::default());
        };
        let mut batch = self.next_batch(log, &relay.log_id, retry)?;
        let lag = batch.end().sequence - batch.start().sequence;
        if batch.items().is_empty() && lag < IDLE_CURSOR_LAG_MAX {
            if !probe {
                return Ok(PushStats::default());
            }
            // Leave the cursor where it is: moving it would append an event at both ends.
            batch = WireBatch::after(batch.start());
        }
        let result = self.send_batch(&batch, &alias)?;
        let mut stats = summarize(&result.outcomes);
        stats.more = batch.is_full() || result.diverged || self.push_progress.has_more_retries;
        self.record_result(log, relay, result)?;
        Ok(stats)
    }

    /// Sends a batch and interprets the response.
    fn send_batch(&mut self, batch: &WireBatch, alias: &str) -> Result<PushResult, Failure> {
        let bytes = batch.encode(Compression::Zstd).map_err(|e| {
            Failure::from(Rejection::new(Code::Internal, "", format!("cannot encode a batch: {e}")))
        })?;
        let target = format!("/push?node_id={}", self.node_id);
        match self.client.send_bytes::<PushResponse>(&target, bytes, Some(alias)) {
            Ok(response) => {
                self.push_progress.retried = self.push_progress.retrying;
                Ok(PushResult {
                    position: to_position(&response.cursor.unwrap_or(batch.end())),
                    outcomes: response.outcomes.iter().map(to_outcome).collect(),
                    diverged: false,
                })
            }
            Err(RequestError { expected: Some(expected), .. }) => {
                // The relay took nothing, so the retries start over, in their order.
                self.push_progress.reset_retries();
                let position = self.common_position(&to_position(&expected))?;
                Ok(PushResult { position, outcomes: Vec::new(), diverged: true })
            }
            Err(RequestError { failure, expected: None, .. }) => {
                if failure.code() == Code::ForeignSender {
                    self.reset_registration();
                }
                Err(*failure)
            }
        }
    }

    /// Records the relay's results and the new cursor in the log.
    fn record_result(
        &mut self,
        log: [u8; 16],
        relay: RelayInfo,
        result: PushResult,
    ) -> Result<(), Failure> {
        // The log has a new id if it had diverged from the relay's copy.
        let log = self.own_log()?.unwrap_or(log);
        let PushResult { position, outcomes, .. } = result;
        let received = Received { log: hex(&log), position, outcomes };
        let rejected_room_events = self.rejected_room_events(&received)?;
        let command =
            Pushed { relay: relay.log_id, relay_name: relay.name, received, rejected_room_events };
        let actor = self.actor();
        self.broker.execute(&command, &actor)?;
        Ok(())
    }

    /// The room events among those that the relay rejected.
    fn rejected_room_events(
        &mut self,
        received: &Received,
    ) -> Result<Vec<(Sequence, Payload)>, Failure> {
        let rejected = received.outcomes.iter().filter_map(|(sequence, outcome)| match outcome {
            Outcome::Rejected(_) => Some(*sequence),
            _ => None,
        });
        let mut sequences: Vec<Sequence> = rejected.collect();
        sequences.dedup();
        let events = self.broker.fetch(&sequences)?.into_iter();
        let room_events = events.filter_map(|event| {
            let payload = event.payload.filter(|payload| payload.room_id().is_some())?;
            Some((event.head.sequence, payload))
        });
        Ok(room_events.collect())
    }

    /// The position to continue from when the relay expects a different one: the expected position
    /// if this log holds it, else the beginning of the log under a new log id.
    fn common_position(&mut self, expected: &Position) -> Result<Position, Failure> {
        self.push_progress.reset_scan();
        if convert::holds_position(&mut self.broker, expected)? {
            return Ok(expected.clone());
        }
        self.renew_log()?;
        Ok(Position::default())
    }

    /// Builds the next batch for a relay: retries first, then events after the cursor.
    fn next_batch(
        &mut self,
        log: [u8; 16],
        relay: &str,
        retry: bool,
    ) -> Result<WireBatch, Failure> {
        let state = self.broker.state();
        let cursor = state.cursor(&CursorDirection::Out, relay);
        let start = Position { sequence: cursor.sequence, digest: cursor.digest };
        let retries = if retry {
            OutgoingEvents::new(state, &self.node_id, relay).retries()
        } else {
            Vec::new()
        };
        // A pending message may become due later, so events after the first one are scanned again.
        let pending = state.outbox_in_order().into_iter().map(|(sequence, _)| sequence);
        let first_pending = pending.filter(|at| *at > start.sequence).min().unwrap_or(u64::MAX);
        let scanned = self.push_progress.scanned.min(first_pending - 1).max(start.sequence);
        let mut batch = WireBatch::after(to_cursor(log, &start));
        let retrying = self.add_retries(&mut batch, log, &retries)?;
        if scanned > start.sequence
            && let Some(event) = self.broker.fetch(&[scanned])?.first()
        {
            batch.skip_to(convert::cursor_of(log, event));
        }
        self.add_new_events(&mut batch, log, relay, scanned)?;
        if batch.end() == batch.start() && !batch.items().is_empty() {
            // The retries leave no space for a new event, and a batch with events must move the
            // cursor. Send the new event now and the retries with a later batch.
            return self.next_batch(log, relay, false);
        }
        if batch.items().is_empty() {
            self.push_progress.scanned = batch.end().sequence;
        }
        self.push_progress.retrying = retrying;
        Ok(batch)
    }

    /// Adds events that are to be retried and have not been answered in this round. Returns the
    /// sequence of the last one that fitted. The end of the batch stays where it is.
    fn add_retries(
        &mut self,
        batch: &mut WireBatch,
        log: [u8; 16],
        retries: &[Sequence],
    ) -> Result<Sequence, Failure> {
        self.push_progress.has_more_retries = false;
        let answered = self.push_progress.retried;
        let mut last = answered;
        for &sequence in retries.iter().filter(|sequence| **sequence > answered) {
            let Some(event) = self.broker.fetch(&[sequence])?.pop() else { continue };
            let Some(payload) = &event.payload else { continue };
            let item = convert::to_wire_item(log, &event, payload);
            if batch.is_full() || !batch.fits(std::slice::from_ref(&item)) {
                self.push_progress.has_more_retries = true;
                break;
            }
            let end = batch.end();
            batch.push(item, end);
            last = sequence;
        }
        Ok(last)
    }

    /// Adds the events after `scanned` that leave the log, until the batch is full. Adds at least
    /// one if any fits, even after many retries.
    fn add_new_events(
        &mut self,
        batch: &mut WireBatch,
        log: [u8; 16],
        relay: &str,
        mut scanned: Sequence,
    ) -> Result<(), Failure> {
        let head = self.broker.state().head;
        while scanned < head && (batch.end() == batch.start() || !batch.is_full()) {
            let (events, end) = self.broker.events_after(scanned, READ_CHUNK_EVENTS)?;
            let leaving = OutgoingEvents::new(self.broker.state(), &self.node_id, relay);
            for event in &events {
                let payload = event.payload.as_ref();
                let items = payload.map(|payload| leaving.items(event.head.sequence, payload));
                if !convert::push_event(batch, log, event, items.unwrap_or_default()) {
                    return Ok(());
                }
            }
            scanned = end;
        }
        Ok(())
    }
}

/// The relay's result for one event.
fn to_outcome(result: &EventResult) -> (Sequence, Outcome) {
    let outcome = match result.outcome {
        EventOutcome::Accepted => Outcome::Accepted,
        EventOutcome::Duplicate => Outcome::Duplicate,
        EventOutcome::Delivered => Outcome::Delivered,
        EventOutcome::Rejected => {
            let name = result.error_code.as_deref().unwrap_or_default();
            // An unknown code may be temporary, so the event is retried.
            let code = Code::from_name(name).unwrap_or(Code::Busy);
            let message = result.error.clone().unwrap_or_default();
            Outcome::Rejected(Rejection::new(code, "", message))
        }
    };
    (result.sequence, outcome)
}

fn summarize(outcomes: &[(Sequence, Outcome)]) -> PushStats {
    let mut stats = PushStats::default();
    for (_, outcome) in outcomes {
        let Outcome::Rejected(rejection) = outcome else {
            stats.forwarded += 1;
            continue;
        };
        if rejection.code.retryable() {
            stats.delayed += 1;
        } else {
            stats.bounced += 1;
        }
        stats.reason.get_or_insert_with(|| rejection.message.clone());
    }
    stats
}
