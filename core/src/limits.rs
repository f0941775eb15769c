//! Tunable limits and timeouts of the log, the broker, its front ends and the relay.

pub mod table;

use std::time::Duration;

// Log and checkpoints

/// Size beyond which a segment is sealed, bytes.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Longest wait for the writer lock.
pub const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Space of a segment reserved for claims and acks, so that mail can be read on a full disk, bytes.
pub const SEGMENT_RESERVE_BYTES: u64 = 64 * 1024;
/// Attempts to append an event before giving up when other writers move the head of the log.
pub const CONFLICT_RETRIES: u32 = 16;
/// Number of new events after which a checkpoint is due.
pub const CHECKPOINT_EVENTS: u64 = 128;
/// Size of new events after which a checkpoint is due, bytes of log.
pub const CHECKPOINT_BYTES: u64 = 64 * 1024;

// Mail

/// Largest message body, bytes.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Time after which a manual or foreign claim expires, seconds.
pub const CLAIM_TIMEOUT_S: u64 = 60;
/// Interval at which the activity of a session is recorded, seconds.
pub const HEARTBEAT_INTERVAL_S: u64 = 60;
/// Largest number of messages that one event returns to their senders.
///
/// Their bodies must fit into one replication batch even if escaping makes every byte six.
pub const RETURNED_MESSAGES_MAX: usize = REPLICATION_BYTES_MAX / BODY_BYTES_MAX / 6;
/// Age at which a message to another machine without a delivery receipt is reported as unconfirmed,
/// seconds.
pub const UNCONFIRMED_AFTER_S: u64 = 3_600;
/// Age at which unread mail raises an alarm, seconds.
pub const UNREAD_ALARM_AFTER_S: u64 = 600;
/// Number of messages per room that remain available for history.
pub const ROOM_HISTORY: usize = 200;
/// Time during which a message id is remembered to detect repeated messages, microseconds.
///
/// An id is remembered for at least this time and at least [`MESSAGE_ID_RETENTION_COUNT`] later messages.
pub const MESSAGE_ID_RETENTION_US: u64 = 7 * 24 * 3600 * 1_000_000;
/// Number of later messages of the same sender during which a message id is remembered.
pub const MESSAGE_ID_RETENTION_COUNT: u64 = 10_000;

// MCP server

/// Default number of messages that one poll returns.
pub const MCP_POLL_MESSAGES: usize = 50;
/// Default size of the bodies that one poll returns, bytes.
pub const MCP_POLL_BYTES: usize = 24 * 1024;
/// Longest wait of `poll_inbox`, seconds. Clients cancel tool calls shortly after this time.
pub const MCP_WAIT_S_MAX: u64 = 25;
/// Age of mail not shown by a client's hooks at which an idle session is notified, seconds.
pub const IDLE_NOTICE_AFTER_S: u64 = 5;

// Hooks

/// Largest number of messages that one hook shows.
pub const HOOK_MESSAGES: usize = 10;
/// Largest size of the bodies that one hook shows, bytes.
///
/// With the surrounding text the output stays below 8 KB, which no client truncates.
pub const HOOK_BODY_BYTES: usize = 5 * 1024;
/// Largest input that a hook reads from its client, bytes.
pub const HOOK_INPUT_BYTES: usize = 16 * 1024 * 1024;
/// Time after which a hook exits even if it has not finished, milliseconds.
pub const HOOK_DEADLINE_MS: u64 = 200;

// Waking idle sessions

/// Age at which a sweep removes the unused wake file of an unregistered session, seconds.
pub const WAKE_FILE_RETENTION_S: u64 = 7 * 24 * 3600;
/// Pause before a session that has not read its mail is nudged again, seconds.
///
/// The pause doubles after each unsuccessful nudge, up to [`WAKE_PAUSE_S_MAX`].
pub const WAKE_PAUSE_S_MIN: u64 = 30;
/// Longest pause between two nudges of a session that has not read its mail, seconds.
pub const WAKE_PAUSE_S_MAX: u64 = 300;

// Replication

