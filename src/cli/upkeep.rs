//! Commands that look after a broker root.

use std::fs;
use std::path::{Path, PathBuf};

use c2c_log_format::payload::address;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Context, Run, output};
use crate::broker::{Broker, LOG_DIRECTORY};
use crate::clock;
use crate::code::Code;
use crate::decide::{Command, Refusal, Reply, SweepPlan};
use crate::envelope::for_terminal;
use crate::failure::Failure;
use crate::limits::UNREAD_ALARM_S;
use crate::log::LogError;
use crate::mirror::{self, Sidecars};
use crate::shape;

#[derive(Args)]
pub struct DeadLetter {
    #[command(subcommand)]
    what: Option<DeadLetterWhat>,
    /// At most this many, the newest
    #[arg(long, short = 'l', value_name = "N", default_value_t = 50, global = true)]
    limit: usize,
}

#[derive(Subcommand)]
enum DeadLetterWhat {
    /// All dead letters
    List,
    /// One dead letter, whole
    Show {
        /// Id of the message
        message_id: String,
    },
    /// Put dead letters back into a mailbox
    Replay {
        /// Message id; all when left out
        message_id: Option<String>,
        /// Another recipient
        #[arg(long, value_name = "ALIAS")]
        to: Option<String>,
    },
    /// Strike dead letters from the list; the log keeps them
    Purge {
        /// Message id; all when left out
        message_id: Option<String>,
    },
}

impl Run for DeadLetter {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.look(&context.actor)?;
        match self.what.unwrap_or(DeadLetterWhat::List) {
            DeadLetterWhat::List => letters(context, None, self.limit),
            DeadLetterWhat::Show { message_id } => letters(context, Some(&message_id), 1),
            DeadLetterWhat::Replay { message_id, to } => {
                let messages = chosen(context, message_id.as_deref())?;
                moved(context, &Command::DeadLetterReplay { messages, to }, "Replayed")
            }
            DeadLetterWhat::Purge { message_id } => {
                let messages = chosen(context, message_id.as_deref())?;
                moved(context, &Command::DeadLetterPurge { messages }, "Purged")
            }
        }
    }
}

fn letters(context: &mut Context, only: Option<&str>, limit: usize) -> Result<(), Failure> {
    if let Some(id) = only {
        context.broker.letters_of(id)?;
    }
    let letters = context.broker.dead_letters()?;
    let rows: Vec<_> = letters
        .iter()
        .filter_map(|(letter, message)| Some((letter, message.as_ref()?)))
        .filter(|(_, message)| only.is_none_or(|id| message.sent.message_id == id))
        .map(|(letter, message)| {
            json!({
                "deleted_at": clock::rfc3339(letter.at_us),
                "from_session_id": letter.mailbox,
                "reason": letter.reason,
                "message_id": message.sent.message_id,
                "message": shape::message(message, &letter.alias),
            })
        })
        .collect();
    let rows = &rows[rows.len().saturating_sub(limit)..];
    if context.common.json {
        return output::say_json(&json!(rows));
    }
    if rows.is_empty() {
        return output::say("(empty)\n");
    }
    let line = |row: &serde_json::Value| {
        let text = |key: &str| for_terminal(row[key].as_str().unwrap_or(""));
        let message = &row["message"];
        let part = |key: &str| for_terminal(message[key].as_str().unwrap_or(""));
        let head =
            format!("{}  {} -> {}", text("message_id"), part("from_alias"), part("to_alias"));
        format!("{head}  {}\n  {}\n", text("reason"), part("content"))
    };
    output::say(&rows.iter().map(line).collect::<String>())
}

/// Sequences of the letters that are meant; empty for all.
fn chosen(context: &mut Context, message_id: Option<&str>) -> Result<Vec<u64>, Failure> {
    let Some(id) = message_id else { return Ok(Vec::new()) };
    context.broker.letters_of(id)
}

fn moved(context: &mut Context, command: &Command, what: &str) -> Result<(), Failure> {
    let reply = context.broker.execute(command, &context.actor)?.reply;
    let Reply::Moved { messages } = reply else { return Ok(()) };
    if context.common.json {
        return output::say_json(
            &json!({ "ok": true, "count": messages.len(), "sequences": messages }),
        );
    }
    output::say(&format!("{what} {} dead letters.\n", messages.len()))
}

#[derive(Args)]
pub struct Sweep {
    /// Show what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Accepted for older scripts; a sweep only ends sessions whose process is gone
    #[arg(long, short = 'f')]
    force: bool,
}

