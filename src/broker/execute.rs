//! Command execution: catch up, lock, decide, append, wait for the disk, reply.

use std::collections::HashSet;

use c2c_log_format::checksum::name_hash;
use c2c_log_format::limits::{BATCH_EVENTS_MAX, EVENT_HEAD_BYTES, FRAME_BODY_BYTES_MAX};
use c2c_log_format::payload::MessageSent;
use c2c_log_format::{Payload, Sequence};

use super::doorbell::MailNotice;
use super::{Broker, liveness};
use crate::env::{actor, root};
use crate::error::Failure;
use crate::legacy;
use crate::log::Durability;
use crate::platform::clock;
use crate::platform::process::{is_ancestor, liveness_of, this_process};
use crate::store::{EventRef, StoreError};
use c2c_core::code::Code;
use c2c_core::command::{Command, Heartbeat, ImportFiles, Prior};
use c2c_core::decide::{self, Actor, Facts, ForeignFile, Rejection};
use c2c_core::ids::MessageId;
use c2c_core::limits::{CONFLICT_RETRIES, HEARTBEAT_INTERVAL_S};
use c2c_core::state::State;

/// Bytes of an encoded event at most, apart from a message body.
const EVENT_BYTES_MAX: usize = 1024;
/// Encoded bytes of one escaped byte of text at most.
const ESCAPED_BYTES_MAX: usize = 6;

/// A reply, and the position of its events in the log.
#[derive(Debug)]
pub struct Executed<R> {
    pub reply: R,
    /// Last sequence written; 0 if no event was.
    pub last: u64,
}

/// A command without its reply type, so that the code that runs it exists once for all commands.
struct AnyCommand<'c> {
    /// Decides the command and keeps the reply for the caller.
    decide: &'c mut dyn FnMut(&State, &Facts<'_>) -> Result<Verdict, Rejection>,
    prior: &'c dyn Fn(&State) -> Prior,
    imports_older_files: bool,
}

/// The part of a decision that concerns the log.
struct Verdict {
    events: Vec<Payload>,
    durability: Durability,
}

/// Outcome of a command under the writer lock.
struct Appended {
    /// Last sequence written; 0 if no event was.
    last: u64,
    /// Sequence that must be on disk before the reply.
    wait_for: Sequence,
    /// Whether the caller's session was registered.
    has_registered: bool,
    notices: Vec<MailNotice>,
}

/// Splits events into as few frames as can hold them: nearly always one. A broadcast or a sweep over
/// very many sessions may need more; its events are independent of each other.
fn split_into_frames(events: &[Payload]) -> Vec<&[Payload]> {
    let bytes_max = |event: &Payload| match event {
        Payload::MessageSent(sent) => EVENT_BYTES_MAX + ESCAPED_BYTES_MAX * sent.body.len(),
        _ => EVENT_BYTES_MAX,
    };
    let fits = events.iter().map(bytes_max).sum::<usize>() <= FRAME_BODY_BYTES_MAX;
    if fits && events.len() <= BATCH_EVENTS_MAX {
        return vec![events];
    }
    let (mut frames, mut begin, mut bytes) = (Vec::new(), 0, 0);
    for (at, event) in events.iter().enumerate() {
        let needed = EVENT_HEAD_BYTES + event.encode().len();
        let is_full = bytes + needed > FRAME_BODY_BYTES_MAX || at - begin >= BATCH_EVENTS_MAX;
        if is_full && at > begin {
            frames.push(&events[begin..at]);
            (begin, bytes) = (at, 0);
        }
        bytes += needed;
    }
    frames.push(&events[begin..]);
    frames
}

