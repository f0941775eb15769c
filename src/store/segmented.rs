//! Events in the segment files of a log directory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use c2c_log_format::event::events;
use c2c_log_format::id::hex;
use c2c_log_format::{EventHead, Payload, Sequence};

use super::{Changes, Checkpoints, EventRef, EventStore, Inspect, Reopen, ResumeToken, StoreError};
use crate::log::{
    Appended, Checkpoint, Directory, Durability, FrameRef, Log, LogDamage, LogError, Options,
    ReadPosition, Storage,
};

/// Position of a frame.
#[derive(Clone, Copy)]
struct FrameLocation {
    first: Sequence,
    last: Sequence,
    segment: Sequence,
    offset: usize,
}

/// A log directory, shared with any number of other processes.
pub struct SegmentedStore {
    log: Log,
    position: ReadPosition,
    /// Frames that this process has read, by first sequence, so that [`EventStore::fetch`] need not
    /// search for them.
    frames: Vec<FrameLocation>,
    tail_events: u64,
    tail_bytes: u64,
}

impl SegmentedStore {
    /// Opens the store in a directory, which need not exist yet.
    pub fn open(path: &Path) -> Self {
        Self::on(Arc::new(Directory::new(path)), Options::default())
    }

    /// Opens the store on any storage.
    pub fn on(storage: Arc<dyn Storage>, options: Options) -> Self {
        Self {
            log: Log::open(storage, options),
            position: ReadPosition::START,
            frames: Vec::new(),
            tail_events: 0,
            tail_bytes: 0,
        }
    }

    /// The frame that holds an event; `None` if the event does not exist.
    fn locate(&mut self, sequence: Sequence) -> Result<Option<FrameLocation>, LogError> {
        if let Some(frame) = self.known_frame(sequence) {
            return Ok(Some(frame));
        }
        let bases = self.log.bases()?;
        let Some(base) = bases.into_iter().rev().find(|base| *base <= sequence) else {
            return Ok(None);
        };
        // Remember the whole segment: the next event is most likely in it.
        let frames = &mut self.frames;
        self.log.scan_segment(base, &mut |frame| frames.push(location_of(&frame)))?;
        self.frames.sort_unstable_by_key(|frame| frame.first);
        self.frames.dedup_by_key(|frame| frame.first);
        Ok(self.known_frame(sequence))
    }

    fn known_frame(&self, sequence: Sequence) -> Option<FrameLocation> {
        let at = self.frames.partition_point(|frame| frame.last < sequence);
        self.frames.get(at).filter(|frame| frame.first <= sequence).copied()
    }
}

fn location_of(frame: &FrameRef<'_>) -> FrameLocation {
    FrameLocation {
        first: frame.header.sequence,
        last: frame.header.last_sequence(),
        segment: frame.segment,
        offset: frame.offset,
    }
}

fn visit_frame(frame: &FrameRef<'_>, visit: &mut dyn FnMut(EventRef<'_>)) {
    let header = frame.header;
    for event in events(frame.body, header.sequence, header.count).flatten() {
        visit(EventRef { event: &event, time_us: header.time_us, durable: header.durable });
    }
}

impl EventStore for SegmentedStore {
    fn log_id(&mut self) -> Result<String, StoreError> {
        let id = self.log.log_id()?;
        Ok(id.map_or_else(String::new, |id| hex(&id)))
    }

