//! Where do all processes agree on the tail of the log, without asking each other?
//!
//! One page, mapped by everyone. It is a cache: the files are the truth, and a page that is
//! missing, torn, or from another boot is built anew under the writer lock. Besides the tail it
//! holds the durable mark, the name of the newest checkpoint, and the words on which waiting
//! processes sleep.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use c2c_log_format::Sequence;
use c2c_log_format::checksum::crc32;
use c2c_log_format::scan::Place;
use memmap2::MmapRaw;
use rustix::thread::futex;

use super::storage::FileIdentity;

const PAGE_BYTES: u64 = 4096;

// Word numbers. VERSION is odd while the tail is being written.
const VERSION: usize = 0;
const TAIL: usize = 1; // to 7: boot (2), segment, offset, sequence, frame, checksum
const TAIL_WORDS: usize = 7;
const DURABLE: usize = 8;
const POISONED: usize = 9;
const EPOCH: usize = 10;
const WRITING: usize = 11;
const CHECKPOINT: usize = 12;
const ZEROED: usize = 13;
const LOCK_WAITERS: usize = 33;
/// Words of the page that are used.
pub const WORDS: usize = 40;

/// What a process can sleep for. Each has a cache line of its own, and its own sleepers: whoever
/// waits for a sync is not woken by each append of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bell {
    /// Something was appended, or became durable.
    Change = 16,
    /// A sync has ended.
    Sync = 24,
    /// The writer lock was given back.
    Lock = 32,
}

/// The tail of the log as its last writer left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Boot in which it was written.
    pub boot_id: [u8; 16],
    /// Base of the active segment.
    pub segment: Sequence,
    /// Where the next frame goes, and after what.
    pub place: Place,
}

enum Memory {
    Mapped(MmapRaw),
    #[cfg_attr(not(test), allow(dead_code))]
    Heap(Arc<[AtomicU64; WORDS]>),
}

/// The shared page, and what tells its file from a copy of it.
pub struct Control {
    memory: Memory,
    identity: FileIdentity,
}

/// The page is being written at this moment, or its writer was killed in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn;

impl Control {
    /// Maps the file, giving it its size first if it is new.
    pub fn map(file: &fs::File) -> io::Result<Self> {
        if file.metadata()?.len() < PAGE_BYTES {
            file.set_len(PAGE_BYTES)?;
        }
        let map = memmap2::MmapOptions::new().len(PAGE_BYTES as usize).map_raw(file)?;
        let identity = FileIdentity::of(&file.metadata()?);
        Ok(Self { memory: Memory::Mapped(map), identity })
    }

    /// A page in memory, for simulated disks.
    #[cfg(test)]
    pub fn heap(words: &Arc<[AtomicU64; WORDS]>) -> Self {
        Self {
            memory: Memory::Heap(Arc::clone(words)),
            identity: FileIdentity { inode: 0, born_ns: 0 },
        }
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        match &self.memory {
            // SAFETY: the mapping is one page, aligned to a page, lives as long as `self`, and all
            // access to it, here and in other processes, is by atomics. The index is a constant
            // below WORDS. The file is never made shorter.
            Memory::Mapped(map) => unsafe { &*map.as_ptr().cast::<AtomicU64>().add(index) },
            Memory::Heap(words) => &words[index],
        }
    }

    /// What tells the file of this page from another of the same name.
    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    fn bell(&self, bell: Bell) -> &AtomicU32 {
        let word: *const AtomicU64 = self.word(bell as usize);
        // SAFETY: the low half of a word that nobody uses as a whole, aligned for 4 bytes.
        unsafe { &*word.cast::<AtomicU32>() }
    }

    /// The tail, if the page is whole.
    pub fn tail(&self) -> Option<Tail> {
        self.read_tail().ok().flatten()
    }

    /// The tail, or `None` if nobody has ever written one.
    pub fn read_tail(&self) -> Result<Option<Tail>, Torn> {
        for _ in 0..1000 {
            let version = self.word(VERSION).load(Ordering::Acquire);
            let mut words = [0; TAIL_WORDS];
            for (offset, word) in words.iter_mut().enumerate() {
                *word = self.word(TAIL + offset).load(Ordering::Relaxed);
            }
            std::sync::atomic::fence(Ordering::Acquire);
            if version.is_multiple_of(2) && self.word(VERSION).load(Ordering::Relaxed) == version {
                return Ok(decode(&words, self.identity));
            }
            std::hint::spin_loop();
        }
        Err(Torn)
    }

    /// Writes the tail; only under the writer lock.
    pub fn set_tail(&self, tail: &Tail) {
        let version = self.word(VERSION).load(Ordering::Relaxed) & !1;
        self.word(VERSION).store(version + 1, Ordering::Relaxed);
        std::sync::atomic::fence(Ordering::Release);
        for (offset, word) in encode(tail, self.identity).iter().enumerate() {
            self.word(TAIL + offset).store(*word, Ordering::Relaxed);
        }
        self.word(VERSION).store(version + 2, Ordering::Release);
    }

    /// The highest sequence known to be on disk.
    pub fn durable(&self) -> Sequence {
        self.word(DURABLE).load(Ordering::Acquire)
    }

