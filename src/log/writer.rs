//! How does one process append, and when does a segment end?

use std::sync::Arc;
use std::time::{Duration, Instant};

use c2c_log_format::checksum::SegmentDigest;
use c2c_log_format::frame::{NewFrame, Seal};
use c2c_log_format::limits::{
    BATCH_EVENTS_MAX, FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, SEAL_BYTES, SEGMENT_HEADER_BYTES,
};
use c2c_log_format::scan::{Piece, Place, Scanner};
use c2c_log_format::segment::{Reason, SegmentHeader, file_name};
use c2c_log_format::{Payload, Sequence, bytes};

use super::storage::Held;
use super::storage::read_range;
use super::{Bell, Control, LockFile, Log, LogError, Segment, Tail, first_place, read_segment};
use crate::limits::RESERVE_BYTES;

/// How much space is written with zeros at once.
const ZERO_AHEAD_BYTES: u64 = 256 * 1024;

/// What an event takes, about: a first guess at the size of a batch.
const EVENT_BYTES: usize = 640;

/// How often a writer tries to get the lock before it sleeps.
const LOCK_TRIES: u32 = 3;

/// Longest sleep before a waiting writer looks again: its waker may have been killed.
const LOCK_NAP: Duration = Duration::from_millis(5);

/// Where a batch was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Sequence of its first event.
    pub first: Sequence,
    /// Sequence of its last event.
    pub last: Sequence,
}

/// The last frame of a segment, its checksum, and the digest of the segment with it.
struct SealFrame {
    bytes: Vec<u8>,
    crc: u32,
    digest: [u8; 32],
}

impl Log {
    /// Takes the writer lock and makes sure that the tail is known. Ends with [`Log::unlock`].
    pub fn lock(&mut self) -> Result<(), LogError> {
        let io = |e| LogError::io("lock", "lock", e);
        let lock = self.locks.writer(&*self.storage).map_err(io)?;
        // A holder is done within microseconds, unless it was stopped: give it the processor.
        for _ in 0..LOCK_TRIES {
            self.guard = Held::try_take(&lock).map_err(io)?;
            if self.guard.is_some() {
                break;
            }
            std::thread::yield_now();
        }
        if self.guard.is_none() {
            self.guard = Some(self.wait_for_lock(&lock)?);
        }
        let settled = self.check_current().and_then(|()| self.settle());
        if settled.is_err() {
            self.unlock();
        }
        settled
    }

    /// Scans the last segment again and leaves it if it is damaged, whatever the tail says.
    pub fn recover_now(&mut self) -> Result<(), LogError> {
        let io = |e| LogError::io("lock", "lock", e);
        let lock = self.locks.writer(&*self.storage).map_err(io)?;
        self.guard = Some(Held::take(&lock).map_err(io)?);
        let page = self.storage.control(true).map_err(|e| LogError::io("map", "control", e));
        let recovered = page.and_then(|page| {
            self.control = Some(page);
            self.recover()
        });
        if recovered.is_ok() {
            self.page().next_epoch();
        }
        self.unlock();
        recovered
    }

    /// Goes on under another log id, in a new segment: this log is not the one that others know under
    /// the present id.
    pub fn renew_id(&mut self) -> Result<(), LogError> {
        self.lock()?;
        let renewed = self.leave_id();
        self.unlock();
        renewed
    }

    /// Sleeps until the holder gives the lock back, again if somebody else was faster.
    fn wait_for_lock(&self, lock: &Arc<dyn LockFile>) -> Result<Held, LogError> {
        let deadline = Instant::now() + self.options.lock_wait;
        loop {
            let Some(control) = &self.control else {
                // The first writer of all is making the page at this moment.
                std::thread::sleep(LOCK_NAP / 10);
                match Held::try_take(lock).map_err(|e| LogError::io("lock", "lock", e))? {
                    Some(held) => return Ok(held),
                    None if Instant::now() < deadline => continue,
                    None => return Err(self.lock_is_busy()),
                }
            };
            control.count_lock_waiter(true);
            let pulse = control.pulse(Bell::Lock);
            // ORDER: counted, then tried, then asleep: a holder that lets go in between sees us.
            let mut held = Held::try_take(lock);
            if matches!(held, Ok(None)) {
                control.wait(Bell::Lock, pulse, LOCK_NAP);
                held = Held::try_take(lock);
            }
            control.count_lock_waiter(false);
            match held.map_err(|e| LogError::io("lock", "lock", e))? {
                Some(held) => return Ok(held),
                None if Instant::now() < deadline => {}
                None => return Err(self.lock_is_busy()),
            }
        }
    }

    fn lock_is_busy(&self) -> LogError {
        LogError::Busy { waited_ms: self.options.lock_wait.as_millis() as u64 }
    }

