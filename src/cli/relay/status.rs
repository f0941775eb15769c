//! The `c2c relay status` command.

use clap::Args;
use serde_json::json;

use super::target::{RelayTarget, node_id};
use super::text::lines_for_terminal;
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;
use crate::relay::protocol::response;

/// What a relay of an older generation does not promise.
const OLDER_LIMITS: &[&str] = &[
    "it reports that it accepted a message, and no delivery",
    "it hands out mail once, so that mail is lost if its answer is",
    "a message may arrive twice if its answer to a send is lost",
    "it rejects mail for an agent whose lease has expired",
    "it shows rooms to everyone, so that only public rooms are shared",
];

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
        let is_older = health.relay_id.is_none();
        let status = context.broker.connector_status();
        let status = status.filter(|status| status.relay_url == url);
        let possibly_lost = status.map_or(0, |status| status.possibly_lost);
        let node = node_id(&settings, context);
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
                "older": is_older,
                "limits": if is_older { OLDER_LIMITS } else { &[] },
                "possibly_lost": possibly_lost,
            }));
        }
        let peers = match is_older {
            true => "not reported".to_owned(),
            false => format!("{alive} alive / {total} total"),
        };
        let mut text = format!("relay: {url}\nstatus: OK\nnode_id: {node}\npeers: {peers}\n");
        if is_older {
            text.push_str("generation: older (JSON routes, no replication)\n");
            for limit in OLDER_LIMITS {
                text.push_str(&format!("limit: {limit}\n"));
            }
        }
        if possibly_lost > 0 {
            text.push_str(&format!("possibly lost: mail of {possibly_lost} polls\n"));
        }
        output::print(&lines_for_terminal(&text))
    }
}