impl Run for Sweep {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let plan = if self.dry_run {
            context.broker.plan_sweep(&context.actor)?
        } else {
            match context.broker.execute(&Command::Sweep, &context.actor)?.reply {
                Reply::Swept(plan) => plan,
                _ => SweepPlan::default(),
            }
        };
        if !self.dry_run {
            context.broker.take_down_old_doorbells();
        }
        if context.common.json {
            return output::say_json(&shape::sweep(&plan));
        }
        let (rows, messages) = (plan.dropped.len(), plan.preserved);
        let would = if self.dry_run { "Would drop" } else { "Dropped" };
        output::say(&format!(
            "{would} {rows} registrations, {rows} inboxes, {messages} messages preserved.\n"
        ))
    }
}

#[derive(Args)]
pub struct SweepDryRun {}

impl Run for SweepDryRun {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        Sweep { dry_run: true, force: false }.run(context)
    }
}

/// Aliases that another machine has, too.
fn conflicts(health: &crate::broker::Health) -> Vec<Value> {
    let row = |row: &crate::state::RemotePeer| {
        let elsewhere = address(&row.alias, &row.node_id);
        json!({ "alias": row.alias, "elsewhere": elsewhere, "bare_is_elsewhere": row.bare })
    };
    health.conflicts.iter().map(row).collect()
}

#[derive(Args)]
pub struct Health {}

impl Run for Health {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.look(&context.actor)?;
        let health = context.broker.health()?;
        let (relay, relay_line) = relay_health(context);
        let root = &context.root;
        if context.common.json {
            let damage: Vec<_> = health
                .damage
                .iter()
                .map(|d| json!({ "segment": d.segment, "offset": d.offset, "first": d.first, "last": d.last }))
                .collect();
            return output::say_json(&json!({
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
                "alias_conflicts": conflicts(&health),
                "head": health.head,
                "durable": health.durable,
                "log_bytes": health.log_bytes,
                "damage": damage,
                "quarantine": health.quarantine,
                "checkpoint": if health.checkpoint_damaged { "damaged" } else { "ok" },
                "upgrade_needed": health.upgrade_needed,
                "moved_to": context.broker.moved_to(),
                "relay": relay,
            }));
        }
        let mark = |good: bool| if good { "✓" } else { "✗" };
        let mut text = format!("✓ Broker root: {} ({})\n", root.path.display(), root.reason);
        let (all, alive, dead) = (health.sessions, health.alive, health.dead);
        text.push_str(&format!(
            "✓ Sessions: {all} ({alive} alive, {dead} dead, {} unknown)\n",
            health.unknown
        ));
        text.push_str(&format!("✓ Rooms: {}\n", health.rooms));
        let mib = health.log_bytes as f64 / (1024.0 * 1024.0);
        text.push_str(&format!("✓ Log: {} events, {mib:.1} MiB\n", health.head));
        text.push_str(&format!(
            "{} Dead letters: {}\n",
            mark(health.dead_letters == 0),
            health.dead_letters
        ));
        text.push_str(&format!(
            "{} Damage: {}\n",
            mark(health.is_whole()),
            health.damage.len() + health.quarantine.len()
        ));
        for name in &health.quarantine {
            text.push_str(&format!(
                "    {name}: see c2c-log verify, then c2c-log repair --accept\n"
            ));
        }
        if let Some(to) = context.broker.moved_to() {
            text.push_str(&format!("✗ Moved to {to}; nothing can be written here\n"));
        }
        if health.checkpoint_damaged {
            text.push_str("✗ Checkpoint: damaged; the next command that writes makes it anew\n");
        }
        let oldest = health.outbox_oldest_us.map_or_else(String::new, |us| {
            format!(", the oldest since {}", clock::human(us, context.common.utc))
        });
        text.push_str(&format!("○ Outbox: {} waiting{oldest}\n", health.outbox));
        if health.rooms_outbox > 0 {
            text.push_str(&format!("    and {} said in rooms\n", health.rooms_outbox));
        }
        if health.unconfirmed > 0 {
            let count = health.unconfirmed;
            text.push_str(&format!("    {count} unconfirmed: nobody has said that they arrived\n"));
        }
        if let Some(why) = &health.outbox_waits {
            text.push_str(&format!("    the relay says: {}\n", for_terminal(why)));
        }
        for row in &health.conflicts {
            let there = for_terminal(&address(&row.alias, &row.node_id));
            let plain = if row.bare { ", and to others the plain name means that one" } else { "" };
            text.push_str(&format!("✗ Alias: '{}' is also {there}{plain}\n", row.alias));
        }
        text.push_str(&relay_line);
        output::say(&text)
    }
}

