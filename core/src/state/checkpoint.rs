//! Rows of a checkpoint: reading them in place, and writing them in blocks.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use c2c_log_format::Sequence;
use c2c_log_format::bytes::{slice, u16_at, u32_at};
use c2c_log_format::checkpoint::CheckpointHeader;
use c2c_log_format::checksum::crc32;
use c2c_log_format::limits::CHECKPOINT_HEADER_BYTES;
use serde::Serialize;

/// Length at which a block of rows is closed, bytes.
const BLOCK_BYTES: usize = 4096;
/// Length of an index entry without its key, bytes.
const INDEX_ENTRY_BYTES: usize = 14;

/// The bytes of a checkpoint file, in memory or mapped.
pub type Bytes = Arc<dyn Deref<Target = [u8]> + Send + Sync>;

/// Creates the checkpoint again from the events that it covers; `None` if the log cannot be read.
pub type Rebuild = Arc<dyn Fn() -> Option<Bytes> + Send + Sync>;

/// The rows of a checkpoint, read in place.
///
/// The checksum of a block is verified when the block is first read, so damage may be detected in
/// the middle of a query. The rows are then rebuilt from the log, and the query continues with the
/// rebuilt rows. If they cannot be rebuilt, every query returns no rows from then on and
/// [`CheckpointBase::damage`] reports the damaged block: the caller must check it before relying on the
/// result of a query.
#[derive(Clone)]
pub struct CheckpointBase {
    /// Sequence that the checkpoint covers.
    sequence: Sequence,
    rows: Arc<BaseRows>,
    rebuild: Rebuild,
    /// The rebuilt rows, or `None` inside if rebuilding failed.
    rebuilt: Arc<OnceLock<Option<BaseRows>>>,
    damage: Arc<OnceLock<BaseDamage>>,
    verified: Arc<AtomicBool>,
}

/// A damaged block of a checkpoint whose rows could not be rebuilt from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseDamage {
    /// Sequence that the checkpoint covers.
    pub sequence: Sequence,
    /// Offset of the block in the checkpoint file.
    pub offset: usize,
    /// Length of the block, bytes.
    pub len: usize,
}

struct BaseRows {
    bytes: Bytes,
    blocks: Vec<Block>,
}

struct Block {
    offset: usize,
    len: usize,
    crc: u32,
    /// Range of the first key in `bytes`.
    key: (usize, usize),
    /// Whether the checksum of the block was verified.
    checked: AtomicBool,
}

impl CheckpointBase {
    /// Reads the index of a checkpoint; `None` if the index is damaged.
    pub fn open(bytes: Bytes, header: &CheckpointHeader, rebuild: Rebuild) -> Option<Self> {
        Some(Self {
            sequence: header.sequence,
            rows: Arc::new(BaseRows::open(bytes, header)?),
            rebuild,
            rebuilt: Arc::default(),
            damage: Arc::default(),
            verified: Arc::default(),
        })
    }

    /// Verifies every block and returns whether any is damaged.
    pub fn is_damaged(&self) -> bool {
        self.rows.blocks.iter().any(|block| self.rows.read(block).is_none())
    }

    /// Returns whether the rows were rebuilt from the log because a block is damaged.
    pub fn was_rebuilt(&self) -> bool {
        self.rebuilt.get().is_some_and(Option::is_some)
    }

    /// Returns the damage that a query has detected and that could not be repaired from the log.
    ///
    /// Clones of a base share this flag, so one check covers all tables of a state.
    pub fn damage(&self) -> Option<BaseDamage> {
        self.damage.get().copied()
    }

    /// Reads all rows, rebuilding them if a block is damaged; an error if that is impossible. After
    /// that no query detects new damage.
    pub fn verify(&self) -> Result<(), BaseDamage> {
        self.visit(&[], &mut |_, _| true);
        self.verified.store(true, Ordering::Relaxed);
        self.damage().map_or(Ok(()), Err)
    }

    /// Returns whether every row was verified.
    pub fn is_verified(&self) -> bool {
        self.verified.load(Ordering::Relaxed)
    }

