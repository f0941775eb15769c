//! `c2c hook`: deliver mail to a model from a client's hook.
//!
//! A client runs this after every tool call, so without mail it does next to nothing: no lock, no
//! thread, no output. It prints one response or nothing, exits with status 0 on every error, and
//! ends at its deadline. Mail that was not written in full returns to the mailbox.

mod input;
mod response;
mod scan;
mod session;
mod text;

use std::time::{Duration, Instant};

use clap::Args;

use super::context::{Common, Context, Run};
use super::exit_status::SUCCESS;
use crate::broker::{Broker, DeliveryOptions};
use crate::env::actor;
use crate::env::root;
use crate::error::Failure;
use crate::platform::clock;
use crate::present::diagnostics::note;
use crate::wake::NOTICE;
use c2c_core::decide::Actor;
use c2c_core::limits::{HOOK_BODY_BYTES, HOOK_DEADLINE_MS, HOOK_MESSAGES};
use c2c_core::state::Mailbox;

use input::HookInput;
use response::{Form, HookClient, Response};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    echo '{\"session_id\": \"s-alice\", \"hook_event_name\": \"Stop\"}' | c2c hook\n  \
    c2c hook --event Stop --client kimi    in the configuration of Kimi Code")]
pub struct Hook {
    /// Event to assume if standard input does not name one
    #[arg(long, value_name = "NAME", default_value = "PostToolUse")]
    event: String,
    /// Client that runs the hook; an unknown one receives a notice without the mail
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Register an unknown or dead session under this alias (Codex)
    #[arg(long, short = 'a', value_name = "ALIAS")]
    alias: Option<String>,
    /// Report waiting mail with exit status 2 instead of delivering it
    #[arg(long)]
    wake: bool,
}

impl Run for Hook {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        main(&context.common, &self);
        Ok(())
    }
}

/// Runs the hook and returns the exit status. Errors go only to standard error: they must not stop
/// a client.
pub fn main(common: &Common, hook: &Hook) -> u8 {
    run(common, hook).unwrap_or_else(|failure| {
        note(&format!("c2c hook: {}", failure.message()));
        SUCCESS
    })
}

fn run(common: &Common, hook: &Hook) -> Result<u8, Failure> {
    let deadline = clock::monotonic() + Duration::from_millis(HOOK_DEADLINE_MS);
    let (input, deadline) = HookInput::read(deadline);
    let named = hook.client.as_deref().map(HookClient::named);
    // Mail that a subagent reads would never reach the session itself.
    if input.is_of_helper(named.unwrap_or(HookClient::Standard)) {
        return Ok(SUCCESS);
    }
    let event = input.event().unwrap_or(&hook.event);
    if event == "SessionEnd" {
        return session::end(common, &input).map(|()| SUCCESS);
    }
    let form_for = |client: HookClient| match hook.wake {
        true => Some(Form::Stderr),
        false => Form::of(client, event),
    };
    let Some(form) = form_for(named.unwrap_or(HookClient::Standard)) else { return Ok(SUCCESS) };
    // The client already continues because of a hook; the model reads the rest in its next step.
    if form.makes_client_continue() && input.stop_hook_active {
        return Ok(SUCCESS);
    }
    let directory = input.cwd.clone().filter(|path| path.is_absolute());
    let directory = directory.or_else(|| std::env::current_dir().ok());
    let given = actor::resolve(common.session_id.as_deref(), directory.as_deref());
    let hints = session::hints(&given, &input);
    let root = root::resolve(common.broker_root.as_deref(), directory.as_deref(), &hints)?;
    let mut broker = Broker::open_found(&root);
    broker.refresh_lazily(&given)?;
    if event == "SessionStart" {
        session::end_predecessor(&mut broker, &input)?;
    }
    let mut actor = session::find(&broker, &given, &input);
    if let Some(alias) = &hook.alias
        && matches!(event, "SessionStart" | "UserPromptSubmit")
        && actor.as_ref().is_none_or(|actor| !broker.is_alive(actor))
    {
        actor = session::register(&mut broker, alias, &given, &input).or(actor);
    }
    let mailbox = actor.as_ref().and_then(|actor| broker.own_mailbox(actor));
    let watch_path = match event {
        "SessionStart" => {
            let registered = mailbox.as_ref().and_then(|mailbox| mailbox.session.as_deref());
            session::wake_file(&broker, &input, registered)
        }
        _ => None,
    };
    if mailbox.is_some() || event == "SessionStart" {
        session::remember(&root, &input);
    }
    // A client that the command does not name may be known from its session.
    let registered = mailbox.as_ref().and_then(|mailbox| mailbox.session.as_deref());
    let registered = registered.and_then(|id| broker.state().sessions.get(id));
    let registered = registered.and_then(|session| session.client_type);
    let client = named.or_else(|| registered.as_deref().map(HookClient::named));
    let client = client.unwrap_or(HookClient::Standard);
    let Some(form) = form_for(client) else { return Ok(SUCCESS) };
    let response = Response { form, event, watch_path };
    broker.check_base()?;
    match (actor, mailbox) {
        (Some(actor), Some(mailbox)) => {
            let announces = hook.wake || client == HookClient::Unknown;
            respond(&mut broker, announces, &actor, &mailbox, &response, deadline)
        }
        // The server registers this session later; the wake file announces its mail all the same.
        _ if response.watch_path.is_some() => response.write("").map_err(Failure::Output),
        _ => Ok(SUCCESS),
    }
}

/// Writes the greeting and the mail of a registered session. With `announces`, writes that mail waits
/// and takes none.
fn respond(
    broker: &mut Broker,
    announces: bool,
    actor: &Actor,
    mailbox: &Mailbox,
    response: &Response<'_>,
    deadline: Instant,
) -> Result<u8, Failure> {
    let greeting = (response.event == "SessionStart").then(|| text::greeting(&mailbox.alias));
    let has_mail = broker.has_mail(mailbox);
    broker.check_base()?;
    if !has_mail {
        return match greeting {
            Some(text) => response.write(&text).map_err(Failure::Output),
            None => Ok(SUCCESS),
        };
    }
    if announces {
        let notice = broker.has_pressing_mail(mailbox).then_some(NOTICE);
        let parts: Vec<&str> = greeting.as_deref().into_iter().chain(notice).collect();
        return match parts.is_empty() {
            true => Ok(SUCCESS),
            false => response.write(&parts.join("\n")).map_err(Failure::Output),
        };
    }
    response::exit_at(deadline);
    let options = DeliveryOptions {
        limit: HOOK_MESSAGES,
        max_bytes: HOOK_BODY_BYTES,
        surface: "hook",
        manual: false,
        // Deferrable mail does not interrupt a model between two tool calls.
        deferrable: !matches!(response.event, "PostToolUse" | "PreToolUse" | "AfterTool"),
    };
    let mut status = SUCCESS;
    broker.deliver(actor, &options, &mut |delivery| {
        let parts: Vec<String> = greeting.iter().cloned().chain(text::mail(delivery)).collect();
        if !parts.is_empty() {
            status = response.write(&parts.join("\n"))?;
        }
        Ok(())
    })?;
    Ok(status)
}
