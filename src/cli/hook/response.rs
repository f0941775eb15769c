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

/// Clients by the format of their hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookClient {
    /// Claude Code, and the clients with the same format.
    Standard,
    Copilot,
    Cline,
    Crush,
    Kimi,
    OpenHands,
    /// It is not known what the client reads.
    Unknown,
}

impl HookClient {
    /// The client of a name, as `--client` or a session states it.
    pub fn named(name: &str) -> Self {
        match name {
            "claude-code" | "claude" | "codex" | "gemini" | "qwen" | "grok" | "opencode"
            | "kilo" => Self::Standard,
            "copilot" => Self::Copilot,
            "cline" => Self::Cline,
            "crush" => Self::Crush,
            "kimi" => Self::Kimi,
            "openhands" => Self::OpenHands,
            _ => Self::Unknown,
        }
    }
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
    /// JSON with the single field `additionalContext`.
    TopLevelContext,
}

impl Form {
    /// The form for a client and an event; `None` if the event cannot carry text.
    pub fn of(client: HookClient, event: &str) -> Option<Self> {
        match (client, event) {
            (HookClient::Crush, "PreToolUse") | (HookClient::Cline, "PostToolUse") => {
                Some(Self::BareContext)
            }
            (HookClient::Kimi, "UserPromptSubmit") => Some(Self::Text),
            (HookClient::Kimi, "Stop") => Some(Self::Stderr),
            (HookClient::Copilot, "PostToolUse" | "UserPromptSubmit" | "SessionStart") => {
                Some(Self::TopLevelContext)
            }
            (HookClient::OpenHands, "UserPromptSubmit")
            | (
                HookClient::Standard | HookClient::Unknown,
                "PostToolUse" | "PreToolUse" | "UserPromptSubmit" | "SessionStart" | "BeforeAgent"
                | "AfterTool",
            ) => Some(Self::Context),
            (HookClient::Standard | HookClient::Copilot, "Stop") => Some(Self::Decision("block")),
            (HookClient::Standard, "AfterAgent") => Some(Self::Decision("deny")),
            _ => None,
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
            Form::TopLevelContext => json!({ "additionalContext": text }).to_string(),
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
