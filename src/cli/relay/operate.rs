//! What an operator asks of a relay: status, list, gc, dead-letter, unbind.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Target, node_id, speaker};
use crate::cli::{Context, Run, output};
use crate::clock;
use crate::code::Code;
use crate::envelope::for_terminal;
use crate::failure::Failure;
use crate::wire::body;

#[derive(Args)]
pub struct Status {
    #[command(flatten)]
    target: Target,
}

impl Run for Status {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, settings) = self.target.client(context)?;
        let health: body::Health = client.get("/health", None)?;
        let (alive, total) = (health.alive_peers, health.total_peers);
        let (url, node) = (client.base_url(), node_id(&settings));
        if context.common.json {
            return output::say_json(&json!({
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
        output::say(&for_lines(&format!(
            "relay: {url}\nstatus: OK\nnode_id: {node}\npeers: {alive} alive / {total} total\n"
        )))
    }
}

/// Text of several lines, harmless to a terminal.
fn for_lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", for_terminal(line))).collect()
}

#[derive(Args)]
pub struct List {
    /// Expired ones, too
    #[arg(long)]
    dead: bool,
    /// Alias that signs the question
    #[arg(long, value_name = "ALIAS")]
    alias: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl Run for List {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, settings) = self.target.client(context)?;
        let alias = match self.dead {
            true => None,
            false => speaker(self.alias.as_deref(), &client, context)?,
        };
        // The operator may ask without being anybody.
        let by_token = || client.get("/list?include_dead=1", None);
        let mut peers: body::Peers = match &alias {
            Some(alias) => match client.get("/list", Some(alias)) {
                // An alias that was not named, and is not known there.
                Err(failure)
                    if failure.code() == Code::Unauthorized
                        && self.alias.is_none()
                        && settings.token.is_some() =>
                {
                    by_token()?
                }
                found => found?,
            },
            None => by_token()?,
        };
        peers.peers.retain(|peer| self.dead || peer.alive);
        if context.common.json {
            return output::say_json(
                &json!({ "ok": true, "url": client.base_url(), "peers": peers.peers }),
            );
        }
        if peers.peers.is_empty() {
            return output::say("(no peers)\n");
        }
        let now_us = clock::now_us();
        let rows = peers.peers.iter().map(|peer| {
            let mark = if peer.alive { "●" } else { "○" };
            let ago = now_us.saturating_sub(peer.last_seen.us) / 1_000_000;
            let (alias, client_type) = (&peer.alias, &peer.client_type);
            format!("{mark} {alias} {client_type} node={} last_seen={ago}s ago\n", peer.node_id)
        });
        output::say(&for_lines(&rows.collect::<String>()))
    }
}

#[derive(Args)]
pub struct Gc {
    /// Once, then the end
    #[arg(long)]
    once: bool,
    /// Every so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = output::seconds)]
    interval: Duration,
    /// Show which leases ended
    #[arg(long, short = 'v')]
    verbose: bool,
    #[command(flatten)]
    target: Target,
}

impl Run for Gc {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, _) = self.target.client(context)?;
        loop {
            let collected: Result<body::Collected, Failure> =
                client.post("/gc", &json!({}), None).map_err(Failure::from);
            match collected {
                Ok(collected) => self.tell(&collected, context.common.json)?,
                Err(failure) if self.once => return Err(failure),
                // The relay may be back next time.
                Err(failure) => output::note(&format!("gc: {}", failure.message())),
            }
            if self.once {
                return Ok(());
            }
            std::thread::sleep(self.interval.max(Duration::from_secs(1)));
        }
    }
}

impl Gc {
    fn tell(&self, collected: &body::Collected, as_json: bool) -> Result<(), Failure> {
        if as_json {
            return output::say(&output::json_line(&json!({
                "ok": true,
                "expired_leases": collected.expired_leases,
                "pruned_inboxes": collected.pruned_inboxes,
            })));
        }
        let (leases, inboxes) = (collected.expired_leases.len(), collected.pruned_inboxes);
        let mut text = format!("gc: {leases} leases expired, {inboxes} inboxes pruned\n");
        if self.verbose {
            text.extend(collected.expired_leases.iter().map(|name| format!("  expired: {name}\n")));
        }
        output::say(&for_lines(&text))
    }
}

#[derive(Args)]
pub struct Unbind {
    /// Alias, with its node: ALIAS@NODE; or the holder of the bare alias
    alias: String,
    #[command(flatten)]
    target: Target,
}

impl Run for Unbind {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, _) = self.target.client(context)?;
        let wish = body::Unbind { alias: self.alias };
        let unbound: body::Unbound =
            client.post("/admin/unbind", &wish, None).map_err(Failure::from)?;
        if context.common.json {
            let (alias, removed) = (unbound.alias, unbound.removed);
            return output::say_json(&json!({ "ok": true, "alias": alias, "removed": removed }));
        }
        let what = if unbound.removed { "is free again" } else { "belonged to no key" };
        output::say(&for_lines(&format!("'{}' {what}\n", unbound.alias)))
    }
}

#[derive(Subcommand)]
enum DeadLetterWhat {
    /// All of them, the newest last
    List,
    /// Let them wait in a mailbox again
    Replay {
        /// Message id; all when left out
        message_id: Option<String>,
        /// Another recipient
        #[arg(long, value_name = "ALIAS[@NODE]")]
        to: Option<String>,
    },
}

#[derive(Args)]
pub struct DeadLetter {
    #[command(subcommand)]
    what: Option<DeadLetterWhat>,
    /// At most so many, the newest
    #[arg(long, short = 'l', default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    target: Target,
}

impl Run for DeadLetter {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, _) = self.target.client(context)?;
        if let Some(DeadLetterWhat::Replay { message_id, to }) = self.what {
            let wish = body::Replay { message_id, to_alias: to };
            let done: body::Replayed =
                client.post("/admin/replay", &wish, None).map_err(Failure::from)?;
            if context.common.json {
                return output::say_json(&json!({ "ok": true, "replayed": done.replayed }));
            }
            return output::say(&format!("Replayed {} dead letters.\n", done.replayed));
        }
        let letters: body::DeadLetters = client.get("/dead_letter", None)?;
        let rows = letters.dead_letter;
        let rows = &rows[rows.len().saturating_sub(self.limit)..];
        if context.common.json {
            return output::say_json(&json!({ "ok": true, "dead_letter": rows }));
        }
        if rows.is_empty() {
            return output::say("(empty)\n");
        }
        let lines = rows.iter().map(|row| {
            let when = clock::human(row.ts.us, context.common.utc);
            let body = row.content.replace('\n', " ");
            format!("[{when}] {} -> {} ({}): {body}\n", row.from_alias, row.to_alias, row.reason)
        });
        output::say(&for_lines(&lines.collect::<String>()))
    }
}
