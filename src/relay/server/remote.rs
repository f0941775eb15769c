//! The inboxes of a broker that is reachable only over SSH.
//!
//! The system's `ssh` lists them every few seconds. The result is untrusted data of that machine: the
//! relay keeps a bounded copy in memory for the operator, and writes none of it to the log.

use std::collections::{BTreeMap, HashSet};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::MissedTickBehavior;

use super::answer::RelayAnswer;
use crate::platform::clock;
use crate::present::diagnostics::note;
use crate::present::shell::quote;
use crate::relay::protocol::json::Seconds;
use crate::relay::protocol::response::RemoteInboxResponse;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;
use c2c_core::limits::{REMOTE_BROKER_BYTES_MAX, REMOTE_BROKER_INTERVAL_S, REMOTE_BROKER_READ_S};

/// Longest error of a failed read, characters.
const ERROR_CHARS_MAX: usize = 300;

/// The script that runs on the remote machine. It changes nothing there, and reads a log through the
/// JSON files that `c2c mirror` writes. Each file follows a marker line with a random id, which no
/// file on that machine can contain in advance.
const SCRIPT: &str = r#"
PATH="$PATH:$HOME/.local/bin:$HOME/.cargo/bin"
cd "$root" || exit 1
show() {
    for file in "$1"/*"$2"; do
        [ -f "$file" ] || continue
        printf '\n%s %s\n' "$mark" "${file##*/}"
        cat "$file" || exit 1
    done
}
if [ -d log ]; then
    views=$(mktemp -d) || exit 1
    trap 'rm -rf "$views"' EXIT
    trap 'exit 1' HUP INT PIPE TERM
    c2c mirror --broker-root "$PWD" "$views" </dev/null >/dev/null || exit 1
    show "$views" .inbox.json
else
    show . .inbox.json
fi
show inbox .json
printf '\n%s\n' "$mark"
"#;

/// A broker on another machine, as configured.
#[derive(Debug, Clone)]
pub struct RemoteBroker {
    /// Destination in the form that `ssh` takes.
    pub target: String,
    /// Broker root on that machine; `~/` is the home directory there.
    pub root: String,
    /// Name of the broker in answers.
    pub id: String,
}

/// The inboxes as of the last successful read.
#[derive(Debug, Default)]
struct RemoteInboxes {
    by_session: BTreeMap<String, Vec<Value>>,
    /// Time of the last successful read.
    read_us: Option<u64>,
    /// Error of the last read, if it failed.
    error: Option<String>,
}

/// A remote broker and the last copy of its inboxes. Clones share the copy.
#[derive(Debug, Clone)]
pub struct RemoteBrokerMonitor {
    broker: Arc<RemoteBroker>,
    inboxes: Arc<Mutex<RemoteInboxes>>,
}

impl RemoteBroker {
    /// Rejects a target or root that is not safe to pass to `ssh`.
    pub fn check(&self) -> Result<(), Rejection> {
        let invalid = |field: &'static str, message: &str, hint: &str| {
            Err(Rejection::new(Code::InvalidArgument, field, message).hint(hint))
        };
        let is_plain = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        if !is_plain(&self.target) || self.target.starts_with('-') || self.target.contains(' ') {
            let message = "the SSH target is not a valid destination";
            return invalid("remote_broker_ssh_target", message, "for example user@host");
        }
        if !is_plain(&self.root) || !(self.root.starts_with('/') || self.root.starts_with("~/")) {
            let message = "the root on the remote machine must be an absolute path";
            return invalid("remote_broker_root", message, "it may start with ~/");
        }
        Ok(())
    }

    fn script(&self, mark: &str) -> String {
        let root = match self.root.strip_prefix("~/") {
            Some(rest) => format!("\"$HOME\"/{}", quote(rest)),
            None => quote(&self.root),
        };
        format!("root={root}\nmark='{mark}'\n{SCRIPT}")
    }

    /// Reads the inboxes once.
    async fn read_inboxes(&self) -> Result<BTreeMap<String, Vec<Value>>, String> {
        let mark = format!("c2c-inbox {}", uuid::Uuid::new_v4());
        let timeout = Duration::from_secs(REMOTE_BROKER_READ_S);
        let output = tokio::time::timeout(timeout, self.ssh(&self.script(&mark))).await;
        let output = output.map_err(|_| format!("no response in {REMOTE_BROKER_READ_S} s"))?;
        let output = output.map_err(|e| format!("cannot run ssh: {e}"))?;
        if !output.status.success() {
            return Err(last_line(&output.stderr));
        }
        parse_inboxes(&output.stdout, &mark)
    }

    async fn ssh(&self, script: &str) -> std::io::Result<Output> {
        let mut ssh = Command::new("ssh");
        // Never prompts, and connects only to known hosts.
        ssh.args(["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]);
        ssh.args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]);
        ssh.args(["--", &self.target, "sh -s"]).kill_on_drop(true);
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ssh.spawn()?;
        let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // A remote shell that does not read the script reports why on standard error.
                let _ = stdin.write_all(script.as_bytes()).await;
            }
        };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let read_max = REMOTE_BROKER_BYTES_MAX as u64 + 1;
        let read_out = async {
            if let Some(out) = out {
                let _ = out.take(read_max).read_to_end(&mut stdout).await;
            }
        };
        let read_err = async {
            if let Some(err) = err {
                let _ = err.take(64 * 1024).read_to_end(&mut stderr).await;
            }
        };
        tokio::join!(write, read_out, read_err);
        let status = child.wait().await?;
        Ok(Output { status, stdout, stderr })
    }
}