    /// Gives the writer lock back.
    pub fn unlock(&mut self) {
        if self.guard.take().is_some()
            && let Some(control) = &self.control
        {
            control.pass_lock();
        }
    }

    /// The head as the lock's holder sees it.
    pub fn head(&self) -> Sequence {
        self.tail().map_or(0, |tail| tail.place.sequence - 1)
    }

    /// Whether a cursor has read everything.
    pub fn is_tail(&self, cursor: &super::Cursor) -> bool {
        let tail = self.tail();
        tail.is_some_and(|tail| tail.segment == cursor.segment && tail.place == cursor.place)
    }

    /// Makes the tail true: recovers if nobody has since the machine started, adopts or clears
    /// what a killed writer left behind, leaves a segment whose sync failed.
    fn settle(&mut self) -> Result<(), LogError> {
        if self.control.is_none() {
            let page = self.storage.control(true).map_err(|e| LogError::io("map", "control", e))?;
            self.control = Some(page);
        }
        let Some(tail) = self.tail() else { return self.recover() };
        if self.page().poisoned() == tail.segment {
            return self.leave_poisoned(&tail);
        }
        self.settle_tail(tail)
    }

    /// The control page; mapped since [`Log::settle`].
    pub(super) fn page(&self) -> &Control {
        // Every path to here comes through `settle`, which maps it.
        self.control.as_ref().expect("control page is mapped")
    }

    /// A writer that was killed may have left a whole frame, or part of one, after the tail.
    fn settle_tail(&mut self, tail: Tail) -> Result<(), LogError> {
        if !self.page().is_writing() {
            return Ok(());
        }
        let name = file_name(tail.segment);
        let segment = self.segment(tail.segment)?;
        let from = tail.place.offset as u64;
        let io = |e| LogError::io("read", &name, e);
        let probe =
            read_range(&*segment.file, from, from + FRAME_HEADER_BYTES as u64).map_err(io)?;
        if bytes::all_zero(&probe) {
            self.page().set_writing(false);
            return Ok(());
        }
        let len = segment.file.len().map_err(io)?;
        let rest = read_range(&*segment.file, from, len).map_err(io)?;
        let mut scanner = Scanner::new(&rest, segment.header.salt, tail.place);
        let mut place = tail.place;
        while let Some(Piece::Frame { .. }) = scanner.next() {
            place = scanner.place();
        }
        let left_over = &rest[place.offset - tail.place.offset..];
        if let Some(last) = left_over.iter().rposition(|byte| *byte != 0) {
            // Ours since this boot and never published: a write that was cut short.
            let zeros = vec![0; last + 1];
            segment
                .file
                .write_at(place.offset as u64, &zeros)
                .map_err(|e| LogError::io("write", &name, e))?;
        }
        if let Some(next) = scanner.seal() {
            return self.open_next(tail.segment, place, next, Reason::Rotation);
        }
        self.page().set_tail(&Tail { place, ..tail });
        self.page().set_writing(false);
        Ok(())
    }

    /// Appends one batch. The lock is held; `durable` batches may not use the reserve.
    pub fn append(
        &mut self,
        batch: &[Payload],
        time_us: u64,
        durable: bool,
    ) -> Result<Appended, LogError> {
        let tail = self.settled_tail()?;
        let first = tail.place.sequence;
        let mut body = Vec::with_capacity(batch.len() * EVENT_BYTES);
        for (payload, sequence) in batch.iter().zip(first..) {
            payload.head(sequence).encode_with(&mut body, |body| payload.encode_into(body));
        }
        if batch.len() > BATCH_EVENTS_MAX || body.len() > FRAME_BODY_BYTES_MAX {
            return Err(LogError::TooLarge { events: batch.len(), bytes: body.len() });
        }
        // Until the tail is published: whoever finds this set looks at what lies behind the tail.
        self.page().set_writing(true);
        let tail = self.make_room(tail, body.len(), durable)?;
        let mut frame = Vec::with_capacity(body.len() + FRAME_HEADER_BYTES + 8);
        let crc = NewFrame {
            sequence: first,
            time_us,
            count: batch.len() as u16,
            durable,
            seal: false,
            durable_sequence: self.durable(),
            previous_frame: tail.place.previous_frame,
            body: &body,
        }
        .encode(self.segment(tail.segment)?.header.salt, &mut frame);
        self.zero_ahead(&tail, frame.len() as u64)?;
        self.write_frame(&tail, &frame)?;
        let place = Place {
            offset: tail.place.offset + frame.len(),
            sequence: first + batch.len() as Sequence,
            previous_frame: crc,
        };
        self.epoch_seen = self.page().epoch();
        self.page().set_tail(&Tail { place, ..tail });
        self.page().set_writing(false);
        self.page().ring(Bell::Change);
        Ok(Appended { first, last: place.sequence - 1 })
    }

