//! The position at which a store resumes reading after a checkpoint.

use c2c_log_format::Sequence;
use c2c_log_format::checkpoint::CheckpointHeader;
use c2c_log_format::scan::FramePosition;

/// Opaque position of a store's reader.
///
/// Only the store that produced a token can interpret it. A checkpoint records it in the header
/// fields `segment` and `position`; the rest of the program does not look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeToken {
    segment: Sequence,
    position: FramePosition,
}

impl ResumeToken {
    pub(super) const fn new(segment: Sequence, position: FramePosition) -> Self {
        Self { segment, position }
    }

    /// The token that a checkpoint records.
    pub const fn of(header: &CheckpointHeader) -> Self {
        Self { segment: header.segment, position: header.position }
    }

    pub(super) const fn segment(self) -> Sequence {
        self.segment
    }

    pub(super) const fn position(self) -> FramePosition {
        self.position
    }

    /// Records the token and the log's id in an encoded checkpoint.
    ///
    /// Returns the new header; `None` if the bytes are not a checkpoint.
    pub(super) fn record_in(
        self,
        log_id: [u8; 16],
        checkpoint: &mut [u8],
    ) -> Option<CheckpointHeader> {
        let header = CheckpointHeader::decode(checkpoint).ok()?;
        let header =
            CheckpointHeader { log_id, segment: self.segment, position: self.position, ..header };
        let encoded = header.encode();
        checkpoint.get_mut(..encoded.len())?.copy_from_slice(&encoded);
        Some(header)
    }
}
