//! The JSON object that a client writes to a hook's standard input.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::response::HookClient;
use super::scan::MemberScanner;
use crate::platform::clock;
use crate::platform::poll::wait_for_input;
use c2c_core::limits::{HOOK_DEADLINE_MS, HOOK_INPUT_BYTES};

/// Time that a hook may take, without the reading of a very large input.
const DEADLINE: Duration = Duration::from_millis(HOOK_DEADLINE_MS);

/// Time in which a very large input must have arrived. Clients wait for five seconds.
const LARGE_INPUT: Duration = Duration::from_secs(4);

/// Input of which this many bytes arrive before the deadline is not complete, only slow.
const STILL_WRITTEN: usize = 1024 * 1024;

/// The fields that a hook uses. Others are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct HookInput {
    pub session_id: Option<String>,
    pub cwd: Option<PathBuf>,
    hook_event_name: Option<String>,
    /// Name of the event in clients that do not send `hook_event_name`.
    event: Option<String>,
    /// Why a session starts, such as `clear` or `resume`.
    pub source: Option<String>,
    /// Set if the event is about a subagent of the session.
    agent_id: Option<String>,
    /// The agent that started it.
    parent_agent_id: Option<String>,
    /// Set if the model continues only because a hook asked for it.
    pub stop_hook_active: bool,
}

/// Written by some programs before a UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl HookInput {
    /// Reads standard input to its end, or for as long as the deadline permits. Invalid or missing
    /// input yields the defaults. Also returns the deadline of the hook: reading a very large input
    /// postpones it.
    pub fn read(deadline: Instant) -> (Self, Instant) {
        let mut bytes = Vec::new();
        let mut buffer = [0; 64 * 1024];
        loop {
            if !wait_for_input(clock::until(deadline) / 2) {
                if bytes.len() < STILL_WRITTEN {
                    break;
                }
                return (Self::read_large(bytes), clock::monotonic() + DEADLINE);
            }
            // The buffer is larger than that of `Stdin`, which therefore keeps no bytes that a
            // poll of the descriptor would not report.
            match io::stdin().lock().read(&mut buffer) {
                Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
                _ => break,
            }
            if bytes.len() >= HOOK_INPUT_BYTES {
                return (Self::read_large(bytes), clock::monotonic() + DEADLINE);
            }
        }
        let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
        // Without valid input, the environment names the session.
        (serde_json::from_slice(text).unwrap_or_default(), deadline)
    }

    /// Reads the rest of an input that is too large to keep, so that the client can write all of it.
    #[cold]
    fn read_large(start: Vec<u8>) -> Self {
        let end = clock::monotonic() + LARGE_INPUT;
        let mut scanner = MemberScanner::default();
        scanner.feed(start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&start));
        drop(start);
        let mut buffer = vec![0; 256 * 1024];
        while clock::monotonic() < end && wait_for_input(DEADLINE) {
            match io::stdin().lock().read(&mut buffer) {
                Ok(read @ 1..) => scanner.feed(&buffer[..read]),
                _ => break,
            }
        }
        serde_json::from_value(scanner.into_value()).unwrap_or_default()
    }

    /// Whether the event is about a helper of the session, which reads no mail for it.
    pub fn is_of_helper(&self, client: HookClient) -> bool {
        match client {
            // Cline also gives its main agent an id.
            HookClient::Cline => self.parent_agent_id.is_some(),
            _ => self.agent_id.is_some(),
        }
    }

    /// Name of the event.
    pub fn event(&self) -> Option<&str> {
        self.hook_event_name.as_deref().or(self.event.as_deref())
    }
}
