//! Health of the configured relay, for `c2c health` and `c2c doctor`.

use serde_json::{Value, json};

use super::context::Context;
use crate::error::Failure;
use crate::present::envelope::for_terminal;

/// Asks the configured relay for its health; returns it as JSON and as a line for a terminal.
pub fn relay_health(context: &Context) -> (Value, String) {
    match query(context) {
        Ok(None) => {
            let row = json!({ "status": "not_configured", "message": "not configured" });
            (row, "○ Relay: not configured\n".to_owned())
        }
        Ok(Some(QueriedRelay { url, alive_peers: Some(alive_peers) })) => {
            let message = format!("{url} ({alive_peers} alive peers)");
            let line = format!("✓ Relay: {message}\n");
            let row = json!({
                "status": "ok",
                "url": url,
                "alive_peers": alive_peers,
                "message": message,
            });
            (row, line)
        }
        Ok(Some(QueriedRelay { url, alive_peers: None })) => {
            let message = format!("{url} (older generation: delivery is not confirmed)");
            let line = format!("✓ Relay: {message}\n");
            let row = json!({ "status": "ok", "url": url, "older": true, "message": message });
            (row, line)
        }
        Err(failure) => {
            let message = failure.message();
            let line = format!("✗ Relay: {}\n", for_terminal(&message));
            (json!({ "status": "unreachable", "message": message }), line)
        }
    }
}

/// A relay that responds.
struct QueriedRelay {
    url: String,
    /// `None` for a relay of an older generation, which does not report it.
    alive_peers: Option<u64>,
}

/// The configured relay; `None` without one.
#[cfg(feature = "relay")]
fn query(context: &Context) -> Result<Option<QueriedRelay>, Failure> {
    let health = super::relay::health(context)?;
    Ok(health.map(|(url, health)| {
        let alive_peers = health.relay_id.is_some().then_some(health.alive_peers);
        QueriedRelay { url, alive_peers }
    }))
}

#[cfg(not(feature = "relay"))]
fn query(_: &Context) -> Result<Option<QueriedRelay>, Failure> {
    Ok(None)
}
