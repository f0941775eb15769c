//! Tests of the command line through the program.

mod acting;
mod arguments;
mod claims;
mod hints;
pub mod hook;
mod hook_clients;
mod identity;
mod legacy;
mod limits;
mod messages;
mod nudges;
mod older_import;
mod older_root;
#[cfg(feature = "relay")]
mod relay_identity;
mod rooms;
mod root_files;
mod root_layouts;
mod roots;
mod scale;
mod setup;
mod setup_clients;
mod setup_files;
mod upkeep;
pub mod wake;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::wait::{Id, WaitPidFlag, waitid};

use crate::support::{Outcome, World, run};

/// A running shell that registered an alias: the process of that session.
pub struct Owner(Child);

impl Owner {
    /// Registers `alias` for `session` from a new shell, which then waits.
    pub fn of(world: &World, session: &str, alias: &str) -> Self {
        let mut command = world.program("sh", &[]);
        command
            .args(["-c", "\"$0\" register --alias \"$1\"; read x"])
            .args([env!("CARGO_BIN_EXE_c2c"), alias])
            .env("C2C_MCP_SESSION_ID", session)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("sh starts");
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        assert!(line.starts_with("registered "), "{line:?}");
        Self(child)
    }

    /// Kills the shell without reaping it, which leaves a zombie.
    pub fn kill(&mut self) {
        self.0.kill().expect("a kill");
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(pid), flags).expect("its end");
    }

    /// Ends the shell and waits for it.
    pub fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("sh ends");
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// `c2c` as the session with exactly this id.
pub fn as_session(world: &World, session: &str, args: &[&str]) -> Outcome {
    let mut command = world.c2c(args);
    command.env("C2C_MCP_SESSION_ID", session);
    run(command)
}

/// Runs with these bytes on standard input.
pub fn feed(mut command: Command, input: &[u8]) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("program starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // A program that rejects its input early does not read all of it.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("program ends");
    writer.join().expect("writer ends");
    Outcome {
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        status: output.status.code().unwrap_or(-1),
    }
}

/// Every file below a directory, with its bytes.
pub fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let Ok(entries) = fs::read_dir(root) else { return files };
    for entry in entries {
        let path = entry.expect("entry").path();
        let name = path.display().to_string();
        if path.is_dir() {
            files.insert(name, Vec::new());
            files.extend(tree(&path));
        } else {
            files.insert(name, fs::read(&path).expect("readable"));
        }
    }
    files
}

/// Panics unless only its owner can use a file or directory.
pub fn assert_private(path: &Path) {
    let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let expected = if path.is_dir() { 0o700 } else { 0o600 };
    assert_eq!(mode, expected, "{}", path.display());
}

/// The keys of a JSON object, in order.
pub fn keys(row: &serde_json::Value) -> Vec<&str> {
    row.as_object().expect("an object").keys().map(String::as_str).collect()
}

crate::harness::tests! {
    modules: acting, arguments, claims, hints, hook, hook_clients, identity, legacy, limits, messages, nudges, older_import, older_root, #[cfg(feature = "relay")] relay_identity, rooms, root_files, root_layouts, roots, scale, setup, setup_clients, setup_files, upkeep, wake;
}
