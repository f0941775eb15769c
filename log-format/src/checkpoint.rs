//! The header of a checkpoint.
//!
//! ```text
//! offset  size  field
//!      0     8  magic "c2c-ckp\n"
//!      8     2  format version
//!     10     2  projection version; readers skip checkpoints of another version
//!     12     4  zero
//!     16    16  log id
//!     32     8  sequence covered: all events up to and including it are applied
//!     40     8  base of the segment in which reading continues
//!     48     8  offset in that segment
//!     56     4  checksum of the last frame before that offset
//!     60     4  CRC-32 of the index
//!     64     8  length of the rows, which follow the header
//!     72     8  length of the index, which follows the rows
//!     80    32  digest of the rows
//!    112     8  time of writing, microseconds since 1970 UTC
//!    120   132  zero
//!    252     4  CRC-32 of bytes 0 to 251
//! ```
//!
//! Rows are sorted by key and stored in blocks of about 4 KiB. A row is key length (2), value
//! length (4), key, value. The index lists each block: offset (4), length (4), CRC-32 (4), length
//! of its first key (2), that key. Reading one row touches the header, the index and one block.

use crate::Sequence;
use crate::bytes::{array, put, slice, u16_at, u32_at, u64_at};
use crate::checksum::crc32;
use crate::error::{FormatError, Problem};
use crate::limits::CHECKPOINT_HEADER_BYTES;
use crate::scan::FramePosition;

/// First bytes of every checkpoint.
pub const MAGIC: [u8; 8] = *b"c2c-ckp\n";
/// Version of the checkpoint layout.
pub const VERSION: u16 = 1;

/// The header of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointHeader {
    /// Version of the projection that wrote the rows.
    pub projection: u16,
    /// Id of the log.
    pub log_id: [u8; 16],
    /// Sequence of the last applied event.
    pub sequence: Sequence,
    /// Base sequence of the segment in which reading continues.
    pub segment: Sequence,
    /// Position in that segment.
    pub position: FramePosition,
    /// Length of the rows, bytes.
    pub rows_len: u64,
    /// Length of the index, bytes.
    pub index_len: u64,
    /// CRC-32 of the index.
    pub index_crc: u32,
    /// Digest of the rows.
    pub digest: [u8; 32],
    /// Time of writing, microseconds since 1970 UTC.
    pub time_us: u64,
}

impl CheckpointHeader {
    /// Encodes the header as its 256 bytes on disk.
    pub fn encode(&self) -> [u8; CHECKPOINT_HEADER_BYTES] {
        let mut out = [0; CHECKPOINT_HEADER_BYTES];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &self.projection.to_le_bytes());
        put(&mut out, 16, &self.log_id);
        put(&mut out, 32, &self.sequence.to_le_bytes());
        put(&mut out, 40, &self.segment.to_le_bytes());
        put(&mut out, 48, &(self.position.offset as u64).to_le_bytes());
        put(&mut out, 56, &self.position.previous_frame.to_le_bytes());
        put(&mut out, 60, &self.index_crc.to_le_bytes());
        put(&mut out, 64, &self.rows_len.to_le_bytes());
        put(&mut out, 72, &self.index_len.to_le_bytes());
        put(&mut out, 80, &self.digest);
        put(&mut out, 112, &self.time_us.to_le_bytes());
        let crc = crc32(&out[..252]);
        put(&mut out, 252, &crc.to_le_bytes());
        out
    }

    /// Decodes the header of a checkpoint; `bytes` is the whole file.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let header = slice(bytes, 0, CHECKPOINT_HEADER_BYTES)?;
        if array::<8>(header, 0)? != MAGIC {
            return Err(FormatError::at(0, Problem::Magic));
        }
        if crc32(&header[..252]) != u32_at(header, 252)? {
            return Err(FormatError::at(0, Problem::HeaderChecksum));
        }
        let major = u16_at(header, 8)?;
        if major != VERSION {
            return Err(FormatError::at(8, Problem::FutureVersion { major }));
        }
        let sequence = u64_at(header, 32)?;
        let Some(next) = sequence.checked_add(1) else {
            return Err(FormatError::at(32, Problem::Implausible));
        };
        let decoded = Self {
            projection: u16_at(header, 10)?,
            log_id: array(header, 16)?,
            sequence,
            segment: u64_at(header, 40)?,
            position: FramePosition {
                offset: u64_at(header, 48)? as usize,
                sequence: next,
                previous_frame: u32_at(header, 56)?,
            },
            rows_len: u64_at(header, 64)?,
            index_len: u64_at(header, 72)?,
            index_crc: u32_at(header, 60)?,
            digest: array(header, 80)?,
            time_us: u64_at(header, 112)?,
        };
        let contents = decoded.rows_len.checked_add(decoded.index_len);
        if contents != Some((bytes.len() - CHECKPOINT_HEADER_BYTES) as u64) {
            return Err(FormatError::at(64, Problem::Implausible));
        }
        Ok(decoded)
    }
}
