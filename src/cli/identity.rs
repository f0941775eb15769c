//! Commands about who is who.

use c2c_log_format::payload::address;
use clap::Args;
use serde_json::json;

use super::{Context, Run, output};
use crate::code::Code;
use crate::decide::{Command, Refusal, Registered, Reply};
use crate::envelope::for_terminal;
use crate::failure::Failure;
use crate::shape;

#[derive(Args)]
pub struct Register {
    /// Alias to take; without one, the alias of this session or of the environment
    #[arg(long, short = 'a')]
    alias: Option<String>,
    /// Free text about what this agent does
    #[arg(long, value_name = "TEXT")]
    role: Option<String>,
}

impl Run for Register {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.actor.role = self.role;
        if context.actor.session_id.is_none() {
            context.actor.session_id = self.alias.clone().filter(|alias| !alias.is_empty());
        }
        let command = Command::Register { alias: self.alias };
        registered(context, &command, "registered")
    }
}

/// Runs a command that ends in a registration, and tells it.
fn registered(context: &mut Context, command: &Command, done: &str) -> Result<(), Failure> {
    let Reply::Registered(registered) = context.broker.execute(command, &context.actor)?.reply
    else {
        return Ok(());
    };
    if context.common.json {
        let broker_id = context.broker.log_id()?.to_owned();
        let mut row = json!({
            "alias": registered.alias,
            "session_id": registered.session_id,
            "broker_id": broker_id,
            "redelivered": registered.redelivered,
        });
        if let Some(asked) = &registered.asked {
            row["asked"] = json!(asked);
        }
        return output::say_json(&row);
    }
    output::say(&format!("{}\n", registered_line(&registered, done)))
}

fn registered_line(registered: &Registered, done: &str) -> String {
    let mut line = format!("{done} {} (session {})", registered.alias, registered.session_id);
    if let Some(asked) = &registered.asked {
        line.push_str(&format!("; '{asked}' is held by a live session"));
    }
    if registered.redelivered > 0 {
        line.push_str(&format!(" (redelivered {} dead letters)", registered.redelivered));
    }
    line
}

#[derive(Args)]
pub struct Rename {
    /// The new alias
    alias: String,
}

impl Run for Rename {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let command = Command::Rename { alias: self.alias };
        registered(context, &command, "renamed to")
    }
}

#[derive(Args)]
pub struct Whoami {}

impl Run for Whoami {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.look(&context.actor)?;
        let mailbox = context.broker.held_mailbox(&context.actor)?;
        let actor = crate::broker::liveness::adopt(context.broker.state(), &context.actor);
        let Some(mailbox) = mailbox else {
            let hint = match &actor.session_id {
                Some(id) => {
                    format!("session '{id}' has no alias yet; run c2c register --alias NAME")
                }
                None => "run c2c register --alias NAME, or set C2C_MCP_SESSION_ID".to_owned(),
            };
            return Err(Refusal::new(
                Code::NotRegistered,
                "session_id",
                "this session is not registered",
            )
            .hint(hint)
            .into());
        };
        let session_id = mailbox.session.clone().unwrap_or_default();
        if context.common.json {
            let node_id = crate::actor::complete(&context.actor).node_id;
            let broker_id = context.broker.log_id()?.to_owned();
            return output::say_json(&json!({
                "session_id": session_id,
                "alias": mailbox.alias,
                "canonical_alias": format!("{}@{node_id}", mailbox.alias),
                "former_aliases": mailbox.former,
                "broker_root": context.root.path,
                "broker_root_reason": context.root.reason,
                "broker_id": broker_id,
            }));
        }
        output::say(&format!("alias:      {}\nsession_id: {session_id}\n", mailbox.alias))
    }
}

#[derive(Args)]
pub struct List {
    /// Aliases without a session too
    #[arg(long, short = 'a')]
    all: bool,
    /// Only those known to be running
    #[arg(long, short = 'A')]
    alive: bool,
    /// Hide peers on other machines
    #[arg(long)]
    local: bool,
}

impl Run for List {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.look(&context.actor)?;
        let mut peers = context.broker.peers();
        peers.retain(|peer| self.all || peer.session.is_some());
        peers.retain(|peer| !self.alive || peer.liveness.as_option() == Some(true));
        // Of those elsewhere only their own machine knows whether they are alive.
        let hidden = self.local || self.alive;
        let elsewhere = if hidden { Vec::new() } else { context.broker.peers_elsewhere() };
        if context.common.json {
            let rows = peers.iter().map(shape::peer);
            let rows: Vec<_> = rows.chain(elsewhere.iter().map(shape::remote_peer)).collect();
            return output::say_json(&json!(rows));
        }
        if peers.is_empty() && elsewhere.is_empty() {
            return output::say("No registered peers.\n");
        }
        let remote: Vec<String> =
            elsewhere.iter().map(|row| address(&row.alias, &row.node_id)).collect();
        let names = peers.iter().map(|peer| peer.mailbox.alias.len());
        let width = names.chain(remote.iter().map(String::len)).max().unwrap_or(0).max(20);
        let mut text = String::new();
        for peer in &peers {
            let session = peer.session.as_ref();
            let pid = session.and_then(|session| session.process.as_ref());
            let pid = pid.map_or_else(String::new, |process| format!("  pid={}", process.pid));
            let client = session.and_then(|session| session.client_type.as_ref());
            let client = client.map_or_else(String::new, |c| format!("  {}", for_terminal(c)));
            let word = output::liveness_word(peer.liveness);
            text.push_str(&format!("  {:width$}  {word:5}{pid}{client}\n", peer.mailbox.alias));
        }
        for (name, row) in remote.iter().zip(&elsewhere) {
            let client = row.client_type.as_ref();
            let client = client.map_or_else(String::new, |c| format!("  {}", for_terminal(c)));
            text.push_str(&format!("  {:width$}  remote{client}\n", for_terminal(name)));
        }
        output::say(&text)
    }
}

#[derive(Args)]
pub struct Dnd {
    /// `on` or `off`; without it, shows the present state
    #[arg(value_parser = ["on", "off", "status"])]
    state: Option<String>,
    /// When it ends by itself: RFC 3339 or seconds since 1970
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Run for Dnd {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        if let Some(state) = self.state.filter(|state| state != "status") {
            let until_us = match &self.until {
                Some(text) => Some(crate::clock::parse(text).ok_or_else(|| {
                    output::usage(&format!("--until: '{text}' is neither RFC 3339 nor seconds"))
                })?),
                None => None,
            };
            let command = Command::Dnd { on: state == "on", until_us };
            context.broker.execute(&command, &context.actor)?;
        } else {
            context.broker.look(&context.actor)?;
        }
        let mailbox = context.broker.own_mailbox(&context.actor);
        let now_us = crate::clock::now_us();
        let dnd = mailbox.as_ref().is_some_and(|mailbox| mailbox.is_dnd(now_us));
        if context.common.json {
            let time = |us: Option<u64>| us.map(crate::clock::rfc3339);
            return output::say_json(&json!({
                "ok": true,
                "dnd": dnd,
                "dnd_since": time(mailbox.as_ref().and_then(|m| m.dnd_since_us)),
                "dnd_until": time(mailbox.as_ref().and_then(|m| m.dnd_until_us)),
            }));
        }
        output::say(if dnd { "dnd: on\n" } else { "dnd: off\n" })
    }
}
