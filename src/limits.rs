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
/// At a relay a checkpoint is due after this many events ...
pub const RELAY_CHECKPOINT_EVENTS: u64 = 30_000;
/// ... or this many bytes of log.
pub const RELAY_CHECKPOINT_BYTES: u64 = 32 * 1024 * 1024;
/// Messages that one event brings back at most: with their texts, escaped, they must fit into a
/// batch.
pub const RETURNED_MAX: usize = REPLICATION_BYTES_MAX / BODY_BYTES_MAX / 6;
/// Bytes of a mirrored segment that travel at once ...
pub const MIRROR_CHUNK_BYTES: usize = 1024 * 1024;
/// ... of one round of a connector ...
pub const MIRROR_ROUND_BYTES: u64 = 64 * 1024 * 1024;
/// ... and of all that a relay keeps, in GiB, unless its operator says otherwise.
pub const MIRROR_GIB_MAX: u64 = 8;
/// A broker behind SSH is read every so often, seconds ...
pub const REMOTE_BROKER_EVERY_S: u64 = 5;
/// ... unless its inboxes hold more than this, bytes.
pub const REMOTE_BROKER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A manual or foreign claim ends by itself after this long, seconds.
pub const CLAIM_S: u64 = 60;
/// An active session is noted again after this long, seconds.
pub const HEARTBEAT_S: u64 = 60;
/// Messages that one MCP poll returns unless told otherwise.
pub const POLL_MESSAGES: usize = 50;
/// Bytes of bodies that one MCP poll returns unless told otherwise.
pub const POLL_BYTES: usize = 24 * 1024;
/// A hook shows so many messages at most ...
pub const HOOK_MESSAGES: usize = 10;
/// ... with so many bytes of text: 8 KB with what surrounds them, which no client cuts off.
pub const HOOK_BODY_BYTES: usize = 5 * 1024;
/// What a client tells a hook at most, bytes.
pub const HOOK_INPUT_BYTES: usize = 16 * 1024 * 1024;
/// A hook is over after this, milliseconds.
pub const HOOK_DEADLINE_MS: u64 = 200;
/// A longest wait in `poll_inbox`, seconds: clients cut off not much later.
pub const WAIT_S_MAX: u64 = 25;
/// What a node that comes into a room is told of what was said there before: messages, and bytes.
pub const ROOM_BACKFILL: usize = 20;
pub const ROOM_BACKFILL_BYTES: usize = 256 * 1024;
/// A message for another machine of which nobody has said for so long that it arrived is unconfirmed.
pub const UNCONFIRMED_S: u64 = 3_600;
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
/// A replication batch is closed when it holds so many events ...
pub const REPLICATION_EVENTS: usize = 1_000;
/// ... and never holds more than these: what leaves because of one event stays together.
pub const REPLICATION_EVENTS_MAX: usize = 20_000;
/// Sessions of one node that may register in one request.
pub const RELAY_REGISTRATIONS_MAX: usize = 1_000;
/// Keys that are tried for one alias: those who had it first.
pub const RELAY_KEYS_MAX: usize = 16;
/// Longest lease at a relay, seconds.
pub const LEASE_S_MAX: u64 = 30 * 24 * 3600;
/// Requests that one identity may make in each second at a relay with a token, unless told otherwise ...
pub const RELAY_REQUESTS_PER_S: u32 = 1_000;
/// ... and how many seconds' worth of them at once.
pub const RELAY_BURST_S: f64 = 5.0;
/// Largest body of a request to a relay, bytes: the largest batch, and the largest message with all
/// of it escaped.
pub const RELAY_REQUEST_BYTES_MAX: usize = REPLICATION_BYTES_MAX + 64 * 1024;
/// Bytes of bodies that are being read at once from those whose alias is not known here ...
pub const RELAY_STRANGERS_BYTES: usize = 64 * 1024 * 1024;
/// ... and from all others.
pub const RELAY_KNOWN_BYTES: usize = 256 * 1024 * 1024;
/// Longest wait of one request at a relay, seconds: proxies cut idle connections not much later.
pub const RELAY_WAIT_S_MAX: u64 = 25;
/// Messages that one poll over HTTP gives at most.
pub const RELAY_POLL_MESSAGES: usize = 500;
/// Bytes of bodies that one poll over HTTP gives at most; one message always comes.
pub const POLL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Events that one pull looks at, at most: then it answers how far it got.
pub const REPLICATION_SCAN_MAX: u64 = 20_000;
/// Connections that a relay serves at once; more wait.
pub const RELAY_CONNECTIONS_MAX: usize = 16_384;
/// How long the head of a request may take, seconds.
pub const RELAY_HEAD_WAIT_S: u64 = 30;
/// Headers of one request.
pub const RELAY_HEADERS_MAX: usize = 64;
/// Bytes that a connection may hold before its request is read.
pub const RELAY_HEAD_BYTES_MAX: usize = 64 * 1024;
/// A doorbell that has not rung for so long, of a session that is not registered, is taken down by a
/// sweep; seconds.
pub const DOORBELL_S: u64 = 7 * 24 * 3600;
/// Unread mail this old is worth an alarm, seconds.
pub const UNREAD_ALARM_S: u64 = 600;
/// Mail that a client's hooks have not shown for so long is announced to an idle session, seconds.
pub const IDLE_S: u64 = 5;
/// Between two nudges of a session that has not read its mail, seconds: at first ...
pub const WAKE_PAUSE_S_MIN: u64 = 30;
/// ... and after each that did not help twice as long, up to this.
pub const WAKE_PAUSE_S_MAX: u64 = 300;
