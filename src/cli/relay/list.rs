//! The `c2c relay list` command.

use clap::Args;
use serde_json::json;

use super::target::{RelayTarget, signing_alias};
use super::text::lines_for_terminal;
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;
use crate::platform::clock;
use crate::relay::protocol::response;
use c2c_core::code::Code;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c relay list         list the agents that are alive\n  \
    c2c relay list --dead  include expired leases; needs the operator's token")]
pub struct RelayList {
    /// Include expired leases
    #[arg(long)]
    dead: bool,
    /// Alias that signs the request
    #[arg(long, value_name = "ALIAS")]
    alias: Option<String>,
    #[command(flatten)]
    target: RelayTarget,
}

impl Run for RelayList {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, settings) = self.target.client(context)?;
        let alias = match self.dead {
            true => None,
            false => signing_alias(self.alias.as_deref(), &client, context)?,
        };
        // The operator needs no alias.
        let with_token = || client.get("/list?include_dead=1", None);
        let mut peers: response::ListResponse = match &alias {
            Some(alias) => match client.get("/list", Some(alias)) {
                // The alias was chosen here, and the relay does not know it.
                Err(failure)
                    if failure.code() == Code::Unauthorized
                        && self.alias.is_none()
                        && settings.token.is_some() =>
                {
                    with_token()?
                }
                response => response?,
            },
            None => with_token()?,
        };
        peers.peers.retain(|peer| self.dead || peer.alive);
        if context.common.json {
            return output::print_json(
                &json!({ "ok": true, "url": client.base_url(), "peers": peers.peers }),
            );
        }
        if peers.peers.is_empty() {
            return output::print("(no peers)\n");
        }
        let now_us = clock::now_us();
        let rows = peers.peers.iter().map(|peer| {
            let mark = if peer.alive { "●" } else { "○" };
            let age_s = now_us.saturating_sub(peer.last_seen.us) / 1_000_000;
            let (alias, client_type) = (&peer.alias, &peer.client_type);
            format!("{mark} {alias} {client_type} node={} last_seen={age_s}s ago\n", peer.node_id)
        });
        output::print(&lines_for_terminal(&rows.collect::<String>()))
    }
}