/// How the configured relay is: for programs, and as a line for people.
pub(super) fn relay_health(context: &Context) -> (Value, String) {
    #[cfg(feature = "relay")]
    match super::relay::health(context) {
        Ok(None) => {}
        Ok(Some((url, health))) => {
            let message = format!("{url} ({} alive peers)", health.alive_peers);
            let peers = health.alive_peers;
            let row =
                json!({ "status": "ok", "url": url, "alive_peers": peers, "message": message });
            return (row, format!("✓ Relay: {message}\n"));
        }
        Err(failure) => {
            let message = failure.message();
            let line = format!("✗ Relay: {}\n", for_terminal(&message));
            return (json!({ "status": "unreachable", "message": message }), line);
        }
    }
    let _ = context;
    let row = json!({ "status": "not_configured", "message": "not configured" });
    (row, "○ Relay: not configured\n".to_owned())
}

#[derive(Args)]
pub struct Status {}

impl Run for Status {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.look(&context.actor)?;
        let peers = context.broker.peers();
        let mailbox = context.broker.own_mailbox(&context.actor);
        let rooms = context.broker.rooms(mailbox.as_ref());
        let alive: Vec<_> =
            peers.iter().filter(|peer| peer.liveness.as_option() == Some(true)).collect();
        let old = old_mail(context);
        let unread = |name: &str| context.broker.state().unread(name).len();
        if context.common.json {
            let rows: Vec<_> = alive
                .iter()
                .map(|peer| {
                    let active = peer.session.as_ref().map(|s| clock::rfc3339(s.active_us));
                    let unread = unread(&peer.mailbox.name);
                    json!({ "alias": peer.mailbox.alias, "unread": unread, "last_active_ts": active })
                })
                .collect();
            let rooms: Vec<_> = rooms.iter().map(shape::room).collect();
            let dead = peers.iter().filter(|peer| peer.liveness.as_option() == Some(false)).count();
            return output::say_json(&json!({
                "alive_peers": rows,
                "dead_peer_count": dead,
                "total_peer_count": peers.len(),
                "rooms": rooms,
                "unread_old": old,
            }));
        }
        let mut text = format!("{} of {} agents alive\n", alive.len(), peers.len());
        for old in &old {
            let (alias, unread, age_s) = (&old.alias, old.unread, old.age_s);
            text.push_str(&format!(
                "! {alias} has {unread} unread messages, one for {age_s} s: see c2c wake\n"
            ));
        }
        for peer in &peers {
            let name = &peer.mailbox.alias;
            let word = output::liveness_word(peer.liveness);
            text.push_str(&format!(
                "  {name:20}  {word:5}  {} unread\n",
                unread(&peer.mailbox.name)
            ));
        }
        for room in &rooms {
            text.push_str(&format!("  #{} ({} members)\n", room.room.room_id, room.members.len()));
        }
        output::say(&text)
    }
}

/// An alias whose mail has waited for long.
#[derive(serde::Serialize)]
pub(super) struct OldMail {
    pub alias: String,
    pub unread: usize,
    /// Age of the oldest, seconds.
    pub age_s: u64,
}

/// Whose mail has waited for too long, of those who are there.
pub(super) fn old_mail(context: &mut Context) -> Vec<OldMail> {
    let now_us = clock::now_us();
    let mut found = Vec::new();
    for peer in context.broker.peers() {
        let unread = context.broker.state().unread(&peer.mailbox.name);
        let Some((oldest, _)) = unread.pressing() else { continue };
        let kept = context.broker.fetch(&[oldest]).unwrap_or_default();
        let Some(since_us) = kept.first().map(|event| event.time_us) else { continue };
        let age_s = now_us.saturating_sub(since_us) / 1_000_000;
        let there = peer.liveness.as_option() != Some(false);
        if there && age_s >= UNREAD_ALARM_S {
            found.push(OldMail { alias: peer.mailbox.alias, unread: unread.len(), age_s });
        }
    }
    found
}

#[derive(Args)]
pub struct Migrate {
    /// Older root to bring in; without it, older files under this root
    #[arg(long, short = 'f', value_name = "DIR")]
    from: Option<PathBuf>,
    /// Root to bring it into; without it, the one for this directory
    #[arg(long, short = 't', value_name = "DIR")]
    to: Option<PathBuf>,
    /// Show what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
}

