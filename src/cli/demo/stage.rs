//! One machine of the demo, and the steps on it.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::broker::Broker;
use crate::cli::output::{bold, print};
use crate::env::{C2C_MCP_BROKER_ROOT, C2C_MCP_SESSION_ID, HOME, hide_prefixed};
use crate::error::Failure;
use crate::platform::clock;
use crate::platform::fs::create_private_directory;
use c2c_core::code::Code;
use c2c_core::decide::{Actor, Rejection};

/// More than a pipe holds, so that a process that prints it blocks until it is read.
const LONG_BODY_BYTES: usize = 96 * 1024;
/// Prefixes of environment variables that would affect the demo.
const REMOVED_VARIABLES: [&str; 2] = ["C2C_", "XDG_"];

/// A machine: a broker root and a home directory.
pub struct Stage {
    program: PathBuf,
    root: PathBuf,
    home: PathBuf,
}

/// The failure of a demo that did not see what it expects.
pub fn expected(what: &str) -> Failure {
    Rejection::new(Code::Internal, "", format!("the demo expected {what}")).into()
}

/// Fails the demo unless a condition holds, and prints the condition.
pub fn check(holds: bool, what: &str) -> Result<(), Failure> {
    if !holds {
        return Err(expected(what));
    }
    print(&format!("    checked: {what}\n"))
}

impl Stage {
    /// A machine in a new directory. `program` is c2c itself.
    pub fn create(program: PathBuf, directory: PathBuf) -> Result<Self, Failure> {
        let (root, home) = (directory.join("root"), directory.join("home"));
        create_private_directory(&home).map_err(|e| Failure::io("create", &home, e))?;
        Ok(Self { program, root, home })
    }

    pub fn root(&self) -> &PathBuf {
        &self.root
    }

    /// A second machine beside this one.
    #[cfg(feature = "relay")]
    pub fn another(&self, name: &str) -> Result<Self, Failure> {
        Self::create(self.program.clone(), self.home.with_file_name(name))
    }

    /// A command of an agent that has not started yet.
    pub fn command(&self, agent: &str, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        hide_prefixed(&mut command, &REMOVED_VARIABLES);
        command.args(args).env(C2C_MCP_BROKER_ROOT.name, &self.root).env(HOME.name, &self.home);
        command.env(C2C_MCP_SESSION_ID.name, format!("demo-{agent}")).stdin(Stdio::null());
        command
    }

    /// The failure of a command that could not be started.
    pub fn not_started(&self, error: std::io::Error) -> Failure {
        Failure::io("start", &self.program, error)
    }

    fn output(&self, agent: &str, args: &[&str]) -> Result<Output, Failure> {
        self.command(agent, args).output().map_err(|e| self.not_started(e))
    }

    /// Runs a command as an agent and prints the command and its output. Returns the output.
    pub fn run(&self, agent: &str, args: &[&str]) -> Result<String, Failure> {
        print(&format!("\n{} c2c {}\n", bold(&format!("{agent} $")), args.join(" ")))?;
        let Output { stdout, stderr, .. } = self.output(agent, args)?;
        let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        for line in out.lines().chain(err.lines()) {
            print(&format!("    {line}\n"))?;
        }
        Ok(out.into_owned())
    }

    /// Runs a command as an agent and returns its JSON output.
    pub fn json(&self, agent: &str, args: &[&str]) -> Result<Value, Failure> {
        let mut args = args.to_vec();
        args.push("--json");
        let output = self.output(agent, &args)?;
        serde_json::from_slice(&output.stdout).map_err(|e| expected(&format!("JSON: {e}")))
    }

    /// Kills a receiver between the claim of a message and its output. Returns the message id.
    pub fn kill_a_receiver(&self) -> Result<String, Failure> {
        let body = "x".repeat(LONG_BODY_BYTES);
        let sent = self.json("ada", &["send", "bob", &body])?;
        let message_id = sent["message_id"].as_str().unwrap_or_default().to_owned();
        print(&format!(
            "\nada sends {LONG_BODY_BYTES} bytes; bob polls and is killed while printing\n"
        ))?;
        let mut poll = self.command("bob", &["poll-inbox"]);
        let mut receiver = poll.stdout(Stdio::piped()).spawn().map_err(|e| self.not_started(e))?;
        let claimed = self.wait_for_claim();
        let _ = receiver.kill();
        let _ = receiver.wait();
        check(claimed, "bob's process had claimed the message when it was killed")?;
        let rows = self.json("bob", &["poll-inbox"])?;
        let row = &rows[0];
        check(
            row["message_id"] == message_id.as_str()
                && row["redelivered"] == true
                && row["content"].as_str().map(str::len) == Some(LONG_BODY_BYTES),
            "the next poll returns the whole message, marked as redelivered",
        )?;
        Ok(message_id)
    }

    /// Waits until bob's mailbox is claimed, at most 10 seconds.
    fn wait_for_claim(&self) -> bool {
        let actor = Actor { session_id: Some("demo-bob".into()), ..Actor::default() };
        let mut broker = Broker::open(&self.root);
        let deadline = clock::monotonic() + Duration::from_secs(10);
        let claimed = broker.wait_until(Some(deadline), |broker| {
            broker.refresh(&actor)?;
            Ok(broker.own_mailbox(&actor).and_then(|mailbox| mailbox.claim))
        });
        claimed.is_ok_and(|claim| claim.is_some())
    }

    /// Prints the end of the log, and verifies the log.
    pub fn inspect(&self) -> Result<(), Failure> {
        print(&format!("\n{} c2c log inspect -n 12\n", bold("operator $")))?;
        let inspected = self.output("operator", &["log", "inspect", "-n", "12"])?;
        for line in String::from_utf8_lossy(&inspected.stdout).lines() {
            print(&format!("    {}\n", line.chars().take(110).collect::<String>()))?;
        }
        print(&format!("\n{} c2c log verify\n", bold("operator $")))?;
        let verified = self.output("operator", &["log", "verify"])?;
        print(&format!("    {}", String::from_utf8_lossy(&verified.stdout)))?;
        check(verified.status.success(), "every byte of the log is accounted for")
    }
}
