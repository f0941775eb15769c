//! Frames: one batch of events with its length, checksums and chain.
//!
//! ```text
//! offset  size  field
//!      0     4  magic "c2cF" XOR the segment's salt
//!      4     4  body length in bytes
//!      8     8  sequence of the first event (of a seal: the next segment's base)
//!     16     8  time of writing, microseconds since 1970 UTC
//!     24     2  number of events; 0 in a seal
//!     26     2  flags: bit 0 durable, bit 1 seal
//!     28     4  zero
//!     32     8  highest sequence known to be durable when this frame was written
//!     40     4  header checksum of the previous frame (in a first frame: `previous frame` of the
//!               segment header)
//!     44     4  CRC-32 of the body
//!     48     4  zero
//!     52     4  CRC-32 of bytes 0 to 51: the checksum of this frame
//!     56     n  body, then zeros to a multiple of 8
//! ```
//!
//! The header has its own checksum, so a flipped bit in a body costs only that frame, never the
//! position of the next. The header includes the checksum of the body, so the header checksum
//! covers the whole frame, and the chain of previous checksums covers all earlier frames.

use alloc::vec::Vec;

use crate::Sequence;
use crate::bytes::{align8, all_zero, put, slice, u16_at, u32_at, u64_at};
use crate::checksum::crc32;
use crate::error::{FormatError, Problem};
use crate::limits::{FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES};

pub use crate::limits::SEAL_BODY_BYTES;

/// The magic of a frame, before the salt is applied.
pub const MAGIC: u32 = u32::from_le_bytes(*b"c2cF");

const FLAG_DURABLE: u16 = 1;
const FLAG_SEAL: u16 = 2;

/// A decoded frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Sequence of the first event.
    pub sequence: Sequence,
    /// Time of writing, microseconds since 1970 UTC.
    pub time_us: u64,
    /// Number of events, 0 in a seal.
    pub count: u16,
    /// Whether its writer reported success only after the frame was on disk.
    pub durable: bool,
    /// Whether the frame seals the segment.
    pub seal: bool,
    /// Highest sequence known to be durable when the frame was written.
    pub durable_sequence: Sequence,
    /// Checksum of the previous frame.
    pub previous_frame: u32,
    /// Length of the body without padding, bytes.
    pub body_len: u32,
    /// CRC-32 of the body.
    pub body_crc: u32,
    /// Checksum of this frame.
    pub crc: u32,
}

impl FrameHeader {
    /// Returns the sequence of the last event; for a seal, of the last event before it.
    pub fn last_sequence(&self) -> Sequence {
        self.sequence + Sequence::from(self.count) - 1
    }

    /// Returns the length of the whole frame including padding, bytes.
    pub fn frame_len(&self) -> usize {
        FRAME_HEADER_BYTES + align8(self.body_len as usize)
    }

    /// Decodes a frame header at the start of `bytes`.
    pub fn decode(bytes: &[u8], salt: u32) -> Result<Self, FormatError> {
        let header = slice(bytes, 0, FRAME_HEADER_BYTES)?;
        if u32_at(header, 0)? ^ salt != MAGIC {
            return Err(FormatError::at(0, Problem::Magic));
        }
        let crc = u32_at(header, 52)?;
        if crc32(&header[..52]) != crc {
            return Err(FormatError::at(0, Problem::HeaderChecksum));
        }
        let flags = u16_at(header, 26)?;
        let decoded = Self {
            body_len: u32_at(header, 4)?,
            sequence: u64_at(header, 8)?,
            time_us: u64_at(header, 16)?,
            count: u16_at(header, 24)?,
            durable: flags & FLAG_DURABLE != 0,
            seal: flags & FLAG_SEAL != 0,
            durable_sequence: u64_at(header, 32)?,
            previous_frame: u32_at(header, 40)?,
            body_crc: u32_at(header, 44)?,
            crc,
        };
        let plausible = decoded.sequence > 0
            && decoded.body_len as usize <= FRAME_BODY_BYTES_MAX
            && decoded.seal == (decoded.count == 0)
            && decoded.sequence.checked_add(u64::from(decoded.count)).is_some();
        if !plausible {
            return Err(FormatError::at(0, Problem::Implausible));
        }
        Ok(decoded)
    }
}

