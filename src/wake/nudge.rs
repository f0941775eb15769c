//! Delivery of a nudge by another program.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use super::NOTICE;
use crate::error::Failure;
use crate::platform::clock;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// Time limit of the program that delivers a nudge.
const NUDGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two looks at a terminal.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// A session with unread mail.
#[derive(Debug, Clone, Default)]
pub struct WaitingSession {
    pub alias: String,
    /// Empty if no session holds the alias.
    pub session_id: String,
    pub unread: usize,
}

/// How to run Codex.
#[derive(Debug, Clone)]
pub struct CodexCommand {
    /// Path of the program, or its name on the `PATH`.
    pub program: PathBuf,
    /// Environment variables that locate its files, in addition to the environment of this process.
    pub variables: Vec<(String, OsString)>,
}

impl Default for CodexCommand {
    fn default() -> Self {
        Self { program: "codex".into(), variables: Vec::new() }
    }
}

/// A program that nudges a session.
#[derive(Debug, Clone)]
pub enum NudgeMethod {
    /// Queues a turn in a Codex thread: the session that holds the alias.
    Codex(CodexCommand),
    /// Runs a command of the user in a shell.
    Shell(String),
}

impl NudgeMethod {
    /// Nudges a session once. The text is always the same; a command reads the alias and the session
    /// from its environment. Fails if the program is not found, fails, or takes too long.
    pub fn send(&self, waiting: &WaitingSession) -> Result<(), Failure> {
        match self {
            Self::Codex(codex) => {
                let thread = &waiting.session_id;
                if thread.is_empty() {
                    let message = format!("no session holds the alias '{}'", waiting.alias);
                    return Err(Rejection::new(Code::UnknownAlias, "alias", message).into());
                }
                let mut command = Command::new(&codex.program);
                command.envs(codex.variables.iter().cloned());
                run(command.args(["queue", "--thread", thread, "--message", NOTICE]))
            }
            Self::Shell(template) => run(Command::new("sh")
                .args(["-c", template])
                .env("C2C_WAKE_ALIAS", &waiting.alias)
                .env("C2C_WAKE_SESSION", &waiting.session_id)
                .env("C2C_WAKE_UNREAD", waiting.unread.to_string())
                .env("C2C_WAKE_TEXT", NOTICE)),
        }
    }
}

/// A number for the token of a nudge, which differs from that of all other nudges of late.
pub fn token_number() -> u32 {
    u32::from_le_bytes(*uuid::Uuid::new_v4().as_bytes().first_chunk().unwrap_or(&[0; 4]))
}

/// The failure of a program that delivers a nudge.
pub fn failed(program: &str, reason: &str) -> Failure {
    Rejection::new(Code::InvalidArgument, "wake", format!("{program}: {reason}")).into()
}

/// Runs a program and waits for its end, up to the time limit.
fn run(command: &mut Command) -> Result<(), Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().map_err(|e| failed(&name, &e.to_string()))?;
    let status = wait_for(&mut child, &name)?;
    if status.success() { Ok(()) } else { Err(failed(&name, &status.to_string())) }
}

/// Waits for the end of a program, and ends it at the time limit.
pub fn wait_for(child: &mut Child, name: &str) -> Result<ExitStatus, Failure> {
    let deadline = clock::monotonic() + NUDGE_TIMEOUT;
    loop {
        match child.try_wait().map_err(|e| failed(name, &e.to_string()))? {
            Some(status) => return Ok(status),
            None if clock::monotonic() >= deadline => {
                let _ = child.kill();
                let _ = child.wait();
                let reason = format!("did not finish within {} s", NUDGE_TIMEOUT.as_secs());
                return Err(failed(name, &reason));
            }
            None => thread::sleep(CHECK_INTERVAL / 20),
        }
    }
}
