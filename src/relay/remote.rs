//! What is in the inboxes of a broker that is reached over SSH only?
//!
//! The system's `ssh` lists them every few seconds. What it brings is data of that machine: it is
//! kept in memory, bounded, and shown to the operator; nothing of it enters the log.

use std::collections::{BTreeMap, HashSet};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::MissedTickBehavior;

use super::answer::Answer;
use crate::clock;
use crate::code::Code;
use crate::decide::Refusal;
use crate::diagnosis::note;
use crate::limits::{REMOTE_BROKER_BYTES_MAX, REMOTE_BROKER_EVERY_S};
use crate::wire::body::{RemoteInbox, Seconds};

/// How long one visit may take.
const VISIT: Duration = Duration::from_secs(60);
/// What a failed visit is told with at most, characters.
const ERROR_MAX: usize = 300;

/// The part of the visit that runs over there. It changes nothing; a log is read through the
/// program's own views. Each file follows a line that nobody there could have known before.
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

/// A broker on another machine.
#[derive(Debug, Clone)]
pub struct RemoteBroker {
    /// As `ssh` takes it.
    pub target: String,
    /// Its root over there; `~/` is the home there.
    pub root: String,
    /// What it is called in answers.
    pub id: String,
}

/// What the last good visit found.
#[derive(Debug, Default)]
struct Found {
    inboxes: BTreeMap<String, Vec<Value>>,
    at_us: Option<u64>,
    /// Why the last visit failed, if it did.
    error: Option<String>,
}

/// A remote broker and what is known of it.
#[derive(Debug, Clone)]
pub struct Remote {
    broker: Arc<RemoteBroker>,
    found: Arc<Mutex<Found>>,
}

impl RemoteBroker {
    /// Checks what will be given to `ssh`.
    pub fn check(&self) -> Result<(), Refusal> {
        let wrong = |field: &'static str, message: &str, hint: &str| {
            Err(Refusal::new(Code::InvalidArgument, field, message).hint(hint))
        };
        let plain = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        if !plain(&self.target) || self.target.starts_with('-') || self.target.contains(' ') {
            let message = "this is not a host to connect to";
            return wrong("remote_broker_ssh_target", message, "for example user@host");
        }
        if !plain(&self.root) || !(self.root.starts_with('/') || self.root.starts_with("~/")) {
            let message = "the root over there must be an absolute path";
            return wrong("remote_broker_root", message, "it may start with ~/");
        }
        Ok(())
    }

    fn script(&self, mark: &str) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let root = match self.root.strip_prefix("~/") {
            Some(rest) => format!("\"$HOME\"/{}", quoted(rest)),
            None => quoted(&self.root),
        };
        format!("root={root}\nmark='{mark}'\n{SCRIPT}")
    }

    /// Looks once.
    async fn visit(&self) -> Result<BTreeMap<String, Vec<Value>>, String> {
        let mark = format!("c2c-inbox {}", uuid::Uuid::new_v4());
        let output = tokio::time::timeout(VISIT, self.ssh(&self.script(&mark))).await;
        let output = output.map_err(|_| format!("no answer in {} s", VISIT.as_secs()))?;
        let output = output.map_err(|e| format!("ssh cannot be run: {e}"))?;
        if !output.status.success() {
            return Err(last_line(&output.stderr));
        }
        read(&output.stdout, &mark)
    }

    async fn ssh(&self, script: &str) -> std::io::Result<Output> {
        let mut ssh = Command::new("ssh");
        // Never asks anybody, and trusts no host that is not known.
        ssh.args(["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]);
        ssh.args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]);
        ssh.args(["--", &self.target, "sh -s"]).kill_on_drop(true);
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ssh.spawn()?;
        let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // Whoever does not read it says why on the other end.
                let _ = stdin.write_all(script.as_bytes()).await;
            }
        };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let most = REMOTE_BROKER_BYTES_MAX as u64 + 1;
        let read_out = async {
            let taken = out.map(|out| out.take(most));
            if let Some(mut out) = taken {
                let _ = out.read_to_end(&mut stdout).await;
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

/// What is told of a visit that failed; the words are of another machine.
fn last_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.trim().lines().last().unwrap_or("ssh failed and said nothing");
    line.chars().flat_map(char::escape_default).take(ERROR_MAX).collect()
}

/// A session whose inbox can be asked for.
pub fn is_session(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=64).contains(&name.len()) && name.chars().all(plain)
}

/// Inboxes by session, from what a visit printed.
fn read(printed: &[u8], mark: &str) -> Result<BTreeMap<String, Vec<Value>>, String> {
    if printed.len() > REMOTE_BROKER_BYTES_MAX {
        return Err(format!("the inboxes hold more than {REMOTE_BROKER_BYTES_MAX} bytes"));
    }
    let text = String::from_utf8_lossy(printed);
    let line = format!("\n{mark}");
    let mut parts = text.split(line.as_str()).skip(1).peekable();
    let mut inboxes = BTreeMap::<String, Vec<Value>>::new();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return if part == "\n" { Ok(inboxes) } else { Err("the list broke off".into()) };
        }
        let Some((name, json)) = part.split_once('\n') else { continue };
        let name = name.trim_start();
        let session =
            name.strip_suffix(".inbox.json").or_else(|| name.strip_suffix(".json")).unwrap_or(name);
        // A file that is being written, or is something else, shows up with the next visit.
        if let (true, Ok(Value::Array(rows))) = (is_session(session), serde_json::from_str(json)) {
            add(inboxes.entry(session.to_owned()).or_default(), rows);
        }
    }
    Err("the list broke off".into())
}

/// Adds rows that are not there yet, as their own ids say.
fn add(inbox: &mut Vec<Value>, rows: Vec<Value>) {
    let id =
        |row: &Value| row["message_id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
    let known: HashSet<String> = inbox.iter().filter_map(id).collect();
    let new = |row: &Value| row.is_object() && id(row).is_none_or(|id| !known.contains(&id));
    inbox.extend(rows.into_iter().filter(new));
}

impl Remote {
    /// A broker that nobody has visited yet.
    pub fn new(broker: RemoteBroker) -> Self {
        Self { broker: Arc::new(broker), found: Arc::default() }
    }

    /// Visits it every few seconds, without end.
    pub async fn keep_visiting(&self) {
        let mut tick = tokio::time::interval(Duration::from_secs(REMOTE_BROKER_EVERY_S));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let visited = self.broker.visit().await;
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            let before = found.error.take();
            match visited {
                Ok(inboxes) => {
                    if before.is_some() {
                        note(&format!("remote broker {}: reached again", self.broker.id));
                    }
                    (found.inboxes, found.at_us) = (inboxes, Some(clock::now_us()));
                }
                Err(error) => {
                    if before.as_ref() != Some(&error) {
                        note(&format!("remote broker {}: {error}", self.broker.id));
                    }
                    found.error = Some(error);
                }
            }
        }
    }

    /// The inbox of a session, as of the last visit that succeeded.
    pub fn inbox(&self, session_id: &str) -> Result<RemoteInbox, Answer> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at_us) = found.at_us else {
            let why = found.error.as_deref().unwrap_or("not read yet");
            let message = format!("the broker '{}' was not reached: {why}", self.broker.id);
            return Err(Refusal::new(Code::RemoteUnavailable, "", message).into());
        };
        Ok(RemoteInbox {
            messages: found.inboxes.get(session_id).cloned().unwrap_or_default(),
            broker_id: self.broker.id.clone(),
            fetched_at: Seconds { us: at_us },
            error: found.error.clone(),
        })
    }
}