/// A frame to be written; lengths and checksums are computed by [`NewFrame::encode`].
#[derive(Debug, Clone, Copy)]
pub struct NewFrame<'a> {
    /// Sequence of the first event.
    pub sequence: Sequence,
    /// Time of writing, microseconds since 1970 UTC.
    pub time_us: u64,
    /// Number of events.
    pub count: u16,
    /// Whether success is reported only after the frame is on disk.
    pub durable: bool,
    /// Whether the frame seals the segment.
    pub seal: bool,
    /// Highest sequence known to be durable.
    pub durable_sequence: Sequence,
    /// Checksum of the previous frame.
    pub previous_frame: u32,
    /// The encoded events.
    pub body: &'a [u8],
}

impl NewFrame<'_> {
    /// Appends the frame to `out` and returns its checksum.
    pub fn encode(&self, salt: u32, out: &mut Vec<u8>) -> u32 {
        let mut header = [0; FRAME_HEADER_BYTES];
        let flags =
            if self.durable { FLAG_DURABLE } else { 0 } | if self.seal { FLAG_SEAL } else { 0 };
        put(&mut header, 0, &(MAGIC ^ salt).to_le_bytes());
        put(&mut header, 4, &(self.body.len() as u32).to_le_bytes());
        put(&mut header, 8, &self.sequence.to_le_bytes());
        put(&mut header, 16, &self.time_us.to_le_bytes());
        put(&mut header, 24, &self.count.to_le_bytes());
        put(&mut header, 26, &flags.to_le_bytes());
        put(&mut header, 32, &self.durable_sequence.to_le_bytes());
        put(&mut header, 40, &self.previous_frame.to_le_bytes());
        put(&mut header, 44, &crc32(self.body).to_le_bytes());
        let crc = crc32(&header[..52]);
        put(&mut header, 52, &crc.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(self.body);
        out.resize(out.len() + align8(self.body.len()) - self.body.len(), 0);
        crc
    }
}

/// Returns the body of a frame at the start of `bytes`, after verifying its checksum and padding.
pub fn body<'a>(bytes: &'a [u8], header: &FrameHeader) -> Result<&'a [u8], FormatError> {
    let len = header.body_len as usize;
    let body = slice(bytes, FRAME_HEADER_BYTES, len)?;
    let padding = slice(bytes, FRAME_HEADER_BYTES + len, align8(len) - len)?;
    if crc32(body) != header.body_crc {
        return Err(FormatError::at(FRAME_HEADER_BYTES, Problem::BodyChecksum));
    }
    if !all_zero(padding) {
        return Err(FormatError::at(FRAME_HEADER_BYTES + len, Problem::NotZero));
    }
    Ok(body)
}

/// The body of a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// Number of frames in the segment, not counting the seal.
    pub frames: u64,
    /// Last sequence in the segment.
    pub last: Sequence,
    /// Earliest frame time, microseconds.
    pub from_us: u64,
    /// Latest frame time, microseconds.
    pub to_us: u64,
    /// Digest of the segment up to the seal.
    pub digest: [u8; 32],
}

impl Seal {
    /// Encodes the seal as the 64 bytes of its body.
    pub fn encode(&self) -> [u8; SEAL_BODY_BYTES] {
        let mut out = [0; SEAL_BODY_BYTES];
        put(&mut out, 0, &self.frames.to_le_bytes());
        put(&mut out, 8, &self.last.to_le_bytes());
        put(&mut out, 16, &self.from_us.to_le_bytes());
        put(&mut out, 24, &self.to_us.to_le_bytes());
        put(&mut out, 32, &self.digest);
        out
    }

    /// Decodes the body of a seal.
    pub fn decode(body: &[u8]) -> Result<Self, FormatError> {
        Ok(Self {
            frames: u64_at(body, 0)?,
            last: u64_at(body, 8)?,
            from_us: u64_at(body, 16)?,
            to_us: u64_at(body, 24)?,
            digest: crate::bytes::array(body, 32)?,
        })
    }
}
