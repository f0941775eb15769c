//! How do the bytes of a log lie in files, for many processes at once?
//!
//! One [`Log`] is one process's handle. Any number of them may be open on one directory. Readers
//! take no lock; writers take one lock for the time of an append; syncs are shared.

mod checkpoint;
mod control;
mod error;
mod reader;
mod recover;
#[cfg(test)]
mod sim;
mod storage;
mod sync;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use c2c_log_format::Sequence;
use c2c_log_format::limits::SEGMENT_HEADER_BYTES;
use c2c_log_format::scan::Place;
use c2c_log_format::segment::{self, SegmentHeader};

pub use checkpoint::{ARCHIVED_TO, Checkpoint};
pub use control::{Bell, Control, Tail};
pub use error::LogError;
pub use reader::{FrameRef, read_segment};
use storage::Held;
pub use storage::{ARCHIVE, Directory, LockFile, Storage, StorageFile, Whole, boot_id_text};
pub use writer::Appended;

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size at which a segment is sealed, bytes.
    pub segment_bytes: u64,
    /// Longest wait for the writer lock.
    pub lock_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: crate::limits::SEGMENT_BYTES, lock_wait: crate::limits::LOCK_WAIT }
    }
}

/// A reader's place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Segment that it is in; 0 before the first read.
    pub segment: Sequence,
    /// Place in the segment.
    pub place: Place,
    /// Epoch in which everything before was read.
    pub epoch: u64,
}

impl Cursor {
    /// Before the first event.
    pub const START: Self =
        Self { segment: 0, place: Place { offset: 0, sequence: 1, previous_frame: 0 }, epoch: 0 };

    /// The last sequence that was read.
    pub fn head(&self) -> Sequence {
        self.place.sequence - 1
    }
}

/// A stretch of the log that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Segment file.
    pub segment: Sequence,
    /// Offset in it.
    pub offset: usize,
    /// Bytes.
    pub len: usize,
    /// First sequence missing.
    pub first: Sequence,
    /// Last sequence missing, if known.
    pub last: Option<Sequence>,
}

/// One process's handle on a log directory.
pub struct Log {
    storage: Arc<dyn Storage>,
    options: Options,
    control: Option<Control>,
    boot_id: [u8; 16],
    segments: HashMap<Sequence, Segment>,
    locks: Locks,
    guard: Option<Held>,
    /// Epoch of what was last read or appended: what was waited for in another one is void.
    epoch_seen: u64,
    damage: Vec<Damaged>,
}

#[derive(Clone)]
struct Segment {
    header: SegmentHeader,
    file: Arc<dyn StorageFile>,
    /// Length when it was opened: that of an active segment does not change.
    size: u64,
}

/// The lock files of a log, opened when first needed and kept.
#[derive(Default)]
struct Locks {
    writer: Option<Arc<dyn LockFile>>,
    sync: Option<Arc<dyn LockFile>>,
}

impl Locks {
    fn writer(&mut self, storage: &dyn Storage) -> std::io::Result<Arc<dyn LockFile>> {
        kept(&mut self.writer, storage, "lock")
    }

    fn sync(&mut self, storage: &dyn Storage) -> std::io::Result<Arc<dyn LockFile>> {
        kept(&mut self.sync, storage, "sync.lock")
    }
}

fn kept(
    slot: &mut Option<Arc<dyn LockFile>>,
    storage: &dyn Storage,
    name: &str,
) -> std::io::Result<Arc<dyn LockFile>> {
    let file = match slot.take() {
        Some(file) => file,
        None => storage.lock_file(name)?,
    };
    Ok(Arc::clone(slot.insert(file)))
}

impl Log {
    /// Opens the log for reading and writing; nothing is created before the first append.
    pub fn open(storage: Arc<dyn Storage>, options: Options) -> Self {
        let boot_id = storage.boot_id();
        let control = storage.control(false).ok();
        let segments = HashMap::new();
        Self {
            storage,
            options,
            control,
            boot_id,
            segments,
            locks: Locks::default(),
            guard: None,
            epoch_seen: 0,
            damage: Vec::new(),
        }
    }

