//! What is the largest of everything that the format can hold?

/// Bytes of a segment header.
pub const SEGMENT_HEADER_BYTES: usize = 4096;
/// Bytes of a frame header.
pub const FRAME_HEADER_BYTES: usize = 56;
/// Bytes of an event head.
pub const EVENT_HEAD_BYTES: usize = 40;
/// Bytes of a checkpoint header.
pub const CHECKPOINT_HEADER_BYTES: usize = 256;
/// Largest body of one frame.
pub const FRAME_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most events in one frame.
pub const BATCH_EVENTS_MAX: usize = u16::MAX as usize;
/// Space kept at the end of a segment for its seal frame.
pub const SEAL_BYTES: usize = FRAME_HEADER_BYTES + crate::frame::SEAL_BODY_BYTES;
/// Longest alias, session id and room id, in characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Longest message id given by a caller, in bytes.
pub const MESSAGE_ID_BYTES_MAX: usize = 128;
