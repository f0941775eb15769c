//! How are frames read, without a lock and without a write?

use c2c_log_format::Sequence;
use c2c_log_format::frame::{self, FrameHeader};
use c2c_log_format::scan::{Damage, Piece, Scanner};
use c2c_log_format::segment::file_name;

use super::storage::read_range;
use super::{Cursor, Damaged, Log, LogError, first_place};

/// Most frames are smaller: one read gets header and body.
const FIRST_READ_BYTES: u64 = 4096;

/// One frame, where it lies, and its body.
#[derive(Debug, Clone, Copy)]
pub struct FrameRef<'a> {
    /// Segment that it is in.
    pub segment: Sequence,
    /// Offset in the segment.
    pub offset: usize,
    /// Its header.
    pub header: &'a FrameHeader,
    /// Its body: the batch.
    pub body: &'a [u8],
}

impl Log {
    /// Reads everything after the cursor and moves it to the head.
    pub fn read(
        &mut self,
        cursor: &mut Cursor,
        visit: &mut dyn FnMut(FrameRef<'_>),
    ) -> Result<(), LogError> {
        // Whoever holds the writer lock has looked when taking it.
        if self.guard.is_none() {
            self.check_current()?;
        }
        if self.control.is_none() {
            self.control = self.storage.control(false).ok();
        }
        let epoch = self.control.as_ref().map_or(0, |control| control.epoch());
        if cursor.segment == 0 {
            let Some(base) = self.bases()?.first().copied() else { return Ok(()) };
            *cursor =
                Cursor { segment: base, place: first_place(&self.segment(base)?.header), epoch };
            if base > 1 {
                let last = Some(base - 1);
                self.lose(Damaged { segment: base, offset: 0, len: 0, first: 1, last });
            }
        }
        if cursor.epoch != epoch {
            return Err(LogError::Reload);
        }
        self.epoch_seen = epoch;
        loop {
            let tail = self.tail();
            let active = tail.filter(|tail| tail.segment == cursor.segment);
            if active.is_some_and(|tail| tail.place.offset == cursor.place.offset) {
                return Ok(());
            }
            self.read_segment_rest(cursor, active.map(|tail| tail.place.offset), visit)?;
            if active.is_some() || !self.enter_next(cursor)? {
                return Ok(());
            }
        }
    }

    /// Reads what is left of the cursor's segment, up to `end` if that is known.
    fn read_segment_rest(
        &mut self,
        cursor: &mut Cursor,
        end: Option<usize>,
        visit: &mut dyn FnMut(FrameRef<'_>),
    ) -> Result<(), LogError> {
        let name = file_name(cursor.segment);
        let segment = self.segment(cursor.segment)?;
        let void_above = self.void_above(cursor.segment)?;
        let len = segment.file.len().map_err(|e| LogError::io("measure", &name, e))?;
        let end = end.map_or(len, |end| end as u64);
        let bytes = read_range(&*segment.file, cursor.place.offset as u64, end)
            .map_err(|e| LogError::io("read", &name, e))?;
        let mut scanner = Scanner::new(&bytes, segment.header.salt, cursor.place);
        let mut place = cursor.place;
        while let Some(piece) = scanner.next() {
            match piece {
                Piece::Frame { header, .. } if header.sequence > void_above => break,
                Piece::Frame { offset, header, body } => {
                    visit(FrameRef { segment: cursor.segment, offset, header: &header, body });
                }
                // Another process may be writing here at this moment; the next read will tell.
                Piece::Damage(Damage { followed: false, .. }) => break,
                Piece::Damage(damage) => note(&mut self.damage, cursor.segment, &damage),
            }
            place = scanner.place();
        }
        cursor.place = place;
        Ok(())
    }

    /// Events of this segment above the returned sequence do not count.
    fn void_above(&mut self, base: Sequence) -> Result<Sequence, LogError> {
        let active = self.tail().is_some_and(|tail| tail.segment == base);
        if active {
            return Ok(Sequence::MAX);
        }
        let next = self.bases()?.into_iter().find(|next| *next > base);
        next.map_or(Ok(Sequence::MAX), |next| Ok(self.segment(next)?.header.durable))
    }

    /// Moves to the segment after the cursor's; false if there is none.
    fn enter_next(&mut self, cursor: &mut Cursor) -> Result<bool, LogError> {
        let Some(next) = self.bases()?.into_iter().find(|base| *base > cursor.segment) else {
            return Ok(false);
        };
        let header = self.segment(next)?.header;
        if cursor.head() < header.durable {
            let lost = Damaged {
                segment: cursor.segment,
                offset: cursor.place.offset,
                len: 0,
                first: cursor.place.sequence,
                last: Some(header.durable),
            };
            self.lose(lost);
        }
        *cursor = Cursor { segment: next, place: first_place(&header), epoch: cursor.epoch };
        Ok(true)
    }

    fn lose(&mut self, lost: Damaged) {
        if !self.damage.contains(&lost) {
            self.damage.push(lost);
        }
    }

    /// The whole content of a segment.
    pub fn segment_bytes(&mut self, base: Sequence) -> Result<(Vec<u8>, u32), LogError> {
        let segment = self.segment(base)?;
        let name = file_name(base);
        let len = match self.tail() {
            Some(tail) if tail.segment == base => tail.place.offset as u64,
            _ => segment.file.len().map_err(|e| LogError::io("measure", &name, e))?,
        };
        let bytes =
            read_range(&*segment.file, 0, len).map_err(|e| LogError::io("read", &name, e))?;
        Ok((bytes, segment.header.salt))
    }

    /// Visits the one frame that lies at an offset.
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

    /// The epoch of the log now.
    pub fn epoch(&self) -> u64 {
        self.control.as_ref().map_or(0, |control| control.epoch())
    }

    /// Visits the frames of one segment from its start; damage is passed over.
    pub fn scan_segment(
        &mut self,
        base: Sequence,
        visit: &mut dyn FnMut(FrameRef<'_>),
    ) -> Result<(), LogError> {
        let void_above = self.void_above(base)?;
        let (bytes, _) = self.segment_bytes(base)?;
        let header = self.segment(base)?.header;
        for piece in read_segment(&bytes, &header) {
            if let Piece::Frame { offset, header, body } = piece
                && header.sequence <= void_above
            {
                visit(FrameRef { segment: base, offset, header: &header, body });
            }
        }
        Ok(())
    }
}

/// The pieces of a whole segment, its header included in `bytes`.
pub fn read_segment<'a>(
    bytes: &'a [u8],
    header: &c2c_log_format::segment::SegmentHeader,
) -> Scanner<'a> {
    let place = first_place(header);
    Scanner::new(bytes.get(place.offset..).unwrap_or(&[]), header.salt, place)
}

fn note(found: &mut Vec<Damaged>, segment: Sequence, damage: &Damage) {
    let damaged = Damaged {
        segment,
        offset: damage.offset,
        len: damage.len,
        first: damage.first,
        last: damage.last,
    };
    if !found.contains(&damaged) {
        found.push(damaged);
    }
}