/// # Commands
impl Broker {
    /// Runs one command to completion.
    ///
    /// Returns once every event that the reply depends on is on disk. If the sync fails, returns
    /// [`StoreError::Unknown`] with the last sequence written: the caller cannot know whether the
    /// command took effect and should retry with the same message id.
    pub fn execute<C: Command>(
        &mut self,
        command: &C,
        actor: &Actor,
    ) -> Result<Executed<C::Reply>, Failure> {
        let undecided = Rejection::new(Code::Internal, "", "the command was not decided");
        let mut outcome = Err(undecided);
        let mut decide = |state: &State, facts: &Facts<'_>| {
            let decision = decide::decide(state, command, facts)?;
            outcome = decision.outcome;
            let durability = Durability::of(decision.durable);
            Ok(Verdict { events: decision.events, durability })
        };
        let mut any = AnyCommand {
            decide: &mut decide,
            prior: &|state| command.prior(state),
            imports_older_files: command.imports_older_files(),
        };
        let ran = self.run(&mut any, &actor::complete(actor, &self.root));
        let last = ran.map_err(|failure| self.with_root(failure))?;
        Ok(Executed { reply: outcome?, last })
    }

    fn run(&mut self, command: &mut AnyCommand<'_>, actor: &Actor) -> Result<u64, Failure> {
        let last = self.attempt(command, actor)?;
        // A checkpoint may contain only what is on disk; for a group, that is known when it ends.
        if self.group.is_none() {
            self.checkpoint_if_due();
        }
        Ok(last)
    }

    /// Records that a registered session is active, unless that was recorded recently. Errors are
    /// ignored. Called only with requests of the client, so that an idle client does not count.
    pub fn heartbeat_if_due(&mut self, actor: &Actor) {
        let session = actor.session_id.as_ref().and_then(|id| self.state.sessions.get(id));
        let due_us = session.map(|session| session.active_us + HEARTBEAT_INTERVAL_S * 1_000_000);
        if due_us.is_some_and(|due_us| due_us <= clock::now_us()) {
            let _ = self.execute(&Heartbeat, actor);
        }
    }

    /// The effects that a sweep would have.
    pub fn plan_sweep(&mut self, actor: &Actor) -> Result<decide::SweepPlan, Failure> {
        self.refresh(actor)?;
        let facts = Facts {
            now_us: clock::now_us(),
            actor,
            worker: None,
            liveness: &liveness_of,
            is_callers_process: &is_ancestor,
            prior: Vec::new(),
            mint: &String::new,
            relay: self.relay.as_ref(),
        };
        Ok(decide::plan_sweep(&self.state, &facts))
    }

    fn attempt(&mut self, command: &mut AnyCommand<'_>, actor: &Actor) -> Result<u64, Failure> {
        self.catch_up()?;
        // Older files come first: the decision needs the state after their import.
        if command.imports_older_files && !self.foreign_files()?.is_empty() {
            self.import_legacy_files(actor)?;
        }
        self.register_returning(actor)?;
        // Decide once without the lock so that a rejected command never creates the root.
        if self.state.head == 0 {
            self.decide(command, actor, Vec::new())?;
        }
        if let Some(claim) = &mut self.claim {
            claim.record(&self.root);
        }
        legacy::create_or_check_root(&self.root)?;
        for _ in 0..CONFLICT_RETRIES {
            match self.store.lock() {
                // The root was removed or replaced while this process ran.
                Err(StoreError::Reload) => {
                    self.catch_up()?;
                    continue;
                }
                other => other?,
            }
            let outcome = self.decide_and_append(command, actor);
            self.store.unlock();
            match outcome {
                Err(Failure::Store(StoreError::Conflict { .. })) => {}
                Err(failure) => return Err(failure),
                Ok(appended) => {
                    if appended.has_registered {
                        self.remember_session(actor);
                    }
                    return self.wait_and_notify(appended);
                }
            }
        }
        Err(Failure::Store(StoreError::Busy { waited_ms: 0 }))
    }

    /// Notes whose registration is about to be written; returns whether it is the caller's session.
    fn note_registration(&mut self, events: &[Payload], actor: &Actor) -> bool {
        let mut is_callers = false;
        for event in events {
            let Payload::SessionRegistered(row) = event else { continue };
            is_callers |= actor.session_id.as_deref() == Some(&*row.session_id);
            if actor.alias.is_none() && actor.fallback_alias.as_deref() == Some(&*row.alias) {
                self.new_user = Some(row.alias.clone());
            }
        }
        is_callers
    }

    /// Records where the caller's session is registered, so that it finds this root from every
    /// directory.
    fn remember_session(&mut self, actor: &Actor) {
        if self.relay.is_some() {
            return;
        }
        if let Some(claim) = &self.claim {
            claim.record_all(&self.root);
        }
        if let Some(hint) = actor::session_hint(actor) {
            root::remember_session(hint, actor.process.as_ref(), &self.root);
        }
    }

    /// Waits until the events are on disk, then notifies their recipients.
    fn wait_and_notify(&mut self, appended: Appended) -> Result<u64, Failure> {
        let Appended { last, wait_for, notices, .. } = appended;
        match self.wait_durable(wait_for) {
            Ok(()) => {
                self.notify_of_mail(&notices);
                Ok(last)
            }
            Err(StoreError::Reload) => {
                let file = String::from("the log");
                Err(StoreError::Unknown { file, sequence: last }.into())
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Runs under the writer lock: no other process appends between the decision and its events.
    fn decide_and_append(
        &mut self,
        command: &mut AnyCommand<'_>,
        actor: &Actor,
    ) -> Result<Appended, Failure> {
        self.catch_up()?;
        let prior = self.prior_messages((command.prior)(&self.state))?;
        let Verdict { events, durability } = self.decide(command, actor, prior)?;
        let notices = self.mail_notices(&events);
        let has_registered = self.note_registration(&events, actor);
        let last = self.append(&events, durability)?;
        self.remove_wake_files(&events);
        if self.group.is_some() {
            self.committed.push(events);
        }
        Ok(Appended { last, wait_for: self.relied_on, has_registered, notices })
    }

    /// Appends events and returns the last sequence; 0 without any.
    fn append(&mut self, events: &[Payload], durability: Durability) -> Result<u64, Failure> {
        if events.is_empty() {
            return Ok(0);
        }
        if self.state.upgrade_needed {
            let message = "the log contains events of a newer version of c2c";
            return Err(Rejection::new(Code::UpgradeNeeded, "", message)
                .hint("update c2c on this machine")
                .into());
        }
        let now_us = clock::now_us();
        // The first append after a boot may find that this log is a copy, and give it a new id.
        self.log_id.clear();
        let mut last = 0;
        for batch in split_into_frames(events) {
            last = self.store.append(self.state.head, batch, now_us, durability)?.last;
            self.read_back(batch)?;
        }
        Ok(last)
    }

    /// The events that import these files.
    pub(super) fn decide_import(
        &self,
        files: Vec<ForeignFile>,
        actor: &Actor,
    ) -> Result<Vec<Payload>, Failure> {
        let command = ImportFiles { files };
        let mut decide = |state: &State, facts: &Facts<'_>| {
            let decision = decide::decide(state, &command, facts)?;
            let durability = Durability::of(decision.durable);
            Ok(Verdict { events: decision.events, durability })
        };
        let mut any =
            AnyCommand { decide: &mut decide, prior: &|_| Prior::None, imports_older_files: false };
        Ok(self.decide(&mut any, actor, Vec::new())?.events)
    }

    /// Decides a command against the current state.
    fn decide(
        &self,
        command: &mut AnyCommand<'_>,
        actor: &Actor,
        prior: Vec<(Sequence, MessageSent)>,
    ) -> Result<Verdict, Failure> {
        let actor = liveness::honoured(&self.state, actor)?;
        let facts = Facts {
            now_us: clock::now_us(),
            actor: &actor,
            worker: this_process(),
            liveness: &liveness_of,
            is_callers_process: &is_ancestor,
            prior,
            mint: &|| uuid::Uuid::now_v7().to_string(),
            relay: self.relay.as_ref(),
        };
        let verdict = (command.decide)(&self.state, &facts);
        self.check_base()?;
        Ok(verdict?)
    }

    /// Earlier messages that a decision needs.
    fn prior_messages(&mut self, prior: Prior) -> Result<Vec<(Sequence, MessageSent)>, Failure> {
        match prior {
            Prior::None => Ok(Vec::new()),
            Prior::Ids(ids) => self.messages_with_ids(&ids.iter().map(MessageId::as_str).collect()),
            Prior::Sequences(sequences) => self.messages_at(&sequences),
        }
    }

    /// Messages at these sequences.
    fn messages_at(
        &mut self,
        sequences: &[Sequence],
    ) -> Result<Vec<(Sequence, MessageSent)>, Failure> {
        let events = self.fetch(sequences)?.into_iter();
        Ok(events
            .filter_map(|event| match event.payload {
                Some(Payload::MessageSent(sent)) => Some((event.head.sequence, sent)),
                _ => None,
            })
            .collect())
    }

    /// Messages with these ids, from any sender.
    fn messages_with_ids(
        &mut self,
        ids: &HashSet<&str>,
    ) -> Result<Vec<(Sequence, MessageSent)>, Failure> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let hashes: Vec<u64> = ids.iter().map(|id| name_hash(id)).collect();
        let mut messages = Vec::new();
        let mut visit = |stored: EventRef<'_>| {
            let payload = Payload::decode(stored.event.head.kind, stored.event.payload);
            if let Some(Ok(Payload::MessageSent(sent))) = payload
                && ids.contains(sent.message_id.as_str())
            {
                messages.push((stored.event.head.sequence, sent));
            }
        };
        match self.message_index.as_mut().and_then(|index| index.find(&hashes)) {
            Some(sequences) => self.store.fetch(&sequences, &mut visit)?,
            None => self.store.find(&hashes, &mut visit)?,
        }
        Ok(messages)
    }
}
