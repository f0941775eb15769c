//! The JSON object that a client writes to a hook's standard input.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Instant;

use serde::Deserialize;

use crate::platform::clock;
use crate::platform::poll::wait_for_input;
use c2c_core::limits::HOOK_INPUT_BYTES;

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
    pub agent_id: Option<String>,
    /// Set if the model continues only because a hook asked for it.
    pub stop_hook_active: bool,
}

impl HookInput {
    /// Reads standard input to its end, or for as long as the deadline permits. Invalid or missing
    /// input yields the defaults.
    pub fn read(deadline: Instant) -> Self {
        let mut bytes = Vec::new();
        let mut buffer = [0; 64 * 1024];
        while bytes.len() < HOOK_INPUT_BYTES {
            if !wait_for_input(clock::until(deadline) / 2) {
                break;
            }
            // The buffer is larger than that of `Stdin`, which therefore keeps no bytes that a
            // poll of the descriptor would not report.
            match io::stdin().lock().read(&mut buffer) {
                Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
                _ => break,
            }
        }
        // Without valid input, the environment names the session.
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Name of the event.
    pub fn event(&self) -> Option<&str> {
        self.hook_event_name.as_deref().or(self.event.as_deref())
    }
}
