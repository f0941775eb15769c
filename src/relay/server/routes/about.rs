//! What the relay reports about itself: landing page, health, readiness, metrics.

use std::fmt::Write;

use super::call::{AnswerResult, Call, failed};
use super::lease::leases;
use crate::relay::protocol::json::Stamp;
use crate::relay::protocol::response::HealthResponse;
use crate::relay::server::answer::RelayAnswer;
use crate::relay::server::core::RelayCore;

/// The authentication mode: `prod` with a token, else `dev`.
fn auth_mode(relay: &RelayCore) -> &'static str {
    if relay.token.is_some() { "prod" } else { "dev" }
}

/// A short HTML page with the version and a link.
pub fn landing(relay: &RelayCore) -> RelayAnswer {
    let version = env!("CARGO_PKG_VERSION");
    let page = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>c2c relay</title>\
         <p>c2c relay {version}, auth mode {}. <a href=\"/health\">health</a>\n",
        auth_mode(relay)
    );
    RelayAnswer::of(200, "text/html; charset=utf-8", page.into_bytes())
}

/// The state of the relay as JSON.
pub fn health(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let rows = leases(relay, call.now_us);
    let relay_id = relay.broker.log_id().map_err(failed)?.to_owned();
    Ok(RelayAnswer::ok(&HealthResponse {
        version: env!("CARGO_PKG_VERSION").into(),
        git_hash: String::new(),
        auth_mode: auth_mode(relay).into(),
        storage: relay.profile.storage.into(),
        alive_peers: rows.iter().filter(|row| row.alive).count() as u64,
        total_peers: rows.len() as u64,
        persist_dir: relay.profile.persist_dir.clone(),
        relay_name: relay.profile.names.first().cloned(),
        relay_id: Some(relay_id),
        ts: Stamp { us: call.now_us },
    }))
}

/// Readiness: the relay is ready when it can read its log.
pub fn ready(relay: &mut RelayCore) -> AnswerResult {
    relay.broker.log_id().map_err(failed)?;
    Ok(RelayAnswer::of(200, "application/json", b"{\"ok\":true,\"ready\":true}".to_vec()))
}

/// Metrics in the text format of Prometheus.
pub fn metrics(relay: &mut RelayCore) -> AnswerResult {
    let health = relay.broker.health().map_err(failed)?;
    let damaged = health.damage.len() + health.quarantine.len();
    let rows: [(&str, &str, &str, u64); 8] = [
        ("c2c_events_total", "counter", "Events in the log", health.head),
        ("c2c_durable_sequence", "gauge", "Sequence of the last event on disk", health.durable),
        ("c2c_log_bytes", "gauge", "Size of the log in bytes", health.log_bytes),
        ("c2c_sessions", "gauge", "Sessions with a lease", health.sessions as u64),
        (
            "c2c_sessions_alive",
            "gauge",
            "Sessions whose lease has not expired",
            health.alive as u64,
        ),
        ("c2c_rooms", "gauge", "Rooms", health.rooms as u64),
        ("c2c_dead_letters", "gauge", "Undeliverable messages", health.dead_letters as u64),
        ("c2c_damaged_ranges", "gauge", "Damaged ranges of the log", damaged as u64),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in rows {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    }
    Ok(RelayAnswer::of(200, "text/plain; version=0.0.4", text.into_bytes()))
}
