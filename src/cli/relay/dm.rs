//! The `c2c relay dm` commands.

use clap::{Args, Subcommand};
use serde_json::json;

use super::inbox::{session_id, take_mail};
use super::target::{RelayTarget, node_id, required_alias};
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;
use crate::present::envelope::for_terminal;
use crate::relay::client::RelayClient;
use crate::relay::protocol::request;
use crate::relay::protocol::response;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c relay dm --alias ann send bob@laptop \"hello\"\n  \
    c2c relay dm --alias ann poll")]
pub struct RelayDm {
    /// Alias to act as
    #[arg(long, value_name = "ALIAS", global = true)]
    alias: Option<String>,
    #[command(flatten)]
    target: RelayTarget,
    #[command(subcommand)]
    command: RelayDmCommand,
}

#[derive(Subcommand)]
enum RelayDmCommand {
    /// Send a message to an alias
    #[command(after_help = "Examples:\n  c2c relay dm send bob@laptop \"hello\" --alias ann")]
    Send {
        /// Recipient: alias, or alias@node
        to: String,
        /// Message text
        #[arg(required = true)]
        message: Vec<String>,
        /// Idempotency key: a message with this id is accepted once
        #[arg(long, value_name = "ID")]
        message_id: Option<String>,
    },
    /// Send a message to all agents on the relay
    #[command(after_help = "Examples:\n  c2c relay dm send-all \"the release is out\" --alias ann")]
    SendAll {
        /// Message text
        #[arg(required = true)]
        message: Vec<String>,
    },
    /// Take unread messages
    #[command(after_help = "Examples:\n  c2c relay dm poll --alias ann")]
    Poll,
}

impl Run for RelayDm {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, settings) = self.target.client(context)?;
        let alias = required_alias(self.alias.as_deref(), &client, context)?;
        let as_json = context.common.json;
        match self.command {
            RelayDmCommand::Send { to, message, message_id } => {
                let request = request::SendRequest {
                    from_alias: alias.clone(),
                    to_alias: to,
                    content: message.join(" "),
                    // The relay recognises a repeated request by this id.
                    message_id: message_id.or_else(|| Some(uuid::Uuid::now_v7().to_string())),
                    ..request::SendRequest::default()
                };
                send(&client, &request, &alias, as_json)
            }
            RelayDmCommand::SendAll { message } => {
                let request = request::SendAllRequest {
                    from_alias: alias.clone(),
                    content: message.join(" "),
                    ..request::SendAllRequest::default()
                };
                send_all(&client, &request, &alias, as_json)
            }
            RelayDmCommand::Poll => {
                let node = node_id(&settings, context);
                take_mail(&client, &node, &session_id(&alias), &alias, context)
            }
        }
    }
}

fn send(
    client: &RelayClient,
    request: &request::SendRequest,
    alias: &str,
    as_json: bool,
) -> Result<(), Failure> {
    let sent: response::SendResponse = client.post("/send", request, Some(alias))?;
    if as_json {
        return output::print_json(&json!({ "ok": true, "sent": sent }));
    }
    let (to, id) = (for_terminal(&sent.to_alias), for_terminal(&sent.message_id));
    output::print(&format!("{} -> {to} ({id})\n", sent.result))
}

fn send_all(
    client: &RelayClient,
    request: &request::SendAllRequest,
    alias: &str,
    as_json: bool,
) -> Result<(), Failure> {
    let sent: response::FanOutResponse = client.post("/send_all", request, Some(alias))?;
    if as_json {
        return output::print_json(&json!({ "ok": true, "sent": sent }));
    }
    output::print(&format!("sent to: {}\n", for_terminal(&sent.delivered_to.join(" "))))
}
