//! The event log: segment files that many processes read and write at the same time.
//!
//! A [`Log`] is one process's handle on a log directory. Readers take no lock. Writers hold one lock
//! during an append. Processes that wait for the disk share syncs.

mod checkpoint;
mod control;
mod error;
mod lock;
mod reader;
mod recover;
mod rotate;
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
use c2c_log_format::scan::{FramePosition, ScanDamage};
use c2c_log_format::segment::{self, SegmentHeader};

pub use checkpoint::{ARCHIVED_TO, Checkpoint};
pub use control::{Control, Tail, WaitQueue};
pub use error::LogError;
pub use reader::{FrameRef, read_segment};
use storage::LockGuard;
pub use storage::{ARCHIVE, Directory, FileContent, LockFile, Storage, StorageFile};
pub use writer::{Appended, Durability};

/// How often a process that waits for the first append checks for the control page.
const UNCREATED_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Settings of a log.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size at which a segment is sealed, bytes.
    pub segment_bytes: u64,
    /// Longest wait for the writer lock before [`LogError::Busy`].
    pub lock_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: c2c_core::limits::SEGMENT_BYTES,
            lock_wait: c2c_core::limits::LOCK_WAIT,
        }
    }
}

/// A reader's position in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadPosition {
    /// Base of the current segment; 0 before the first read.
    pub segment: Sequence,
    /// Position in the segment.
    pub frame: FramePosition,
    /// Epoch in which everything before the position was read.
    pub epoch: u64,
}

impl ReadPosition {
    /// The position before the first event.
    pub const START: Self = Self {
        segment: 0,
        frame: FramePosition { offset: 0, sequence: 1, previous_frame: 0 },
        epoch: 0,
    };

    /// Highest sequence that was read.
    pub fn head(&self) -> Sequence {
        self.frame.sequence - 1
    }
}

/// A range of the log that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDamage {
    /// Base of the segment.
    pub segment: Sequence,
    /// Offset in the segment.
    pub offset: usize,
    /// Length in bytes; 0 if events are missing without a damaged range.
    pub len: usize,
    /// First sequence missing.
    pub first: Sequence,
    /// Last sequence missing, if known.
    pub last: Option<Sequence>,
}

impl LogDamage {
    /// Damage that a scan of a segment encountered.
    pub(crate) fn at(segment: Sequence, damage: &ScanDamage) -> Self {
        Self {
            segment,
            offset: damage.offset,
            len: damage.len,
            first: damage.first,
            last: damage.last,
        }
    }
}

/// One process's handle on a log directory.
pub struct Log {
    storage: Arc<dyn Storage>,
    options: Options,
    control: Option<Arc<Control>>,
    /// Id of the current boot, or of only this handle if the system names no boot.
    boot_id: [u8; 16],
    knows_boot: bool,
    segments: HashMap<Sequence, Segment>,
    locks: Locks,
    guard: Option<LockGuard>,
    /// Epoch of the last read or append. Events awaited in another epoch are void.
    epoch_seen: u64,
    damage: Vec<LogDamage>,
}

#[derive(Clone)]
struct Segment {
    header: SegmentHeader,
    file: Arc<dyn StorageFile>,
    /// Length in bytes when the file was opened; an active segment keeps its length.
    size: u64,
}

/// The lock files of a log, opened on first use and kept open.
#[derive(Default)]
struct Locks {
    writer: Option<Arc<dyn LockFile>>,
    sync: Option<Arc<dyn LockFile>>,
}

impl Locks {
    fn writer(&mut self, storage: &dyn Storage) -> std::io::Result<Arc<dyn LockFile>> {
        open_once(&mut self.writer, storage, "lock")
    }

    fn sync(&mut self, storage: &dyn Storage) -> std::io::Result<Arc<dyn LockFile>> {
        open_once(&mut self.sync, storage, "sync.lock")
    }
}

