//! Replication batches: the binary encoding of events that are copied from one log to another.
//!
//! ```text
//! offset  size  field
//!      0     8  magic "c2c-bat\n"
//!      8     2  version: 1
//!     10     2  flags: bit 0 set if the content is compressed with zstd
//!     12     4  number of events
//!     16    16  log id of the source log
//!     32     8  start: sequence after which reading began, 0 for the beginning of the log
//!     40    32  digest of the event at the start
//!     72     8  end: last sequence that was read
//!     80    32  digest of the event at the end
//!    112     4  length of the content as stored, bytes
//!    116     4  length of the content before compression, bytes
//!    120     4  CRC-32 of the content as stored
//!    124     4  CRC-32 of bytes 0 to 123
//!    128     n  content
//! ```
//!
//! The content is a sequence of records. Each record consists of the id of the log from which the
//! event was read (16 bytes), the digest of the event (32 bytes), and a frame of the segment format
//! with salt 0 that contains only this event, under its sequence in that log. Each frame carries
//! the checksum of the previous frame, the first one 0. One event may become several records, and
//! an event that is retried appears again in a later batch, out of its order.

use std::collections::HashMap;

use c2c_log_format::bytes::{align8, array, put, slice, u16_at, u32_at, u64_at};
use c2c_log_format::checksum::crc32;
use c2c_log_format::event::events;
use c2c_log_format::frame::{self, FrameHeader, NewFrame};
use c2c_log_format::limits::{EVENT_HEAD_BYTES, FRAME_HEADER_BYTES};
use c2c_log_format::{Event, EventHead, FormatError, Payload, Sequence};

use super::cursor::{Digest, WireCursor};
use c2c_core::limits::{
    REPLICATION_BYTES, REPLICATION_BYTES_MAX, REPLICATION_EVENTS, REPLICATION_EVENTS_MAX,
};

const MAGIC: [u8; 8] = *b"c2c-bat\n";
const VERSION: u16 = 1;
const FLAG_ZSTD: u16 = 1;
const HEADER_BYTES: usize = 128;
const ORIGIN_BYTES: usize = 48;
/// Higher levels take longer and save little on JSON.
const ZSTD_LEVEL: i32 = 3;

/// Why a whole batch is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Part of the batch cannot be decoded.
    #[error("the batch cannot be decoded: {0}")]
    Format(#[from] FormatError),
    /// The magic bytes are wrong.
    #[error("not a replication batch")]
    Magic,
    /// The batch was encoded by a newer program.
    #[error("batch version {0} is newer than this program")]
    Version(u16),
    /// The header or the content does not match its checksum.
    #[error("the batch does not match its checksum")]
    Checksum,
    /// The lengths in the header contradict the size of the batch.
    #[error("the lengths in the batch do not match its size")]
    Length,
    /// The batch exceeds the size or event limit.
    #[error("the batch is larger than the limit")]
    TooLarge,
    /// The content cannot be compressed or decompressed.
    #[error("zstd cannot compress or decompress the batch")]
    Compression,
    /// An event is out of order, or beyond the end of the batch.
    #[error("event {0} of the batch is out of order")]
    Order(Sequence),
    /// An event does not match the digest of its record.
    #[error("event {0} of the batch does not match its digest")]
    Digest(Sequence),
}

/// Compression of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// No compression.
    None,
    /// zstd, if it makes the batch smaller.
    Zstd,
}

/// One event in a batch. The sequence in its head is its sequence in the log that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireItem {
    /// Id of the log that was read.
    pub log: [u8; 16],
    /// Time at which the event was written there, microseconds since 1970 UTC.
    pub time_us: u64,
    /// Event head.
    pub head: EventHead,
    /// Encoded payload.
    pub payload: Vec<u8>,
    /// Digest of the event as this item contains it.
    pub digest: Digest,
}

impl WireItem {
    /// Creates an item for an event of a log, or for one that is derived from it.
    pub fn new(log: [u8; 16], sequence: Sequence, time_us: u64, event: &Payload) -> Self {
        let head = event.head(sequence);
        let payload = event.encode();
        let digest = Digest::of(&Event { head, payload: &payload }, time_us);
        Self { log, time_us, head, payload, digest }
    }

    /// Position of the event in the log that was read.
    pub fn origin(&self) -> WireCursor {
        WireCursor { log: self.log, sequence: self.head.sequence, digest: self.digest }
    }

    fn record_bytes(&self) -> usize {
        let body = align8(EVENT_HEAD_BYTES + self.payload.len());
        ORIGIN_BYTES + FRAME_HEADER_BYTES + body
    }
}

/// Events of one log between two of its positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireBatch {
    start: WireCursor,
    end: WireCursor,
    items: Vec<WireItem>,
    /// Size of the uncompressed content.
    bytes: usize,
}

impl WireBatch {
    /// Creates an empty batch that starts after a position.
    pub const fn after(cursor: WireCursor) -> Self {
        Self { start: cursor, end: cursor, items: Vec::new(), bytes: 0 }
    }

    /// Whether the batch has reached its target size and the next event belongs to another batch.
    pub fn is_full(&self) -> bool {
        self.bytes >= REPLICATION_BYTES || self.items.len() >= REPLICATION_EVENTS
    }

    /// Whether all items of one event fit. An empty batch accepts any number of bytes, because an
    /// event that fits no batch would block replication forever.
    pub fn fits(&self, items: &[WireItem]) -> bool {
        let bytes: usize = items.iter().map(WireItem::record_bytes).sum();
        let count = self.items.len() + items.len();
        self.items.is_empty()
            || (self.bytes + bytes <= REPLICATION_BYTES_MAX && count <= REPLICATION_EVENTS_MAX)
    }

