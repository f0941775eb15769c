//! How do events travel from one log to another?
//!
//! ```text
//! offset  size  field
//!      0     8  magic "c2c-bat\n"
//!      8     2  version: 1
//!     10     2  flags: bit 0 the content is compressed with zstd
//!     12     4  number of events
//!     16    16  log id of the log that was read
//!     32     8  sequence after which reading began, 0 for the start
//!     40    32  digest of the event there
//!     72     8  sequence up to which was read
//!     80    32  digest of the event there
//!    112     4  bytes of the content as it follows
//!    116     4  bytes of the content, not compressed
//!    120     4  CRC-32 of the content as it follows
//!    124     4  CRC-32 of bytes 0 to 123
//!    128     n  content
//! ```
//!
//! The content is a row of records: the log id of the log that holds the event (16), the digest of
//! what follows (32), and a frame of the segment format with salt 0 that holds this one event under
//! the sequence that it has there. Each frame names the checksum of the frame before, the first one
//! 0. An event may leave as several records, and one that waited comes again, later than its place.

use std::collections::HashMap;

use c2c_log_format::bytes::{align8, array, put, slice, u16_at, u32_at, u64_at};
use c2c_log_format::checksum::crc32;
use c2c_log_format::event::events;
use c2c_log_format::frame::{self, FrameHeader, NewFrame};
use c2c_log_format::limits::{EVENT_HEAD_BYTES, FRAME_HEADER_BYTES};
use c2c_log_format::{Event, EventHead, FormatError, Payload, Sequence};

use super::cursor::{Cursor, Digest};
use crate::limits::{
    REPLICATION_BYTES, REPLICATION_BYTES_MAX, REPLICATION_EVENTS, REPLICATION_EVENTS_MAX,
};

const MAGIC: [u8; 8] = *b"c2c-bat\n";
const VERSION: u16 = 1;
const FLAG_ZSTD: u16 = 1;
const HEADER_BYTES: usize = 128;
const ORIGIN_BYTES: usize = 48;
/// More costs time and saves little on JSON.
const ZSTD_LEVEL: i32 = 3;

/// Why a batch is refused, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A part of it cannot be read.
    #[error("the batch cannot be read: {0}")]
    Format(#[from] FormatError),
    /// It does not begin as a batch does.
    #[error("not a replication batch")]
    Magic,
    /// Made by a newer program.
    #[error("batch version {0} is newer than this program")]
    Version(u16),
    /// Its header or content does not match its checksum.
    #[error("the batch does not match its checksum")]
    Checksum,
    /// Its parts do not add up to its size.
    #[error("the lengths in the batch do not add up")]
    Length,
    /// More than anybody may send at once.
    #[error("the batch is larger than the limit")]
    TooLarge,
    /// Its content does not unpack.
    #[error("the content of the batch does not unpack")]
    Compression,
    /// An event is out of its order, or beyond the stretch that was read.
    #[error("event {0} of the batch is out of order")]
    Order(Sequence),
    /// An event is not the one that its origin wrote.
    #[error("event {0} of the batch does not match its digest")]
    Digest(Sequence),
}

/// Whether a batch is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    /// If it makes the batch smaller.
    Zstd,
}

/// One event under way. The sequence in its head is that of the log which first held it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The log that first held it.
    pub log: [u8; 16],
    /// When it was written there, microseconds.
    pub time_us: u64,
    pub head: EventHead,
    pub payload: Vec<u8>,
    /// By which the log that first held it knows it.
    pub digest: Digest,
}

impl Item {
    /// An event of a log, or what leaves because of it.
    pub fn new(log: [u8; 16], sequence: Sequence, time_us: u64, event: &Payload) -> Self {
        let (head, payload) = (event.head(sequence), event.encode());
        let digest = Digest::of(&Event { head, payload: &payload }, time_us);
        Self { log, time_us, head, payload, digest }
    }

    /// Where it was first written, and what exactly.
    pub fn origin(&self) -> Cursor {
        Cursor { log: self.log, sequence: self.head.sequence, digest: self.digest }
    }

