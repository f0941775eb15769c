//! How does a nudge reach a terminal or a program?

use std::process::{Command, Stdio};

use super::SENTINEL;
use crate::code::Code;
use crate::decide::Refusal;
use crate::failure::Failure;

/// Who is nudged.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    pub alias: String,
    /// Empty if no session has the alias now.
    pub session_id: String,
    pub unread: usize,
}

/// A way to nudge.
#[derive(Debug, Clone)]
pub enum Nudge {
    /// Types into a pane of tmux.
    Tmux(String),
    /// Puts a turn into the queue of a Codex thread: the session that holds the alias.
    Codex,
    /// Runs a command of the user's, by the shell.
    Shell(String),
}

impl Nudge {
    /// Nudges once. What is told is always the same sentinel; a command learns whom it is about from
    /// its environment.
    pub fn give(&self, waiting: &Waiting) -> Result<(), Failure> {
        match self {
            Self::Tmux(pane) => {
                let mut keys = Command::new("tmux");
                done(keys.args(["send-keys", "-t", pane, "-l", "--", SENTINEL]))?;
                done(Command::new("tmux").args(["send-keys", "-t", pane, "Enter"]))
            }
            Self::Codex => {
                let thread = &waiting.session_id;
                done(Command::new("codex").args([
                    "queue",
                    "--thread",
                    thread,
                    "--message",
                    SENTINEL,
                ]))
            }
            Self::Shell(template) => done(
                Command::new("sh")
                    .args(["-c", template])
                    .env("C2C_WAKE_ALIAS", &waiting.alias)
                    .env("C2C_WAKE_SESSION", &waiting.session_id)
                    .env("C2C_WAKE_UNREAD", waiting.unread.to_string())
                    .env("C2C_WAKE_TEXT", SENTINEL),
            ),
        }
    }
}

fn done(command: &mut Command) -> Result<(), Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |why: String| {
        Failure::from(Refusal::new(Code::InvalidArgument, "wake", format!("{name}: {why}")))
    };
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let output = output.map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{} {}", output.status, told.lines().next().unwrap_or_default())))
}
