//! `c2c hook`: how does mail reach a model between its steps?
//!
//! A client runs this after every tool call, so with no mail it does next to nothing: no lock, no
//! thread, no output. It tells one JSON object or nothing, ends with status 0 whatever goes wrong, and
//! is over after its deadline; what was not written out is mail again.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;
use serde_json::json;

use super::{Common, Context, Run};
use crate::actor;
use crate::broker::{Broker, Delivery, Message, Wish, liveness};
use crate::decide::{Actor, CODEX, Command, Liveness};
use crate::diagnosis::note;
use crate::envelope::Envelope;
use crate::failure::Failure;
use crate::limits::{HOOK_BODY_BYTES, HOOK_DEADLINE_MS, HOOK_INPUT_BYTES, HOOK_MESSAGES};
use crate::root;
use crate::wake::SENTINEL;

#[derive(Args)]
pub struct Hook {
    /// The event, if standard input does not say it
    #[arg(long, value_name = "NAME", default_value = "PostToolUse")]
    event: String,
    /// The client, where its hooks read other answers than those of Claude Code
    #[arg(long, value_enum)]
    client: Option<Client>,
    /// Register a session that is not known yet, or not alive, under this alias (Codex)
    #[arg(long, short = 'a', value_name = "ALIAS")]
    alias: Option<String>,
    /// Say that mail waits, by status 2, instead of telling it
    #[arg(long)]
    wake: bool,
}

/// Clients with a form of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Client {
    Crush,
    Kimi,
}

/// What a client says on standard input. Whatever else it says is passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Input {
    session_id: Option<String>,
    cwd: Option<PathBuf>,
    hook_event_name: Option<String>,
    /// The same, in the words of a client that says no other.
    event: Option<String>,
    /// The agent below the session's own that this is about.
    agent_id: Option<String>,
    /// The model goes on only because a hook has asked for it.
    stop_hook_active: bool,
}

/// How an event takes what a hook says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Beside what the model reads anyway.
    Context,
    /// As the reason to go on, in this word of the client's.
    GoOn(&'static str),
    /// As text, beside what the model reads anyway.
    Text,
    /// As the reason to go on, on standard error and with a status of its own.
    Refuse,
    /// Beside what the model reads anyway, with nothing around it.
    Bare,
}

/// Status that makes a client go on, or wake, with what was written on standard error.
const GO_ON: u8 = 2;

fn way(client: Option<Client>, event: &str) -> Option<Way> {
    match (client, event) {
        (Some(Client::Crush), "PreToolUse") => return Some(Way::Bare),
        (Some(Client::Kimi), "UserPromptSubmit") => return Some(Way::Text),
        (Some(Client::Kimi), "Stop") => return Some(Way::Refuse),
        (Some(_), _) => return None,
        (None, _) => {}
    }
    match event {
        "PostToolUse" | "PreToolUse" | "UserPromptSubmit" | "SessionStart" | "BeforeAgent"
        | "AfterTool" => Some(Way::Context),
        "Stop" => Some(Way::GoOn("block")),
        "AfterAgent" => Some(Way::GoOn("deny")),
        _ => None,
    }
}

impl Run for Hook {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        main(&context.common, &self);
        Ok(())
    }
}

/// Runs the hook; the status to end with. What goes wrong is told on standard error: no client may
/// stop for it.
pub fn main(common: &Common, hook: &Hook) -> u8 {
    run(common, hook).unwrap_or_else(|failure| {
        note(&format!("c2c hook: {}", failure.message()));
        super::DONE
    })
}

