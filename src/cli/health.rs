//! `c2c health`: show broker health.

use c2c_log_format::payload::full_address;
use clap::Args;
use serde_json::{Value, json};

use super::context::{Context, Run};
use super::output;
use super::relay_health::relay_health;
use crate::error::Failure;
use crate::platform::clock;
use crate::present::envelope::for_terminal;
use c2c_core::view::HealthView;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c health\n  c2c health --json")]
pub struct Health {}

impl Run for Health {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.refresh(&context.actor)?;
        let health = context.broker.health()?;
        let (relay, relay_line) = relay_health(context);
        if context.common.json {
            return output::print_json(&health_json(context, &health, &relay));
        }
        let mut text = log_text(context, &health);
        text.push_str(&outbox_text(&health, context.common.utc));
        let lost = possibly_lost(context);
        if lost > 0 {
            text.push_str(&format!("✗ Mail: {lost} times, mail from the relay may be lost\n"));
        }
        text.push_str(&relay_line);
        output::print(&text)
    }
}

fn health_json(context: &Context, health: &HealthView, relay: &Value) -> Value {
    let root = &context.root;
    let damage = health.damage.iter().map(|range| {
        json!({
            "segment": range.segment,
            "offset": range.offset,
            "first": range.first,
            "last": range.last,
        })
    });
    let conflicts = health.conflicts.iter().map(|peer| {
        json!({
            "alias": peer.alias,
            "elsewhere": full_address(&peer.alias, &peer.node_id),
            "bare_is_elsewhere": peer.bare,
        })
    });
    json!({
        "ok": health.is_whole() && !health.checkpoint_damaged,
        "broker_root": root.path,
        "broker_root_reason": root.reason,
        "broker_id": health.log_id,
        "root_exists": root.path.exists(),
        "registry_exists": root.path.join("registry.json").exists(),
        "registrations": health.sessions,
        "alive": health.alive,
        "unknown": health.unknown,
        "dead": health.dead,
        "rooms": health.rooms,
        "dead_letters": health.dead_letters,
        "dead_letter_exists": health.dead_letters > 0,
        "outbox_depth": health.outbox,
        "outbox_oldest": health.outbox_oldest_us.map(clock::rfc3339),
        "outbox_unconfirmed": health.unconfirmed,
        "outbox_rooms": health.rooms_outbox,
        "outbox_waits": health.outbox_waits,
        "possibly_lost": possibly_lost(context),
        "alias_conflicts": conflicts.collect::<Vec<_>>(),
        "head": health.head,
        "durable": health.durable,
        "log_bytes": health.log_bytes,
        "damage": damage.collect::<Vec<_>>(),
        "quarantine": health.quarantine,
        "checkpoint": if health.checkpoint_damaged { "damaged" } else { "ok" },
        "upgrade_needed": health.upgrade_needed,
        "moved_to": context.broker.moved_to(),
        "relay": relay,
    })
}

/// How often a relay of an older generation may have removed mail that did not arrive here.
fn possibly_lost(context: &Context) -> u64 {
    context.broker.connector_status().map_or(0, |status| status.possibly_lost)
}

/// Root, sessions, rooms and the state of the log.
fn log_text(context: &Context, health: &HealthView) -> String {
    let mark = |is_good: bool| if is_good { "✓" } else { "✗" };
    let root = &context.root;
    let mut text = format!("✓ Broker root: {} ({})\n", root.path.display(), root.reason);
    text.push_str(&format!(
        "✓ Sessions: {} ({} alive, {} dead, {} unknown)\n",
        health.sessions, health.alive, health.dead, health.unknown
    ));
    text.push_str(&format!("✓ Rooms: {}\n", health.rooms));
    let mib = health.log_bytes as f64 / (1024.0 * 1024.0);
    text.push_str(&format!("✓ Log: {} events, {mib:.1} MiB\n", health.head));
    let letters = health.dead_letters;
    text.push_str(&format!("{} Dead letters: {letters}\n", mark(letters == 0)));
    let damage = health.damage.len() + health.quarantine.len();
    text.push_str(&format!("{} Damage: {damage}\n", mark(health.is_whole())));
    for name in &health.quarantine {
        text.push_str(&format!("    {name}: see c2c-log verify, then c2c-log repair --accept\n"));
    }
    if let Some(to) = context.broker.moved_to() {
        text.push_str(&format!("✗ Moved to {to}; this root is read-only\n"));
    }
    if health.checkpoint_damaged {
        text.push_str("✗ Checkpoint: damaged; the next write replaces it\n");
    }
    text
}

/// Mail for other machines, and aliases that other machines have as well.
fn outbox_text(health: &HealthView, utc: bool) -> String {
    let oldest = health
        .outbox_oldest_us
        .map_or_else(String::new, |us| format!(", the oldest since {}", clock::human(us, utc)));
    let mut text = format!("○ Outbox: {} waiting{oldest}\n", health.outbox);
    if health.rooms_outbox > 0 {
        text.push_str(&format!("    plus {} room messages\n", health.rooms_outbox));
    }
    if health.unconfirmed > 0 {
        let count = health.unconfirmed;
        text.push_str(&format!("    {count} unconfirmed: no delivery report for an hour\n"));
    }
    if let Some(reason) = &health.outbox_waits {
        text.push_str(&format!("    relay reported: {}\n", for_terminal(reason)));
    }
    for peer in &health.conflicts {
        let alias = &peer.alias;
        let remote = for_terminal(&full_address(alias, &peer.node_id));
        let bare = if peer.bare { ", which other machines reach by the plain alias" } else { "" };
        text.push_str(&format!("✗ Alias: '{alias}' is also {remote}{bare}\n"));
    }
    text
}
