//! What has come for this root?

use std::time::Duration;

use c2c_log_format::Payload;
use c2c_log_format::id::hex;

use super::Connector;
use crate::code::Code;
use crate::decide::{self, Command, Position, Refusal};
use crate::failure::Failure;
use crate::replication::{self, to_cursor};
use crate::wire::batch::Batch;
use crate::wire::body;

/// A cursor is recorded without news when it has moved this far.
const LAG_MAX: u64 = 500;

/// What came of a pull.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Came {
    /// Messages.
    pub inbound: usize,
    /// Events of any kind; more may follow if there were some.
    pub events: usize,
}

impl Connector {
    /// Pulls once, waiting for something to come for up to `wait`.
    pub fn pull(&mut self, wait: Duration) -> Result<Came, Failure> {
        let (hub, Some(log)) = (self.hub()?, self.own_log()?) else { return Ok(Came::default()) };
        let Some(speaker) = self.speaker() else { return Ok(Came::default()) };
        let cursor = self.broker.state().cursor("in", &hub.log_id);
        let start = Position { sequence: cursor.sequence, digest: cursor.digest };
        let wish = body::Pull {
            node_id: self.node_id.clone(),
            log: hex(&log),
            cursor: to_cursor(hub.log, &start),
            wait_s: Some(wait.as_secs_f64()),
            zstd: Some(true),
        };
        let batch = match self.client.fetch_bytes("/pull", &wish, Some(&speaker), wait) {
            Ok(bytes) => {
                let batch = Batch::decode(&bytes).map_err(|e| {
                    Failure::from(Refusal::new(Code::BatchInvalid, "", e.to_string()))
                })?;
                if batch.begins() != to_cursor(hub.log, &start) {
                    let message = "the relay gave another stretch of a log than was asked for";
                    return Err(Refusal::new(Code::BatchInvalid, "cursor", message).into());
                }
                replication::to_decide(&batch, &hub.name)?
            }
            Err(refused) if refused.expected.is_some() => {
                if refused.expected.is_some_and(|expected| expected.log != hub.log) {
                    // Another relay answers under this URL now.
                    self.hub = None;
                    return Ok(Came { inbound: 0, events: 1 });
                }
                // It is not the one that it was: everything from the beginning.
                let (log, node_id) = (hub.log_id.clone(), hub.name.clone());
                decide::Batch { log, node_id, start: start.clone(), ..decide::Batch::default() }
            }
            Err(refused) => {
                if refused.failure.code() == Code::ForeignSender {
                    self.forgotten();
                }
                return Err(refused.failure);
            }
        };
        let inbound = batch.items.iter().filter(|item| is_message(item)).count();
        let anew = batch.end.sequence < start.sequence;
        let events = batch.items.len() + usize::from(anew);
        let moved = batch.end.sequence.saturating_sub(start.sequence);
        if events > 0 || moved >= LAG_MAX {
            let actor = self.actor();
            match self.broker.execute(&Command::Receive(batch), &actor) {
                // Another connector of this root was faster: it goes on from there.
                Err(Failure::Refused(refusal)) if refusal.code == Code::CursorDiverged => {
                    return Ok(Came { inbound: 0, events });
                }
                other => other?,
            };
        }
        Ok(Came { inbound, events })
    }
}

fn is_message(item: &decide::Item) -> bool {
    matches!(item.payload, Payload::MessageSent(_))
}
