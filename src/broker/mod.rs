//! How is a command done?
//!
//! Catch up without a lock; lock; catch up the rest; gather facts; decide; append; unlock; wait for
//! the disk; reply. Reading takes no lock and writes nothing.

mod aside;
mod deliver;
mod doorbell;
mod execute;
mod group;
mod link;
pub mod liveness;
mod relocate;
mod rooms;
mod views;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use c2c_log_format::{Event, Payload};

use crate::decide::{Actor, Relay};
use crate::failure::Failure;
use crate::limits::{CHECKPOINT_BYTES, CHECKPOINT_EVENTS};
use crate::log::Checkpoint;
use crate::mirror;
use crate::state::{Base, Bytes, PROJECTION, State};
use crate::store::{EventStore, Reopen, SegmentedStore, StoreError, Stored};

pub use deliver::{Delivery, Wish};
pub use execute::Executed;
pub use group::Kept;
pub use link::{Link, Way};
pub use rooms::{RoomInfo, Said};
pub use views::{Health, Hop, Message, Peer, Trace};

/// Kinds of events that change which key an alias belongs to.
const KEY_KINDS: [u16; 2] = [501, 502];

/// Directory of the log under a broker root.
pub const LOG_DIRECTORY: &str = "log";

/// One broker root, as one process sees it.
pub struct Broker {
    root: PathBuf,
    store: Box<dyn EventStore>,
    state: State,
    /// Highest sequence that must be on disk before anything read here is told.
    relied_on: u64,
    loaded: bool,
    /// Events made from older files that nobody has imported yet: visible, not written.
    merged: Vec<(u64, c2c_log_format::Payload, u64)>,
    foreign: mirror::Lookout,
    /// Rows of the checkpoint that the state stands on.
    base: Option<Base>,
    log_id: String,
    /// Set when this broker is a relay.
    relay: Option<Relay>,
    /// Where messages are, for a process that looks up many.
    ids: Option<group::Ids>,
    /// Events so far that changed which key an alias belongs to.
    key_changes: u64,
    /// Up to where the open group of commands waits for the disk.
    group: Option<u64>,
    /// Events that the open group has written; see [`Self::free_spent`].
    spent: Vec<Vec<Payload>>,
    /// Checkpoints that another thread writes.
    aside: aside::Aside,
}

impl Broker {
    /// Opens a root; nothing is created by that.
    pub fn open(root: &Path) -> Self {
        Self::on(root, Box::new(SegmentedStore::open(&root.join(LOG_DIRECTORY))))
    }

    /// Opens a root whose events are in another store.
    pub fn on(root: &Path, store: Box<dyn EventStore>) -> Self {
        Self {
            root: root.to_owned(),
            store,
            state: State::default(),
            relied_on: 0,
            loaded: false,
            merged: Vec::new(),
            foreign: mirror::Lookout::default(),
            base: None,
            log_id: String::new(),
            relay: None,
            ids: None,
            key_changes: 0,
            group: None,
            spent: Vec::new(),
            aside: aside::Aside::default(),
        }
    }

    /// Makes this broker a relay.
    pub fn relay(self, relay: Relay) -> Self {
        Self { relay: Some(relay), ..self }
    }

    /// At a relay: how the caller of the next commands calls it.
    pub fn called(&mut self, name: Option<String>) {
        if let Some(relay) = &mut self.relay {
            relay.called = name;
        }
    }

    /// The root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What is known, as of the last look.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// A number that changes when an alias comes to belong to another key.
    pub fn key_changes(&self) -> u64 {
        self.key_changes
    }

    /// Id of the log, 32 hex digits; empty before the first append.
    pub fn log_id(&mut self) -> Result<&str, Failure> {
        if self.log_id.is_empty() {
            self.log_id = self.store.log_id()?;
        }
        Ok(&self.log_id)
    }

    /// Reads what others have appended since the last look, older files included.
    pub fn look(&mut self, actor: &Actor) -> Result<(), Failure> {
        self.catch_up()?;
        // What is not on disk yet might still vanish: nobody is told of it before.
        match self.wait_durable(self.relied_on) {
            Err(StoreError::Reload) => {
                self.loaded = false;
                self.catch_up()?;
            }
            other => other?,
        }
        self.merge_foreign(actor)
    }

    fn catch_up(&mut self) -> Result<(), Failure> {
        if !self.merged.is_empty() {
            // The merged rows were a view; the log knows nothing of them.
            self.merged.clear();
            self.loaded = false;
        }
        for _ in 0..3 {
            if !self.loaded {
                self.load()?;
            }
            match self.read_tail() {
                Err(StoreError::Reload) => self.loaded = false,
                other => return Ok(other?),
            }
        }
        Err(StoreError::Reload.into())
    }

    /// Starts from the newest checkpoint, or from nothing.
    fn load(&mut self) -> Result<(), Failure> {
        self.state = State::default();
        self.relied_on = 0;
        self.log_id.clear();
        self.base = None;
        self.aside.begin_anew();
        let indexed = self.ids.take().is_some();
        if let Some(checkpoint) = self.store.checkpoint(PROJECTION)?
            && let Some(reopen) = self.store.reopen()
            && let Some(base) = open_base(&checkpoint, reopen)
        {
            self.state = State::from_base(Some(&base), checkpoint.header.sequence);
            self.store.resume(&checkpoint);
            self.base = Some(base);
        }
        self.loaded = true;
        if indexed {
            self.index_ids();
        }
        Ok(())
    }