    fn record_bytes(&self) -> usize {
        let body = align8(EVENT_HEAD_BYTES + self.payload.len());
        ORIGIN_BYTES + FRAME_HEADER_BYTES + body
    }
}

/// Events of one log between two of its places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    after: Cursor,
    upto: Cursor,
    items: Vec<Item>,
    bytes: usize,
}

impl Batch {
    /// An empty batch that begins after a place.
    pub const fn after(cursor: Cursor) -> Self {
        Self { after: cursor, upto: cursor, items: Vec::new(), bytes: 0 }
    }

    /// Whether the next event belongs into another batch.
    pub fn is_full(&self) -> bool {
        self.bytes >= REPLICATION_BYTES || self.items.len() >= REPLICATION_EVENTS
    }

    /// Whether what leaves because of one event fits, too. An empty batch takes anything: nothing
    /// could ever follow otherwise.
    pub fn has_room(&self, items: &[Item]) -> bool {
        let bytes: usize = items.iter().map(Item::record_bytes).sum();
        let count = self.items.len() + items.len();
        self.items.is_empty()
            || (self.bytes + bytes <= REPLICATION_BYTES_MAX && count <= REPLICATION_EVENTS_MAX)
    }

    /// Takes an event that lies at `upto` in the log that is read.
    pub fn push(&mut self, item: Item, upto: Cursor) {
        self.bytes += item.record_bytes();
        self.items.push(item);
        self.upto = upto;
    }

    /// Passes over an event that does not travel.
    pub fn pass(&mut self, upto: Cursor) {
        self.upto = upto;
    }

    /// Where reading began.
    pub fn begins(&self) -> Cursor {
        self.after
    }

    /// Where the reader is after this batch.
    pub fn upto(&self) -> Cursor {
        self.upto
    }