    /// Where it is and how it is kept, to open it once more.
    pub fn place(&self) -> (Arc<dyn Storage>, Options) {
        (Arc::clone(&self.storage), self.options.clone())
    }

    /// What could not be read so far by this handle.
    pub fn damage(&self) -> &[Damaged] {
        &self.damage
    }

    /// The tail that the last writer published, if it did so since the machine started.
    fn tail(&self) -> Option<Tail> {
        let tail = self.control.as_ref()?.tail()?;
        (tail.boot_id == self.boot_id).then_some(tail)
    }

    /// The id of the log; `None` before the first append.
    pub fn log_id(&mut self) -> Result<Option<[u8; 16]>, LogError> {
        let base = match self.tail() {
            Some(tail) => Some(tail.segment),
            None => self.bases()?.last().copied(),
        };
        base.map(|base| Ok(self.segment(base)?.header.log_id)).transpose()
    }

    /// The highest sequence that is on disk.
    pub fn durable(&self) -> Sequence {
        self.control.as_ref().map_or(0, Control::durable)
    }

    /// Bytes of all segments.
    pub fn bytes(&mut self) -> Result<u64, LogError> {
        let mut total = 0;
        for base in self.bases()? {
            let file = self.segment(base)?.file;
            total +=
                file.len().map_err(|e| LogError::io("measure", &segment::file_name(base), e))?;
        }
        Ok(total)
    }

    /// Bytes of one segment's file.
    pub fn segment_len(&mut self, base: Sequence) -> Result<u64, LogError> {
        let len = self.segment(base)?.file.len();
        len.map_err(|e| LogError::io("measure", &segment::file_name(base), e))
    }

    /// Base sequences of all segments, in order.
    pub fn bases(&self) -> Result<Vec<Sequence>, LogError> {
        let names = self.storage.list().map_err(|e| LogError::io("list", "log", e))?;
        Ok(names.iter().filter_map(|name| segment::parse_file_name(name)).collect())
    }

    fn segment(&mut self, base: Sequence) -> Result<Segment, LogError> {
        if let Some(segment) = self.segments.get(&base) {
            return Ok(segment.clone());
        }
        let name = segment::file_name(base);
        let file = self.storage.open(&name, false).map_err(|e| LogError::io("open", &name, e))?;
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        let read = file.read_at(0, &mut bytes).map_err(|e| LogError::io("read", &name, e))?;
        let header =
            SegmentHeader::decode(&bytes[..read]).map_err(|e| LogError::format(&name, e))?;
        let size = file.len().map_err(|e| LogError::io("measure", &name, e))?;
        let segment = Segment { header, file, size };
        self.segments.insert(base, segment.clone());
        Ok(segment)
    }

    /// Somebody may have removed the directory, and perhaps made it anew, while this process ran:
    /// what it knows and holds is of the old one then.
    fn check_current(&mut self) -> Result<(), LogError> {
        let Some(control) = &self.control else { return Ok(()) };
        if self.storage.is_current(control) {
            return Ok(());
        }
        self.guard = None;
        self.control = None;
        self.locks = Locks::default();
        self.segments.clear();
        Err(LogError::Reload)
    }

    /// Where to begin to wait: see [`Log::wait`].
    pub fn pulse(&self) -> u32 {
        self.control.as_ref().map_or(0, |control| control.pulse(Bell::Change))
    }

    /// Sleeps until something was appended after `pulse` was taken, or the time is over.
    pub fn wait(&mut self, pulse: u32, timeout: Duration) {
        match &self.control {
            Some(control) => control.wait(Bell::Change, pulse, timeout),
            // Nobody has written yet: look again before long.
            None => {
                std::thread::sleep(timeout.min(Duration::from_millis(50)));
                self.control = self.storage.control(false).ok();
            }
        }
    }
}

/// A simulated disk without faults, for tests of the stores.
#[cfg(test)]
pub(crate) fn sim_disk() -> sim::SimDisk {
    sim::SimDisk::new(sim::Plan::default())
}

/// The place of the first frame of a segment.
pub(crate) fn first_place(header: &SegmentHeader) -> Place {
    Place {
        offset: SEGMENT_HEADER_BYTES,
        sequence: header.base,
        previous_frame: header.previous_frame,
    }
}
