//! Sizes and size limits of the on-disk format.

/// Length of a segment header, bytes.
pub const SEGMENT_HEADER_BYTES: usize = 4096;
/// Length of a frame header, bytes.
pub const FRAME_HEADER_BYTES: usize = 56;
/// Length of an event head, bytes.
pub const EVENT_HEAD_BYTES: usize = 40;
/// Length of a checkpoint header, bytes.
pub const CHECKPOINT_HEADER_BYTES: usize = 256;
/// Largest body of a frame, bytes.
pub const FRAME_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest number of events in a frame.
pub const BATCH_EVENTS_MAX: usize = u16::MAX as usize;
/// Length of the body of a seal, bytes: frame count, last sequence, earliest and latest time, digest.
pub const SEAL_BODY_BYTES: usize = 64;
/// Space reserved at the end of a segment for its seal frame, bytes.
pub const SEAL_BYTES: usize = FRAME_HEADER_BYTES + SEAL_BODY_BYTES;
/// Longest alias, session id or room id, characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Longest message id that a caller may choose, bytes.
pub const MESSAGE_ID_BYTES_MAX: usize = 128;
