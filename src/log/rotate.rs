//! Sealing the active segment and opening the next one.

use std::sync::Arc;

use c2c_log_format::Sequence;
use c2c_log_format::checksum::SegmentDigest;
use c2c_log_format::frame::{NewFrame, Seal};
use c2c_log_format::limits::{FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use c2c_log_format::scan::{FramePosition, Scanned};
use c2c_log_format::segment::{OpenReason, SegmentHeader, file_name};

use super::storage::read_range;
use super::{
    Control, Log, LogError, Segment, StorageFile, Tail, WaitQueue, first_position, read_segment,
};
use c2c_core::limits::SEGMENT_RESERVE_BYTES;

/// Name of the next segment while it is being prepared.
const NEXT_FILE: &str = "next.tmp";

/// The last frame of a segment, its checksum, and the digest of the segment including it.
struct SealFrame {
    bytes: Vec<u8>,
    crc: u32,
    digest: [u8; 32],
}

impl Log {
    /// Seals the active segment and opens the next one.
    pub(super) fn rotate(
        &mut self,
        page: &Control,
        tail: Tail,
        needed: u64,
    ) -> Result<(), LogError> {
        let next = tail.position.sequence;
        // Prepare the next file first: if the disk is full, the old segment must keep its reserve.
        let prepared = self.prepare_file(needed)?;
        let name = file_name(tail.segment);
        let seal = self.seal_frame(&tail)?;
        let segment = self.segment(tail.segment)?;
        let io = |operation| {
            let name = name.clone();
            move |e| LogError::io(operation, &name, e)
        };
        segment.file.write_at(tail.position.offset as u64, &seal.bytes).map_err(io("seal"))?;
        if let Err(source) = segment.file.sync() {
            page.set_poisoned(tail.segment);
            return Err(LogError::io("sync", &name, source));
        }
        segment
            .file
            .truncate((tail.position.offset + seal.bytes.len()) as u64)
            .map_err(io("truncate"))?;
        page.raise_durable(next - 1);
        let header = SegmentHeader {
            base: next,
            durable: next - 1,
            previous_base: tail.segment,
            previous_digest: seal.digest,
            previous_frame: seal.crc,
            reason: OpenReason::Rotation,
            ..self.fresh_header(segment.header.log_id)
        };
        self.install(page, prepared, header)
    }

    /// Encodes the seal of a segment and computes the digest of the segment with it.
    fn seal_frame(&mut self, tail: &Tail) -> Result<SealFrame, LogError> {
        let header = self.segment(tail.segment)?.header;
        let (bytes, _) = self.segment_bytes(tail.segment)?;
        let mut digest = SegmentDigest::new(&bytes[..SEGMENT_HEADER_BYTES]);
        let (mut frames, mut from_us, mut to_us) = (0, u64::MAX, 0);
        for piece in read_segment(&bytes, &header) {
            if let Scanned::Frame { offset, header, body } = piece {
                digest.frame(&bytes[offset..offset + FRAME_HEADER_BYTES], body);
                frames += 1;
                from_us = from_us.min(header.time_us);
                to_us = to_us.max(header.time_us);
            }
        }
        let next = tail.position.sequence;
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
            previous_frame: tail.position.previous_frame,
            body: &seal,
        }
        .encode(header.salt, &mut frame);
        digest.frame(&frame[..FRAME_HEADER_BYTES], &seal);
        Ok(SealFrame { bytes: frame, crc, digest: digest.finish() })
    }

    /// A header with the fields that do not depend on the previous segment.
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
            created_us: crate::platform::clock::now_us(),
            boot_id: self.boot_id,
            reason: OpenReason::First,
        }
    }

    /// Opens a segment after `previous`, which counts up to `end`, without sealing it now.
    ///
    /// With [`OpenReason::Restored`] the new segment gets a new log id.
    pub(super) fn open_next(
        &mut self,
        page: &Control,
        previous: Sequence,
        end: FramePosition,
        base: Sequence,
        reason: OpenReason,
    ) -> Result<(), LogError> {
        let (bytes, _) = self.whole_segment(previous)?;
        let header = self.segment(previous)?.header;
        let mut digest = SegmentDigest::new(&bytes[..SEGMENT_HEADER_BYTES]);
        for piece in read_segment(&bytes, &header) {
            if let Scanned::Frame { offset, header, body } = piece
                && header.sequence < end.sequence + Sequence::from(header.seal)
            {
                digest.frame(&bytes[offset..offset + FRAME_HEADER_BYTES], body);
            }
        }
        let log_id = match reason {
            OpenReason::Restored => uuid::Uuid::new_v4().into_bytes(),
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
        self.install(page, prepared, next)
    }

    /// The bytes of a segment up to the end of its file, and its salt.
    fn whole_segment(&mut self, base: Sequence) -> Result<(Vec<u8>, u32), LogError> {
        let segment = self.segment(base)?;
        let name = file_name(base);
        let io = |e| LogError::io("read", &name, e);
        let len = segment.file.len().map_err(io)?;
        Ok((read_range(&*segment.file, 0, len).map_err(io)?, segment.header.salt))
    }

    /// Creates an empty file with the space of a segment, or less if the disk is nearly full.
    ///
    /// It has at least room for a frame of `needed` bytes.
    fn prepare_file(&mut self, needed: u64) -> Result<Arc<dyn StorageFile>, LogError> {
        let at_least = SEGMENT_HEADER_BYTES as u64
            + needed
            + 2 * SEGMENT_RESERVE_BYTES.min(self.options.segment_bytes / 16);
        let io = |e| LogError::io("create", NEXT_FILE, e);
        let _ = self.storage.remove(NEXT_FILE);
        let file = self.storage.open(NEXT_FILE, true).map_err(io)?;
        let mut size = self.options.segment_bytes.max(at_least);
        loop {
            match file.allocate(size) {
                Ok(()) => return Ok(file),
                Err(_) if size > at_least => size = (size / 4).max(at_least),
                Err(source) => {
                    let _ = self.storage.remove(NEXT_FILE);
                    return Err(LogError::io("allocate", NEXT_FILE, source));
                }
            }
        }
    }

    /// Writes the header of a prepared file, renames it, and makes it the active segment.
    fn install(
        &mut self,
        page: &Control,
        file: Arc<dyn StorageFile>,
        header: SegmentHeader,
    ) -> Result<(), LogError> {
        let name = file_name(header.base);
        let io = |operation: &'static str| {
            let name = name.clone();
            move |e| LogError::io(operation, &name, e)
        };
        file.write_at(0, &header.encode()).map_err(io("write"))?;
        file.sync().map_err(io("sync"))?;
        self.storage.rename(NEXT_FILE, &name).map_err(io("rename"))?;
        self.storage.sync_dir().map_err(io("sync the directory of"))?;
        let size = file.len().map_err(io("measure"))?;
        self.segments.insert(header.base, Segment { header, file, size });
        page.set_zeroed(0);
        let tail =
            Tail { boot_id: self.boot_id, segment: header.base, position: first_position(&header) };
        page.set_tail(&tail);
        page.notify_all(WaitQueue::Change);
        Ok(())
    }

    /// Creates the first segment of a new log.
    pub(super) fn create_first(&mut self, page: &Control) -> Result<(), LogError> {
        let prepared = self.prepare_file(0)?;
        let header = self.fresh_header(uuid::Uuid::new_v4().into_bytes());
        page.set_durable(0);
        page.set_poisoned(0);
        self.install(page, prepared, header)
    }
}
