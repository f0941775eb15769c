//! Which frames are in these bytes, and where is something else?
//!
//! Reading never changes anything: the scanner reports pieces, whoever holds the writer lock acts.

use crate::Sequence;
use crate::bytes::{align8, all_zero, first_nonzero};
use crate::error::{FormatError, Problem};
use crate::frame::{self, FrameHeader};
use crate::limits::FRAME_HEADER_BYTES;

/// One stretch of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A good frame.
    Frame {
        /// Its offset in the segment.
        offset: usize,
        /// Its header.
        header: FrameHeader,
        /// Its body.
        body: &'a [u8],
    },
    /// Bytes that are no good frame.
    Damage(Damage),
}

/// A stretch that could not be read as frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Offset in the segment.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
    /// First sequence that should have been here.
    pub first: Sequence,
    /// Last sequence that is missing, when a later frame or the bad frame's own header tells.
    pub last: Option<Sequence>,
    /// What was wrong first.
    pub error: FormatError,
    /// Whether a good frame comes later in the same bytes.
    pub followed: bool,
}

/// Where a scan stands: enough to go on later from the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Offset of the next frame in the segment.
    pub offset: usize,
    /// Sequence of the next event.
    pub sequence: Sequence,
    /// Checksum of the last frame.
    pub previous_frame: u32,
}

/// Reads frames one after the other, goes on after damage.
pub struct Scanner<'a> {
    bytes: &'a [u8],
    start: usize,
    salt: u32,
    place: Place,
    /// After damage the chain cannot be checked for one frame.
    resynced: bool,
    seal: Option<Sequence>,
    done: bool,
}

impl<'a> Scanner<'a> {
    /// Scans `bytes`, which lie in the segment from `place.offset` on.
    pub fn new(bytes: &'a [u8], salt: u32, place: Place) -> Self {
        Self { bytes, start: place.offset, salt, place, resynced: false, seal: None, done: false }
    }

    /// Where the next frame would be read. After the scan: where to append.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The base sequence of the next segment, if a seal was read.
    pub fn seal(&self) -> Option<Sequence> {
        self.seal
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.place.offset - self.start..).unwrap_or(&[])
    }

    fn frame_at_place(&self, rest: &'a [u8]) -> Result<(FrameHeader, &'a [u8]), Stumble> {
        let header = FrameHeader::decode(rest, self.salt).map_err(Stumble::Header)?;
        let follows = if self.resynced {
            header.sequence >= self.place.sequence
        } else {
            header.sequence == self.place.sequence
                && header.previous_frame == self.place.previous_frame
        };
        if !follows && header.sequence >= self.place.sequence {
            return Err(Stumble::Gap(header));
        }
        if !follows {
            return Err(Stumble::Header(FormatError::at(8, Problem::BrokenChain)));
        }
        match frame::body(rest, &header) {
            Ok(body) => Ok((header, body)),
            Err(error) if matches!(error.problem, Problem::Short { .. }) => {
                Err(Stumble::Header(error))
            }
            Err(error) => Err(Stumble::Body(header, error)),
        }
    }

    /// Offset in `rest` of the next frame header that can be trusted, after a bad one.
    fn resync(&self, rest: &[u8]) -> Option<(usize, FrameHeader)> {
        let mut at = 8;
        while at + FRAME_HEADER_BYTES <= rest.len() {
            at += first_nonzero(&rest[at..]).map_or(rest.len(), |skip| skip / 8 * 8);
            if let Some(Ok(header)) =
                rest.get(at..).map(|tail| FrameHeader::decode(tail, self.salt))
                && header.sequence >= self.place.sequence
            {
                return Some((at, header));
            }
            at += 8;
        }
        None
    }

    fn accept(&mut self, header: &FrameHeader, len: usize) {
        self.place.offset += len;
        self.place.previous_frame = header.crc;
        self.place.sequence = header.sequence + Sequence::from(header.count);
        if header.seal {
            self.seal = Some(header.sequence);
        }
    }

    fn damaged(&mut self, rest: &'a [u8], stumble: Stumble) -> Damage {
        let offset = self.place.offset;
        let first = self.place.sequence;
        match stumble {
            // The header vouches for its length: exactly this frame is lost.
            Stumble::Body(header, error) => {
                let len = header.frame_len();
                self.accept(&header, len);
                self.resynced = false;
                let followed = FrameHeader::decode(&rest[len..], self.salt).is_ok();
                let last = Some(header.last_sequence());
                Damage { offset, len, first: header.sequence, last, error, followed }
            }
            // A good frame that does not follow the one before: what lay between is gone.
            Stumble::Gap(header) => {
                self.resynced = true;
                let last = Some(header.sequence - 1).filter(|last| *last >= first);
                let error = FormatError::at(8, Problem::BrokenChain);
                Damage { offset, len: 0, first, last, error, followed: true }
            }
            Stumble::Header(error) => match self.resync(rest) {
                Some((len, header)) => {
                    self.place.offset += len;
                    self.resynced = true;
                    let last = Some(header.sequence - 1).filter(|last| *last >= first);
                    Damage { offset, len, first, last, error, followed: true }
                }
                None => {
                    let used = rest.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
                    self.done = true;
                    let len = align8(used).min(rest.len());
                    Damage { offset, len, first, last: None, error, followed: false }
                }
            },
        }
    }
}

/// How the frame at the current place is bad.
enum Stumble {
    Header(FormatError),
    Gap(FrameHeader),
    Body(FrameHeader, FormatError),
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let rest = self.rest();
        if self.done || rest.is_empty() {
            return None;
        }
        match self.frame_at_place(rest) {
            Ok((header, body)) => {
                let offset = self.place.offset;
                self.accept(&header, header.frame_len());
                self.resynced = false;
                Some(Piece::Frame { offset, header, body })
            }
            Err(Stumble::Header(_)) if rest.first() == Some(&0) && all_zero(rest) => {
                self.done = true;
                None
            }
            Err(stumble) => Some(Piece::Damage(self.damaged(rest, stumble))),
        }
    }
}
