//! Pull: fetches events addressed to this root from the relay and records them in the log.

use c2c_log_format::payload::CursorDirection;
use std::time::Duration;

use c2c_log_format::Payload;
use c2c_log_format::id::hex;

use super::state::{Connector, RelayInfo};
use crate::error::Failure;
use crate::relay::convert::{self, to_cursor};
use crate::relay::protocol::batch::WireBatch;
use crate::relay::protocol::request::PullRequest;
use c2c_core::code::Code;
use c2c_core::command;
use c2c_core::decide::{self, Position, Rejection};

/// The cursor is recorded even without events once it has moved this far.
const IDLE_CURSOR_LAG_MAX: u64 = 500;

/// Numbers of events received by a pull.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PullStats {
    /// Messages.
    pub inbound: usize,
    /// Events of any kind. If there were some, more may follow.
    pub events: usize,
}

impl Connector {
    /// Pulls once. Waits for up to `wait` if the relay has no events yet.
    pub fn pull(&mut self, wait: Duration) -> Result<PullStats, Failure> {
        let (relay, own_log) = (self.relay()?, self.own_log()?);
        let (Some(log), Some(alias)) = (own_log, self.signing_alias()) else {
            return Ok(PullStats::default());
        };
        let cursor = self.broker.state().cursor(&CursorDirection::In, &relay.log_id);
        let start = Position { sequence: cursor.sequence, digest: cursor.digest };
        let request = PullRequest {
            node_id: self.node_id.clone(),
            log: hex(&log),
            cursor: to_cursor(relay.log, &start),
            wait_s: Some(wait.as_secs_f64()),
            zstd: Some(true),
        };
        let batch = match self.client.fetch_bytes("/pull", &request, Some(&alias), wait) {
            Ok(bytes) => decode_batch(&bytes, &relay, &start)?,
            Err(error) => match error.expected {
                Some(expected) if expected.log != relay.log => {
                    // A different relay now answers under this URL.
                    self.relay = None;
                    return Ok(PullStats { inbound: 0, events: 1 });
                }
                // The relay's log has lost events that were read here. An empty batch moves the
                // cursor back to the beginning.
                Some(_) => decide::Batch {
                    log: relay.log_id.clone(),
                    node_id: relay.name.as_str().into(),
                    start: start.clone(),
                    ..decide::Batch::default()
                },
                None => {
                    if error.failure.code() == Code::ForeignSender {
                        self.reset_registration();
                    }
                    return Err(*error.failure);
                }
            },
        };
        self.receive(batch, &start)
    }

    /// Records the events of a batch, unless it has none and the cursor has moved only a little.
    fn receive(&mut self, batch: decide::Batch, start: &Position) -> Result<PullStats, Failure> {
        let restarts = batch.end.sequence < start.sequence;
        let stats = PullStats {
            inbound: batch.items.iter().filter(|item| is_message(item)).count(),
            events: batch.items.len() + usize::from(restarts),
        };
        let moved = batch.end.sequence.saturating_sub(start.sequence);
        if stats.events == 0 && moved < IDLE_CURSOR_LAG_MAX {
            return Ok(stats);
        }
        let actor = self.actor();
        match self.broker.execute(&command::ReceiveBatch(batch), &actor) {
            // Another connector of this root recorded the events first; the next pull continues
            // after them.
            Err(Failure::Rejected(rejection)) if rejection.code == Code::CursorDiverged => {
                Ok(PullStats { inbound: 0, ..stats })
            }
            result => result.map(|_| stats),
        }
    }
}

/// Decodes a pulled batch and checks that it starts where the request did.
fn decode_batch(
    bytes: &[u8],
    relay: &RelayInfo,
    start: &Position,
) -> Result<decide::Batch, Failure> {
    let batch = WireBatch::decode(bytes)
        .map_err(|e| Failure::from(Rejection::new(Code::BatchInvalid, "", e.to_string())))?;
    if batch.start() != to_cursor(relay.log, start) {
        let message = "the relay returned a different range than requested";
        return Err(Rejection::new(Code::BatchInvalid, "cursor", message).into());
    }
    Ok(convert::to_decide(&batch, &relay.name)?)
}

fn is_message(item: &decide::Item) -> bool {
    matches!(item.payload, Payload::MessageSent(_))
}
