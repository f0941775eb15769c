//! How are events kept in the segments of a log directory?

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use c2c_log_format::event::events;
use c2c_log_format::id::hex;
use c2c_log_format::scan::Place;
use c2c_log_format::{EventHead, Payload, Sequence};

use super::{EventStore, StoreError, Stored};
use crate::log::{
    Appended, Checkpoint, Cursor, Damaged, Directory, FrameRef, Log, LogError, Options, Storage,
};

/// Where a frame lies.
#[derive(Clone, Copy)]
struct Located {
    first: Sequence,
    last: Sequence,
    segment: Sequence,
    offset: usize,
}

/// Events in a log directory, shared with any number of other processes.
pub struct SegmentedStore {
    log: Log,
    cursor: Cursor,
    /// Frames that this process has read, so that their bodies are found at once.
    located: Vec<Located>,
    tail_events: u64,
    tail_bytes: u64,
}

impl SegmentedStore {
    /// The store in a directory, which need not exist yet.
    pub fn open(path: &Path) -> Self {
        Self::on(Arc::new(Directory::new(path)), Options::default())
    }

    /// The store on any storage.
    pub fn on(storage: Arc<dyn Storage>, options: Options) -> Self {
        let log = Log::open(storage, options);
        Self { log, cursor: Cursor::START, located: Vec::new(), tail_events: 0, tail_bytes: 0 }
    }

    fn locate(&mut self, sequence: Sequence) -> Result<Option<Located>, LogError> {
        let at = self.located.partition_point(|frame| frame.last < sequence);
        if let Some(frame) = self.located.get(at).filter(|frame| frame.first <= sequence) {
            return Ok(Some(*frame));
        }
        let bases = self.log.bases()?;
        let Some(base) = bases.into_iter().rev().find(|base| *base <= sequence) else {
            return Ok(None);
        };
        let mut found = Vec::new();
        self.log.scan_segment(base, &mut |frame| found.push(located(&frame)))?;
        // Read once, keep: the next message asked for is most likely in the same segment.
        self.located.extend(found);
        self.located.sort_unstable_by_key(|frame| frame.first);
        self.located.dedup_by_key(|frame| frame.first);
        let at = self.located.partition_point(|frame| frame.last < sequence);
        Ok(self.located.get(at).filter(|frame| frame.first <= sequence).copied())
    }
}

fn located(frame: &FrameRef<'_>) -> Located {
    Located {
        first: frame.header.sequence,
        last: frame.header.last_sequence(),
        segment: frame.segment,
        offset: frame.offset,
    }
}

fn visit_frame(frame: &FrameRef<'_>, visit: &mut dyn FnMut(Stored<'_>)) {
    let header = frame.header;
    for event in events(frame.body, header.sequence, header.count).flatten() {
        visit(Stored { event: &event, time_us: header.time_us, durable: header.durable });
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
        visit: &mut dyn FnMut(Stored<'_>),
    ) -> Result<(), StoreError> {
        if after == 0 && self.cursor.head() != 0 {
            self.cursor = Cursor::START;
            self.located.clear();
        }
        let (mut cursor, located_frames) = (self.cursor, &mut self.located);
        let (mut count, mut bytes) = (0, 0);
        let read = self.log.read(&mut cursor, &mut |frame| {
            located_frames.push(located(&frame));
            count += u64::from(frame.header.count);
            bytes += frame.header.frame_len() as u64;
            visit_frame(&frame, visit);
        });
        self.cursor = cursor;
        self.tail_events += count;
        self.tail_bytes += bytes;
        read
    }

    fn lock(&mut self) -> Result<(), StoreError> {
        self.log.lock()
    }

    fn unlock(&mut self) {
        self.log.unlock();
    }

    fn append(
        &mut self,
        _head: Sequence,
        batch: &[Payload],
        time_us: u64,
        durable: bool,
    ) -> Result<Appended, StoreError> {
        // Sequences may have gaps after a failed sync, so the place in the file is what counts.
        if !self.log.is_tail(&self.cursor) {
            return Err(LogError::Conflict { head: self.log.head() });
        }
        self.log.append(batch, time_us, durable)
    }

    fn wait_durable(&mut self, sequence: Sequence) -> Result<(), StoreError> {
        self.log.wait_durable(sequence)
    }

    fn durable(&self) -> Sequence {
        self.log.durable()
    }

    fn fetch(
        &mut self,
        sequences: &[Sequence],
        visit: &mut dyn FnMut(Stored<'_>),
    ) -> Result<(), StoreError> {
        let mut rest = sequences;
        while let Some(first) = rest.first() {
            let Some(place) = self.locate(*first)? else {
                rest = &rest[1..];
                continue;
            };
            // A frame is checked as a whole: once for all that is wanted of it, in its order.
            let rising = rest.windows(2).take_while(|two| two[0] < two[1] && two[1] <= place.last);
            let (wanted, others) = rest.split_at(1 + rising.count());
            self.log.frame_at(place.segment, place.offset, &mut |frame| {
                visit_frame(&frame, &mut |stored| {
                    if wanted.binary_search(&stored.event.head.sequence).is_ok() {
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
        wanted: &dyn Fn(&EventHead) -> bool,
        visit: &mut dyn FnMut(Stored<'_>),
        enough: &dyn Fn() -> bool,
    ) -> Result<(), StoreError> {
        for base in self.log.bases()?.into_iter().rev() {
            self.log.scan_segment(base, &mut |frame| {
                visit_frame(&frame, &mut |stored| {
                    if wanted(&stored.event.head) {
                        visit(stored);
                    }
                });
            })?;
            if enough() {
                break;
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self, projection: u16) -> Result<Option<Checkpoint>, StoreError> {
        self.log.newest_checkpoint(projection)
    }

    fn reopen(&self) -> Option<super::Reopen> {
        let (storage, options) = self.log.place();
        Some(Arc::new(move || Box::new(Self::on(Arc::clone(&storage), options.clone()))))
    }

    fn resume(&mut self, checkpoint: &Checkpoint) {
        self.cursor = checkpoint.cursor(self.log.epoch());
        self.located.clear();
        self.tail_events = 0;
        self.tail_bytes = 0;
    }

    fn keep_checkpoint(
        &mut self,
        head: Sequence,
        encode: &dyn Fn([u8; 16], Sequence, Place) -> Vec<u8>,
    ) -> Result<(), StoreError> {
        if head != self.cursor.head() || self.log.durable() < head {
            return Ok(());
        }
        let Some(log_id) = self.log.log_id()? else { return Ok(()) };
        let bytes = encode(log_id, self.cursor.segment, self.cursor.place);
        self.log.write_checkpoint(&bytes, head)?;
        self.tail_events = 0;
        self.tail_bytes = 0;
        Ok(())
    }

    fn tail_size(&self) -> (u64, u64) {
        (self.tail_events, self.tail_bytes)
    }

    fn pulse(&self) -> u32 {
        self.log.pulse()
    }

    fn wait(&mut self, pulse: u32, timeout: Duration) {
        self.log.wait(pulse, timeout);
    }

    fn damage(&self) -> Vec<Damaged> {
        self.log.damage().to_vec()
    }

    fn checkpoint_damaged(&mut self) -> Result<bool, StoreError> {
        self.log.checkpoint_damaged()
    }

    fn size(&mut self) -> Result<(u64, Vec<String>), StoreError> {
        Ok((self.log.bytes()?, self.log.quarantined()?))
    }
}