impl Run for Migrate {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let source = self.from.clone().unwrap_or_else(|| context.broker.root().to_owned());
        if let Some(to) = self.to.as_ref().filter(|_| source.join(LOG_DIRECTORY).is_dir()) {
            return self.relocate(&source, to, context);
        }
        if let Some(to) = &self.to {
            context.broker = Broker::open(to);
        }
        let from = self.from.unwrap_or_else(|| context.broker.root().to_owned());
        if !from.is_dir() {
            let message = format!("{} is not a directory", from.display());
            return Err(Refusal::new(Code::BadRoot, "from", message).into());
        }
        let state = crate::state::State::default();
        let own = fs::canonicalize(&from).ok() == fs::canonicalize(context.broker.root()).ok();
        let mut files = match own {
            true => context.broker.foreign_files()?,
            false => mirror::files_of_another_root(&from, &state)?,
        };
        let mut locks = None;
        if own && !self.dry_run && !files.is_empty() {
            let names = files.iter().map(|file| file.file.as_str());
            locks = Some(Sidecars::take(&from, names)?);
            files = context.broker.foreign_files()?;
        }
        let (sessions, messages) = files.iter().fold((0, 0), |(sessions, messages), file| {
            (sessions + file.sessions.len(), messages + file.messages.len())
        });
        let (mut new_sessions, mut new_messages) = (sessions, messages);
        if !self.dry_run && !files.is_empty() {
            let reply = context.broker.execute(&Command::Import { files }, &context.actor)?.reply;
            if let Reply::Imported { sessions, messages } = reply {
                (new_sessions, new_messages) = (sessions, messages);
            }
        }
        drop(locks);
        if context.common.json {
            return output::say_json(&json!({
                "ok": true,
                "from": from,
                "to": context.broker.root(),
                "dry_run": self.dry_run,
                "found": { "sessions": sessions, "messages": messages },
                "imported": { "sessions": new_sessions, "messages": new_messages },
            }));
        }
        let verb = if self.dry_run { "Would import at most" } else { "Imported" };
        output::say(&format!(
            "{verb} {new_sessions} sessions and {new_messages} messages from {}\n",
            from.display()
        ))
    }
}

impl Migrate {
    /// A root with a log moves as a whole.
    fn relocate(&self, from: &Path, to: &Path, context: &mut Context) -> Result<(), Failure> {
        let mut broker = Broker::open(from);
        if self.dry_run {
            return output::say(&format!("Would move {} to {}\n", from.display(), to.display()));
        }
        let mut there = broker.relocate(to, &context.actor)?;
        if context.common.json {
            let id = there.log_id()?.to_owned();
            return output::say_json(&json!({
                "ok": true, "from": from, "to": there.root(), "moved": true, "broker_id": id,
            }));
        }
        output::say(&format!(
            "Moved {} to {}\nThe old root is kept, and refuses writes\n",
            from.display(),
            there.root().display()
        ))
    }
}

#[derive(Args)]
pub struct Mirror {
    /// Directory to write to, if not in place
    #[arg(required_unless_present = "in_place")]
    target: Option<PathBuf>,
    /// Write into the broker root itself
    #[arg(long, conflicts_with = "target")]
    in_place: bool,
    /// Go on writing as the log grows
    #[arg(long)]
    follow: bool,
}

impl Run for Mirror {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let target = self.target.unwrap_or_else(|| context.root.path.clone());
        let in_place = fs::canonicalize(&target).ok() == fs::canonicalize(&context.root.path).ok();
        loop {
            let pulse = context.broker.pulse();
            let mut locks = None;
            if in_place && target.exists() {
                context.broker.look(&context.actor)?;
                let names = mirror::inbox_names(context.broker.state());
                locks = Some(Sidecars::take(&target, names.iter().map(String::as_str))?);
                import(context)?;
            }
            context.broker.look(&context.actor)?;
            let views = context.broker.legacy_views()?;
            let written = mirror::write_views(&target, context.broker.state(), &views)
                .map_err(|e| LogError::io("write", &target.display().to_string(), e))?;
            drop(locks);
            if !self.follow {
                if context.common.json {
                    return output::say_json(&json!({ "files": written, "directory": target }));
                }
                return output::say(&format!("Wrote {written} files to {}\n", target.display()));
            }
            let head = context.broker.state().head;
            while context.broker.state().head == head {
                context.broker.wait(pulse, std::time::Duration::from_secs(1));
                context.broker.look(&context.actor)?;
            }
        }
    }
}

/// Brings in what is about to be overwritten.
fn import(context: &mut Context) -> Result<(), Failure> {
    let mut files = context.broker.foreign_files()?;
    files.retain(|file| !file.sessions.is_empty() || !file.messages.is_empty());
    if !files.is_empty() {
        context.broker.execute(&Command::Import { files }, &context.actor)?;
    }
    Ok(())
}
