//! `c2c init`: from nothing to a client that sends and receives.

use clap::Args;
use serde_json::json;

use super::setup::{Setup, detect, set_up};
use super::{Context, Run, output};
use crate::code::Code;
use crate::decide::Refusal;
use crate::failure::Failure;
use crate::setup::Client;

#[derive(Args)]
pub struct Init {
    /// The client [default: the one that is installed here]
    #[arg(long, short)]
    client: Option<String>,
    /// Alias that its sessions take [default: <client>-<user>-<host>]
    #[arg(long, short, value_name = "ALIAS")]
    alias: Option<String>,
    /// Room that its sessions join
    #[arg(long, short, value_name = "ROOM")]
    room: Option<String>,
    /// Touch no file of the client
    #[arg(long)]
    no_setup: bool,
    /// Relay that carries messages to other machines
    #[cfg(feature = "relay")]
    #[arg(long, value_name = "URL")]
    relay: Option<String>,
}

impl Run for Init {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let client = match &self.client {
            Some(name) => Client::named(name)?,
            None => Client::named(&only_one()?)?,
        };
        if let Some(room) = &self.room {
            c2c_log_format::id::check_name(room)
                .map_err(|e| Refusal::new(Code::InvalidRoomId, "room", format!("room {e}")))?;
        }
        // A root that cannot be read is told before anything is written.
        context.broker.look(&context.actor)?;
        let mut asked = Setup::plain(client.name, self.alias.clone());
        asked.rooms.clone_from(&self.room);
        asked.dry_run = self.no_setup;
        let done = set_up(client, &asked)?;
        #[cfg(feature = "relay")]
        if let Some(url) = &self.relay {
            super::relay::remember(url, context)?;
        }
        let root = &context.root;
        if context.common.json {
            let mut row = done.json(&asked);
            row["broker_root"] = json!(root.path);
            row["room"] = json!(self.room);
            row["setup"] = json!(!self.no_setup);
            #[cfg(feature = "relay")]
            if let Some(url) = &self.relay {
                row["relay"] = json!(url);
            }
            return output::say_json(&row);
        }
        let alias = done.alias.clone().unwrap_or_default();
        let mut text = if self.no_setup { String::new() } else { done.text(&asked) };
        text.push_str(&format!("broker root: {}\n", root.path.display()));
        text.push_str(&format!(
            "when {} runs, any agent here reaches it: c2c send {alias} \"hello\"\n",
            client.name
        ));
        output::say(&text)
    }
}

/// The client that is installed here, if there is just one.
fn only_one() -> Result<String, Failure> {
    let found = detect()?.into_iter().filter(|row| row.program.is_some());
    let names: Vec<&str> = found.map(|row| row.client).collect();
    match names.as_slice() {
        [name] => Ok((*name).to_owned()),
        [] => Err(Refusal::new(Code::InvalidArgument, "client", "no client is on the PATH")
            .hint("name it: c2c init --client claude-code")
            .into()),
        several => {
            let message = format!("several clients are here: {}", several.join(", "));
            Err(Refusal::new(Code::InvalidArgument, "client", message)
                .hint(format!("name one: c2c init --client {}", several[0]))
                .into())
        }
    }
}
