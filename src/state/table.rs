//! How is one kind of row kept: sorted rows of a checkpoint below, what changed since above?

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use c2c_log_format::bytes::{slice, u16_at, u32_at};
use c2c_log_format::checkpoint::CheckpointHeader;
use c2c_log_format::checksum::crc32;
use c2c_log_format::limits::CHECKPOINT_HEADER_BYTES;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Rows of a block before a new one is begun, bytes.
const BLOCK_BYTES: usize = 4096;

/// The bytes of a checkpoint, wherever they lie: in memory, or in a mapped file.
pub type Bytes = Arc<dyn Deref<Target = [u8]> + Send + Sync>;

/// Makes the bytes of a checkpoint anew, from the events that it covers.
pub type Rebuild = Arc<dyn Fn() -> Option<Bytes> + Send + Sync>;

/// The rows of a checkpoint, read in place.
///
/// A block is checked when it is first looked at, so damage may show in the middle of a question.
/// The rows are then made anew from the log, and the answer is the right one.
#[derive(Clone)]
pub struct Base {
    rows: Arc<BaseRows>,
    rebuild: Rebuild,
    rebuilt: Arc<OnceLock<BaseRows>>,
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
    /// Whether its bytes were compared with the checksum.
    checked: AtomicBool,
}

impl Base {
    /// Reads the index of a checkpoint; `None` if it is damaged.
    pub fn open(bytes: Bytes, header: &CheckpointHeader, rebuild: Rebuild) -> Option<Self> {
        let rows = Arc::new(BaseRows::open(bytes, header)?);
        Some(Self { rows, rebuild, rebuilt: Arc::new(OnceLock::new()) })
    }

    /// Whether any block is damaged; looks at all of them.
    pub fn is_damaged(&self) -> bool {
        self.rows.blocks.iter().any(|block| self.rows.read(block).is_none())
    }

    /// Whether rows had to be made anew.
    pub fn was_rebuilt(&self) -> bool {
        self.rebuilt.get().is_some()
    }

    /// Visits the rows from `from` on while the visitor says so.
    fn visit(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        let Some(damaged) = self.rows.visit(from, visit) else { return };
        let rebuilt = self.rebuilt.get_or_init(|| {
            let rows = (self.rebuild)().and_then(|bytes| {
                let header = CheckpointHeader::decode(&bytes).ok()?;
                BaseRows::open(bytes, &header)
            });
            // Neither the checkpoint nor the log can be read: any answer would be a lie.
            rows.expect("a damaged checkpoint cannot be made anew: see `c2c-log verify`")
        });
        let damaged = rebuilt.visit(damaged.max(from), visit);
        assert!(damaged.is_none(), "rows made in memory are whole");
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
            blocks.push(Block {
                offset: CHECKPOINT_HEADER_BYTES + u32_at(index, at).ok()? as usize,
                len: u32_at(index, at + 4).ok()? as usize,
                crc: u32_at(index, at + 8).ok()?,
                key: (index_at + at + 14, key_len),
                checked: AtomicBool::new(false),
            });
            at += 14 + key_len;
        }
        Some(Self { bytes, blocks })
    }

    fn first_key(&self, block: &Block) -> &[u8] {
        &self.bytes[block.key.0..block.key.0 + block.key.1]
    }

    /// The bytes of a block; `None` if they do not match their checksum.
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

    /// Visits the rows from `from` on while the visitor says so; answers with the first key of a
    /// damaged block, at which it stopped.
    fn visit(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Option<&[u8]> {
        let start = self.blocks.partition_point(|block| self.first_key(block) <= from);
        for block in &self.blocks[start.saturating_sub(1)..] {
            let Some(rows) = self.read(block) else { return Some(self.first_key(block)) };
            for (key, value) in rows_of(rows) {
                if key >= from && !visit(key, value) {
                    return None;
                }
            }
        }
        None
    }
}

fn rows_of(rows: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let key_len = u16_at(rows, at).ok()? as usize;
        let value_len = u32_at(rows, at + 2).ok()? as usize;
        let key = slice(rows, at + 6, key_len).ok()?;
        let value = slice(rows, at + 6 + key_len, value_len).ok()?;
        at += 6 + key_len + value_len;
        Some((key, value))
    })
}

/// One kind of row, by key.
#[derive(Clone)]
pub struct Table<R> {
    number: u8,
    base: Option<Base>,
    changed: BTreeMap<Vec<u8>, Option<R>>,
}

impl<R: Serialize + DeserializeOwned + Clone> Table<R> {
    /// An empty table; the number keeps the tables of a checkpoint apart.
    pub fn new(number: u8, base: Option<&Base>) -> Self {
        Self { number, base: base.cloned(), changed: BTreeMap::new() }
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        let mut full = Vec::with_capacity(key.len() + 1);
        full.push(self.number);
        full.extend_from_slice(key);
        full
    }

