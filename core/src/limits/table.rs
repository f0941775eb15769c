//! The limits as people read them.
//!
//! Section 13 of SPEC.md has all rows; the operator's page and the help of `c2c relay serve` have
//! those of a relay. Tests compare the documents with these rows.

use c2c_log_format::limits::{
    BATCH_EVENTS_MAX, CHECKPOINT_HEADER_BYTES, EVENT_HEAD_BYTES, FRAME_BODY_BYTES_MAX,
    FRAME_HEADER_BYTES, MESSAGE_ID_BYTES_MAX, NAME_CHARS_MAX, SEAL_BYTES, SEGMENT_HEADER_BYTES,
};

use super::*;

/// A limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The limited quantity.
    pub name: &'static str,
    /// The value with its unit.
    pub value: String,
}

fn limit(name: &'static str, value: impl Into<String>) -> Limit {
    Limit { name, value: value.into() }
}

/// All limits, from the bytes of a log to the relay.
pub fn all() -> Vec<Limit> {
    let mut limits = format();
    limits.extend(broker());
    limits.extend(replication());
    limits.extend(relay());
    limits
}

/// The limits that an operator of a relay meets.
pub fn of_relay() -> Vec<Limit> {
    let mut limits = vec![message_body()];
    limits.extend(relay());
    limits
}

fn format() -> Vec<Limit> {
    let bytes = |name, bytes: usize| limit(name, format!("{bytes} bytes"));
    vec![
        limit("segment, sealed before it grows beyond", size(SEGMENT_BYTES)),
        bytes("segment header", SEGMENT_HEADER_BYTES),
        bytes("frame header", FRAME_HEADER_BYTES),
        bytes("event head", EVENT_HEAD_BYTES),
        bytes("checkpoint header", CHECKPOINT_HEADER_BYTES),
        bytes("seal frame", SEAL_BYTES),
        limit("body of one frame", size(FRAME_BODY_BYTES_MAX as u64)),
        limit("events in one frame", count(BATCH_EVENTS_MAX as u64)),
        limit("alias, session id, room id", format!("{NAME_CHARS_MAX} characters")),
        bytes("message_id", MESSAGE_ID_BYTES_MAX),
    ]
}

fn message_body() -> Limit {
    limit("message body", size(BODY_BYTES_MAX as u64))
}

fn broker() -> Vec<Limit> {
    let checkpoint = format!(
        "{CHECKPOINT_EVENTS} events or {}; at a relay {} events or {}, written by another thread; \
         {CHECKPOINT_PAUSE_FACTOR} times as much while that thread pauses, until the relay has been \
         idle for {RELAY_IDLE_S} s",
        size(CHECKPOINT_BYTES),
        count(RELAY_CHECKPOINT_EVENTS),
        size(RELAY_CHECKPOINT_BYTES),
    );
    let poll = format!("{MCP_POLL_MESSAGES} messages, {} of bodies", size(MCP_POLL_BYTES as u64));
    let hook = format!(
        "{HOOK_MESSAGES} messages, {} of bodies, {HOOK_DEADLINE_MS} ms, {} of input",
        size(HOOK_BODY_BYTES as u64),
        size(HOOK_INPUT_BYTES as u64),
    );
    let nudges = format!("{WAKE_PAUSE_S_MIN} s, doubled up to {WAKE_PAUSE_S_MAX} s");
    let message_ids = format!(
        "{} days and {} messages",
        MESSAGE_ID_RETENTION_US / 1_000_000 / DAY_S,
        count(MESSAGE_ID_RETENTION_COUNT),
    );
    vec![
        message_body(),
        limit("wait for the writer lock", seconds(LOCK_WAIT.as_secs())),
        limit("reserve for claims and acks", size(SEGMENT_RESERVE_BYTES)),
        limit("checkpoint due after", checkpoint),
        limit(
            "manual claim, or claim of a process in another pid namespace or not known",
            seconds(CLAIM_TIMEOUT_S),
        ),
        limit("one MCP poll, default", poll),
        limit("one hook", hook),
        limit(
            "time between two touches of a doorbell while mail is unread",
            seconds(WAKE_PAUSE_S_MIN),
        ),
        limit(
            "time that mail is unread before the MCP server queues a turn of a Codex thread",
            seconds(IDLE_NOTICE_AFTER_S),
        ),
        limit("time between two nudges of `wake` while mail is unread", nudges),
        limit(
            "unread mail that `status` and `doctor` report",
            format!("{} old", seconds(UNREAD_ALARM_AFTER_S)),
        ),
        limit("`wait_s` of a poll", seconds(MCP_WAIT_S_MAX)),
        limit("time between two heartbeats of an active session", seconds(HEARTBEAT_INTERVAL_S)),
        limit(
            "room messages kept in the state after every member has read them",
            ROOM_HISTORY.to_string(),
        ),
        limit("archiving keeps a message_id for", message_ids),
        limit(
            "a message for another machine is unconfirmed after",
            format!("{} h", UNCONFIRMED_AFTER_S / 3600),
        ),
    ]
}

