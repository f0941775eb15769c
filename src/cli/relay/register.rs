//! The `c2c relay register` command.

use clap::Args;
use serde_json::json;

use super::inbox::session_id;
use super::target::{RelayTarget, node_id};
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;
use crate::present::envelope::for_terminal;
use crate::relay::client::config::{self, ConnectionOptions};
use crate::relay::protocol::request;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c relay register --alias ann")]
pub struct RelayRegister {
    /// Alias to register
    #[arg(long, value_name = "ALIAS")]
    alias: String,
    #[command(flatten)]
    target: RelayTarget,
}

impl Run for RelayRegister {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, settings) = self.target.signing_client(context)?;
        let node = node_id(&settings, context);
        let registered = client.register(&request::RegisterRequest {
            node_id: node.clone(),
            session_id: session_id(&self.alias),
            alias: self.alias.clone(),
            client_type: Some("cli".into()),
            ..request::RegisterRequest::default()
        })?;
        // Later commands act as this alias unless one is named.
        let path = config::path_to_read(context.broker.root())?;
        config::save(
            &path,
            &ConnectionOptions { alias: Some(self.alias.clone()), ..ConnectionOptions::default() },
        )?;
        if context.common.json {
            return output::print_json(&json!({
                "ok": true,
                "alias": registered.alias,
                "node_id": registered.node_id,
                "session_id": session_id(&self.alias),
                "bare_alias": registered.bare_alias,
                "lease": registered.lease,
            }));
        }
        let (alias, url) = (for_terminal(&registered.alias), client.base_url());
        output::print(&format!("registered {alias} on {url} (node {})\n", for_terminal(&node)))
    }
}