    fn settled_tail(&self) -> Result<Tail, LogError> {
        self.tail().ok_or(LogError::Reload)
    }

    /// Writes zeros ahead of the frame that comes next, a stretch at a time. Space that is only
    /// reserved is marked as written by the file system with each sync that first touches it, which
    /// costs that sync a second trip to the disk. A frame larger than a stretch pays that anyway.
    fn zero_ahead(&mut self, tail: &Tail, needed: u64) -> Result<(), LogError> {
        let (zeroed, end) = (self.page().zeroed(), tail.place.offset as u64 + needed);
        if end <= zeroed || needed > ZERO_AHEAD_BYTES {
            return Ok(());
        }
        let segment = self.segment(tail.segment)?;
        let from = zeroed.max(end);
        let to = (from + ZERO_AHEAD_BYTES).min(segment.size);
        let zeros = vec![0; to.saturating_sub(from) as usize];
        // No more than a help: a disk that has no room for it may still have room for the frame.
        if segment.file.write_at(from, &zeros).is_ok() {
            self.page().set_zeroed(to);
        }
        Ok(())
    }

    /// Writes at the tail. What a failed write left is cleared, or else by the next writer.
    fn write_frame(&mut self, tail: &Tail, frame: &[u8]) -> Result<(), LogError> {
        let name = file_name(tail.segment);
        let file = self.segment(tail.segment)?.file;
        file.write_at(tail.place.offset as u64, frame).map_err(|e| LogError::io("write", &name, e))
    }

    /// Rotates if the frame does not fit any more. A segment without any frame grows: the one after
    /// it would have its name.
    fn make_room(&mut self, tail: Tail, body: usize, durable: bool) -> Result<Tail, LogError> {
        let needed = (FRAME_HEADER_BYTES + bytes::align8(body) + SEAL_BYTES) as u64;
        let segment = self.segment(tail.segment)?;
        let reserve = if durable { RESERVE_BYTES.min(self.options.segment_bytes / 16) } else { 0 };
        let end = tail.place.offset as u64 + needed + reserve;
        if end <= segment.size {
            return Ok(tail);
        }
        if tail.place.offset == SEGMENT_HEADER_BYTES {
            let name = file_name(tail.segment);
            segment.file.allocate(end).map_err(|e| LogError::io("allocate", &name, e))?;
            self.segments.remove(&tail.segment);
            return Ok(tail);
        }
        self.rotate(tail, needed)?;
        self.settled_tail()
    }

    /// Seals the active segment and opens the next one.
    fn rotate(&mut self, tail: Tail, needed: u64) -> Result<(), LogError> {
        let next = tail.place.sequence;
        // The next file first: on a full disk the old one must stay as it is, reserve and all.
        let prepared = self.prepare_file(needed)?;
        let name = file_name(tail.segment);
        let seal = self.seal_frame(&tail)?;
        let segment = self.segment(tail.segment)?;
        let io = |operation| move |e| LogError::io(operation, "segment", e);
        segment.file.write_at(tail.place.offset as u64, &seal.bytes).map_err(io("seal"))?;
        if let Err(cause) = segment.file.sync() {
            self.page().set_poisoned(tail.segment);
            return Err(LogError::io("sync", &name, cause));
        }
        segment
            .file
            .truncate((tail.place.offset + seal.bytes.len()) as u64)
            .map_err(io("truncate"))?;
        self.page().raise_durable(next - 1);
        let header = SegmentHeader {
            base: next,
            durable: next - 1,
            previous_base: tail.segment,
            previous_digest: seal.digest,
            previous_frame: seal.crc,
            reason: Reason::Rotation,
            ..self.fresh_header(segment.header.log_id)
        };
        self.install(prepared, header)
    }

    /// The seal of a segment, and the digest that covers the seal too.
    fn seal_frame(&mut self, tail: &Tail) -> Result<SealFrame, LogError> {
        let header = self.segment(tail.segment)?.header;
        let (bytes, _) = self.segment_bytes(tail.segment)?;
        let mut digest = SegmentDigest::new(&bytes[..SEGMENT_HEADER_BYTES]);
        let (mut frames, mut from_us, mut to_us) = (0, u64::MAX, 0);
        for piece in read_segment(&bytes, &header) {
            if let Piece::Frame { offset, header, body } = piece {
                digest.frame(&bytes[offset..offset + FRAME_HEADER_BYTES], body);
                frames += 1;
                from_us = from_us.min(header.time_us);
                to_us = to_us.max(header.time_us);
            }
        }
        let next = tail.place.sequence;
        let seal =
            Seal { frames, last: next - 1, from_us, to_us, digest: digest.finish() }.encode();
        let mut frame = Vec::new();
        let crc = NewFrame {
            sequence: next,
            time_us: to_us,
            count: 0,
            durable: true,
            seal: true,
            durable_sequence: self.durable(),
            previous_frame: tail.place.previous_frame,
            body: &seal,
        }
        .encode(header.salt, &mut frame);
        digest.frame(&frame[..FRAME_HEADER_BYTES], &seal);
        Ok(SealFrame { bytes: frame, crc, digest: digest.finish() })
    }

