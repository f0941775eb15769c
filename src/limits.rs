//! What is the largest, longest and most of everything? One place for all of it.

use std::time::Duration;

/// A segment is sealed when it would grow past this, bytes.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Longest wait for the writer lock.
pub const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Space in a segment that only claims and acks may use, so that mail can be read on a full disk.
pub const RESERVE_BYTES: u64 = 64 * 1024;
/// Largest message body, bytes.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A checkpoint is due after this many events.
pub const CHECKPOINT_EVENTS: u64 = 128;
/// A checkpoint is due after this many bytes of log.
pub const CHECKPOINT_BYTES: u64 = 64 * 1024;
/// A manual or foreign claim ends by itself after this long, seconds.
pub const CLAIM_S: u64 = 60;
/// An active session is noted again after this long, seconds.
pub const HEARTBEAT_S: u64 = 60;
/// Messages that one MCP poll returns unless told otherwise.
pub const POLL_MESSAGES: usize = 50;
/// Bytes of bodies that one MCP poll returns unless told otherwise.
pub const POLL_BYTES: usize = 24 * 1024;
/// Bytes of mail that one hook shows.
pub const HOOK_BYTES: usize = 8 * 1024;
/// A longest wait in `poll_inbox`, seconds: clients cut off not much later.
pub const WAIT_S_MAX: u64 = 25;
/// Messages of a room that stay at hand for history.
pub const ROOM_HISTORY: usize = 200;
/// An id that somebody gave may be given again for this long, microseconds ...
pub const ID_KEPT_US: u64 = 7 * 24 * 3600 * 1_000_000;
/// ... and as long as its sender has not sent this many more.
pub const ID_KEPT_COUNT: u64 = 10_000;
/// Tries to append when the head moved in between.
pub const CONFLICT_RETRIES: u32 = 16;
/// A replication batch is closed when its content passes this, bytes.
pub const REPLICATION_BYTES: usize = 1024 * 1024;
/// Largest content of a replication batch: one event always fits, however its body is escaped.
pub const REPLICATION_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Events in one replication batch.
pub const REPLICATION_EVENTS_MAX: usize = 1000;