    /// Raises the durable mark.
    pub fn raise_durable(&self, sequence: Sequence) {
        self.word(DURABLE).fetch_max(sequence, Ordering::AcqRel);
    }

    /// Sets the durable mark; only during recovery.
    pub fn set_durable(&self, sequence: Sequence) {
        self.word(DURABLE).store(sequence, Ordering::Release);
    }

    /// Base of the segment whose sync failed, 0 for none.
    pub fn poisoned(&self) -> Sequence {
        self.word(POISONED).load(Ordering::Acquire)
    }

    /// Marks a segment as one whose sync failed; 0 clears the mark.
    pub fn set_poisoned(&self, segment: Sequence) {
        self.word(POISONED).store(segment, Ordering::Release);
    }

    /// Counts how often frames became void: a reader that sees it change reloads.
    pub fn epoch(&self) -> u64 {
        self.word(EPOCH).load(Ordering::Acquire)
    }

    /// Starts a new epoch.
    pub fn next_epoch(&self) {
        self.word(EPOCH).fetch_add(1, Ordering::AcqRel);
    }

    /// Whether a frame was being written when the last holder of the writer lock was killed.
    pub fn is_writing(&self) -> bool {
        self.word(WRITING).load(Ordering::Acquire) != 0
    }

    /// Says that a frame is being written after the tail, or that it is published; only under the
    /// writer lock.
    pub fn set_writing(&self, writing: bool) {
        self.word(WRITING).store(u64::from(writing), Ordering::Release);
    }

    /// Offset in the active segment up to which space was written with zeros, 0 if not known.
    pub fn zeroed(&self) -> u64 {
        self.word(ZEROED).load(Ordering::Relaxed)
    }

    /// Notes how far space was written with zeros; only under the writer lock.
    pub fn set_zeroed(&self, offset: u64) {
        self.word(ZEROED).store(offset, Ordering::Relaxed);
    }

    /// Sequence of the newest checkpoint, 0 if that is not known.
    pub fn checkpoint(&self) -> Sequence {
        self.word(CHECKPOINT).load(Ordering::Acquire)
    }

    /// Notes the newest checkpoint.
    pub fn set_checkpoint(&self, sequence: Sequence) {
        self.word(CHECKPOINT).store(sequence, Ordering::Release);
    }

    /// A number that changes with every ring of a bell.
    pub fn pulse(&self, bell: Bell) -> u32 {
        self.bell(bell).load(Ordering::Acquire)
    }

    /// Wakes everybody who waits for a change.
    pub fn ring(&self, bell: Bell) {
        self.wake(bell, i32::MAX as u32);
    }

    fn wake(&self, bell: Bell, sleepers: u32) {
        let word = self.bell(bell);
        word.fetch_add(1, Ordering::AcqRel);
        // Nothing can go wrong that waiting with a time limit does not survive.
        let _ = futex::wake(word, futex::Flags::empty(), sleepers);
    }

    /// Wakes the one that has waited longest for the writer lock, if anybody waits.
    pub fn pass_lock(&self) {
        // A waiter that was killed stays counted: that costs one system call, and nothing else.
        if self.word(LOCK_WAITERS).load(Ordering::Acquire) > 0 {
            self.wake(Bell::Lock, 1);
        }
    }

    /// Counts a process that is about to wait for the writer lock, or no longer does.
    pub fn count_lock_waiter(&self, waits: bool) {
        let count = self.word(LOCK_WAITERS);
        if waits {
            count.fetch_add(1, Ordering::AcqRel);
        } else {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Sleeps until a bell's pulse is no longer `seen`, or the time is over.
    pub fn wait(&self, bell: Bell, seen: u32, timeout: Duration) {
        let limit = futex::Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let _ = futex::wait(self.bell(bell), futex::Flags::empty(), seen, Some(&limit));
    }
}

fn encode(tail: &Tail, identity: FileIdentity) -> [u64; TAIL_WORDS] {
    let boot = u128::from_le_bytes(tail.boot_id);
    let mut words = [
        boot as u64,
        (boot >> 64) as u64,
        tail.segment,
        tail.place.offset as u64,
        tail.place.sequence,
        u64::from(tail.place.previous_frame),
        0,
    ];
    words[6] = checksum(&words, identity);
    words
}

fn decode(words: &[u64; TAIL_WORDS], identity: FileIdentity) -> Option<Tail> {
    if words[6] != checksum(words, identity) {
        return None;
    }
    let boot = u128::from(words[0]) | u128::from(words[1]) << 64;
    Some(Tail {
        boot_id: boot.to_le_bytes(),
        segment: words[2],
        place: Place {
            offset: words[3] as usize,
            sequence: words[4],
            previous_frame: words[5] as u32,
        },
    })
}

/// Not zero, so that an empty page is not a whole one; bound to the file, so that the page of a
/// copied directory is not believed.
fn checksum(words: &[u64; TAIL_WORDS], identity: FileIdentity) -> u64 {
    let mut bytes = [0; TAIL_WORDS * 8];
    let file = identity.inode ^ identity.born_ns.rotate_left(32);
    let covered = words[..TAIL_WORDS - 1].iter().chain([&file]);
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(covered) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    u64::from(crc32(&bytes)) | 1 << 32
}
