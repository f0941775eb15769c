//! Support for tests of the programs: a root, a HOME and a clean environment for each test.

pub mod agents;
pub mod random;
pub mod tmux;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A fresh broker root and HOME in a temporary directory. Dropping it verifies the log.
pub struct World {
    dir: tempfile::TempDir,
    /// Whether the log may contain damage when the world is dropped.
    pub may_be_damaged: bool,
}

/// Output and exit status of a program.
pub struct Outcome {
    pub out: String,
    pub err: String,
    pub status: i32,
}

impl Outcome {
    /// The one JSON value on standard output.
    pub fn json(&self) -> Value {
        match serde_json::from_str(&self.out) {
            Ok(value) => value,
            Err(e) => panic!("no JSON ({e}): {:?}, stderr {:?}", self.out, self.err),
        }
    }

    /// Panics unless the program succeeded.
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "stdout {:?}, stderr {:?}", self.out, self.err);
        self
    }

    /// Panics unless the program failed with this code.
    pub fn fails_with(self, code: &str) -> Self {
        assert_ne!(self.status, 0, "expected {code}, got {:?}", self.out);
        assert!(self.err.contains(&format!("[{code}]")), "expected {code}, got {:?}", self.err);
        self
    }
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir(dir.path().join("home")).expect("HOME");
        Self { dir, may_be_damaged: false }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// A program in a clean environment.
    pub fn program(&self, binary: &str, args: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command
            .args(args)
            .env_clear()
            .env("HOME", self.dir.path().join("home"))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("USER", "tester")
            .env("TZ", "UTC")
            .env("C2C_MCP_BROKER_ROOT", self.root())
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// `c2c` with these arguments.
    pub fn c2c(&self, args: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_c2c"), args)
    }

    /// `c2c-log` with these arguments.
    pub fn log_tool(&self, args: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_c2c-log"), args)
    }

    /// Runs `c2c` as the session `s-<who>`.
    pub fn run(&self, who: &str, args: &[&str]) -> Outcome {
        let mut command = self.c2c(args);
        command.env("C2C_MCP_SESSION_ID", format!("s-{who}"));
        run(command)
    }

    /// Registers each name as an alias of its own session.
    pub fn register(&self, names: &[&str]) {
        for name in names {
            self.run(name, &["register", "--alias", name]).ok();
        }
    }

    /// The texts that a poll of `who` returns.
    pub fn poll(&self, who: &str) -> Vec<String> {
        contents(&self.run(who, &["poll-inbox", "--json"]).ok().json())
    }
}

/// The texts of an array of messages.
pub fn contents(rows: &Value) -> Vec<String> {
    let rows = rows.as_array().expect("an array of messages");
    rows.iter().map(|row| row["content"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Runs a program to its end.
pub fn run(mut command: Command) -> Outcome {
    let Output { status, stdout, stderr } = command.output().expect("program starts");
    Outcome {
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
        status: status.code().unwrap_or(-1),
    }
}

/// Checks a condition until it holds; returns whether it did within `limit`.
pub fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::yield_now();
    }
    true
}

/// Lets a process run for a while, then kills it. Returns its output if it ended before that.
pub fn run_or_kill(mut child: Child, spins: u64) -> Option<Vec<u8>> {
    for _ in 0..spins {
        // One system call is the unit of time, because a sleep is too coarse.
        if child.try_wait().expect("wait").is_some() {
            break;
        }
        thread::yield_now();
    }
    let _ = child.kill();
    let output = child.wait_with_output().expect("output");
    output.status.success().then_some(output.stdout)
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() || self.may_be_damaged || !self.root().join("log").exists() {
            return;
        }
        let verified = run(self.log_tool(&["verify"]));
        assert_eq!(verified.status, 0, "verify: {} {}", verified.out, verified.err);
    }
}