fn replication() -> Vec<Limit> {
    vec![
        limit(
            "earlier messages that a node receives when its first member joins a room",
            format!("{ROOM_BACKFILL} messages, {}", size(ROOM_BACKFILL_BYTES as u64)),
        ),
        limit("attempts to append when the head has moved", CONFLICT_RETRIES.to_string()),
        limit(
            "replication batch, closed beyond",
            format!(
                "{} or {} events",
                size(REPLICATION_BYTES as u64),
                count(REPLICATION_EVENTS as u64)
            ),
        ),
        limit(
            "replication batch, content",
            format!(
                "{} and {} records",
                size(REPLICATION_BYTES_MAX as u64),
                count(REPLICATION_EVENTS_MAX as u64)
            ),
        ),
        limit("registrations in one request", count(RELAY_REGISTRATIONS_MAX as u64)),
        limit("keys that are tried for one alias", RELAY_KEYS_MAX.to_string()),
        limit("events that one pull reads", count(REPLICATION_SCAN_MAX)),
    ]
}

fn relay() -> Vec<Limit> {
    let mirrors = format!(
        "{}, {}, {MIRROR_GIB_MAX} GiB",
        size(MIRROR_CHUNK_BYTES as u64),
        size(MIRROR_ROUND_BYTES)
    );
    let remote_broker = format!(
        "{REMOTE_BROKER_INTERVAL_S} s, {}, {REMOTE_BROKER_READ_S} s",
        size(REMOTE_BROKER_BYTES_MAX as u64)
    );
    let body = format!("{}, {RELAY_BODY_WAIT_S} s", size(RELAY_REQUEST_BYTES_MAX as u64));
    let head = format!(
        "{RELAY_HEADERS_MAX} headers, {}, {RELAY_HEAD_WAIT_S} s",
        size(RELAY_HEAD_BYTES_MAX as u64)
    );
    let receiving = format!(
        "{} from unknown senders, {} from others",
        size(RELAY_UNKNOWN_SENDER_BYTES as u64),
        size(RELAY_KNOWN_SENDER_BYTES as u64)
    );
    let burst = (f64::from(RELAY_REQUESTS_PER_S) * RELAY_BURST_S) as u64;
    let requests = format!(
        "{} per second, {} at once; `--rate-limit`",
        count(RELAY_REQUESTS_PER_S.into()),
        count(burst)
    );
    let poll =
        format!("{RELAY_POLL_MESSAGES} messages, {} of bodies", size(RELAY_POLL_BYTES_MAX as u64));
    vec![
        limit("mirrored bytes: in one request, in one round, at a relay", mirrors),
        limit("broker read over SSH: interval, size, duration of one read", remote_broker),
        limit("relay: body of a request", body),
        limit("relay: head of a request", head),
        limit("relay: connections served at once", count(RELAY_CONNECTIONS_MAX as u64)),
        limit("relay: bodies being received at once", receiving),
        limit("relay: requests of one identity, with a token", requests),
        limit("relay: wait of one request", seconds(RELAY_WAIT_S_MAX)),
        limit("relay: one poll over HTTP", poll),
        limit("relay: longest lease", format!("{} days", LEASE_DURATION_S_MAX / DAY_S)),
    ]
}

/// Seconds of a day.
const DAY_S: u64 = 24 * 3600;

fn seconds(seconds: u64) -> String {
    format!("{seconds} s")
}

/// A number with a comma between each three digits.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in MiB and KiB, of which it is a multiple.
fn size(bytes: u64) -> String {
    let (mib, kib) = (bytes >> 20, (bytes >> 10) & 1023);
    match (mib, kib) {
        (0, kib) => format!("{kib} KiB"),
        (mib, 0) => format!("{mib} MiB"),
        (mib, kib) => format!("{mib} MiB and {kib} KiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::{count, size};

    #[test]
    fn numbers_have_commas_between_each_three_digits() {
        assert_eq!(
            [0, 200, 1_000, 65_535, 1_234_567].map(count),
            ["0", "200", "1,000", "65,535", "1,234,567"]
        );
    }

    #[test]
    fn sizes_are_shown_in_the_largest_units() {
        assert_eq!(
            [5 << 10, 4 << 20, (32 << 20) + (64 << 10)].map(size),
            ["5 KiB", "4 MiB", "32 MiB and 64 KiB"]
        );
    }
}
