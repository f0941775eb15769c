//! The control page: shared memory in which all processes agree on the tail of the log.
//!
//! Every process maps the same page. It is a cache of the files, which remain the truth: a page that
//! is missing, torn, or from another boot is rebuilt under the writer lock. Besides the tail it holds
//! the durable sequence, the sequence of the newest checkpoint, and the futex words on which processes
//! wait.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use c2c_log_format::Sequence;
use c2c_log_format::checksum::crc32;
use c2c_log_format::scan::FramePosition;
use memmap2::MmapRaw;

use crate::platform::fs::FileIdentity;
use crate::platform::wait;

const PAGE_BYTES: u64 = 4096;

// Indexes of 64-bit words. TAIL_VERSION is odd while the tail is being written.
const TAIL_VERSION: usize = 0;
const TAIL: usize = 1; // to 7: boot (2), segment, offset, sequence, frame, checksum
const TAIL_WORDS: usize = 7;
const DURABLE: usize = 8;
const POISONED: usize = 9;
const EPOCH: usize = 10;
const WRITING: usize = 11;
const CHECKPOINT: usize = 12;
const ZEROED: usize = 13;
const LOCK_WAITERS: usize = 33;
/// Number of words in use.
pub const WORDS: usize = 40;

/// A queue of waiting processes.
///
/// The value is the index of the queue's word, whose low half is a futex that counts notifications.
/// Nothing uses such a word as a whole. Each queue has its own cache line, and an append does not wake
/// the processes that wait for a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitQueue {
    /// Notified when events are appended or become durable.
    Change = 16,
    /// Notified when a sync ends.
    Sync = 24,
    /// Notified when the writer lock is released.
    Lock = 32,
}

/// The tail of the log as the last writer published it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Boot during which it was published.
    pub boot_id: [u8; 16],
    /// Base of the active segment.
    pub segment: Sequence,
    /// Position of the next frame.
    pub position: FramePosition,
}

enum Memory {
    Mapped(MmapRaw),
    #[cfg_attr(not(test), allow(dead_code))]
    Heap(Arc<[AtomicU64; WORDS]>),
}

/// The shared page and the identity of its file.
pub struct Control {
    memory: Memory,
    identity: FileIdentity,
}

/// The tail is being written, or its writer was killed while writing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn;

impl Control {
    /// Maps the file, extending it to one page if it is shorter.
    pub fn map(file: &fs::File) -> io::Result<Self> {
        if file.metadata()?.len() < PAGE_BYTES {
            file.set_len(PAGE_BYTES)?;
        }
        let map = memmap2::MmapOptions::new().len(PAGE_BYTES as usize).map_raw(file)?;
        let identity = FileIdentity::of(&file.metadata()?);
        Ok(Self { memory: Memory::Mapped(map), identity })
    }

    /// Creates a page in memory, for simulated disks.
    #[cfg(test)]
    pub fn heap(words: &Arc<[AtomicU64; WORDS]>) -> Self {
        Self {
            memory: Memory::Heap(Arc::clone(words)),
            identity: FileIdentity { inode: 0, born_ns: 0 },
        }
    }

    #[expect(unsafe_code, reason = "memory shared with other processes")]
    fn word(&self, index: usize) -> &AtomicU64 {
        match &self.memory {
            // SAFETY: the mapping is one page, page-aligned, and lives as long as `self`. All accesses
            // to it, here and in other processes, are atomic. The index is a constant below WORDS.
            // The file is never shortened.
            Memory::Mapped(map) => unsafe { &*map.as_ptr().cast::<AtomicU64>().add(index) },
            Memory::Heap(words) => &words[index],
        }
    }

    /// Identity of the mapped file.
    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    #[expect(unsafe_code, reason = "the two halves of an atomic word")]
    fn futex(&self, queue: WaitQueue) -> &AtomicU32 {
        let word: *const AtomicU64 = self.word(queue as usize);
        // SAFETY: this is the low half of a word that is never accessed as a whole, and it is aligned
        // for 4 bytes.
        unsafe { &*word.cast::<AtomicU32>() }
    }

    /// The tail; `None` if it was never written or is torn.
    pub fn tail(&self) -> Option<Tail> {
        self.read_tail().ok().flatten()
    }

    /// The tail; `None` if it was never written.
    pub fn read_tail(&self) -> Result<Option<Tail>, Torn> {
        for _ in 0..1000 {
            let version = self.word(TAIL_VERSION).load(Ordering::Acquire);
            let mut words = [0; TAIL_WORDS];
            for (offset, word) in words.iter_mut().enumerate() {
                *word = self.word(TAIL + offset).load(Ordering::Relaxed);
            }
            std::sync::atomic::fence(Ordering::Acquire);
            if version.is_multiple_of(2)
                && self.word(TAIL_VERSION).load(Ordering::Relaxed) == version
            {
                return Ok(decode(&words, self.identity));
            }
            std::hint::spin_loop();
        }
        Err(Torn)
    }

