//! `c2c migrate`: import or move an older broker root.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::context::{Context, Run};
use super::output;
use crate::broker::{Broker, LOG_DIRECTORY};
use crate::error::Failure;
use crate::legacy::{self, LegacyLocks};
use c2c_core::code::Code;
use c2c_core::command;
use c2c_core::decide::{ForeignFile, Rejection};
use c2c_core::state::State;

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

/// Number of sessions and messages.
#[derive(Clone, Copy)]
struct Counts {
    sessions: usize,
    messages: usize,
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
        let mut files = match is_in_place {
            true => context.broker.foreign_files()?,
            false => legacy::read_files_of_another_root(from, &State::default())?,
        };
        let mut locks = None;
        if is_in_place && !self.dry_run && !files.is_empty() {
            let names = files.iter().map(|file| file.file.as_str());
            locks = Some(LegacyLocks::take(from, names)?);
            // Read the files again: an older program may have written before it was locked out.
            files = context.broker.foreign_files()?;
        }
        let available = count(&files);
        let mut imported = available;
        if !self.dry_run && !files.is_empty() {
            let command = command::ImportFiles { files };
            let reply = context.broker.execute(&command, &context.actor)?.reply;
            imported = Counts { sessions: reply.sessions, messages: reply.messages };
        }
        drop(locks);
        if context.common.json {
            return output::print_json(&json!({
                "ok": true,
                "from": from,
                "to": context.broker.root(),
                "dry_run": self.dry_run,
                "found": { "sessions": available.sessions, "messages": available.messages },
                "imported": { "sessions": imported.sessions, "messages": imported.messages },
            }));
        }
        let verb = if self.dry_run { "Would import at most" } else { "Imported" };
        output::print(&format!(
            "{verb} {} sessions and {} messages from {}\n",
            imported.sessions,
            imported.messages,
            from.display()
        ))
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

fn count(files: &[ForeignFile]) -> Counts {
    Counts {
        sessions: files.iter().map(|file| file.sessions.len()).sum(),
        messages: files.iter().map(|file| file.messages.len()).sum(),
    }
}
