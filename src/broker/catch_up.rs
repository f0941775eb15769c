//! Reading new events into the state.

use c2c_log_format::error::{FormatError, Problem};
use c2c_log_format::{Event, Payload};

use super::Broker;
use super::checkpoints::open_base;
use crate::error::Failure;
use crate::store::{EventRef, StoreError};
use c2c_core::decide::Actor;
use c2c_core::state::{CheckpointBase, PROJECTION, State};

/// Kinds of events that change which key an alias belongs to.
const KEY_KINDS: [u16; 2] = [501, 502];

/// How often catching up starts again when the root is replaced meanwhile.
const RELOADS_MAX: usize = 3;

/// # Reading
impl Broker {
    /// Reads the events appended since the last refresh, and the rows of legacy files.
    ///
    /// Fails if a row of the checkpoint is damaged and cannot be rebuilt, so that the queries that
    /// follow never lack a row. For this the first call reads the whole checkpoint.
    pub fn refresh(&mut self, actor: &Actor) -> Result<(), Failure> {
        self.verifies_base = true;
        self.refresh_lazily(actor)
    }

    /// Like [`Self::refresh`], but reads no more of the checkpoint than the queries that follow, for
    /// a command that must start fast.
    ///
    /// These queries lack rows if the checkpoint turns out to be damaged. Before the caller uses
    /// their results, it must run a command, or [`Self::check_base`].
    pub(crate) fn refresh_lazily(&mut self, actor: &Actor) -> Result<(), Failure> {
        self.catch_up()?;
        // An event that is not on disk yet may still be lost, so it must not be reported before.
        match self.wait_durable(self.relied_on) {
            Err(StoreError::Reload) => {
                self.loaded = false;
                self.catch_up()?;
            }
            other => other?,
        }
        self.merge_foreign(actor)
    }

    /// Reads new events, passing each together with the state before it to `visit`.
    pub fn follow(&mut self, visit: &mut dyn FnMut(&State, &EventRef<'_>)) -> Result<(), Failure> {
        if !self.loaded {
            self.load()?;
        }
        self.read_new(&[], visit)?;
        self.check_base()
    }

    /// Drops the state and its checkpoint, so that [`Self::follow`] visits every event of the log.
    pub fn rewind(&mut self) {
        self.state = State::default();
        self.relied_on = 0;
        self.base = None;
        self.merged.clear();
        self.loaded = true;
    }

    pub(super) fn catch_up(&mut self) -> Result<(), Failure> {
        self.foreign_histories.clear();
        if !self.merged.is_empty() {
            // The merged rows exist only in memory; the log does not contain them.
            self.merged.clear();
            self.loaded = false;
        }
        if self.check_base().is_err() {
            // The checkpoint may have been replaced since, or the log repaired.
            self.loaded = false;
        }
        for _ in 0..RELOADS_MAX {
            if !self.loaded {
                self.load()?;
            }
            match self.read_new(&[], &mut |_, _| {}) {
                Err(StoreError::Reload) => self.loaded = false,
                other => {
                    other?;
                    return self.verify_base();
                }
            }
        }
        Err(StoreError::Reload.into())
    }

    /// Starts from the newest checkpoint, or from an empty state.
    fn load(&mut self) -> Result<(), Failure> {
        self.state = State::default();
        self.relied_on = 0;
        self.log_id.clear();
        self.base = None;
        self.checkpointer.reset_tail();
        let had_index = self.message_index.take().is_some();
        if let Some(checkpoint) = self.store.newest(PROJECTION)?
            && let Some(reopen) = self.store.reopen()
            && let Some(base) = open_base(&checkpoint, reopen)
        {
            self.state = State::from_base(Some(&base), checkpoint.header.sequence);
            self.store.resume(&checkpoint);
            self.base = Some(base);
        }
        self.loaded = true;
        if had_index {
            self.start_message_index();
        }
        Ok(())
    }

    /// Verifies every row of the checkpoint, unless that is left to the queries that read them. Costs
    /// nothing once it was verified.
    fn verify_base(&self) -> Result<(), Failure> {
        if let Some(base) =
            self.base.as_ref().filter(|base| self.verifies_base && !base.is_verified())
        {
            // The error is the damage that `check_base` reports.
            let _ = base.verify();
        }
        self.check_base()
    }

    /// Stops a test in which a query could lack rows.
    pub(super) fn assert_verified(&self) {
        debug_assert!(
            self.base.as_ref().is_none_or(CheckpointBase::is_verified),
            "a query needs a refresh before it"
        );
    }

    /// Fails if the state may lack rows: the checkpoint is damaged, and the log cannot rebuild it.
    pub(crate) fn check_base(&self) -> Result<(), Failure> {
        let Some(damage) = self.base.as_ref().and_then(CheckpointBase::damage) else {
            return Ok(());
        };
        let sequence = damage.sequence;
        let source = FormatError { offset: damage.offset, problem: Problem::BodyChecksum };
        Err(Failure::Store(StoreError::Corrupt {
            file: format!("checkpoint at event {sequence}, which the log cannot rebuild"),
            source: Box::new(source),
        }))
    }

    /// Reads back what was just appended: state is derived from the log alone.
    pub(super) fn read_back(&mut self, written: &[Payload]) -> Result<(), Failure> {
        match self.read_new(written, &mut |_, _| {}) {
            Err(StoreError::Reload) => {
                self.loaded = false;
                self.catch_up()
            }
            other => Ok(other?),
        }
    }

    /// Reads new events. `written` holds the payloads of the first ones, if this process has just
    /// written them: those need no decoding.
    fn read_new(
        &mut self,
        written: &[Payload],
        visit: &mut dyn FnMut(&State, &EventRef<'_>),
    ) -> Result<(), StoreError> {
        let Self { state, relied_on, message_index, key_changes, store, .. } = self;
        let mut written = written.iter();
        store.read_after(state.head, &mut |stored| {
            visit(state, &stored);
            if let Some(index) = message_index {
                index.note(&stored.event.head);
            }
            *key_changes += u64::from(KEY_KINDS.contains(&stored.event.head.kind));
            match written.next() {
                Some(payload) => {
                    debug_assert!(encodes(stored.event, payload), "an append is read back as is");
                    state.apply(stored.event.head.sequence, stored.time_us, payload);
                }
                None => state.apply_event(stored.event, stored.time_us),
            }
            if stored.durable {
                *relied_on = stored.event.head.sequence;
            }
        })
    }
}

/// Whether an event decodes to this payload.
fn encodes(event: &Event<'_>, payload: &Payload) -> bool {
    let decoded = Payload::decode(event.head.kind, event.payload).and_then(Result::ok);
    decoded.as_ref() == Some(payload)
}
