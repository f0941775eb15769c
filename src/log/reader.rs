//! Reading frames, without locks and without writes.

use c2c_log_format::Sequence;
use c2c_log_format::frame::{self, FrameHeader};
use c2c_log_format::scan::{ScanDamage, Scanned, Scanner};
use c2c_log_format::segment::file_name;

use super::storage::read_range;
use super::{Log, LogDamage, LogError, ReadPosition, first_position};

/// Bytes of the first read of a frame. Most frames are smaller, so one read gets header and body.
const FIRST_READ_BYTES: u64 = 4096;

/// One frame and its position.
#[derive(Debug, Clone, Copy)]
pub struct FrameRef<'a> {
    /// Base of the segment.
    pub segment: Sequence,
    /// Offset in the segment.
    pub offset: usize,
    /// The frame header.
    pub header: &'a FrameHeader,
    /// The frame body: the encoded batch.
    pub body: &'a [u8],
}

impl Log {
    /// Visits every frame after a position and moves the position to the head.
    ///
    /// Returns [`LogError::Reload`] if events before the position became void: the caller must read
    /// from [`ReadPosition::START`].
    pub fn read(
        &mut self,
        position: &mut ReadPosition,
        visit: &mut dyn FnMut(FrameRef<'_>),
    ) -> Result<(), LogError> {
        // The holder of the writer lock made this check when it took the lock.
        if self.guard.is_none() {
            self.check_current()?;
        }
        if self.control.is_none() {
            self.open_page();
        }
        let epoch = self.epoch();
        if position.segment == 0 {
            let Some(base) = self.bases()?.first().copied() else { return Ok(()) };
            let frame = first_position(&self.segment(base)?.header);
            *position = ReadPosition { segment: base, frame, epoch };
            if base > 1 {
                self.record_damage(LogDamage {
                    segment: base,
                    offset: 0,
                    len: 0,
                    first: 1,
                    last: Some(base - 1),
                });
            }
        }
        if position.epoch != epoch {
            return Err(LogError::Reload);
        }
        self.epoch_seen = epoch;
        loop {
            let tail = self.tail();
            let active = tail.filter(|tail| tail.segment == position.segment);
            if active.is_some_and(|tail| tail.position.offset == position.frame.offset) {
                return Ok(());
            }
            self.read_segment_rest(position, active.map(|tail| tail.position.offset), visit)?;
            if active.is_some() || !self.enter_next(position)? {
                return Ok(());
            }
        }
    }

    /// Visits the rest of the position's segment, up to offset `end` if it is known.
    fn read_segment_rest(
        &mut self,
        position: &mut ReadPosition,
        end: Option<usize>,
        visit: &mut dyn FnMut(FrameRef<'_>),
    ) -> Result<(), LogError> {
        let name = file_name(position.segment);
        let segment = self.segment(position.segment)?;
        let void_above = self.void_above(position.segment)?;
        let len = segment.file.len().map_err(|e| LogError::io("measure", &name, e))?;
        let end = end.map_or(len, |end| end as u64);
        let bytes = read_range(&*segment.file, position.frame.offset as u64, end)
            .map_err(|e| LogError::io("read", &name, e))?;
        let mut scanner = Scanner::new(&bytes, segment.header.salt, position.frame);
        let mut next_frame = position.frame;
        while let Some(piece) = scanner.next() {
            match piece {
                Scanned::Frame { header, .. } if header.sequence > void_above => break,
                Scanned::Frame { offset, header, body } => {
                    visit(FrameRef { segment: position.segment, offset, header: &header, body });
                }
                // Another process may be writing here right now; the next read decides.
                Scanned::Damage(ScanDamage { followed: false, .. }) => break,
                Scanned::Damage(damage) => {
                    self.record_damage(LogDamage::at(position.segment, &damage));
                }
            }
            next_frame = scanner.position();
        }
        position.frame = next_frame;
        Ok(())
    }

    /// Highest sequence of a segment that counts: later events of the segment are void.
    fn void_above(&mut self, base: Sequence) -> Result<Sequence, LogError> {
        let active = self.tail().is_some_and(|tail| tail.segment == base);
        if active {
            return Ok(Sequence::MAX);
        }
        let next = self.bases()?.into_iter().find(|next| *next > base);
        next.map_or(Ok(Sequence::MAX), |next| Ok(self.segment(next)?.header.durable))
    }

    /// Moves a position to the start of the next segment; false if no next segment exists.
    fn enter_next(&mut self, position: &mut ReadPosition) -> Result<bool, LogError> {
        let Some(next) = self.bases()?.into_iter().find(|base| *base > position.segment) else {
            return Ok(false);
        };
        let header = self.segment(next)?.header;
        if position.head() < header.durable {
            self.record_damage(LogDamage {
                segment: position.segment,
                offset: position.frame.offset,
                len: 0,
                first: position.frame.sequence,
                last: Some(header.durable),
            });
        }
        *position =
            ReadPosition { segment: next, frame: first_position(&header), epoch: position.epoch };
        Ok(true)
    }

    fn record_damage(&mut self, damaged: LogDamage) {
        if !self.damage.contains(&damaged) {
            self.damage.push(damaged);
        }
    }

    /// The bytes of a segment up to the tail, and its salt.
    pub fn segment_bytes(&mut self, base: Sequence) -> Result<(Vec<u8>, u32), LogError> {
        let segment = self.segment(base)?;
        let name = file_name(base);
        let len = match self.tail() {
            Some(tail) if tail.segment == base => tail.position.offset as u64,
            _ => segment.file.len().map_err(|e| LogError::io("measure", &name, e))?,
        };
        let bytes =
            read_range(&*segment.file, 0, len).map_err(|e| LogError::io("read", &name, e))?;
        Ok((bytes, segment.header.salt))
    }

    /// Visits the frame at an offset of a segment.
    pub fn frame_at(
        &mut self,
        base: Sequence,
        offset: usize,
        visit: &mut dyn FnMut(FrameRef<'_>),
    ) -> Result<(), LogError> {
        let name = file_name(base);
        let segment = self.segment(base)?;
        let io = |e| LogError::io("read", &name, e);
        let from = offset as u64;
        let first = read_range(&*segment.file, from, from + FIRST_READ_BYTES).map_err(io)?;
        let header = FrameHeader::decode(&first, segment.header.salt)
            .map_err(|e| LogError::format(&name, e))?;
        let bytes = if header.frame_len() <= first.len() {
            first
        } else {
            read_range(&*segment.file, from, from + header.frame_len() as u64).map_err(io)?
        };
        let body = frame::body(&bytes, &header).map_err(|e| LogError::format(&name, e))?;
        visit(FrameRef { segment: base, offset, header: &header, body });
        Ok(())
    }

    /// Current epoch of the log.
    pub fn epoch(&self) -> u64 {
        self.control.as_ref().map_or(0, |page| page.epoch())
    }

    /// Visits the frames of one segment from its start; skips damage.
    pub fn scan_segment(
        &mut self,
        base: Sequence,
        visit: &mut dyn FnMut(FrameRef<'_>),
    ) -> Result<(), LogError> {
        let void_above = self.void_above(base)?;
        let (bytes, _) = self.segment_bytes(base)?;
        let header = self.segment(base)?.header;
        for piece in read_segment(&bytes, &header) {
            if let Scanned::Frame { offset, header, body } = piece
                && header.sequence <= void_above
            {
                visit(FrameRef { segment: base, offset, header: &header, body });
            }
        }
        Ok(())
    }
}

/// Scans a segment, whose bytes include its header.
pub fn read_segment<'a>(
    bytes: &'a [u8],
    header: &c2c_log_format::segment::SegmentHeader,
) -> Scanner<'a> {
    let position = first_position(header);
    Scanner::new(bytes.get(position.offset..).unwrap_or(&[]), header.salt, position)
}
