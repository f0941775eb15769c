//! What does c2c do? Two agents on a fresh root, then a second machine: every step is a real process,
//! and is checked.

#[cfg(feature = "relay")]
mod machines;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use crate::broker::Broker;
use crate::cli::output::{note, say, strong};
use crate::cli::{Context, Run};
use crate::code::Code;
use crate::decide::{Actor, Refusal};
use crate::failure::Failure;
use crate::log::LogError;

/// Larger than a pipe holds, so that whoever prints it blocks until somebody reads.
const LONG_BODY_BYTES: usize = 96 * 1024;

#[derive(Args)]
pub struct Demo {
    /// Keep the root afterwards
    #[arg(long)]
    keep: bool,
}

/// One machine: a root and a home.
struct Stage {
    program: PathBuf,
    root: PathBuf,
    home: PathBuf,
}

/// What would lead a demo out of its own directory.
const FOREIGN: [&str; 2] = ["C2C_", "XDG_"];

impl Run for Demo {
    fn run(self, _context: &mut Context) -> Result<(), Failure> {
        let name = format!("c2c-demo-{}", uuid::Uuid::now_v7());
        let place = std::env::temp_dir().join(name);
        let program = std::env::current_exe().map_err(Failure::Output)?;
        let (root, home) = (place.join("root"), place.join("home"));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&home);
        made.map_err(|e| LogError::io("create", &home.display().to_string(), e))?;
        let stage = Stage { program, root, home };
        say(&format!("A fresh broker root: {}\n", stage.root.display()))?;
        let played = stage.play();
        if self.keep {
            note(&format!("kept: C2C_MCP_BROKER_ROOT={}", stage.root.display()));
        } else {
            let _ = std::fs::remove_dir_all(&place);
        }
        played
    }
}

fn wrong(what: &str) -> Failure {
    Refusal::new(Code::Internal, "", format!("the demo expected {what}")).into()
}

fn check(good: bool, what: &str) -> Result<(), Failure> {
    if !good {
        return Err(wrong(what));
    }
    say(&format!("    checked: {what}\n"))
}

impl Stage {
    fn command(&self, who: &str, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            let leads_away = |prefix: &&str| name.to_string_lossy().starts_with(*prefix);
            if FOREIGN.iter().any(leads_away) {
                command.env_remove(name);
            }
        }
        command.args(args).env("C2C_MCP_BROKER_ROOT", &self.root).env("HOME", &self.home);
        command.env("C2C_MCP_SESSION_ID", format!("demo-{who}")).stdin(Stdio::null());
        command
    }

    /// Runs one command as an agent, showing it and what it prints.
    fn run(&self, who: &str, args: &[&str]) -> Result<String, Failure> {
        say(&format!("\n{} c2c {}\n", strong(&format!("{who} $")), args.join(" ")))?;
        let Output { stdout, stderr, .. } =
            self.command(who, args).output().map_err(Failure::Output)?;
        let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        for line in out.lines().chain(err.lines()) {
            say(&format!("    {line}\n"))?;
        }
        Ok(out.into_owned())
    }

    /// Runs one command as an agent, for its JSON.
    fn json(&self, who: &str, args: &[&str]) -> Result<Value, Failure> {
        let mut args = args.to_vec();
        args.push("--json");
        let output = self.command(who, &args).output().map_err(Failure::Output)?;
        serde_json::from_slice(&output.stdout).map_err(|e| wrong(&format!("JSON: {e}")))
    }

    fn play(&self) -> Result<(), Failure> {
        self.run("ada", &["register", "--alias", "ada"])?;
        self.run("bob", &["register", "--alias", "bob"])?;
        let peers = self.json("ada", &["list"])?;
        check(peers.as_array().map(Vec::len) == Some(2), "two agents are registered")?;

        self.run("ada", &["send", "bob", "the build is green"])?;
        let polled = self.run("bob", &["poll-inbox"])?;
        check(polled.contains("[ada] the build is green"), "bob has read the message")?;
        let again = self.run("bob", &["poll-inbox"])?;
        check(again.contains("(no messages)"), "and it is not delivered twice")?;

        self.run("ada", &["rooms", "join", "builders"])?;
        self.run("bob", &["rooms", "join", "builders"])?;
        self.run("bob", &["rooms", "send", "builders", "who takes the docs?"])?;
        let polled = self.run("ada", &["poll-inbox"])?;
        check(polled.contains("who takes the docs?"), "a room message reaches the other member")?;

        let message_id = self.crash()?;
        let trace = self.run("ada", &["trace", &message_id])?;
        let told = ["claimed by cli_poll", "returned: process_dead", "written"];
        check(told.iter().all(|hop| trace.contains(hop)), "trace tells every hop of it")?;
        #[cfg(feature = "relay")]
        self.machines()?;
        self.inspect()
    }

    /// Another machine beside this one.
    #[cfg(feature = "relay")]
    fn another(&self, name: &str) -> Result<Self, Failure> {
        let place = self.home.with_file_name(name);
        let (root, home) = (place.join("root"), place.join("home"));
        std::fs::create_dir_all(&home).map_err(Failure::Output)?;
        Ok(Self { program: self.program.clone(), root, home })
    }

    /// A receiver dies between taking a message and showing it.
    fn crash(&self) -> Result<String, Failure> {
        let body = "x".repeat(LONG_BODY_BYTES);
        let sent = self.json("ada", &["send", "bob", &body])?;
        let message_id = sent["message_id"].as_str().unwrap_or_default().to_owned();
        say(&format!(
            "\nada sends {LONG_BODY_BYTES} bytes; bob polls and is killed while printing\n"
        ))?;
        let mut receiver = self
            .command("bob", &["poll-inbox"])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Failure::Output)?;
        let claimed = self.wait_for_claim();
        let _ = receiver.kill();
        let _ = receiver.wait();
        check(claimed, "bob's process had taken the message when it died")?;
        let rows = self.json("bob", &["poll-inbox"])?;
        let row = &rows[0];
        check(
            row["message_id"] == message_id.as_str()
                && row["redelivered"] == true
                && row["content"].as_str().map(str::len) == Some(LONG_BODY_BYTES),
            "the next poll returns it whole, marked as redelivered",
        )?;
        Ok(message_id)
    }

    /// Watches the log until bob's mailbox is claimed.
    fn wait_for_claim(&self) -> bool {
        let actor = Actor { session_id: Some("demo-bob".into()), ..Actor::default() };
        let mut broker = Broker::open(&self.root);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let pulse = broker.pulse();
            let looked = broker.look(&actor);
            let mailbox = broker.own_mailbox(&actor);
            if looked.is_ok() && mailbox.is_some_and(|mailbox| mailbox.claim.is_some()) {
                return true;
            }
            broker.wait(pulse, Duration::from_millis(100));
        }
        false
    }

    /// The log as an operator sees it.
    fn inspect(&self) -> Result<(), Failure> {
        say(&format!("\n{} c2c log inspect -n 12\n", strong("operator $")))?;
        let shown = self.operator(&["log", "inspect", "-n", "12"])?;
        for line in String::from_utf8_lossy(&shown.stdout).lines() {
            say(&format!("    {}\n", line.chars().take(110).collect::<String>()))?;
        }
        say(&format!("\n{} c2c log verify\n", strong("operator $")))?;
        let verified = self.operator(&["log", "verify"])?;
        say(&format!("    {}", String::from_utf8_lossy(&verified.stdout)))?;
        check(verified.status.success(), "every byte of the log is accounted for")
    }

    fn operator(&self, args: &[&str]) -> Result<Output, Failure> {
        self.command("operator", args).output().map_err(Failure::Output)
    }
}
