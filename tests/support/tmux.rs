//! A program in a pane of a tmux server that belongs to one test.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{holds_within, run};
use crate::harness::skip;

/// Longest wait for a change of the screen.
const PATIENCE: Duration = Duration::from_secs(60);
/// The only session of the server.
pub const SESSION: &str = "agent";

/// Makes a command of a world from a program and its arguments.
type CommandMaker<'a> = dyn Fn(&str, &[&str]) -> Command + 'a;

/// Skips the test without tmux.
pub fn require_tmux() {
    if Command::new("tmux").arg("-V").output().is_err() {
        skip("tmux is not installed");
    }
}

/// The pane. The server ends with it.
pub struct TmuxPane<'a> {
    command: Box<CommandMaker<'a>>,
    sockets: PathBuf,
}

impl<'a> TmuxPane<'a> {
    /// A pane without a program yet. `command` makes the commands of the test's world.
    pub fn new(directory: &Path, command: impl Fn(&str, &[&str]) -> Command + 'a) -> Self {
        require_tmux();
        let sockets = directory.join("tmux");
        fs::create_dir(&sockets).expect("made");
        Self { command: Box::new(command), sockets }
    }

    /// Starts a program in the pane.
    pub fn start<'e>(
        &self,
        (columns, rows): (u16, u16),
        program: &str,
        variables: impl IntoIterator<Item = (&'e OsStr, &'e OsStr)>,
    ) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let session = ["new-session", "-d", "-s", SESSION, "-x", &columns, "-y", &rows];
        let mut start = self.command("tmux", &session);
        start.arg(program).envs(variables);
        run(start).ok();
    }

    /// A command that finds the server.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = (self.command)(program, args);
        command.env("TMUX_TMPDIR", &self.sockets).env("SHELL", "/bin/sh");
        command
    }

    /// Directory of the server's socket.
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    pub fn tmux(&self, args: &[&str]) -> String {
        run(self.command("tmux", args)).ok().out
    }

    /// Sends keys: names such as `Enter`, or a text after `-l`.
    pub fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys", "-t", SESSION], keys].concat());
    }

    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-t", SESSION])
    }

    pub fn shows(&self, text: &str) {
        self.reaches(text, |screen| screen.contains(text));
    }

    /// Waits until a condition holds. It receives the screen.
    pub fn reaches(&self, what: &str, mut condition: impl FnMut(&str) -> bool) {
        let mut screen = String::new();
        let holds = holds_within(PATIENCE, || {
            screen = self.screen();
            condition(&screen)
        });
        assert!(holds, "not reached: {what}\n{screen}");
    }

    /// Waits until the screen has not changed for a time.
    pub fn is_still_for(&self, time: Duration) {
        let (mut last, mut since) = (String::new(), Instant::now());
        self.reaches("a screen that does not change", |screen| {
            if last != screen {
                (last, since) = (screen.to_owned(), Instant::now());
            }
            since.elapsed() > time
        });
    }

    /// Nudges an alias once with `c2c wake`.
    pub fn nudge(&self, alias: &str) -> super::Outcome {
        let wake = ["wake", "--alias", alias, "--tmux", SESSION, "--once"];
        run(self.command(env!("CARGO_BIN_EXE_c2c"), &wake))
    }
}

impl Drop for TmuxPane<'_> {
    fn drop(&mut self) {
        let _ = self.command("tmux", &["kill-server"]).output();
    }
}
