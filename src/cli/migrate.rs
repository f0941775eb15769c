//! `c2c migrate`: import or move an older broker root.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::context::{Context, Run};
use super::output;
use crate::broker::{Broker, LOG_DIRECTORY};
use crate::error::Failure;
use crate::present::envelope::for_terminal;
use c2c_core::code::Code;
use c2c_core::decide::{ImportReply, Rejection};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c migrate --from .git/c2c/mcp --dry-run\n  \
    c2c migrate --from .git/c2c/mcp\n  \
    c2c migrate --from OLD_ROOT --to NEW_ROOT")]
pub struct Migrate {
    /// Root to import or move [default: legacy files in the current root]
    #[arg(long, short = 'f', value_name = "DIR")]
    from: Option<PathBuf>,
    /// Destination root [default: the root for the current directory]
    #[arg(long, short = 't', value_name = "DIR")]
    to: Option<PathBuf>,
    /// Show the changes without making them
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
        // Without `--from`, the source is the destination, which may just have changed.
        let from = self.from.clone().unwrap_or_else(|| context.broker.root().to_owned());
        self.import(&from, context)
    }
}

impl Migrate {
    /// Imports the legacy files of a root that has no log.
    fn import(&self, from: &Path, context: &mut Context) -> Result<(), Failure> {
        if !from.is_dir() {
            let message = format!("{} is not a directory", from.display());
            return Err(Rejection::new(Code::BadRoot, "from", message).into());
        }
        let is_in_place =
            fs::canonicalize(from).ok() == fs::canonicalize(context.broker.root()).ok();
        let other = (!is_in_place).then_some(from);
        let found = context.broker.count_legacy_rows(other)?;
        let imported = match (self.dry_run, other) {
            (true, _) => found.clone(),
            (false, None) => context.broker.import_legacy_files(&context.actor)?,
            (false, Some(root)) => context.broker.import_legacy_root(root, &context.actor)?,
        };
        let skipped = &imported.skipped;
        if context.common.json {
            let mut row = json!({
                "ok": true,
                "from": from,
                "to": context.broker.root(),
                "dry_run": self.dry_run,
                "found": counts(&found.rows),
                "imported": counts(&imported.rows),
            });
            if skipped.rows > 0 {
                row["invalid_rows"] = json!(skipped.rows);
            }
            if !skipped.files.is_empty() {
                row["incomplete_files"] = json!(skipped.files);
            }
            return output::print_json(&row);
        }
        let verb = if self.dry_run { "Would import at most" } else { "Imported" };
        let mut text = format!("{verb} {} from {}\n", summary(&imported.rows), from.display());
        if skipped.rows > 0 {
            text.push_str(&format!("Skipped {} invalid rows\n", skipped.rows));
        }
        for name in &skipped.files {
            text.push_str(&format!("Not imported, not valid JSON: {}\n", for_terminal(name)));
        }
        output::print(&text)
    }

    /// Moves a root that has a log, with the log.
    fn relocate(&self, from: &Path, to: &Path, context: &mut Context) -> Result<(), Failure> {
        let mut broker = Broker::open(from);
        if self.dry_run {
            return output::print(&format!("Would move {} to {}\n", from.display(), to.display()));
        }
        let mut relocated = broker.relocate(to, &context.actor)?;
        if context.common.json {
            let id = relocated.log_id()?.to_owned();
            return output::print_json(&json!({
                "ok": true, "from": from, "to": relocated.root(), "moved": true, "broker_id": id,
            }));
        }
        output::print(&format!(
            "Moved {} to {}\nThe old root is kept and is now read-only\n",
            from.display(),
            relocated.root().display()
        ))
    }
}

/// The numbers of imported rows by name: sessions and messages, and the others unless they are 0.
fn counts(rows: &ImportReply) -> Value {
    let mut counts = json!({ "sessions": rows.sessions, "messages": rows.messages });
    for (name, _, count) in further_counts(rows) {
        counts[name] = json!(count);
    }
    counts
}

fn summary(rows: &ImportReply) -> String {
    let mut parts =
        vec![format!("{} sessions", rows.sessions), format!("{} messages", rows.messages)];
    parts.extend(further_counts(rows).map(|(_, name, count)| format!("{count} {name}")));
    let last = parts.pop().unwrap_or_default();
    format!("{} and {last}", parts.join(", "))
}

/// Key, name and number of the rows that few roots have.
fn further_counts(rows: &ImportReply) -> impl Iterator<Item = (&'static str, &'static str, usize)> {
    let all = [
        ("rooms", "rooms", rows.rooms),
        ("members", "members", rows.members),
        ("room_messages", "room messages", rows.room_messages),
        ("dead_letters", "dead letters", rows.dead_letters),
        ("history", "delivered messages", rows.delivered),
    ];
    all.into_iter().filter(|(_, _, count)| *count > 0)
}
