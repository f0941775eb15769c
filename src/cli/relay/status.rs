//! The `c2c relay status` command.

use clap::Args;
use serde_json::json;

use super::target::{RelayTarget, node_id};
use super::text::lines_for_terminal;
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;
use crate::relay::protocol::response;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c relay status\n  \
    c2c relay status --relay-url http://host:7331 --json")]
pub struct RelayStatus {
    #[command(flatten)]
    target: RelayTarget,
}

impl Run for RelayStatus {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, settings) = self.target.client(context)?;
        let health: response::HealthResponse = client.get("/health", None)?;
        let url = client.base_url();
        let node = node_id(&settings);
        let (alive, total) = (health.alive_peers, health.total_peers);
        if context.common.json {
            return output::print_json(&json!({
                "ok": true,
                "url": url,
                "node_id": node,
                "relay_alive": true,
                "alive_peers": alive,
                "total_peers": total,
                "version": health.version,
                "auth_mode": health.auth_mode,
                "storage": health.storage,
                "relay_name": health.relay_name,
                "relay_id": health.relay_id,
            }));
        }
        output::print(&lines_for_terminal(&format!(
            "relay: {url}\nstatus: OK\nnode_id: {node}\npeers: {alive} alive / {total} total\n"
        )))
    }
}
