//! Appending batches under the writer lock.

use c2c_log_format::frame::NewFrame;
use c2c_log_format::limits::{
    BATCH_EVENTS_MAX, FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, SEAL_BYTES, SEGMENT_HEADER_BYTES,
};
use c2c_log_format::scan::FramePosition;
use c2c_log_format::segment::file_name;
use c2c_log_format::{Payload, Sequence, bytes};

use super::{Control, Log, LogError, Tail, WaitQueue};
use c2c_core::limits::SEGMENT_RESERVE_BYTES;

/// Number of zero bytes to write ahead of the tail in one call.
const ZERO_AHEAD_BYTES: u64 = 256 * 1024;

/// Typical size of an encoded event, used as the initial capacity of a batch.
const EVENT_BYTES: usize = 640;

/// Sequences of an appended batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Sequence of the first event.
    pub first: Sequence,
    /// Sequence of the last event.
    pub last: Sequence,
}

/// Whether a reply will promise that a batch is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The reply waits until the batch is on disk. The frame is marked, so that no later process
    /// reports the batch before that.
    Promised,
    /// No reply depends on the batch: a power loss may undo it.
    Eventual,
}

impl Durability {
    /// The durability of a frame that is marked so, or is not.
    pub fn of(is_promised: bool) -> Self {
        if is_promised { Self::Promised } else { Self::Eventual }
    }

    /// Whether the frame is marked as durable.
    pub fn is_promised(self) -> bool {
        self == Self::Promised
    }
}

impl Log {
    /// Appends one batch. The caller holds the writer lock.
    ///
    /// A batch of [`Durability::Eventual`] may use the space reserved for claims and acks. `time_us`
    /// is in microseconds since 1970.
    pub fn append(
        &mut self,
        batch: &[Payload],
        time_us: u64,
        durability: Durability,
    ) -> Result<Appended, LogError> {
        let page = self.control.clone().ok_or(LogError::Reload)?;
        let tail = self.settled_tail()?;
        let first = tail.position.sequence;
        let mut body = Vec::with_capacity(batch.len() * EVENT_BYTES);
        for (payload, sequence) in batch.iter().zip(first..) {
            payload.head(sequence).encode_with(&mut body, |body| payload.encode_into(body));
        }
        if batch.len() > BATCH_EVENTS_MAX || body.len() > FRAME_BODY_BYTES_MAX {
            return Err(LogError::TooLarge { events: batch.len(), bytes: body.len() });
        }
        // Set until the tail is published. If this process is killed, the next writer examines what
        // follows the tail.
        page.set_writing(true);
        let tail = self.make_room(&page, tail, body.len(), durability)?;
        let mut frame = Vec::with_capacity(body.len() + FRAME_HEADER_BYTES + 8);
        let crc = NewFrame {
            sequence: first,
            time_us,
            count: batch.len() as u16,
            durable: durability.is_promised(),
            seal: false,
            durable_sequence: self.durable(),
            previous_frame: tail.position.previous_frame,
            body: &body,
        }
        .encode(self.segment(tail.segment)?.header.salt, &mut frame);
        self.zero_ahead(&page, &tail, frame.len() as u64)?;
        self.write_frame(&tail, &frame)?;
        let position = FramePosition {
            offset: tail.position.offset + frame.len(),
            sequence: first + batch.len() as Sequence,
            previous_frame: crc,
        };
        self.epoch_seen = page.epoch();
        page.set_tail(&Tail { position, ..tail });
        page.set_writing(false);
        page.notify_all(WaitQueue::Change);
        Ok(Appended { first, last: position.sequence - 1 })
    }

    /// The published tail, which [`Log::lock`] has made correct.
    fn settled_tail(&self) -> Result<Tail, LogError> {
        self.tail().ok_or(LogError::Reload)
    }

    /// Writes zeros ahead of the next frame, [`ZERO_AHEAD_BYTES`] at a time.
    ///
    /// A sync that first touches space that was only reserved must also write file system metadata,
    /// which costs a second trip to the disk. A frame larger than [`ZERO_AHEAD_BYTES`] is not worth it.
    fn zero_ahead(&mut self, page: &Control, tail: &Tail, needed: u64) -> Result<(), LogError> {
        let (zeroed, end) = (page.zeroed(), tail.position.offset as u64 + needed);
        if end <= zeroed || needed > ZERO_AHEAD_BYTES {
            return Ok(());
        }
        let segment = self.segment(tail.segment)?;
        let from = zeroed.max(end);
        let to = (from + ZERO_AHEAD_BYTES).min(segment.size);
        let zeros = vec![0; to.saturating_sub(from) as usize];
        // Only an optimisation: a disk without room for the zeros may still have room for the frame.
        if segment.file.write_at(from, &zeros).is_ok() {
            page.set_zeroed(to);
        }
        Ok(())
    }

    /// Writes a frame at the tail. The next writer clears the remains of a failed write.
    fn write_frame(&mut self, tail: &Tail, frame: &[u8]) -> Result<(), LogError> {
        let name = file_name(tail.segment);
        let file = self.segment(tail.segment)?.file;
        file.write_at(tail.position.offset as u64, frame)
            .map_err(|e| LogError::io("write", &name, e))
    }

    /// Rotates if a frame with `body` bytes does not fit into the segment.
    ///
    /// A segment without frames grows instead, because the next segment would have the same name.
    fn make_room(
        &mut self,
        page: &Control,
        tail: Tail,
        body: usize,
        durability: Durability,
    ) -> Result<Tail, LogError> {
        let needed = (FRAME_HEADER_BYTES + bytes::align8(body) + SEAL_BYTES) as u64;
        let segment = self.segment(tail.segment)?;
        let reserve = match durability {
            Durability::Promised => SEGMENT_RESERVE_BYTES.min(self.options.segment_bytes / 16),
            Durability::Eventual => 0,
        };
        let end = tail.position.offset as u64 + needed + reserve;
        if end <= segment.size {
            return Ok(tail);
        }
        if tail.position.offset == SEGMENT_HEADER_BYTES {
            let name = file_name(tail.segment);
            segment.file.allocate(end).map_err(|e| LogError::io("allocate", &name, e))?;
            self.segments.remove(&tail.segment);
            return Ok(tail);
        }
        self.rotate(page, tail, needed)?;
        self.settled_tail()
    }
}
