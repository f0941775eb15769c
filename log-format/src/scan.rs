//! Scanner for the frames and the damaged ranges of a segment.
//!
//! The scanner only reports what it reads; repairs are made by the holder of the writer lock.

use crate::Sequence;
use crate::bytes::{align8, all_zero, first_nonzero};
use crate::error::{FormatError, Problem};
use crate::frame::{self, FrameHeader};
use crate::limits::FRAME_HEADER_BYTES;

/// One range of a segment: a frame or damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scanned<'a> {
    /// A valid frame.
    Frame {
        /// Its offset in the segment.
        offset: usize,
        /// Its header.
        header: FrameHeader,
        /// Its body.
        body: &'a [u8],
    },
    /// Bytes that do not form a valid frame.
    Damage(ScanDamage),
}

/// A range that could not be read as frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanDamage {
    /// Offset in the segment.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
    /// First sequence that the range should have contained.
    pub first: Sequence,
    /// Last missing sequence, if it is known from a later frame or from the damaged frame's own
    /// header.
    pub last: Option<Sequence>,
    /// The first error in the range.
    pub error: FormatError,
    /// Whether a valid frame follows in the scanned bytes.
    pub followed: bool,
}

/// The position of a scan, sufficient to resume it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePosition {
    /// Offset of the next frame in the segment.
    pub offset: usize,
    /// Sequence of the next event.
    pub sequence: Sequence,
    /// Checksum of the last frame.
    pub previous_frame: u32,
}

/// Iterator over the frames of a segment that continues after damage.
pub struct Scanner<'a> {
    bytes: &'a [u8],
    start: usize,
    salt: u32,
    position: FramePosition,
    /// True after damage: the chain of the next frame cannot be checked.
    resynced: bool,
    seal: Option<Sequence>,
    done: bool,
}

impl<'a> Scanner<'a> {
    /// Creates a scanner for `bytes`, which start at `position.offset` in the segment.
    pub fn new(bytes: &'a [u8], salt: u32, position: FramePosition) -> Self {
        Self {
            bytes,
            start: position.offset,
            salt,
            position,
            resynced: false,
            seal: None,
            done: false,
        }
    }

    /// Returns the position of the next frame; after the scan, the position for the next append.
    pub fn position(&self) -> FramePosition {
        self.position
    }

    /// Returns the base sequence of the next segment if a seal was read.
    pub fn seal(&self) -> Option<Sequence> {
        self.seal
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position.offset - self.start..).unwrap_or(&[])
    }

    fn read_frame(&self, rest: &'a [u8]) -> Result<(FrameHeader, &'a [u8]), BadFrame> {
        let header = FrameHeader::decode(rest, self.salt).map_err(BadFrame::Header)?;
        let continues = if self.resynced {
            header.sequence >= self.position.sequence
        } else {
            header.sequence == self.position.sequence
                && header.previous_frame == self.position.previous_frame
        };
        if !continues && header.sequence >= self.position.sequence {
            return Err(BadFrame::Gap(header));
        }
        if !continues {
            return Err(BadFrame::Header(FormatError::at(8, Problem::BrokenChain)));
        }
        match frame::body(rest, &header) {
            Ok(body) => Ok((header, body)),
            Err(error) if matches!(error.problem, Problem::Short { .. }) => {
                Err(BadFrame::Header(error))
            }
            Err(error) => Err(BadFrame::Body(header, error)),
        }
    }

    /// Finds the next valid frame header in `rest` after an invalid one, and its offset.
    fn find_next_header(&self, rest: &[u8]) -> Option<(usize, FrameHeader)> {
        let mut at = 8;
        while at + FRAME_HEADER_BYTES <= rest.len() {
            at += first_nonzero(&rest[at..]).map_or(rest.len(), |skip| skip / 8 * 8);
            if let Some(Ok(header)) =
                rest.get(at..).map(|tail| FrameHeader::decode(tail, self.salt))
                && header.sequence >= self.position.sequence
            {
                return Some((at, header));
            }
            at += 8;
        }
        None
    }

    fn accept(&mut self, header: &FrameHeader, len: usize) {
        self.position.offset += len;
        self.position.previous_frame = header.crc;
        self.position.sequence = header.sequence + Sequence::from(header.count);
        if header.seal {
            self.seal = Some(header.sequence);
        }
    }

    fn skip_damage(&mut self, rest: &'a [u8], bad: BadFrame) -> ScanDamage {
        let offset = self.position.offset;
        let first = self.position.sequence;
        match bad {
            // The header is valid, so the length is known: exactly this frame is lost.
            BadFrame::Body(header, error) => {
                let len = header.frame_len();
                self.accept(&header, len);
                self.resynced = false;
                let followed = FrameHeader::decode(&rest[len..], self.salt).is_ok();
                let last = Some(header.last_sequence());
                ScanDamage { offset, len, first: header.sequence, last, error, followed }
            }
            // A valid frame that does not continue the previous one: the frames between are lost.
            BadFrame::Gap(header) => {
                self.resynced = true;
                let last = Some(header.sequence - 1).filter(|last| *last >= first);
                let error = FormatError::at(8, Problem::BrokenChain);
                ScanDamage { offset, len: 0, first, last, error, followed: true }
            }
            BadFrame::Header(error) => match self.find_next_header(rest) {
                Some((len, header)) => {
                    self.position.offset += len;
                    self.resynced = true;
                    let last = Some(header.sequence - 1).filter(|last| *last >= first);
                    ScanDamage { offset, len, first, last, error, followed: true }
                }
                None => {
                    let used = rest.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
                    self.done = true;
                    let len = align8(used).min(rest.len());
                    ScanDamage { offset, len, first, last: None, error, followed: false }
                }
            },
        }
    }
}

/// The reason why the frame at the current position is invalid.
enum BadFrame {
    /// The header is invalid, or the frame is cut off.
    Header(FormatError),
    /// The frame is valid but does not continue the previous one.
    Gap(FrameHeader),
    /// The header is valid; the body or its padding is not.
    Body(FrameHeader, FormatError),
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Scanned<'a>;

    fn next(&mut self) -> Option<Scanned<'a>> {
        let rest = self.rest();
        if self.done || rest.is_empty() {
            return None;
        }
        match self.read_frame(rest) {
            Ok((header, body)) => {
                let offset = self.position.offset;
                self.accept(&header, header.frame_len());
                self.resynced = false;
                Some(Scanned::Frame { offset, header, body })
            }
            Err(BadFrame::Header(_)) if rest.first() == Some(&0) && all_zero(rest) => {
                self.done = true;
                None
            }
            Err(bad) => Some(Scanned::Damage(self.skip_damage(rest, bad))),
        }
    }
}
