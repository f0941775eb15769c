//! How does one command go from request to reply?

use std::collections::HashSet;

use c2c_log_format::checksum::name_hash;
use c2c_log_format::limits::{BATCH_EVENTS_MAX, EVENT_HEAD_BYTES, FRAME_BODY_BYTES_MAX};
use c2c_log_format::payload::MessageSent;
use c2c_log_format::{Payload, Sequence};

use super::doorbell::Ring;
use super::{Broker, liveness};
use crate::actor;
use crate::clock;
use crate::code::Code;
use crate::decide::{self, Actor, Command, Decision, Facts, Refusal, Reply};
use crate::failure::Failure;
use crate::limits::{CONFLICT_RETRIES, HEARTBEAT_S};
use crate::mirror;
use crate::state::sequence_of;
use crate::store::{StoreError, Stored};

/// A reply, and where its events are in the log.
#[derive(Debug)]
pub struct Executed {
    pub reply: Reply,
    /// Last sequence written; 0 when nothing was.
    pub last: u64,
}

/// Events in as few frames as hold them: nearly always one. Only what a broadcast or a sweep says of
/// very many, each for itself, is ever more.
fn frames(events: &[Payload]) -> Vec<&[Payload]> {
    // Text may need six bytes for one when it is escaped.
    let most = |event: &Payload| match event {
        Payload::MessageSent(sent) => 1024 + 6 * sent.body.len(),
        _ => 1024,
    };
    let fits = events.iter().map(most).sum::<usize>() <= FRAME_BODY_BYTES_MAX;
    if fits && events.len() <= BATCH_EVENTS_MAX {
        return vec![events];
    }
    let (mut frames, mut begin, mut bytes) = (Vec::new(), 0, 0);
    for (at, event) in events.iter().enumerate() {
        let needed = EVENT_HEAD_BYTES + event.encode().len();
        let full = bytes + needed > FRAME_BODY_BYTES_MAX || at - begin >= BATCH_EVENTS_MAX;
        if full && at > begin {
            frames.push(&events[begin..at]);
            (begin, bytes) = (at, 0);
        }
        bytes += needed;
    }
    frames.push(&events[begin..]);
    frames
}

/// The id of an item that is a message.
fn id_of(item: &decide::Item) -> Option<&str> {
    match &item.payload {
        Payload::MessageSent(sent) => Some(&sent.message_id),
        _ => None,
    }
}

impl Broker {
    /// Decides a command, appends its events, and returns when what the reply says is on disk.
    pub fn execute(&mut self, command: &Command, actor: &Actor) -> Result<Executed, Failure> {
        let executed = self.attempt(command, &actor::complete(actor));
        // A checkpoint tells only what is on disk: of a group, when it ends.
        if executed.is_ok() && self.group.is_none() {
            self.checkpoint_if_due();
        }
        executed
    }

    /// Notes that a registered session is active, if that was not noted lately. A session whose
    /// client does nothing is not noted, and what cannot be noted fails nobody.
    pub fn heartbeat_if_due(&mut self, actor: &Actor) {
        let session = actor.session_id.as_ref().and_then(|id| self.state.sessions.get(id));
        let due_us = session.map(|session| session.active_us + HEARTBEAT_S * 1_000_000);
        if due_us.is_some_and(|due_us| due_us <= clock::now_us()) {
            let _ = self.execute(&Command::Heartbeat, actor);
        }
    }

    fn attempt(&mut self, command: &Command, actor: &Actor) -> Result<Executed, Failure> {
        self.catch_up()?;
        // A refused command must not even create the root. With rows to import first, only the state
        // under the lock can tell.
        if self.state.head == 0 && self.foreign.files(&self.root, &self.state)?.is_empty() {
            self.decide(command, actor, Vec::new())?;
        }
        mirror::check_root(&self.root)?;
        for _ in 0..CONFLICT_RETRIES {
            // ORDER: the older locks before the writer lock, as in a mirror in place.
            let older = self.lock_older_files(command)?;
            match self.store.lock() {
                // The root was removed or replaced while this process ran.
                Err(StoreError::Reload) => {
                    self.catch_up()?;
                    continue;
                }
                other => other?,
            }
            let done = self.locked(command, actor, older.is_some());
            self.store.unlock();
            drop(older);
            match done {
                Err(Failure::Store(StoreError::Conflict { .. })) => {}
                Err(failure) => return Err(failure),
                Ok((executed, wait_for, rings)) => {
                    return match self.wait_durable(wait_for) {
                        Ok(()) => {
                            self.ring(&rings);
                            Ok(executed)
                        }
                        Err(StoreError::Reload) => {
                            let file = String::from("the log");
                            Err(StoreError::Unknown { file, sequence: executed.last }.into())
                        }
                        Err(other) => Err(other.into()),
                    };
                }
            }
        }
        Err(Failure::Store(StoreError::Busy { waited_ms: 0 }))
    }