    fn read_after(
        &mut self,
        after: Sequence,
        visit: &mut dyn FnMut(EventRef<'_>),
    ) -> Result<(), StoreError> {
        if after == 0 && self.position.head() != 0 {
            self.position = ReadPosition::START;
            self.frames.clear();
        }
        let (frames, tail_events, tail_bytes) =
            (&mut self.frames, &mut self.tail_events, &mut self.tail_bytes);
        self.log.read(&mut self.position, &mut |frame| {
            frames.push(location_of(&frame));
            *tail_events += u64::from(frame.header.count);
            *tail_bytes += frame.header.frame_len() as u64;
            visit_frame(&frame, visit);
        })?;
        Ok(())
    }

    fn lock(&mut self) -> Result<(), StoreError> {
        Ok(self.log.lock()?)
    }

    fn unlock(&mut self) {
        self.log.unlock();
    }

    fn append(
        &mut self,
        _expected_head: Sequence,
        batch: &[Payload],
        time_us: u64,
        durability: Durability,
    ) -> Result<Appended, StoreError> {
        // Sequences may have gaps after a failed sync, so compare positions instead of the head.
        if !self.log.is_at_tail(&self.position) {
            return Err(StoreError::Conflict { head: self.log.head() });
        }
        Ok(self.log.append(batch, time_us, durability)?)
    }

    fn wait_durable(&mut self, sequence: Sequence) -> Result<(), StoreError> {
        Ok(self.log.wait_durable(sequence)?)
    }

    fn durable(&self) -> Sequence {
        self.log.durable()
    }

    fn fetch(
        &mut self,
        sequences: &[Sequence],
        visit: &mut dyn FnMut(EventRef<'_>),
    ) -> Result<(), StoreError> {
        let mut rest = sequences;
        while let Some(first) = rest.first() {
            let Some(location) = self.locate(*first)? else {
                rest = &rest[1..];
                continue;
            };
            // Reading a frame checks all of it, so serve as many sequences as possible with it.
            let rising =
                rest.windows(2).take_while(|two| two[0] < two[1] && two[1] <= location.last);
            let (in_frame, others) = rest.split_at(1 + rising.count());
            self.log.frame_at(location.segment, location.offset, &mut |frame| {
                visit_frame(&frame, &mut |stored| {
                    if in_frame.binary_search(&stored.event.head.sequence).is_ok() {
                        visit(stored);
                    }
                });
            })?;
            rest = others;
        }
        Ok(())
    }

    fn search(
        &mut self,
        matches: &dyn Fn(&EventHead) -> bool,
        visit: &mut dyn FnMut(EventRef<'_>),
        is_enough: &dyn Fn() -> bool,
    ) -> Result<(), StoreError> {
        for base in self.log.bases()?.into_iter().rev() {
            self.log.scan_segment(base, &mut |frame| {
                visit_frame(&frame, &mut |stored| {
                    if matches(&stored.event.head) {
                        visit(stored);
                    }
                });
            })?;
            if is_enough() {
                break;
            }
        }
        Ok(())
    }
}

impl Checkpoints for SegmentedStore {
    fn newest(&mut self, projection: u16) -> Result<Option<Checkpoint>, StoreError> {
        Ok(self.log.newest_checkpoint(projection)?)
    }

    fn keep(&mut self, head: Sequence, encode: &dyn Fn() -> Vec<u8>) -> Result<(), StoreError> {
        if head != self.position.head() || self.log.durable() < head {
            return Ok(());
        }
        let Some(log_id) = self.log.log_id()? else { return Ok(()) };
        let token = ResumeToken::new(self.position.segment, self.position.frame);
        let mut bytes = encode();
        if token.record_in(log_id, &mut bytes).is_none() {
            return Ok(());
        }
        self.log.write_checkpoint(&bytes, head)?;
        self.tail_events = 0;
        self.tail_bytes = 0;
        Ok(())
    }

    fn resume(&mut self, checkpoint: &Checkpoint) {
        let token = ResumeToken::of(&checkpoint.header);
        self.position = ReadPosition {
            segment: token.segment(),
            frame: token.position(),
            epoch: self.log.epoch(),
        };
        self.frames.clear();
        self.tail_events = 0;
        self.tail_bytes = 0;
    }

    fn reopen(&self) -> Option<Reopen> {
        let (storage, options) = self.log.location();
        Some(Arc::new(move || Box::new(Self::on(Arc::clone(&storage), options.clone()))))
    }

    fn tail_size(&self) -> (u64, u64) {
        (self.tail_events, self.tail_bytes)
    }
}

impl Changes for SegmentedStore {
    fn version(&self) -> u32 {
        self.log.version()
    }

    fn wait(&mut self, seen: u32, timeout: Duration) {
        self.log.wait(seen, timeout);
    }
}

impl Inspect for SegmentedStore {
    fn damage(&self) -> Vec<LogDamage> {
        self.log.damage().to_vec()
    }

    fn checkpoint_damaged(&mut self) -> Result<bool, StoreError> {
        Ok(self.log.checkpoint_damaged()?)
    }

    fn size(&mut self) -> Result<(u64, Vec<String>), StoreError> {
        Ok((self.log.bytes()?, self.log.quarantined()?))
    }
}