    fn read_tail(&mut self) -> Result<(), StoreError> {
        self.read_on(&[], &mut |_, _| {})
    }

    /// Reads back what was just appended: state comes from the log alone.
    fn read_back(&mut self, written: &[Payload]) -> Result<(), Failure> {
        match self.read_on(written, &mut |_, _| {}) {
            Err(StoreError::Reload) => {
                self.loaded = false;
                self.catch_up()
            }
            other => Ok(other?),
        }
    }

    /// Reads on, showing each event together with the state before it.
    pub fn follow(&mut self, see: &mut dyn FnMut(&State, &Stored<'_>)) -> Result<(), Failure> {
        if !self.loaded {
            self.load()?;
        }
        Ok(self.read_on(&[], see)?)
    }

    /// Forgets what is known, checkpoint and all, so that [`Self::follow`] shows every event that the
    /// log has.
    pub fn rewind(&mut self) {
        (self.state, self.relied_on, self.base) = (State::default(), 0, None);
        self.merged.clear();
        self.loaded = true;
    }

    /// Reads on. Of the events that this process wrote itself, the first ones that are read, it knows
    /// the payload and need not decode it.
    fn read_on(
        &mut self,
        written: &[Payload],
        see: &mut dyn FnMut(&State, &Stored<'_>),
    ) -> Result<(), StoreError> {
        let (state, relied_on) = (&mut self.state, &mut self.relied_on);
        let mut written = written.iter();
        let (ids, key_changes) = (&mut self.ids, &mut self.key_changes);
        self.store.read_after(state.head, &mut |stored| {
            see(state, &stored);
            if let Some(ids) = ids {
                ids.note(&stored.event.head);
            }
            *key_changes += u64::from(KEY_KINDS.contains(&stored.event.head.kind));
            match written.next() {
                Some(payload) => {
                    debug_assert!(is_that(stored.event, payload), "what was written is read");
                    state.apply(stored.event.head.sequence, stored.time_us, payload);
                }
                None => state.apply_event(stored.event, stored.time_us),
            }
            if stored.durable {
                *relied_on = stored.event.head.sequence;
            }
        })
    }

    /// Older files under the root that the log does not know in their present form.
    pub fn foreign_files(&mut self) -> Result<Vec<crate::decide::ForeignFile>, Failure> {
        self.catch_up()?;
        self.foreign.files(&self.root, &self.state)
    }

    /// Rows of older files that the log does not know yet become visible, in memory only.
    fn merge_foreign(&mut self, actor: &Actor) -> Result<(), Failure> {
        let files = self.foreign.files(&self.root, &self.state)?;
        if files.is_empty() {
            return Ok(());
        }
        let command = crate::decide::Command::Import { files };
        let decision = self.decide(&command, &crate::actor::complete(actor), Vec::new())?;
        let now_us = crate::clock::now_us();
        for event in decision.events {
            let sequence = self.state.head + 1;
            self.state.apply(sequence, now_us, &event);
            self.merged.push((sequence, event, now_us));
        }
        Ok(())
    }

    /// Writes a checkpoint if one is due. Never fails a command: a checkpoint is only a shortcut.
    pub fn checkpoint_if_due(&mut self) {
        let (events, bytes) = self.store.tail_size();
        let damaged = self.base.as_ref().is_some_and(Base::was_rebuilt);
        if damaged || events >= CHECKPOINT_EVENTS || bytes >= CHECKPOINT_BYTES {
            self.checkpoint();
        }
    }

    fn checkpoint(&mut self) {
        if self.state.skipped == 0 && self.merged.is_empty() {
            let (state, now_us) = (&self.state, crate::clock::now_us());
            let encode = |log_id, segment, place| state.checkpoint(log_id, segment, place, now_us);
            let _ = self.store.keep_checkpoint(state.head, &encode);
        }
    }

    /// A number that changes with every append.
    pub fn pulse(&self) -> u32 {
        self.store.pulse()
    }

    /// Sleeps until something was appended since `pulse`, or the time is over.
    pub fn wait(&mut self, pulse: u32, timeout: std::time::Duration) {
        self.store.wait(pulse, timeout);
    }
}

/// Whether an event, decoded, is this payload.
fn is_that(event: &Event<'_>, payload: &Payload) -> bool {
    let read = Payload::decode(event.head.kind, event.payload).and_then(Result::ok);
    read.as_ref() == Some(payload)
}

/// The rows of a checkpoint, with a way to make them anew should they turn out to be damaged.
fn open_base(checkpoint: &Checkpoint, reopen: Reopen) -> Option<Base> {
    let header = checkpoint.header;
    let rebuild = move || {
        let (mut state, mut first) = (State::default(), None);
        let read = reopen().read_after(0, &mut |stored| {
            first.get_or_insert(stored.event.head.sequence);
            if stored.event.head.sequence <= header.sequence {
                state.apply_event(stored.event, stored.time_us);
            }
        });
        // With segments out of sight the rows would lack what they say.
        read.ok().filter(|()| first == Some(1))?;
        let (log_id, segment, place) = (header.log_id, header.segment, header.place);
        Some(Arc::new(state.checkpoint(log_id, segment, place, header.time_us)) as Bytes)
    };
    Base::open(Arc::new(checkpoint.bytes.clone()), &header, Arc::new(rebuild))
}