fn open_once(
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
    /// Opens a log for reading and writing. Creates nothing before the first append.
    pub fn open(storage: Arc<dyn Storage>, options: Options) -> Self {
        let boot_id = storage.boot_id();
        let control = storage.control(false).ok().map(Arc::new);
        Self {
            storage,
            options,
            control,
            // Without a boot id, a tail counts as published in this boot only if this handle did so.
            boot_id: boot_id.unwrap_or_else(|| uuid::Uuid::new_v4().into_bytes()),
            knows_boot: boot_id.is_some(),
            segments: HashMap::new(),
            locks: Locks::default(),
            guard: None,
            epoch_seen: 0,
            damage: Vec::new(),
        }
    }

    /// Storage and settings, to open the same log again.
    pub fn location(&self) -> (Arc<dyn Storage>, Options) {
        (Arc::clone(&self.storage), self.options.clone())
    }

    /// Damage that this handle has encountered so far.
    pub fn damage(&self) -> &[LogDamage] {
        &self.damage
    }

    /// The published tail; `None` if no writer has published one since the machine started.
    fn tail(&self) -> Option<Tail> {
        let tail = self.control.as_ref()?.tail()?;
        (tail.boot_id == self.boot_id).then_some(tail)
    }

    /// Id of the log; `None` before the first append.
    pub fn log_id(&mut self) -> Result<Option<[u8; 16]>, LogError> {
        let base = match self.tail() {
            Some(tail) => Some(tail.segment),
            None => self.bases()?.last().copied(),
        };
        base.map(|base| Ok(self.segment(base)?.header.log_id)).transpose()
    }

    /// Highest sequence known to be on disk.
    pub fn durable(&self) -> Sequence {
        self.control.as_ref().map_or(0, |page| page.durable())
    }

    /// Total length of all segment files, bytes.
    pub fn bytes(&mut self) -> Result<u64, LogError> {
        let mut total = 0;
        for base in self.bases()? {
            let file = self.segment(base)?.file;
            total +=
                file.len().map_err(|e| LogError::io("measure", &segment::file_name(base), e))?;
        }
        Ok(total)
    }

    /// Length of one segment file, bytes.
    pub fn segment_len(&mut self, base: Sequence) -> Result<u64, LogError> {
        let len = self.segment(base)?.file.len();
        len.map_err(|e| LogError::io("measure", &segment::file_name(base), e))
    }

    /// Bases (first sequences) of all segments, in order.
    pub fn bases(&self) -> Result<Vec<Sequence>, LogError> {
        let names =
            self.storage.list().map_err(|e| LogError::io("list", "the log directory", e))?;
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

    /// Returns [`LogError::Reload`] if the directory was removed or replaced while this process ran.
    ///
    /// Everything this handle has open then belongs to the old directory and is dropped.
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

    /// Change counter of the log: differs after each append and each sync.
    pub fn version(&self) -> u32 {
        self.control.as_ref().map_or(0, |page| page.version(WaitQueue::Change))
    }

    /// Waits until the log's version differs from `seen`, or until the timeout.
    pub fn wait(&mut self, seen: u32, timeout: Duration) {
        match &self.control {
            Some(page) => page.wait(WaitQueue::Change, seen, timeout),
            // No process has created the page yet: check again soon.
            None => {
                std::thread::sleep(timeout.min(UNCREATED_CHECK_INTERVAL));
                self.open_page();
            }
        }
    }

    /// Opens the control page if another process has created it.
    fn open_page(&mut self) {
        self.control = self.storage.control(false).ok().map(Arc::new);
    }
}

/// A simulated disk without faults, for the tests of the stores.
#[cfg(test)]
pub(crate) fn sim_disk() -> sim::SimDisk {
    sim::SimDisk::new(sim::FaultPlan::default())
}

/// Position of the first frame of a segment.
pub(crate) fn first_position(header: &SegmentHeader) -> FramePosition {
    FramePosition {
        offset: SEGMENT_HEADER_BYTES,
        sequence: header.base,
        previous_frame: header.previous_frame,
    }
}
