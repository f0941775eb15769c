//! The session that a hook acts as.

use std::path::PathBuf;

use c2c_log_format::id::check_name;

use super::input::HookInput;
use crate::broker::Broker;
use crate::cli::context::Common;
use crate::env::root::{self, Root, SessionHint};
use crate::env::{CLAUDE_CODE_SESSION_ID, actor};
use crate::error::Failure;
use crate::platform::process::{liveness_of, started_this, starters};
use c2c_core::command;
use c2c_core::decide::{Actor, CODEX, Liveness, SessionSource};
use c2c_core::ids::SessionId;

/// The session ids that may lead to the root, the most certain one first.
pub fn hints<'a>(given: &'a Actor, input: &'a HookInput) -> Vec<SessionHint<'a>> {
    let given = actor::session_hint(given);
    let named = input.session_id.as_deref().filter(|id| !id.is_empty());
    let named = named.map(|session_id| SessionHint { session_id, source: SessionSource::Request });
    match given {
        Some(given) if given.source == SessionSource::Given => vec![given],
        _ => {
            let others =
                given.filter(|given| Some(given.session_id) != named.map(|n| n.session_id));
            named.into_iter().chain(others).collect()
        }
    }
}

/// Records that the client's session uses a root which its directory led to. The session finds the
/// root again after the model has changed its directory.
pub fn remember(root: &Root, input: &HookInput) {
    let named = input.session_id.as_deref().filter(|id| check_name(id).is_ok());
    if let Some(session_id) = named.filter(|_| root.is_by_directory() && root.path.is_dir()) {
        let hint = SessionHint { session_id, source: SessionSource::Request };
        root::remember_session(hint, None, &root.path);
    }
}

/// Ends the session that the client reports as over. Its alias is free for the session that follows.
pub fn end(common: &Common, input: &HookInput) -> Result<(), Failure> {
    let Some(session_id) = input.session_id.as_deref() else { return Ok(()) };
    let directory = input.cwd.clone().or_else(|| std::env::current_dir().ok());
    let hint = SessionHint { session_id, source: SessionSource::Request };
    let root = root::resolve(common.broker_root.as_deref(), directory.as_deref(), &[hint])?;
    let mut broker = Broker::open_found(&root);
    broker.refresh(&Actor::default())?;
    end_session(&mut broker, session_id)
}

fn end_session(broker: &mut Broker, session_id: &str) -> Result<(), Failure> {
    if broker.state().sessions.get(session_id).is_none() {
        return Ok(());
    }
    let actor = Actor { session_id: Some(session_id.into()), ..Actor::default() };
    broker.execute(&command::EndSession, &actor).map(|_| ())
}

/// Ends the conversation that the starting one replaces, if the client says that it replaces one and
/// has no other conversation in this root.
pub fn end_predecessor(broker: &mut Broker, input: &HookInput) -> Result<(), Failure> {
    if !matches!(input.source.as_deref(), Some("clear" | "resume")) {
        return Ok(());
    }
    let starters = starters();
    let own = input.session_id.as_deref();
    let sessions = broker.state().sessions.scan([]).into_iter().map(|(_, session)| session);
    let of_client: Vec<String> = sessions
        .filter(|session| {
            let process = session.process.as_ref();
            process.is_some_and(|process| starters.contains(&process.pid))
                && liveness_of(process) == Liveness::Alive
        })
        .map(|session| session.session_id.to_string())
        .collect();
    match &of_client[..] {
        [one] if Some(one.as_str()) != own && root::is_conversation(one) => {
            end_session(broker, one)
        }
        _ => Ok(()),
    }
}

/// Finds the session to act as. The first of these that has a mailbox:
///
/// 1. the session named by `--session-id`, and then no other;
/// 2. the session named by the client;
/// 3. the session of the environment, if its process started this one;
/// 4. the session whose process started this one;
/// 5. the session of the environment, unless its process is alive: it then belongs to another
///    client, which runs this one.
pub fn find(broker: &Broker, given: &Actor, input: &HookInput) -> Option<Actor> {
    // In a shell, an unnamed caller acts as its user. A model must not read that user's mail.
    let cwd = given.cwd.clone().unwrap_or_default();
    let given = Actor { fallback_alias: None, cwd: Some(cwd), ..given.clone() };
    let with_session = |session_id: SessionId| Actor {
        session_id: Some(session_id),
        source: SessionSource::Given,
        ..given.clone()
    };
    let has_mailbox = |actor: &Actor| broker.own_mailbox(actor).is_some();
    if given.session_id.is_some() && given.source == SessionSource::Given {
        return Some(given).filter(has_mailbox);
    }
    let named =
        input.session_id.clone().filter(|id| !id.is_empty()).map(SessionId::from).map(with_session);
    if let Some(named) = named.filter(has_mailbox) {
        return Some(named);
    }
    let session = broker.session(&given);
    let process = session.and_then(|session| session.process);
    let started_this = process.as_ref().is_some_and(started_this);
    if started_this && has_mailbox(&given) {
        return Some(given);
    }
    // Some clients change the ids of their sessions, or do not pass them to their servers.
    if let Some(parent) = broker.session_of_client().map(with_session) {
        return Some(parent).filter(has_mailbox);
    }
    let is_alive = process.is_some_and(|process| liveness_of(Some(&process)) == Liveness::Alive);
    Some(given).filter(|given| !is_alive && has_mailbox(given))
}

/// Registers the session named by the client when it starts or resumes in another process. Its
/// server learns of the session only with the first tool call, too late for the first mail.
pub fn register(
    broker: &mut Broker,
    alias: &str,
    given: &Actor,
    input: &HookInput,
) -> Option<Actor> {
    let actor = Actor {
        session_id: Some(input.session_id.clone()?.into()),
        alias: Some(alias.into()),
        client_type: Some(CODEX.to_owned()),
        source: SessionSource::Request,
        ..given.clone()
    };
    broker.execute(&command::Register { alias: None }, &actor).ok()?;
    broker.refresh_lazily(&actor).ok()?;
    Some(actor)
}

/// Creates the wake file of a starting session if its client watches files.
///
/// `registered` is the session id of the mailbox: a client may change the id of its session later,
/// but the mailbox keeps the first.
pub fn wake_file(broker: &Broker, input: &HookInput, registered: Option<&str>) -> Option<PathBuf> {
    let session_id = input.session_id.as_deref()?;
    // Only Claude Code sets this variable. Other clients reject a response with unknown fields.
    let is_claude = CLAUDE_CODE_SESSION_ID.text().is_some_and(|id| id == session_id);
    is_claude.then(|| broker.create_wake_file(registered.unwrap_or(session_id)).ok()).flatten()
}
