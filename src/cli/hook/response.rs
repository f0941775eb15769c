//! A hook's response, in the form that the client reads.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::json;

use crate::cli::exit_status::SUCCESS;
use crate::platform::clock;

/// Status that makes a client continue, or wake, with the text on standard error.
const CONTINUE: u8 = 2;

/// Clients whose hooks have their own format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum HookClient {
    Crush,
    Kimi,
}

/// How the client of an event reads the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON: additional context for the model.
    Context,
    /// JSON: the reason to continue, with the client's name for that decision.
    Decision(&'static str),
    /// Plain text: additional context for the model.
    Text,
    /// Standard error and an exit status: the reason to continue.
    Stderr,
    /// JSON with the single field `context`.
    BareContext,
}

impl Form {
    /// The form for a client and an event; `None` if the event cannot carry text.
    pub fn of(client: Option<HookClient>, event: &str) -> Option<Self> {
        match (client, event) {
            (Some(HookClient::Crush), "PreToolUse") => Some(Self::BareContext),
            (Some(HookClient::Kimi), "UserPromptSubmit") => Some(Self::Text),
            (Some(HookClient::Kimi), "Stop") => Some(Self::Stderr),
            (Some(_), _) => None,
            (
                None,
                "PostToolUse" | "PreToolUse" | "UserPromptSubmit" | "SessionStart" | "BeforeAgent"
                | "AfterTool",
            ) => Some(Self::Context),
            (None, "Stop") => Some(Self::Decision("block")),
            (None, "AfterAgent") => Some(Self::Decision("deny")),
            (None, _) => None,
        }
    }

    /// Whether text in this form makes the client continue.
    pub fn makes_client_continue(self) -> bool {
        matches!(self, Self::Decision(_) | Self::Stderr)
    }
}

/// A response to one event.
pub struct Response<'a> {
    pub form: Form,
    pub event: &'a str,
    /// File that the client is asked to watch.
    pub watch_path: Option<PathBuf>,
}

impl Response<'_> {
    /// Writes the response in full and returns the exit status that belongs to it.
    pub fn write(&self, text: &str) -> io::Result<u8> {
        let response = match self.form {
            Form::Context => self.context(text),
            Form::Decision(decision) => json!({ "decision": decision, "reason": text }).to_string(),
            Form::BareContext => json!({ "context": text }).to_string(),
            Form::Text => text.to_owned(),
            Form::Stderr => {
                let mut err = io::stderr().lock();
                writeln!(err, "{text}")?;
                STATUS.store(CONTINUE, Ordering::Release);
                return Ok(CONTINUE);
            }
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{response}")?;
        out.flush()?;
        Ok(SUCCESS)
    }

    fn context(&self, text: &str) -> String {
        let mut output = json!({ "hookEventName": self.event });
        if !text.is_empty() {
            output["additionalContext"] = json!(text);
        }
        if let Some(path) = &self.watch_path {
            output["watchPaths"] = json!([path]);
        }
        json!({ "hookSpecificOutput": output }).to_string()
    }
}

/// Exit status for the output written so far. Some clients read it only with this status.
static STATUS: AtomicU8 = AtomicU8::new(SUCCESS);

/// Makes the process exit at the deadline, even if nothing reads its output. A claim of a process
/// that has exited returns to the mailbox.
pub fn exit_at(deadline: Instant) {
    let watchdog = move || {
        thread::sleep(clock::until(deadline));
        std::process::exit(i32::from(STATUS.load(Ordering::Acquire)));
    };
    let _ = thread::Builder::new().name("deadline".into()).spawn(watchdog);
}
