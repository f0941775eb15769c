//! An agent without a connector: register, dm, poll-inbox.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Target, node_id};
use crate::cli::{Context, Run, output};
use crate::clock;
use crate::connector::Client;
use crate::connector::config::{self, Given};
use crate::envelope::for_terminal;
use crate::failure::Failure;
use crate::wire::body;

/// Session of somebody who uses the relay by the command line only.
fn session_of(alias: &str) -> String {
    format!("cli-{alias}")
}

#[derive(Args)]
pub struct Register {
    /// Alias to take
    #[arg(long, value_name = "ALIAS")]
    alias: String,
    #[command(flatten)]
    target: Target,
}

impl Run for Register {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, settings) = self.target.client_with_key(context)?;
        let node = node_id(&settings);
        let registered = register(&client, &self.alias, &node)?;
        // Commands that follow act as this alias where none is named.
        let path = config::path(context.broker.root())?;
        config::save(&path, &Given { alias: Some(self.alias.clone()), ..Given::default() })?;
        if context.common.json {
            return output::say_json(&json!({
                "ok": true,
                "alias": registered.alias,
                "node_id": registered.node_id,
                "session_id": session_of(&self.alias),
                "bare_alias": registered.bare_alias,
                "lease": registered.lease,
            }));
        }
        let (alias, url) = (for_terminal(&registered.alias), client.base_url());
        output::say(&format!("registered {alias} on {url} (node {})\n", for_terminal(&node)))
    }
}

/// A lease for the command line.
fn register(client: &Client, alias: &str, node: &str) -> Result<body::Registered, Failure> {
    client.register(&body::Register {
        node_id: node.to_owned(),
        session_id: session_of(alias),
        alias: alias.to_owned(),
        client_type: Some("cli".into()),
        ..body::Register::default()
    })
}

#[derive(Args)]
pub struct Dm {
    /// Alias that acts
    #[arg(long, value_name = "ALIAS", global = true)]
    alias: Option<String>,
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    what: DmWhat,
}

#[derive(Subcommand)]
enum DmWhat {
    /// Send a message
    Send {
        /// Alias, or alias@node
        to: String,
        /// Text
        #[arg(required = true)]
        message: Vec<String>,
        /// Id by which a second try is known
        #[arg(long, value_name = "ID")]
        message_id: Option<String>,
    },
    /// Send a message to everybody
    SendAll {
        /// Text
        #[arg(required = true)]
        message: Vec<String>,
    },
    /// Take messages
    Poll,
}

impl Run for Dm {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, settings) = self.target.client(context)?;
        let alias = super::speaker(self.alias.as_deref(), &client, context)?;
        let Some(alias) = alias else {
            let message = "which alias acts? pass --alias";
            let code = crate::code::Code::InvalidArgument;
            return Err(crate::decide::Refusal::new(code, "alias", message).into());
        };
        match self.what {
            DmWhat::Send { to, message, message_id } => {
                // A try that was cut off is known by its id when it comes again.
                let message_id = message_id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
                let wish = body::Send {
                    from_alias: alias.clone(),
                    to_alias: to,
                    content: message.join(" "),
                    message_id: Some(message_id),
                    ..body::Send::default()
                };
                let sent: body::Sent = client.post("/send", &wish, Some(&alias))?;
                if context.common.json {
                    return output::say_json(&json!({ "ok": true, "sent": sent }));
                }
                let (to, id) = (for_terminal(&sent.to_alias), for_terminal(&sent.message_id));
                output::say(&format!("{} -> {to} ({id})\n", sent.result))
            }
            DmWhat::SendAll { message } => {
                let wish = body::SendAll {
                    from_alias: alias.clone(),
                    content: message.join(" "),
                    ..body::SendAll::default()
                };
                let sent: body::FannedOut = client.post("/send_all", &wish, Some(&alias))?;
                if context.common.json {
                    return output::say_json(&json!({ "ok": true, "sent": sent }));
                }
                let names = sent.delivered_to.join(" ");
                output::say(&format!("sent to: {}\n", for_terminal(&names)))
            }
            DmWhat::Poll => {
                let node = node_id(&settings);
                take(&client, &node, &session_of(&alias), &alias, context)
            }
        }
    }
}

#[derive(Args)]
pub struct PollInbox {
    /// Alias that signs, if it is not in the session id
    #[arg(long, value_name = "ALIAS")]
    alias: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl Run for PollInbox {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, settings) = self.target.client(context)?;
        let Some(session) = context.common.session_id.clone() else {
            let message = "which session? pass --session-id";
            let code = crate::code::Code::InvalidArgument;
            return Err(crate::decide::Refusal::new(code, "session_id", message).into());
        };
        let alias = self.alias.as_deref().or_else(|| session.strip_prefix("cli-"));
        let alias = super::speaker(alias, &client, context)?.unwrap_or_default();
        take(&client, &node_id(&settings), &session, &alias, context)
    }
}

/// Takes mail, shows it, and only then says that it was taken.
fn take(
    client: &Client,
    node: &str,
    session: &str,
    alias: &str,
    context: &Context,
) -> Result<(), Failure> {
    let mut confirm = None;
    let mut shown = 0;
    loop {
        let drain_id = uuid::Uuid::now_v7().to_string();
        let wish = body::Poll {
            node_id: node.to_owned(),
            session_id: session.to_owned(),
            drain_id: Some(drain_id),
            confirm: confirm.take(),
            ..body::Poll::default()
        };
        let inbox: body::Inbox = client.post("/poll_inbox", &wish, Some(alias))?;
        if context.common.json {
            if shown == 0 || !inbox.messages.is_empty() {
                output::say(&output::json_line(
                    &json!({ "ok": true, "messages": inbox.messages }),
                ))?;
            }
        } else {
            let rows = inbox.messages.iter().map(|row| {
                let when = clock::human(row.ts.us, context.common.utc);
                let (from, body) = (for_terminal(&row.from_alias), for_terminal(&row.content));
                format!("[{when}] {from}: {body}\n")
            });
            output::say(&rows.collect::<String>())?;
        }
        shown += inbox.messages.len();
        if inbox.messages.is_empty() {
            break;
        }
        confirm = inbox.drain_id;
    }
    if shown == 0 && !context.common.json {
        return output::say("(no messages)\n");
    }
    Ok(())
}
