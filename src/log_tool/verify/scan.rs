//! Scanning segments in parallel: frames, events, seals and digests.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use c2c_log_format::checksum::SegmentDigest;
use c2c_log_format::error::Problem;
use c2c_log_format::event::events;
use c2c_log_format::frame::{FrameHeader, Seal};
use c2c_log_format::limits::{FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use c2c_log_format::scan::{ScanDamage, Scanned};
use c2c_log_format::segment::SegmentHeader;
use c2c_log_format::{FormatError, Sequence};

use crate::log::read_segment;
use crate::log_tool::exit::ToolError;
use crate::log_tool::files::{self, LogFiles};

/// Number of frames at the end of a segment whose digests are recorded.
const PREFIXES_MAX: usize = 65;

/// Contents of one segment.
pub struct ScannedSegment {
    pub base: Sequence,
    pub header: Result<SegmentHeader, FormatError>,
    /// Length of the file in bytes.
    pub bytes: usize,
    pub frames: u64,
    pub events: u64,
    pub damages: Vec<ScanDamage>,
    /// Sequence after the last good one.
    pub next: Sequence,
    /// Digest of all frames.
    pub digest: [u8; 32],
    /// For each of the last frames, the sequence after it and the digest up to and including it. A
    /// later segment may record that this one counts only up to one of them.
    pub prefixes: VecDeque<(Sequence, [u8; 32])>,
    /// Highest sequence that a frame records as durable.
    pub durable: Sequence,
    pub is_sealed: bool,
}

/// Scans all segments, with one thread per processor. Returns them in order.
pub fn scan_all(log: &LogFiles) -> Result<Vec<ScannedSegment>, ToolError> {
    let next = AtomicUsize::new(0);
    let scanned: Mutex<Vec<Result<ScannedSegment, ToolError>>> = Mutex::new(Vec::new());
    let bar = files::progress(log.bases.len() as u64);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(log.bases.len());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(base) = log.bases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let segment = log.segment(*base).map(|bytes| scan(*base, &bytes));
                    bar.inc(1);
                    scanned.lock().unwrap_or_else(PoisonError::into_inner).push(segment);
                }
            });
        }
    });
    bar.finish_and_clear();
    let scanned = scanned.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut segments = scanned.into_iter().collect::<Result<Vec<_>, _>>()?;
    segments.sort_unstable_by_key(|segment| segment.base);
    Ok(segments)
}

fn scan(base: Sequence, bytes: &[u8]) -> ScannedSegment {
    let mut segment = ScannedSegment {
        base,
        header: SegmentHeader::decode(bytes),
        bytes: bytes.len(),
        frames: 0,
        events: 0,
        damages: Vec::new(),
        next: base,
        digest: [0; 32],
        prefixes: VecDeque::new(),
        durable: 0,
        is_sealed: false,
    };
    let Ok(header) = segment.header else { return segment };
    let mut digest = SegmentDigest::new(&bytes[..SEGMENT_HEADER_BYTES]);
    let mut scanner = read_segment(bytes, &header);
    for piece in scanner.by_ref() {
        match piece {
            Scanned::Frame { offset, header, body } => {
                let digest_before = digest.clone();
                segment.add_frame(offset, &header, body, digest_before);
                digest.frame(&bytes[offset..offset + FRAME_HEADER_BYTES], body);
                segment.add_prefix(&header, &digest);
            }
            Scanned::Damage(damage) => segment.damages.push(damage),
        }
    }
    segment.next = segment.next.max(scanner.position().sequence);
    segment.is_sealed = scanner.seal().is_some();
    segment.digest = digest.finish();
    segment
}

impl ScannedSegment {
    /// Counts a frame and its events; records damage in them. `digest` covers all earlier frames.
    fn add_frame(
        &mut self,
        offset: usize,
        header: &FrameHeader,
        body: &[u8],
        digest: SegmentDigest,
    ) {
        self.frames += 1;
        self.durable = self.durable.max(header.durable_sequence);
        self.next = header.sequence + Sequence::from(header.count);
        let damage = |error: FormatError| ScanDamage {
            offset,
            len: header.frame_len(),
            first: header.sequence,
            last: Some(header.last_sequence()),
            error,
            followed: true,
        };
        if header.seal {
            match Seal::decode(body) {
                Ok(seal) if seal.digest == digest.finish() || !self.damages.is_empty() => {}
                Ok(_) => {
                    let error = FormatError { offset: 0, problem: Problem::BrokenChain };
                    self.damages.push(damage(error));
                }
                Err(error) => self.damages.push(damage(error)),
            }
            return;
        }
        for event in events(body, header.sequence, header.count) {
            match event {
                Ok(_) => self.events += 1,
                Err(error) => self.damages.push(damage(error)),
            }
        }
    }

    fn add_prefix(&mut self, header: &FrameHeader, digest: &SegmentDigest) {
        if self.prefixes.len() == PREFIXES_MAX {
            self.prefixes.pop_front();
        }
        let next = header.sequence + Sequence::from(header.count);
        self.prefixes.push_back((next, digest.finish()));
    }
}