    /// Under the writer lock: nobody else appends between the decision and its events.
    fn locked(
        &mut self,
        command: &Command,
        actor: &Actor,
        imports: bool,
    ) -> Result<(Executed, u64, Vec<Ring>), Failure> {
        self.catch_up()?;
        if imports {
            self.import_foreign(actor)?;
        }
        let prior = self.prior(command)?;
        let Decision { events, reply, durable } = self.decide(command, actor, prior)?;
        let rings = self.rings(&events);
        let last = self.append(&events, durable)?;
        self.take_down_doorbells(&events);
        if self.group.is_some() {
            self.spent.push(events);
        }
        Ok((Executed { reply, last }, self.relied_on, rings))
    }

    fn append(&mut self, events: &[Payload], durable: bool) -> Result<u64, Failure> {
        if events.is_empty() {
            return Ok(0);
        }
        if self.state.upgrade_needed {
            return Err(Refusal::new(
                Code::UpgradeNeeded,
                "",
                "the log holds events of a newer c2c",
            )
            .hint("update c2c on this machine")
            .into());
        }
        let now_us = clock::now_us();
        // The first append after a boot may have found that this is a copy.
        self.log_id.clear();
        let mut last = 0;
        for batch in frames(events) {
            last = self.store.append(self.state.head, batch, now_us, durable)?.last;
            self.read_back(batch)?;
        }
        Ok(last)
    }

    /// The locks of older files with rows that this command has to import first; `None` if there
    /// are none.
    fn lock_older_files(&mut self, command: &Command) -> Result<Option<mirror::Sidecars>, Failure> {
        if matches!(command, Command::Import { .. } | Command::Ack { .. } | Command::Return { .. })
        {
            return Ok(None);
        }
        let files = self.foreign.files(&self.root, &self.state)?;
        if files.is_empty() {
            return Ok(None);
        }
        let names = files.iter().map(|file| file.file.as_str());
        Ok(Some(mirror::Sidecars::take(&self.root, names)?))
    }

    /// Rows of older files are taken into the log, in a frame of their own before the command's.
    fn import_foreign(&mut self, actor: &Actor) -> Result<(), Failure> {
        // Read again: the older program cannot be writing now.
        let files = self.foreign.files(&self.root, &self.state)?;
        if files.is_empty() {
            return Ok(());
        }
        let decision = self.decide(&Command::Import { files }, actor, Vec::new())?;
        self.append(&decision.events, true)?;
        Ok(())
    }

    /// Decides against the present state.
    pub(super) fn decide(
        &self,
        command: &Command,
        actor: &Actor,
        prior: Vec<(Sequence, MessageSent)>,
    ) -> Result<Decision, Refusal> {
        let actor = liveness::adopt(&self.state, actor);
        let facts = Facts {
            now_us: clock::now_us(),
            actor: &actor,
            worker: liveness::this_process(),
            liveness: &liveness::of,
            is_mine: &liveness::is_ancestor,
            prior,
            mint: &|| uuid::Uuid::now_v7().to_string(),
            relay: self.relay.as_ref(),
        };
        decide::decide(&self.state, command, &facts)
    }

    /// Earlier messages under the ids that a command names.
    fn prior(&mut self, command: &Command) -> Result<Vec<(Sequence, MessageSent)>, Failure> {
        let parts = match command {
            Command::SendAll { message_id: Some(id), .. } => decide::part_ids(&self.state, id),
            _ => Vec::new(),
        };
        let ids: HashSet<&str> = match command {
            Command::Send(send) | Command::RoomSend { send, .. } => {
                send.message_id.iter().map(String::as_str).collect()
            }
            Command::SendAll { .. } => parts.iter().map(String::as_str).collect(),
            Command::Receive(batch) => batch.items.iter().filter_map(id_of).collect(),
            _ => HashSet::new(),
        };
        if let Command::DeadLetterReplay { messages, .. } = command {
            let all = || {
                self.state.dead_letters.scan([]).iter().map(|(key, _)| sequence_of(key)).collect()
            };
            let wanted = if messages.is_empty() { all() } else { messages.clone() };
            let found = self.fetch(&wanted)?.into_iter();
            return Ok(found
                .filter_map(|event| match event.payload {
                    Some(Payload::MessageSent(sent)) => Some((event.head.sequence, sent)),
                    _ => None,
                })
                .collect());
        }
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let hashes: Vec<u64> = ids.iter().map(|id| name_hash(id)).collect();
        let mut found = Vec::new();
        let mut see = |stored: Stored<'_>| {
            let payload = Payload::decode(stored.event.head.kind, stored.event.payload);
            if let Some(Ok(Payload::MessageSent(sent))) = payload
                && ids.contains(sent.message_id.as_str())
            {
                found.push((stored.event.head.sequence, sent));
            }
        };
        match self.ids.as_mut().and_then(|known| known.find(&hashes)) {
            Some(places) => self.store.fetch(&places, &mut see)?,
            None => self.store.find(&hashes, &mut see)?,
        }
        Ok(found)
    }

    /// What a sweep would do.
    pub fn plan_sweep(&mut self, actor: &Actor) -> Result<decide::SweepPlan, Failure> {
        self.look(actor)?;
        let facts = Facts {
            now_us: clock::now_us(),
            actor,
            worker: None,
            liveness: &liveness::of,
            is_mine: &liveness::is_ancestor,
            prior: Vec::new(),
            mint: &String::new,
            relay: self.relay.as_ref(),
        };
        Ok(decide::plan_sweep(&self.state, &facts))
    }
}
