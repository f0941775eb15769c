//! What does a relay say of itself?

use std::fmt::Write;

use super::lease::leases;
use super::{Answer, Call, Done, failed};
use crate::relay::service::Relay;
use crate::wire::body::{Health, Stamp};

/// Whether requests are signed.
fn mode(relay: &Relay) -> &'static str {
    if relay.token.is_some() { "prod" } else { "dev" }
}

pub fn landing(relay: &Relay) -> Answer {
    let version = env!("CARGO_PKG_VERSION");
    let page = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>c2c relay</title>\
         <p>c2c relay {version}, auth mode {}. <a href=\"/health\">health</a>\n",
        mode(relay)
    );
    Answer::of(200, "text/html; charset=utf-8", page.into_bytes())
}

pub fn health(relay: &mut Relay, call: &Call<'_>) -> Done {
    let rows = leases(relay, call.now_us);
    let relay_id = relay.broker.log_id().map_err(failed)?.to_owned();
    Ok(Answer::ok(&Health {
        version: env!("CARGO_PKG_VERSION").into(),
        git_hash: String::new(),
        auth_mode: mode(relay).into(),
        storage: relay.about.storage.into(),
        alive_peers: rows.iter().filter(|row| row.alive).count() as u64,
        total_peers: rows.len() as u64,
        persist_dir: relay.about.persist_dir.clone(),
        relay_name: relay.about.names.first().cloned(),
        relay_id: Some(relay_id),
        ts: Stamp { us: call.now_us },
    }))
}

/// Ready is whoever can read its log.
pub fn ready(relay: &mut Relay) -> Done {
    relay.broker.log_id().map_err(failed)?;
    Ok(Answer::of(200, "application/json", b"{\"ok\":true,\"ready\":true}".to_vec()))
}

/// Numbers in the text format of Prometheus.
pub fn metrics(relay: &mut Relay) -> Done {
    let health = relay.broker.health().map_err(failed)?;
    let outdated = health.damage.len() + health.quarantine.len();
    let rows: [(&str, &str, &str, u64); 8] = [
        ("c2c_events_total", "counter", "Events in the log", health.head),
        ("c2c_durable_sequence", "gauge", "Last event on disk", health.durable),
        ("c2c_log_bytes", "gauge", "Bytes of the log", health.log_bytes),
        ("c2c_sessions", "gauge", "Sessions with a lease", health.sessions as u64),
        ("c2c_sessions_alive", "gauge", "Leases that are not over", health.alive as u64),
        ("c2c_rooms", "gauge", "Rooms", health.rooms as u64),
        ("c2c_dead_letters", "gauge", "Undeliverable messages", health.dead_letters as u64),
        ("c2c_damaged_ranges", "gauge", "Ranges of the log set aside", outdated as u64),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in rows {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    }
    Ok(Answer::of(200, "text/plain; version=0.0.4", text.into_bytes()))
}