    /// Visits the rows whose key is not before `from`, in order, until the visitor returns false.
    pub(super) fn visit(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        if self.damage().is_some() {
            return;
        }
        let Some(block) = self.rows.visit(from, visit) else { return };
        let rebuilt = self.rebuilt.get_or_init(|| self.rebuild_rows());
        let rest = self.rows.first_key(block).max(from);
        let is_damaged_again =
            rebuilt.as_ref().is_none_or(|rows| rows.visit(rest, visit).is_some());
        if is_damaged_again {
            let Block { offset, len, .. } = *block;
            self.damage.get_or_init(|| BaseDamage { sequence: self.sequence, offset, len });
        }
    }

    fn rebuild_rows(&self) -> Option<BaseRows> {
        let bytes = (self.rebuild)()?;
        let header = CheckpointHeader::decode(&bytes).ok()?;
        BaseRows::open(bytes, &header)
    }
}

impl BaseRows {
    fn open(bytes: Bytes, header: &CheckpointHeader) -> Option<Self> {
        let index_at = CHECKPOINT_HEADER_BYTES + header.rows_len as usize;
        let index = bytes.get(index_at..)?;
        if crc32(index) != header.index_crc {
            return None;
        }
        let mut blocks = Vec::new();
        let mut at = 0;
        while at < index.len() {
            let key_len = u16_at(index, at + 12).ok()? as usize;
            slice(index, at + INDEX_ENTRY_BYTES, key_len).ok()?;
            blocks.push(Block {
                offset: CHECKPOINT_HEADER_BYTES + u32_at(index, at).ok()? as usize,
                len: u32_at(index, at + 4).ok()? as usize,
                crc: u32_at(index, at + 8).ok()?,
                key: (index_at + at + INDEX_ENTRY_BYTES, key_len),
                checked: AtomicBool::new(false),
            });
            at += INDEX_ENTRY_BYTES + key_len;
        }
        Some(Self { bytes, blocks })
    }

    fn first_key(&self, block: &Block) -> &[u8] {
        &self.bytes[block.key.0..block.key.0 + block.key.1]
    }

    /// Returns the bytes of a block; `None` if they do not match their checksum.
    fn read(&self, block: &Block) -> Option<&[u8]> {
        let rows = self.bytes.get(block.offset..block.offset + block.len)?;
        if !block.checked.load(Ordering::Relaxed) {
            if crc32(rows) != block.crc {
                return None;
            }
            block.checked.store(true, Ordering::Relaxed);
        }
        Some(rows)
    }

    /// Visits the rows whose key is not before `from`, in order, until the visitor returns false.
    /// If a block is damaged, stops and returns that block.
    fn visit(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Option<&Block> {
        let start = self.blocks.partition_point(|block| self.first_key(block) <= from);
        for block in &self.blocks[start.saturating_sub(1)..] {
            let Some(rows) = self.read(block) else { return Some(block) };
            for (key, value) in split_rows(rows) {
                if key >= from && !visit(key, value) {
                    return None;
                }
            }
        }
        None
    }
}

/// Splits a block into its rows, each a key and a value.
fn split_rows(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let key_len = u16_at(block, at).ok()? as usize;
        let value_len = u32_at(block, at + 2).ok()? as usize;
        let key = slice(block, at + 6, key_len).ok()?;
        let value = slice(block, at + 6 + key_len, value_len).ok()?;
        at += 6 + key_len + value_len;
        Some((key, value))
    })
}

/// Writes the rows of a checkpoint in blocks, and the index of the blocks.
#[derive(Default)]
pub(super) struct RowWriter {
    rows: Vec<u8>,
    index: Vec<u8>,
    /// Offset of the open block in `rows`.
    block_at: usize,
    /// First key of the open block.
    block_key: Vec<u8>,
}

impl RowWriter {
    /// Appends a row encoded as JSON; `None` appends nothing.
    pub fn push_row<R: Serialize>(&mut self, key: &[u8], row: Option<&R>) {
        if let Some(Ok(value)) = row.map(serde_json::to_vec) {
            self.push(key, &value);
        }
    }