    /// A header with everything that does not depend on what came before.
    pub(super) fn fresh_header(&self, log_id: [u8; 16]) -> SegmentHeader {
        let random = uuid::Uuid::now_v7().into_bytes();
        SegmentHeader {
            log_id,
            base: 1,
            durable: 0,
            previous_base: 0,
            previous_digest: [0; 32],
            previous_frame: 0,
            salt: u32::from_le_bytes([random[12], random[13], random[14], random[15]]),
            created_us: crate::clock::now_us(),
            boot_id: self.boot_id,
            reason: Reason::First,
        }
    }

    /// Opens a segment after one that is not continued by a seal written now.
    pub(super) fn open_next(
        &mut self,
        previous: Sequence,
        end: Place,
        base: Sequence,
        reason: Reason,
    ) -> Result<(), LogError> {
        let (bytes, _) = self.whole_segment(previous)?;
        let header = self.segment(previous)?.header;
        let mut digest = SegmentDigest::new(&bytes[..SEGMENT_HEADER_BYTES]);
        for piece in read_segment(&bytes, &header) {
            if let Piece::Frame { offset, header, body } = piece
                && header.sequence < end.sequence + Sequence::from(header.seal)
            {
                digest.frame(&bytes[offset..offset + FRAME_HEADER_BYTES], body);
            }
        }
        let log_id = match reason {
            Reason::Restored => uuid::Uuid::new_v4().into_bytes(),
            _ => header.log_id,
        };
        let prepared = self.prepare_file(0)?;
        let next = SegmentHeader {
            base,
            durable: end.sequence - 1,
            previous_base: previous,
            previous_digest: digest.finish(),
            previous_frame: end.previous_frame,
            reason,
            ..self.fresh_header(log_id)
        };
        self.install(prepared, next)
    }

    fn whole_segment(&mut self, base: Sequence) -> Result<(Vec<u8>, u32), LogError> {
        let segment = self.segment(base)?;
        let name = file_name(base);
        let io = |e| LogError::io("read", &name, e);
        let len = segment.file.len().map_err(io)?;
        Ok((read_range(&*segment.file, 0, len).map_err(io)?, segment.header.salt))
    }

    /// Makes an empty file with as much space as the disk gives, down to what is needed now.
    fn prepare_file(&mut self, needed: u64) -> Result<Arc<dyn super::StorageFile>, LogError> {
        const NAME: &str = "next.tmp";
        let at_least = SEGMENT_HEADER_BYTES as u64
            + needed
            + 2 * RESERVE_BYTES.min(self.options.segment_bytes / 16);
        let io = |e| LogError::io("create", NAME, e);
        let _ = self.storage.remove(NAME);
        let file = self.storage.open(NAME, true).map_err(io)?;
        let mut size = self.options.segment_bytes.max(at_least);
        loop {
            match file.allocate(size) {
                Ok(()) => return Ok(file),
                Err(_) if size > at_least => size = (size / 4).max(at_least),
                Err(cause) => {
                    let _ = self.storage.remove(NAME);
                    return Err(LogError::io("allocate", NAME, cause));
                }
            }
        }
    }

    /// Gives a prepared file its header and its name, and makes it the active segment.
    pub(super) fn install(
        &mut self,
        file: Arc<dyn super::StorageFile>,
        header: SegmentHeader,
    ) -> Result<(), LogError> {
        let name = file_name(header.base);
        let io = |operation: &'static str| {
            let name = name.clone();
            move |e| LogError::io(operation, &name, e)
        };
        file.write_at(0, &header.encode()).map_err(io("write"))?;
        file.sync().map_err(io("sync"))?;
        self.storage.rename("next.tmp", &name).map_err(io("rename"))?;
        self.storage.sync_dir().map_err(io("sync the directory of"))?;
        let size = file.len().map_err(io("measure"))?;
        self.segments.insert(header.base, Segment { header, file, size });
        self.page().set_zeroed(0);
        let tail =
            Tail { boot_id: self.boot_id, segment: header.base, place: first_place(&header) };
        self.page().set_tail(&tail);
        self.page().ring(Bell::Change);
        Ok(())
    }

    /// Creates the first segment of a new log.
    pub(super) fn create_first(&mut self) -> Result<(), LogError> {
        let prepared = self.prepare_file(0)?;
        let header = self.fresh_header(uuid::Uuid::new_v4().into_bytes());
        self.page().set_durable(0);
        self.page().set_poisoned(0);
        self.install(prepared, header)
    }
}