/// The last line of standard error, escaped: its text is from another machine.
fn last_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.trim().lines().last().unwrap_or("ssh failed without an error message");
    line.chars().flat_map(char::escape_default).take(ERROR_CHARS_MAX).collect()
}

/// Whether a name can be the session id of a remote inbox.
pub fn is_session_id(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=64).contains(&name.len()) && name.chars().all(is_allowed)
}

/// Parses the output of the script into inboxes by session.
fn parse_inboxes(printed: &[u8], mark: &str) -> Result<BTreeMap<String, Vec<Value>>, String> {
    if printed.len() > REMOTE_BROKER_BYTES_MAX {
        return Err(format!("the inboxes exceed {REMOTE_BROKER_BYTES_MAX} bytes"));
    }
    let text = String::from_utf8_lossy(printed);
    let marker = format!("\n{mark}");
    let mut parts = text.split(marker.as_str()).skip(1).peekable();
    let truncated = || "the list of inboxes is truncated".to_owned();
    let mut inboxes = BTreeMap::<String, Vec<Value>>::new();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return if part == "\n" { Ok(inboxes) } else { Err(truncated()) };
        }
        let Some((name, json)) = part.split_once('\n') else { continue };
        let name = name.trim_start();
        let session =
            name.strip_suffix(".inbox.json").or_else(|| name.strip_suffix(".json")).unwrap_or(name);
        // A file that is just being written appears with the next read. Other files are skipped.
        if is_session_id(session)
            && let Ok(Value::Array(rows)) = serde_json::from_str(json)
        {
            add_new_rows(inboxes.entry(session.to_owned()).or_default(), rows);
        }
    }
    Err(truncated())
}

/// Adds the rows whose message id is not in the inbox yet. Rows without an id are always added.
fn add_new_rows(inbox: &mut Vec<Value>, rows: Vec<Value>) {
    let id =
        |row: &Value| row["message_id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
    let known: HashSet<String> = inbox.iter().filter_map(id).collect();
    let is_new = |row: &Value| row.is_object() && id(row).is_none_or(|id| !known.contains(&id));
    inbox.extend(rows.into_iter().filter(is_new));
}

impl RemoteBrokerMonitor {
    /// A monitor that has not read the broker yet.
    pub fn new(broker: RemoteBroker) -> Self {
        Self { broker: Arc::new(broker), inboxes: Arc::default() }
    }

    /// Reads the broker every few seconds; never returns.
    pub async fn run(&self) {
        let mut tick = tokio::time::interval(Duration::from_secs(REMOTE_BROKER_INTERVAL_S));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let read = self.broker.read_inboxes().await;
            let mut inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
            let last_error = inboxes.error.take();
            match read {
                Ok(by_session) => {
                    if last_error.is_some() {
                        note(&format!("remote broker {}: reachable again", self.broker.id));
                    }
                    inboxes.by_session = by_session;
                    inboxes.read_us = Some(clock::now_us());
                }
                Err(error) => {
                    if last_error.as_ref() != Some(&error) {
                        note(&format!("remote broker {}: {error}", self.broker.id));
                    }
                    inboxes.error = Some(error);
                }
            }
        }
    }

    /// The inbox of a session, as of the last successful read.
    pub fn inbox(&self, session_id: &str) -> Result<RemoteInboxResponse, RelayAnswer> {
        let inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(read_us) = inboxes.read_us else {
            let reason = inboxes.error.as_deref().unwrap_or("not read yet");
            let message = format!("cannot reach the broker '{}': {reason}", self.broker.id);
            return Err(Rejection::new(Code::RemoteUnavailable, "", message).into());
        };
        Ok(RemoteInboxResponse {
            messages: inboxes.by_session.get(session_id).cloned().unwrap_or_default(),
            broker_id: self.broker.id.clone(),
            fetched_at: Seconds { us: read_us },
            error: inboxes.error.clone(),
        })
    }
}