    /// Publishes the tail. The caller holds the writer lock.
    pub fn set_tail(&self, tail: &Tail) {
        let version = self.word(TAIL_VERSION).load(Ordering::Relaxed) & !1;
        self.word(TAIL_VERSION).store(version + 1, Ordering::Relaxed);
        std::sync::atomic::fence(Ordering::Release);
        for (offset, word) in encode(tail, self.identity).iter().enumerate() {
            self.word(TAIL + offset).store(*word, Ordering::Relaxed);
        }
        self.word(TAIL_VERSION).store(version + 2, Ordering::Release);
    }

    /// Highest sequence known to be on disk.
    pub fn durable(&self) -> Sequence {
        self.word(DURABLE).load(Ordering::Acquire)
    }

    /// Raises the durable sequence; a lower value has no effect.
    pub fn raise_durable(&self, sequence: Sequence) {
        self.word(DURABLE).fetch_max(sequence, Ordering::AcqRel);
    }

    /// Sets the durable sequence, also to a lower value. Used by recovery only.
    pub fn set_durable(&self, sequence: Sequence) {
        self.word(DURABLE).store(sequence, Ordering::Release);
    }

    /// Base of the segment whose sync failed; 0 for none.
    pub fn poisoned(&self) -> Sequence {
        self.word(POISONED).load(Ordering::Acquire)
    }

    /// Records the base of the segment whose sync failed; 0 clears it.
    pub fn set_poisoned(&self, segment: Sequence) {
        self.word(POISONED).store(segment, Ordering::Release);
    }

    /// Number of times frames became void. A reader that sees a new value must reload.
    pub fn epoch(&self) -> u64 {
        self.word(EPOCH).load(Ordering::Acquire)
    }

    /// Starts a new epoch.
    pub fn next_epoch(&self) {
        self.word(EPOCH).fetch_add(1, Ordering::AcqRel);
    }

    /// Whether a frame is being written after the tail, or was when its writer was killed.
    pub fn is_writing(&self) -> bool {
        self.word(WRITING).load(Ordering::Acquire) != 0
    }

    /// Records whether a frame is being written after the tail. The caller holds the writer lock.
    pub fn set_writing(&self, writing: bool) {
        self.word(WRITING).store(u64::from(writing), Ordering::Release);
    }

    /// Offset in the active segment up to which zeros were written ahead; 0 if not known.
    pub fn zeroed(&self) -> u64 {
        self.word(ZEROED).load(Ordering::Relaxed)
    }

    /// Records how far zeros were written ahead. The caller holds the writer lock.
    pub fn set_zeroed(&self, offset: u64) {
        self.word(ZEROED).store(offset, Ordering::Relaxed);
    }

    /// Sequence of the newest checkpoint; 0 if not known.
    pub fn checkpoint(&self) -> Sequence {
        self.word(CHECKPOINT).load(Ordering::Acquire)
    }

    /// Records the sequence of the newest checkpoint.
    pub fn set_checkpoint(&self, sequence: Sequence) {
        self.word(CHECKPOINT).store(sequence, Ordering::Release);
    }

    /// Change counter of a queue: differs after each notification.
    pub fn version(&self, queue: WaitQueue) -> u32 {
        self.futex(queue).load(Ordering::Acquire)
    }

    /// Wakes every process in a queue.
    pub fn notify_all(&self, queue: WaitQueue) {
        self.notify(queue, i32::MAX as u32);
    }

    fn notify(&self, queue: WaitQueue, waiters_max: u32) {
        let counter = self.futex(queue);
        counter.fetch_add(1, Ordering::AcqRel);
        wait::wake(counter, waiters_max);
    }

    /// Wakes the process that has waited longest for the writer lock, if any process waits.
    pub fn notify_lock_waiter(&self) {
        // A waiter that was killed stays counted; that only costs one system call.
        if self.word(LOCK_WAITERS).load(Ordering::Acquire) > 0 {
            self.notify(WaitQueue::Lock, 1);
        }
    }

    /// Adds this process to the number of lock waiters, or subtracts it.
    pub fn count_lock_waiter(&self, waits: bool) {
        let count = self.word(LOCK_WAITERS);
        if waits {
            count.fetch_add(1, Ordering::AcqRel);
        } else {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Waits until the queue's version differs from `seen`, or until the timeout.
    pub fn wait(&self, queue: WaitQueue, seen: u32, timeout: Duration) {
        wait::wait(self.futex(queue), seen, timeout);
    }
}

fn encode(tail: &Tail, identity: FileIdentity) -> [u64; TAIL_WORDS] {
    let boot = u128::from_le_bytes(tail.boot_id);
    let mut words = [
        boot as u64,
        (boot >> 64) as u64,
        tail.segment,
        tail.position.offset as u64,
        tail.position.sequence,
        u64::from(tail.position.previous_frame),
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
        position: FramePosition {
            offset: words[3] as usize,
            sequence: words[4],
            previous_frame: words[5] as u32,
        },
    })
}

/// Checksum of the tail words and the file's identity.
///
/// It is never zero, so that an empty page does not pass; it covers the identity, so that the page of
/// a copied directory does not pass.
fn checksum(words: &[u64; TAIL_WORDS], identity: FileIdentity) -> u64 {
    let mut bytes = [0; TAIL_WORDS * 8];
    let file = identity.inode ^ identity.born_ns.rotate_left(32);
    let covered = words[..TAIL_WORDS - 1].iter().chain([&file]);
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(covered) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    u64::from(crc32(&bytes)) | 1 << 32
}