    /// Adds an event and moves the end of the batch to `upto`, a position in the source log.
    pub fn push(&mut self, item: WireItem, upto: WireCursor) {
        self.bytes += item.record_bytes();
        self.items.push(item);
        self.end = upto;
    }

    /// Moves the end of the batch past an event that is not replicated.
    pub fn skip_to(&mut self, upto: WireCursor) {
        self.end = upto;
    }

    /// Position in the source log after which the batch starts.
    pub fn start(&self) -> WireCursor {
        self.start
    }

    /// Position in the source log that a reader reaches with this batch.
    pub fn end(&self) -> WireCursor {
        self.end
    }

    /// The events, in order.
    pub fn items(&self) -> &[WireItem] {
        &self.items
    }

    /// Encodes the batch.
    pub fn encode(&self, compression: Compression) -> Result<Vec<u8>, BatchError> {
        let mut content = Vec::with_capacity(self.bytes);
        let mut previous_frame = 0;
        for item in &self.items {
            previous_frame = encode_record(item, previous_frame, &mut content);
        }
        let uncompressed = content.len();
        if uncompressed > REPLICATION_BYTES_MAX || self.items.len() > REPLICATION_EVENTS_MAX {
            return Err(BatchError::TooLarge);
        }
        let mut flags = 0;
        if compression == Compression::Zstd {
            let compressed =
                zstd::bulk::compress(&content, ZSTD_LEVEL).map_err(|_| BatchError::Compression)?;
            if compressed.len() < uncompressed {
                content = compressed;
                flags = FLAG_ZSTD;
            }
        }
        let mut out = vec![0; HEADER_BYTES];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &flags.to_le_bytes());
        put(&mut out, 12, &(self.items.len() as u32).to_le_bytes());
        put(&mut out, 16, &self.start.log);
        put(&mut out, 32, &self.start.sequence.to_le_bytes());
        put(&mut out, 40, &self.start.digest.0);
        put(&mut out, 72, &self.end.sequence.to_le_bytes());
        put(&mut out, 80, &self.end.digest.0);
        put(&mut out, 112, &(content.len() as u32).to_le_bytes());
        put(&mut out, 116, &(uncompressed as u32).to_le_bytes());
        put(&mut out, 120, &crc32(&content).to_le_bytes());
        let crc = crc32(&out[..124]);
        put(&mut out, 124, &crc.to_le_bytes());
        out.extend_from_slice(&content);
        Ok(out)
    }

    /// Decodes a batch. Rejects the whole batch if any part of it is invalid.
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
        let uncompressed = u32_at(header, 116)? as usize;
        let count = u32_at(header, 12)? as usize;
        if uncompressed > REPLICATION_BYTES_MAX || count > REPLICATION_EVENTS_MAX {
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
        let start =
            WireCursor { log, sequence: u64_at(header, 32)?, digest: Digest(array(header, 40)?) };
        let end =
            WireCursor { log, sequence: u64_at(header, 72)?, digest: Digest(array(header, 80)?) };
        let items = if flags & FLAG_ZSTD == 0 {
            if stored != uncompressed {
                return Err(BatchError::Length);
            }
            decode_records(content, count)?
        } else {
            let content = zstd::bulk::decompress(content, uncompressed)
                .map_err(|_| BatchError::Compression)?;
            if content.len() != uncompressed {
                return Err(BatchError::Length);
            }
            decode_records(&content, count)?
        };
        let batch = Self { start, end, items, bytes: uncompressed };
        batch.check_order()?;
        Ok(batch)
    }

    /// Checks that the events of each log are in order and none is beyond the end of the batch. A
    /// batch that does not move the cursor must have equal ends and no events.
    fn check_order(&self) -> Result<(), BatchError> {
        let (start, end) = (self.start, self.end);
        let moved = end.sequence > start.sequence;
        if !moved && (end != start || !self.items.is_empty()) {
            return Err(BatchError::Order(end.sequence));
        }
        let mut last_sequences: HashMap<[u8; 16], Sequence> = HashMap::new();
        for item in &self.items {
            let sequence = item.head.sequence;
            let previous = last_sequences.insert(item.log, sequence);
            let is_beyond_end = item.log == start.log && sequence > end.sequence;
            if previous.is_some_and(|previous| previous > sequence) || is_beyond_end {
                return Err(BatchError::Order(sequence));
            }
        }
        Ok(())
    }
}

/// Appends one record and returns the checksum of its frame.
fn encode_record(item: &WireItem, previous_frame: u32, content: &mut Vec<u8>) -> u32 {
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

fn decode_records(content: &[u8], count: usize) -> Result<Vec<WireItem>, BatchError> {
    let mut items = Vec::new();
    let mut offset = 0;
    let mut previous_frame = 0;
    for _ in 0..count {
        let (log, digest) = (array(content, offset)?, Digest(array(content, offset + 16)?));
        let rest = content.get(offset + ORIGIN_BYTES..).unwrap_or(&[]);
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
            items.push(WireItem {
                log,
                time_us: header.time_us,
                head: event.head,
                payload: event.payload.to_vec(),
                digest,
            });
        }
        previous_frame = header.crc;
        offset += ORIGIN_BYTES + header.frame_len();
    }
    if offset != content.len() {
        return Err(BatchError::Length);
    }
    Ok(items)
}

#[cfg(test)]
mod tests;