    /// Appends an encoded row. Keys must be in ascending order.
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        if self.rows.len() - self.block_at >= BLOCK_BYTES {
            self.close_block();
        }
        if self.rows.len() == self.block_at {
            self.block_key = key.to_vec();
        }
        self.rows.extend_from_slice(&(key.len() as u16).to_le_bytes());
        self.rows.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.rows.extend_from_slice(key);
        self.rows.extend_from_slice(value);
    }

    fn close_block(&mut self) {
        let block = &self.rows[self.block_at..];
        if block.is_empty() {
            return;
        }
        self.index.extend_from_slice(&(self.block_at as u32).to_le_bytes());
        self.index.extend_from_slice(&(block.len() as u32).to_le_bytes());
        self.index.extend_from_slice(&crc32(block).to_le_bytes());
        self.index.extend_from_slice(&(self.block_key.len() as u16).to_le_bytes());
        self.index.extend_from_slice(&self.block_key);
        self.block_at = self.rows.len();
    }

    /// Returns the rows and their index.
    pub fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        self.close_block();
        (self.rows, self.index)
    }
}

#[cfg(test)]
mod tests {
    use c2c_log_format::Payload;
    use c2c_log_format::payload::SessionRegistered;
    use c2c_log_format::scan::FramePosition;

    use super::*;
    use crate::state::State;

    const AGENTS: u64 = 200;

    fn alias(n: u64) -> String {
        format!("agent-{n:03}")
    }

    /// A checkpoint of many agents, so that it has several blocks.
    fn checkpoint_file() -> Vec<u8> {
        let mut state = State::default();
        for n in 1..=AGENTS {
            let event = SessionRegistered::new(format!("s-{n}"), alias(n), alias(n), "node");
            state.apply(n, n, &Payload::SessionRegistered(event));
        }
        let position = FramePosition { offset: 4096, sequence: AGENTS + 1, previous_frame: 0 };
        state.checkpoint([7; 16], 1, position, 1)
    }

    fn open(file: Vec<u8>, rebuild: Rebuild) -> CheckpointBase {
        let header = CheckpointHeader::decode(&file).expect("a checkpoint header");
        CheckpointBase::open(Arc::new(file), &header, rebuild).expect("a valid index")
    }

    /// The checkpoint with one flipped bit in its first block, which holds sessions.
    fn damaged_file() -> Vec<u8> {
        let mut file = checkpoint_file();
        file[CHECKPOINT_HEADER_BYTES + 40] ^= 1;
        file
    }

    #[test]
    fn damage_that_cannot_be_rebuilt_is_reported_and_does_not_panic() {
        for rebuild in [None, Some(Arc::new(damaged_file()) as Bytes)] {
            let base = open(damaged_file(), Arc::new(move || rebuild.clone()));
            let state = State::from_base(Some(&base), AGENTS);
            assert_eq!(base.damage(), None, "nothing has read the damaged block");
            assert!(state.mailboxes.get(alias(1)).is_some(), "an intact block is readable");

            assert_eq!(state.sessions.get("s-1"), None);
            let damage = base.damage().expect("the damage is reported");
            assert_eq!((damage.sequence, damage.offset), (AGENTS, CHECKPOINT_HEADER_BYTES));
            assert!(damage.len >= BLOCK_BYTES);

            assert!(state.mailboxes.get(alias(1)).is_none(), "no rows are returned from then on");
            assert!(state.sessions.scan([]).is_empty());
            assert!(!state.sessions.any([]));
            assert_eq!(base.verify(), Err(damage));
        }
    }

    #[test]
    fn a_damaged_block_is_rebuilt_from_the_log() {
        let base = open(damaged_file(), Arc::new(|| Some(Arc::new(checkpoint_file()) as Bytes)));
        let state = State::from_base(Some(&base), AGENTS);
        assert!(state.sessions.get("s-1").is_some());
        assert_eq!(state.sessions.scan([]).len() as u64, AGENTS);
        assert!(base.was_rebuilt());
        assert_eq!(base.verify(), Ok(()));
    }

    #[test]
    fn an_intact_checkpoint_is_never_rebuilt() {
        let base = open(checkpoint_file(), Arc::new(|| None));
        let state = State::from_base(Some(&base), AGENTS);
        assert_eq!(state.sessions.scan([]).len() as u64, AGENTS);
        assert_eq!((base.verify(), base.was_rebuilt()), (Ok(()), false));
    }
}