    /// The row with this key.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<R> {
        let key = self.key(key.as_ref());
        if let Some(changed) = self.changed.get(&key) {
            return changed.clone();
        }
        let mut found = None;
        self.base.as_ref()?.visit(&key, &mut |row, value| {
            if row == key {
                found = serde_json::from_slice(value).ok();
            }
            false
        });
        found
    }

    /// Sets a row.
    pub fn put(&mut self, key: impl AsRef<[u8]>, row: R) {
        let key = self.key(key.as_ref());
        self.changed.insert(key, Some(row));
    }

    /// Removes a row.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) {
        let key = self.key(key.as_ref());
        match &self.base {
            Some(_) => self.changed.insert(key, None),
            None => self.changed.remove(&key),
        };
    }

    /// Changes a row in place; does nothing if there is none.
    pub fn update(&mut self, key: impl AsRef<[u8]>, change: impl FnOnce(&mut R)) {
        if let Some(Some(row)) = self.changed.get_mut(&self.key(key.as_ref())) {
            return change(row);
        }
        if let Some(mut row) = self.get(key.as_ref()) {
            change(&mut row);
            self.put(key, row);
        }
    }

    /// All rows whose key starts with `prefix`, in order, from `from` on (`from` has the prefix).
    pub fn range(&self, prefix: &[u8], from: &[u8]) -> Vec<(Vec<u8>, R)> {
        let (prefix, from) = (self.key(prefix), self.key(from));
        let mut merged: BTreeMap<Vec<u8>, R> = BTreeMap::new();
        if let Some(base) = &self.base {
            base.visit(&from, &mut |key, value| {
                if !key.starts_with(&prefix) {
                    return false;
                }
                if !self.changed.contains_key(key)
                    && let Ok(row) = serde_json::from_slice(value)
                {
                    merged.insert(key[1..].to_vec(), row);
                }
                true
            });
        }
        for (key, row) in self.changed.range(from..) {
            match row {
                _ if !key.starts_with(&prefix) => break,
                Some(row) => merged.insert(key[1..].to_vec(), row.clone()),
                None => None,
            };
        }
        merged.into_iter().collect()
    }

    /// All rows whose key starts with `prefix`, in order.
    pub fn scan(&self, prefix: impl AsRef<[u8]>) -> Vec<(Vec<u8>, R)> {
        self.range(prefix.as_ref(), prefix.as_ref())
    }

    /// Whether any row's key starts with `prefix`.
    pub fn any(&self, prefix: impl AsRef<[u8]>) -> bool {
        let prefix = self.key(prefix.as_ref());
        let above = self.changed.range(prefix.clone()..);
        if above.take_while(|(key, _)| key.starts_with(&prefix)).any(|(_, row)| row.is_some()) {
            return true;
        }
        let mut found = false;
        if let Some(base) = &self.base {
            base.visit(&prefix, &mut |key, _| {
                found = key.starts_with(&prefix) && !self.changed.contains_key(key);
                key.starts_with(&prefix) && !found
            });
        }
        found
    }

    /// Whether a row is wanted, of those whose key starts with `prefix` and is not before `from`.
    pub fn any_from(&self, prefix: &[u8], from: &[u8], wanted: impl Fn(&R) -> bool) -> bool {
        let (prefix, from) = (self.key(prefix), self.key(from));
        let above = self.changed.range(from.clone()..);
        let mut above = above.take_while(|(key, _)| key.starts_with(&prefix));
        if above.any(|(_, row)| row.as_ref().is_some_and(&wanted)) {
            return true;
        }
        let mut found = false;
        if let Some(base) = &self.base {
            base.visit(&from, &mut |key, value| {
                if !key.starts_with(&prefix) {
                    return false;
                }
                let row =
                    serde_json::from_slice(value).ok().filter(|_| !self.changed.contains_key(key));
                found = row.as_ref().is_some_and(&wanted);
                !found
            });
        }
        found
    }

    /// Adds all rows, encoded, to a checkpoint that is being written.
    pub(super) fn encode(&self, out: &mut Rows) {
        let prefix = [self.number];
        let mut changed = self.changed.iter().peekable();
        let mut base_rows = |key: &[u8], value: &[u8], out: &mut Rows| {
            while let Some((changed_key, row)) = changed.next_if(|(k, _)| k.as_slice() < key) {
                out.push_row(changed_key, row.as_ref());
            }
            match changed.next_if(|(k, _)| k.as_slice() == key) {
                Some((changed_key, row)) => out.push_row(changed_key, row.as_ref()),
                None => out.push(key, value),
            }
        };
        if let Some(base) = &self.base {
            base.visit(&prefix, &mut |key, value| {
                let ours = key.starts_with(&prefix);
                if ours {
                    base_rows(key, value, out);
                }
                ours
            });
        }
        for (key, row) in changed {
            out.push_row(key, row.as_ref());
        }
    }
}

/// Rows on their way into a checkpoint.
#[derive(Default)]
pub struct Rows {
    rows: Vec<u8>,
    index: Vec<u8>,
    block_at: usize,
    block_key: Vec<u8>,
}

impl Rows {
    fn push_row<R: Serialize>(&mut self, key: &[u8], row: Option<&R>) {
        if let Some(Ok(value)) = row.map(serde_json::to_vec) {
            self.push(key, &value);
        }
    }

    fn push(&mut self, key: &[u8], value: &[u8]) {
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

    /// The rows and their index.
    pub fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        self.close_block();
        (self.rows, self.index)
    }
}