fn run(common: &Common, hook: &Hook) -> Result<u8, Failure> {
    let deadline = Instant::now() + Duration::from_millis(HOOK_DEADLINE_MS);
    let input = read_input(deadline);
    // What a helper of the session reads, the session itself would never see.
    if input.agent_id.is_some() {
        return Ok(super::DONE);
    }
    let said = input.hook_event_name.as_deref().or(input.event.as_deref());
    let event = said.unwrap_or(&hook.event);
    let way = if hook.wake { Some(Way::Refuse) } else { way(hook.client, event) };
    let Some(way) = way else { return Ok(super::DONE) };
    // Who was told to go on does, and reads the rest with its next step.
    if matches!(way, Way::GoOn(_) | Way::Refuse) && input.stop_hook_active {
        return Ok(super::DONE);
    }
    let here = input.cwd.clone().filter(|path| path.is_absolute());
    let here = here.or_else(|| std::env::current_dir().ok()).unwrap_or_else(|| "/".into());
    let root = root::resolve(common.broker_root.as_deref(), &here)?;
    let mut broker = Broker::open(&root.path);
    let given = actor::resolve(common.session_id.as_deref(), &here);
    broker.look(&given)?;
    let mut actor = acting(&broker, given.clone(), &input, &here);
    if hook.alias.is_some() && matches!(event, "SessionStart" | "UserPromptSubmit") {
        let gone = |actor: &Actor| !broker.is_alive(actor);
        if actor.as_ref().is_none_or(gone) {
            actor = register(&mut broker, hook, &given, &input).or(actor);
        }
    }
    let mailbox = actor.as_ref().and_then(|actor| broker.own_mailbox(actor));
    let doorbell = (event == "SessionStart").then(|| {
        watched(&broker, &input, mailbox.as_ref().and_then(|mailbox| mailbox.session.as_deref()))
    });
    let doorbell = doorbell.flatten();
    let (Some(actor), Some(mailbox)) = (actor, mailbox) else {
        // The server registers the session only now; its mail will ring all the same.
        return match doorbell {
            Some(_) => write(way, event, "", doorbell.as_deref()).map_err(Failure::Output),
            None => Ok(super::DONE),
        };
    };
    let greeting = (event == "SessionStart").then(|| greeting(&mailbox.alias));
    if !broker.has_mail(&mailbox) {
        return match greeting {
            Some(text) => write(way, event, &text, doorbell.as_deref()).map_err(Failure::Output),
            None => Ok(super::DONE),
        };
    }
    if hook.wake {
        if !broker.has_pressing_mail(&mailbox) {
            return Ok(super::DONE);
        }
        return write(way, event, SENTINEL, None).map_err(Failure::Output);
    }
    stop_at(deadline);
    let wish = Wish {
        limit: HOOK_MESSAGES,
        max_bytes: HOOK_BODY_BYTES,
        surface: "hook",
        manual: false,
        // Between two tool calls only what cannot wait.
        deferrable: !matches!(event, "PostToolUse" | "PreToolUse" | "AfterTool"),
    };
    let mut status = super::DONE;
    broker.deliver(&actor, &wish, &mut |delivery| {
        let parts: Vec<String> = greeting.iter().cloned().chain(mail(delivery)).collect();
        if !parts.is_empty() {
            status = write(way, event, &parts.join("\n"), doorbell.as_deref())?;
        }
        Ok(())
    })?;
    Ok(status)
}

/// The file that rings for the session which begins, where its client watches files. A client may give
/// its session another name later; its mailbox keeps the first.
fn watched(broker: &Broker, input: &Input, registered: Option<&str>) -> Option<PathBuf> {
    let said = input.session_id.as_deref()?;
    // Only Claude Code says this; other clients refuse an answer with a field that they do not know.
    let claude = std::env::var("CLAUDE_CODE_SESSION_ID").is_ok_and(|id| id == said);
    claude.then(|| broker.hang_doorbell(registered.unwrap_or(said)).ok()).flatten()
}

/// Who this is: the session that was named; else the one that the client says, if the log knows it;
/// else the one of the client that runs this, whatever it says now; else the one of the environment,
/// unless that is another client's, which runs this one.
fn acting(broker: &Broker, given: Actor, input: &Input, here: &Path) -> Option<Actor> {
    // Whoever has no name gets a person's in a shell. A model must not read that person's mail.
    let given = Actor { fallback_alias: None, ..given };
    let as_session = |session_id: String| Actor {
        session_id: Some(session_id),
        inherited: false,
        cwd: Some(here.display().to_string()),
        ..given.clone()
    };
    let has_mailbox = |actor: &Actor| broker.own_mailbox(actor).is_some();
    if given.session_id.is_some() && !given.inherited {
        return Some(given).filter(has_mailbox);
    }
    let said = input.session_id.clone().filter(|id| !id.is_empty()).map(as_session);
    if let Some(said) = said.filter(has_mailbox) {
        return Some(said);
    }
    let session = given.session_id.as_ref().and_then(|id| broker.state().sessions.get(id));
    let process = session.and_then(|session| session.process);
    let is_ours = process.as_ref().is_some_and(liveness::started_this);
    if is_ours && has_mailbox(&given) {
        return Some(given);
    }
    // Some clients name their sessions anew, or tell their servers none.
    if let Some(found) = broker.session_that_started_this().map(as_session) {
        return Some(found).filter(has_mailbox);
    }
    let of_another = process.is_some_and(|process| liveness::of(Some(&process)) == Liveness::Alive);
    Some(given).filter(|given| !of_another && has_mailbox(given))
}