/// Size at which a replication batch is closed, bytes of content.
pub const REPLICATION_BYTES: usize = 1024 * 1024;
/// Largest content of a replication batch, bytes.
///
/// It is large enough for any single event, even if every byte of its body is escaped.
pub const REPLICATION_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Number of events at which a replication batch is closed.
pub const REPLICATION_EVENTS: usize = 1_000;
/// Largest number of events in a replication batch.
///
/// It exceeds [`REPLICATION_EVENTS`] because all events caused by one event stay in one batch.
pub const REPLICATION_EVENTS_MAX: usize = 20_000;
/// Largest number of events that one pull reads. A longer log takes several pulls.
pub const REPLICATION_SCAN_MAX: u64 = 20_000;
/// Number of earlier messages that a node receives when its first member joins a room.
pub const ROOM_BACKFILL: usize = 20;
/// Size of the earlier messages that a node receives when its first member joins a room, bytes.
pub const ROOM_BACKFILL_BYTES: usize = 256 * 1024;

// Relay

/// Number of new events after which a checkpoint is due at a relay.
pub const RELAY_CHECKPOINT_EVENTS: u64 = 30_000;
/// Size of new events after which a checkpoint is due at a relay, bytes of log.
pub const RELAY_CHECKPOINT_BYTES: u64 = 32 * 1024 * 1024;
/// After a checkpoint, the thread that writes it pauses for this many times as long as it worked.
///
/// During the pause the events after the checkpoint may grow to this many times their usual limit.
pub const CHECKPOINT_PAUSE_FACTOR: u32 = 6;
/// Time without a request after which a relay counts as idle, seconds.
pub const RELAY_IDLE_S: u64 = 1;
/// Largest number of sessions of one node in one registration request.
pub const RELAY_REGISTRATIONS_MAX: usize = 1_000;
/// Largest number of keys that are tried for one alias, earliest binding first.
pub const RELAY_KEYS_MAX: usize = 16;
/// Longest lease, seconds.
pub const LEASE_DURATION_S_MAX: u64 = 30 * 24 * 3600;
/// Default number of requests that one identity may make per second at a relay with a token.
pub const RELAY_REQUESTS_PER_S: u32 = 1_000;
/// Size of a permitted burst of requests, in seconds of the permitted rate.
pub const RELAY_BURST_S: f64 = 5.0;
/// Largest body of a request, bytes: the largest batch, or the largest message fully escaped.
pub const RELAY_REQUEST_BYTES_MAX: usize = REPLICATION_BYTES_MAX + 64 * 1024;
/// Longest time for receiving the body of a request, seconds.
pub const RELAY_BODY_WAIT_S: u64 = 60;
/// Total size of the bodies being read from callers whose alias is unknown, bytes.
pub const RELAY_UNKNOWN_SENDER_BYTES: usize = 64 * 1024 * 1024;
/// Total size of the bodies being read from callers whose alias is known, bytes.
pub const RELAY_KNOWN_SENDER_BYTES: usize = 256 * 1024 * 1024;
/// Longest wait of one request, seconds. Proxies close idle connections shortly after this time.
pub const RELAY_WAIT_S_MAX: u64 = 25;
/// Largest number of messages that one poll over HTTP returns.
pub const RELAY_POLL_MESSAGES: usize = 500;
/// Largest size of the bodies that one poll over HTTP returns, bytes.
///
/// At least one message is returned, however large it is.
pub const RELAY_POLL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Number of connections that a relay serves concurrently. Further connections wait.
pub const RELAY_CONNECTIONS_MAX: usize = 16_384;
/// Longest time for receiving the head of a request, seconds.
pub const RELAY_HEAD_WAIT_S: u64 = 30;
/// Largest number of headers in one request.
pub const RELAY_HEADERS_MAX: usize = 64;
/// Largest size of a request's head, bytes buffered per connection.
pub const RELAY_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Interval at which a relay reads a broker over SSH, seconds.
pub const REMOTE_BROKER_INTERVAL_S: u64 = 5;
/// Longest time of one read of a broker over SSH, seconds.
pub const REMOTE_BROKER_READ_S: u64 = 60;
/// Largest total size of the inboxes that a relay reads over SSH, bytes.
pub const REMOTE_BROKER_BYTES_MAX: usize = 64 * 1024 * 1024;

// Connector and mirrors

/// Size of the pieces in which a mirrored segment is transferred, bytes.
pub const MIRROR_CHUNK_BYTES: usize = 1024 * 1024;
/// Size of mirrored segments that a connector transfers in one round, bytes.
pub const MIRROR_ROUND_BYTES: u64 = 64 * 1024 * 1024;
/// Default size of all mirrors that a relay keeps, GiB.
pub const MIRROR_GIB_MAX: u64 = 8;
