//! How does a nudge reach a terminal or a program?

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::SENTINEL;
use crate::code::Code;
use crate::decide::Refusal;
use crate::failure::Failure;

/// How long a nudge may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a pane is looked at, and how long between two looks.
const LOOKS: usize = 20;
const LOOK: Duration = Duration::from_millis(100);
/// A word of the nudge that shows that it was taken as text.
pub const ECHO: &str = "poll_inbox";

/// Who is nudged.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    pub alias: String,
    /// Empty if no session has the alias now.
    pub session_id: String,
    pub unread: usize,
}

/// Which Codex.
#[derive(Debug, Clone)]
pub struct Codex {
    /// A path, or a name to be found in the `PATH`.
    pub program: PathBuf,
    /// Variables that say where its files are, besides the environment.
    pub places: Vec<(String, OsString)>,
}

impl Default for Codex {
    fn default() -> Self {
        Self { program: "codex".into(), places: Vec::new() }
    }
}

/// A way to nudge.
#[derive(Debug, Clone)]
pub enum Nudge {
    /// Types into a pane of tmux.
    Tmux(String),
    /// Puts a turn into the queue of a Codex thread: the session that holds the alias.
    Codex(Codex),
    /// Runs a command of the user's, by the shell.
    Shell(String),
}

impl Nudge {
    /// Nudges once. What is told is always the same sentinel; a command learns whom it is about from
    /// its environment.
    pub fn give(&self, waiting: &Waiting) -> Result<(), Failure> {
        match self {
            Self::Tmux(pane) => tmux(pane),
            Self::Codex(codex) => {
                let thread = &waiting.session_id;
                if thread.is_empty() {
                    let message = format!("nobody has the alias '{}' now", waiting.alias);
                    return Err(Refusal::new(Code::UnknownAlias, "alias", message).into());
                }
                let mut command = Command::new(&codex.program);
                command.envs(codex.places.iter().cloned());
                done(command.args(["queue", "--thread", thread, "--message", SENTINEL]))
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

/// Pastes into a pane, and ends the line only when the pane shows the text: a dialog that asks for a
/// key would take it for an answer.
fn tmux(pane: &str) -> Result<(), Failure> {
    let tmux = |args: &[&str]| done(Command::new("tmux").args(args));
    tmux(&["set-buffer", "-b", "c2c", SENTINEL])?;
    tmux(&["paste-buffer", "-p", "-d", "-b", "c2c", "-t", pane])?;
    for _ in 0..LOOKS {
        let shown = Command::new("tmux").args(["capture-pane", "-p", "-J", "-t", pane]).output();
        if shown.is_ok_and(|shown| String::from_utf8_lossy(&shown.stdout).contains(ECHO)) {
            return tmux(&["send-keys", "-t", pane, "Enter"]);
        }
        thread::sleep(LOOK);
    }
    let message = format!("pane '{}' does not show what is typed", pane.escape_default());
    Err(Refusal::new(Code::Busy, "tmux", message).hint("it may be asking something").into())
}

/// Runs a command to its end, which must come soon.
fn done(command: &mut Command) -> Result<(), Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |why: String| {
        Failure::from(Refusal::new(Code::InvalidArgument, "wake", format!("{name}: {why}")))
    };
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().map_err(|e| failed(e.to_string()))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait().map_err(|e| failed(e.to_string()))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(failed(status.to_string())),
            None if Instant::now() >= deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("not done after {} s", PATIENCE.as_secs())));
            }
            None => thread::sleep(LOOK / 10),
        }
    }
}
