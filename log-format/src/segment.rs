//! The header and the file name of a segment.
//!
//! ```text
//! offset  size  field
//!      0     8  magic "c2c-seg\n"
//!      8     2  format version, major: readers reject another major version
//!     10     2  format version, minor: informative
//!     12     4  header length, 4096
//!     16    16  log id
//!     32     8  base sequence: no event in this file has a smaller one
//!     40     8  durable sequence: the highest valid one in all earlier segments;
//!               events above it in those segments are void
//!     48     8  base sequence of the previous segment, 0 in the first
//!     56    32  digest of the previous segment, zeros in the first
//!     88     4  checksum of the last frame before this segment, 0 in the first
//!     92     4  salt: XORed into the magic of each frame
//!     96     8  time of creation, microseconds since 1970 UTC
//!    104    16  boot id of the machine that created it
//!    120     2  reason for opening: 0 first, 1 rotation, 2 recovery, 3 failed sync, 4 restored copy
//!    122     2  zero
//!    124     4  CRC-32 of bytes 0 to 123
//!    128  3968  zero
//! ```

use alloc::format;
use alloc::string::String;

use crate::Sequence;
use crate::bytes::{all_zero, array, put, slice, u16_at, u32_at, u64_at};
use crate::checksum::crc32;
use crate::error::{FormatError, Problem};
use crate::limits::SEGMENT_HEADER_BYTES;

/// First bytes of a segment.
pub const MAGIC: [u8; 8] = *b"c2c-seg\n";
/// The major format version that this crate writes and reads.
pub const VERSION_MAJOR: u16 = 1;
/// The minor format version that this crate writes.
pub const VERSION_MINOR: u16 = 0;

/// The reason for opening a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum OpenReason {
    /// The first segment of its log.
    First = 0,
    /// The previous segment was full and is sealed.
    Rotation = 1,
    /// The previous segment ended in damage and was left unchanged.
    Recovery = 2,
    /// A sync of the previous segment failed.
    FailedSync = 3,
    /// The log was restored from a copy.
    Restored = 4,
}

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Id of the log.
    pub log_id: [u8; 16],
    /// No event in this file has a smaller sequence.
    pub base: Sequence,
    /// Events above this sequence in earlier segments are void.
    pub durable: Sequence,
    /// Base sequence of the previous segment; 0 in the first.
    pub previous_base: Sequence,
    /// Digest of the previous segment; zeros in the first.
    pub previous_digest: [u8; 32],
    /// Header checksum of the last frame before this segment; 0 in the first.
    pub previous_frame: u32,
    /// XORed into the magic of each frame.
    pub salt: u32,
    /// Time of creation, microseconds since 1970 UTC.
    pub created_us: u64,
    /// Boot id of the machine that created it.
    pub boot_id: [u8; 16],
    /// The reason for opening the segment.
    pub reason: OpenReason,
}

impl SegmentHeader {
    /// Encodes the header as its 4096 bytes on disk.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION_MAJOR.to_le_bytes());
        put(&mut out, 10, &VERSION_MINOR.to_le_bytes());
        put(&mut out, 12, &(SEGMENT_HEADER_BYTES as u32).to_le_bytes());
        put(&mut out, 16, &self.log_id);
        put(&mut out, 32, &self.base.to_le_bytes());
        put(&mut out, 40, &self.durable.to_le_bytes());
        put(&mut out, 48, &self.previous_base.to_le_bytes());
        put(&mut out, 56, &self.previous_digest);
        put(&mut out, 88, &self.previous_frame.to_le_bytes());
        put(&mut out, 92, &self.salt.to_le_bytes());
        put(&mut out, 96, &self.created_us.to_le_bytes());
        put(&mut out, 104, &self.boot_id);
        put(&mut out, 120, &(self.reason as u16).to_le_bytes());
        let crc = crc32(&out[..124]);
        put(&mut out, 124, &crc.to_le_bytes());
        out
    }

    /// Decodes the header at the start of a segment.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let header = slice(bytes, 0, SEGMENT_HEADER_BYTES)?;
        if array::<8>(header, 0)? != MAGIC {
            return Err(FormatError::at(0, Problem::Magic));
        }
        if crc32(&header[..124]) != u32_at(header, 124)? {
            return Err(FormatError::at(0, Problem::HeaderChecksum));
        }
        let major = u16_at(header, 8)?;
        if major != VERSION_MAJOR {
            return Err(FormatError::at(8, Problem::FutureVersion { major }));
        }
        if !all_zero(&header[128..]) {
            return Err(FormatError::at(128, Problem::NotZero));
        }
        let reason = match u16_at(header, 120)? {
            0 => OpenReason::First,
            1 => OpenReason::Rotation,
            2 => OpenReason::Recovery,
            3 => OpenReason::FailedSync,
            4 => OpenReason::Restored,
            _ => return Err(FormatError::at(120, Problem::Implausible)),
        };
        Ok(Self {
            log_id: array(header, 16)?,
            base: u64_at(header, 32)?,
            durable: u64_at(header, 40)?,
            previous_base: u64_at(header, 48)?,
            previous_digest: array(header, 56)?,
            previous_frame: u32_at(header, 88)?,
            salt: u32_at(header, 92)?,
            created_us: u64_at(header, 96)?,
            boot_id: array(header, 104)?,
            reason,
        })
    }
}

/// Returns the file name of the segment with this base sequence.
pub fn file_name(base: Sequence) -> String {
    format!("{base:020}.seg")
}

/// Returns the base sequence in a segment's file name, or `None` for any other name.
pub fn parse_file_name(name: &str) -> Option<Sequence> {
    let digits = name.strip_suffix(".seg")?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}
