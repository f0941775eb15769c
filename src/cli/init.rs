//! The `c2c init` command, which sets up one client completely.

use clap::Args;
use serde_json::json;

use super::context::{Context, Run};
use super::output;
use super::setup::{Setup, detect, set_up};
use crate::error::Failure;
use crate::setup::SupportedClient;
use c2c_core::code::Code;
use c2c_core::decide::{Rejection, check_room_id};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c init                                      set up the only installed client\n  \
    c2c init --client codex --alias ann           set up Codex with the alias ann\n  \
    c2c init --relay http://host:7331 --room dev  use a relay, and join a room")]
pub struct Init {
    /// Client to set up [default: the only one that is installed]
    #[arg(long, short)]
    client: Option<String>,
    /// Alias for sessions of the client [default: <client>-<user>-<host>]
    #[arg(long, short, value_name = "ALIAS")]
    alias: Option<String>,
    /// Room that sessions of the client join
    #[arg(long, short, value_name = "ROOM")]
    room: Option<String>,
    /// Leave the client's files unchanged
    #[arg(long)]
    no_setup: bool,
    /// URL of a relay, to exchange messages with other machines
    #[cfg(feature = "relay")]
    #[arg(long, value_name = "URL")]
    relay: Option<String>,
}

impl Run for Init {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let client = match &self.client {
            Some(name) => SupportedClient::named(name)?,
            None => SupportedClient::named(&only_installed_client()?)?,
        };
        if let Some(room) = &self.room {
            check_room_id("room", room)?;
        }
        // Report a root that cannot be read before anything is written.
        context.broker.refresh(&context.actor)?;
        let mut setup = Setup::for_client(client.name, self.alias.clone());
        setup.rooms.clone_from(&self.room);
        setup.dry_run = self.no_setup;
        let outcome = set_up(client, &setup)?;
        #[cfg(feature = "relay")]
        if let Some(url) = &self.relay {
            super::relay::save_url(url, context)?;
        }
        let root = &context.root;
        if context.common.json {
            let mut row = outcome.json(&setup);
            row["broker_root"] = json!(root.path);
            row["room"] = json!(self.room);
            row["setup"] = json!(!self.no_setup);
            #[cfg(feature = "relay")]
            if let Some(url) = &self.relay {
                row["relay"] = json!(url);
            }
            return output::print_json(&row);
        }
        let alias = outcome.alias.clone().unwrap_or_default();
        let mut text = if self.no_setup { String::new() } else { outcome.text(&setup) };
        text.push_str(&format!("broker root: {}\n", root.path.display()));
        text.push_str(&format!(
            "when {} runs, any agent on this machine reaches it: c2c send {alias} \"hello\"\n",
            client.name
        ));
        output::print(&text)
    }
}

/// The name of the client that is installed, if exactly one is.
fn only_installed_client() -> Result<String, Failure> {
    let installed = detect()?.into_iter().filter(|row| row.program.is_some());
    let names: Vec<&str> = installed.map(|row| row.client).collect();
    match names.as_slice() {
        [name] => Ok((*name).to_owned()),
        [] => Err(Rejection::new(Code::InvalidArgument, "client", "no client is on the PATH")
            .hint("choose a client: c2c init --client claude-code")
            .into()),
        several => {
            let message = format!("several clients are installed: {}", several.join(", "));
            Err(Rejection::new(Code::InvalidArgument, "client", message)
                .hint(format!("choose one: c2c init --client {}", several[0]))
                .into())
        }
    }
}