    /// The events, in their order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The bytes on the wire.
    pub fn encode(&self, compression: Compression) -> Result<Vec<u8>, BatchError> {
        let mut content = Vec::with_capacity(self.bytes);
        let mut previous_frame = 0;
        for item in &self.items {
            previous_frame = record(item, previous_frame, &mut content);
        }
        let unpacked = content.len();
        if unpacked > REPLICATION_BYTES_MAX || self.items.len() > REPLICATION_EVENTS_MAX {
            return Err(BatchError::TooLarge);
        }
        let mut flags = 0;
        if compression == Compression::Zstd {
            let packed =
                zstd::bulk::compress(&content, ZSTD_LEVEL).map_err(|_| BatchError::Compression)?;
            if packed.len() < unpacked {
                (content, flags) = (packed, FLAG_ZSTD);
            }
        }
        let mut out = vec![0; HEADER_BYTES];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &flags.to_le_bytes());
        put(&mut out, 12, &(self.items.len() as u32).to_le_bytes());
        put(&mut out, 16, &self.after.log);
        put(&mut out, 32, &self.after.sequence.to_le_bytes());
        put(&mut out, 40, &self.after.digest.0);
        put(&mut out, 72, &self.upto.sequence.to_le_bytes());
        put(&mut out, 80, &self.upto.digest.0);
        put(&mut out, 112, &(content.len() as u32).to_le_bytes());
        put(&mut out, 116, &(unpacked as u32).to_le_bytes());
        put(&mut out, 120, &crc32(&content).to_le_bytes());
        let crc = crc32(&out[..124]);
        put(&mut out, 124, &crc.to_le_bytes());
        out.extend_from_slice(&content);
        Ok(out)
    }

    /// Reads a batch; one that is not good in every part is refused whole.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = slice(bytes, 0, HEADER_BYTES)?;
        if array::<8>(header, 0)? != MAGIC {
            return Err(BatchError::Magic);
        }
        if crc32(&header[..124]) != u32_at(header, 124)? {
            return Err(BatchError::Checksum);
        }
        let (version, flags) = (u16_at(header, 8)?, u16_at(header, 10)?);
        if version != VERSION || flags & !FLAG_ZSTD != 0 {
            return Err(BatchError::Version(version));
        }
        let stored = u32_at(header, 112)? as usize;
        let (unpacked, count) = (u32_at(header, 116)? as usize, u32_at(header, 12)? as usize);
        if unpacked > REPLICATION_BYTES_MAX || count > REPLICATION_EVENTS_MAX {
            return Err(BatchError::TooLarge);
        }
        let content = &bytes[HEADER_BYTES..];
        if content.len() != stored {
            return Err(BatchError::Length);
        }
        if crc32(content) != u32_at(header, 120)? {
            return Err(BatchError::Checksum);
        }
        let log = array(header, 16)?;
        let after =
            Cursor { log, sequence: u64_at(header, 32)?, digest: Digest(array(header, 40)?) };
        let upto =
            Cursor { log, sequence: u64_at(header, 72)?, digest: Digest(array(header, 80)?) };
        let items = if flags & FLAG_ZSTD == 0 {
            if stored != unpacked {
                return Err(BatchError::Length);
            }
            records(content, count)?
        } else {
            let content =
                zstd::bulk::decompress(content, unpacked).map_err(|_| BatchError::Compression)?;
            if content.len() != unpacked {
                return Err(BatchError::Length);
            }
            records(&content, count)?
        };
        let batch = Self { after, upto, items, bytes: unpacked };
        batch.check_order()?;
        Ok(batch)
    }

    /// Each log in its own order, and nothing from beyond the stretch; a place that did not move
    /// stays the same place, and nothing comes with it.
    fn check_order(&self) -> Result<(), BatchError> {
        let (after, upto) = (self.after, self.upto);
        let moved = upto.sequence > after.sequence;
        if !moved && (upto != after || !self.items.is_empty()) {
            return Err(BatchError::Order(upto.sequence));
        }
        let mut last: HashMap<[u8; 16], Sequence> = HashMap::new();
        for item in &self.items {
            let sequence = item.head.sequence;
            let before = last.insert(item.log, sequence);
            let beyond = item.log == after.log && sequence > upto.sequence;
            if before.is_some_and(|before| before > sequence) || beyond {
                return Err(BatchError::Order(sequence));
            }
        }
        Ok(())
    }
}

/// Appends one record and returns the checksum of its frame.
fn record(item: &Item, previous_frame: u32, content: &mut Vec<u8>) -> u32 {
    content.extend_from_slice(&item.log);
    content.extend_from_slice(&item.digest.0);
    let mut body = Vec::with_capacity(EVENT_HEAD_BYTES + item.payload.len());
    item.head.encode(&item.payload, &mut body);
    let frame = NewFrame {
        sequence: item.head.sequence,
        time_us: item.time_us,
        count: 1,
        durable: true,
        seal: false,
        durable_sequence: 0,
        previous_frame,
        body: &body,
    };
    frame.encode(0, content)
}

fn records(content: &[u8], count: usize) -> Result<Vec<Item>, BatchError> {
    let (mut items, mut at, mut previous_frame) = (Vec::new(), 0, 0);
    for _ in 0..count {
        let (log, digest) = (array(content, at)?, Digest(array(content, at + 16)?));
        let rest = content.get(at + ORIGIN_BYTES..).unwrap_or(&[]);
        let header = FrameHeader::decode(rest, 0)?;
        if header.count != 1 || header.previous_frame != previous_frame {
            return Err(BatchError::Order(header.sequence));
        }
        let body = frame::body(rest, &header)?;
        for event in events(body, header.sequence, 1) {
            let event = event?;
            if Digest::of(&event, header.time_us) != digest {
                return Err(BatchError::Digest(header.sequence));
            }
            let (head, payload) = (event.head, event.payload.to_vec());
            items.push(Item { log, time_us: header.time_us, head, payload, digest });
        }
        previous_frame = header.crc;
        at += ORIGIN_BYTES + header.frame_len();
    }
    if at != content.len() {
        return Err(BatchError::Length);
    }
    Ok(items)
}

#[cfg(test)]
mod tests;