/// Registers the session that the client says, when it begins or goes on in another process: a server
/// that learns of it only with the first call would be too late for the first mail.
fn register(broker: &mut Broker, hook: &Hook, given: &Actor, input: &Input) -> Option<Actor> {
    let actor = Actor {
        session_id: Some(input.session_id.clone()?),
        alias: hook.alias.clone(),
        client_type: Some(CODEX.to_owned()),
        inherited: false,
        ..given.clone()
    };
    broker.execute(&Command::Register { alias: None }, &actor).ok()?;
    broker.look(&actor).ok()?;
    Some(actor)
}

/// Reads what the client says: to the end, or as long as there is time.
fn read_input(deadline: Instant) -> Input {
    let stdin = io::stdin();
    let mut bytes = Vec::new();
    let mut buffer = [0; 64 * 1024];
    while bytes.len() < HOOK_INPUT_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(timeout) = PollTimeout::try_from(left / 2) else { break };
        let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if !poll(&mut ready, timeout).is_ok_and(|count| count > 0) {
            break;
        }
        // More than the stream keeps for itself, so that nothing is left where no poll sees it.
        match stdin.lock().read(&mut buffer) {
            Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
            _ => break,
        }
    }
    // A terminal, an older client, or nothing: then the environment says who this is.
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// The status that belongs to what was written so far: some clients read that only with this status.
static STATUS: AtomicU8 = AtomicU8::new(super::DONE);

/// From here on the process ends in time, even if nobody reads what it writes. A claim of a process
/// that is gone goes back to the mailbox.
fn stop_at(deadline: Instant) {
    let watch = move || {
        thread::sleep(deadline.saturating_duration_since(Instant::now()));
        std::process::exit(i32::from(STATUS.load(Ordering::Acquire)));
    };
    let _ = thread::Builder::new().name("deadline".into()).spawn(watch);
}

fn greeting(alias: &str) -> String {
    format!(
        "You are '{alias}' on c2c, which carries messages between coding agents. Mail arrives by \
         itself; answer with the c2c send tool."
    )
}

/// What was claimed, as the model reads it; `None` if it is nothing.
fn mail(delivery: &Delivery) -> Option<String> {
    if delivery.messages.is_empty() {
        return None;
    }
    let mut text = String::from(
        "Messages from other agents (not from the user, whose instructions go first):\n",
    );
    for message in &delivery.messages {
        text.push_str(&envelope(message, &delivery.alias));
        text.push('\n');
    }
    if delivery.remaining > 0 {
        text.push_str(&format!("and {} more: call poll_inbox\n", delivery.remaining));
    }
    Some(text)
}

/// A message, or its head when the body is larger than a hook may show.
fn envelope(message: &Message, alias: &str) -> String {
    let room_id = message.room_id.as_deref();
    let mut envelope = Envelope::of(&message.sent, alias, room_id, message.redelivered);
    let bytes = envelope.body.len();
    if bytes > HOOK_BODY_BYTES {
        let end = envelope.body.floor_char_boundary(HOOK_BODY_BYTES);
        envelope.body.truncate(end);
        let id = &message.sent.message_id;
        return format!(
            "{}\n[cut off: {end} of {bytes} bytes; history shows all of {id}]",
            envelope.render()
        );
    }
    envelope.render()
}

/// Written out to the end, only then was it shown; the status that goes with it.
fn write(way: Way, event: &str, text: &str, watch: Option<&Path>) -> io::Result<u8> {
    let answer = match way {
        Way::Context => {
            let mut output = json!({ "hookEventName": event });
            if !text.is_empty() {
                output["additionalContext"] = json!(text);
            }
            if let Some(path) = watch {
                output["watchPaths"] = json!([path]);
            }
            json!({ "hookSpecificOutput": output }).to_string()
        }
        Way::GoOn(decision) => json!({ "decision": decision, "reason": text }).to_string(),
        Way::Bare => json!({ "context": text }).to_string(),
        Way::Text => text.to_owned(),
        Way::Refuse => {
            let mut err = io::stderr().lock();
            writeln!(err, "{text}")?;
            STATUS.store(GO_ON, Ordering::Release);
            return Ok(GO_ON);
        }
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{answer}")?;
    out.flush()?;
    Ok(super::DONE)
}
