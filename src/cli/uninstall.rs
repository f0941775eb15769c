//! The `c2c uninstall` command, which takes c2c away from this user's machine.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::context::{Context, Run};
use super::install::{Installation, Removal};
use super::output;
use super::setup::undo_everywhere;
use crate::env::{XDG_STATE_HOME, directories};
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c uninstall --dry-run  show what would be removed and what stays\n  \
    c2c uninstall            remove c2c from all clients, and the installed programs")]
pub struct Uninstall {
    /// Show what would be removed, and remove nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Directory of the installed programs [default: ~/.local/bin]
    #[arg(long, value_name = "DIR")]
    dest: Option<PathBuf>,
}

impl Run for Uninstall {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (changed, failures) = undo_everywhere(self.dry_run)?;
        let mut removal = Installation::plan(context, self.dest)?.remove(self.dry_run)?;
        find_left(context, self.dry_run, &mut removal);
        if context.common.json {
            output::print_json(&json!({
                "ok": failures.is_empty(),
                "dry_run": self.dry_run,
                "changed": changed,
                "removed": removal.removed,
                "left": removal.left,
                "failed": failures.iter().map(Failure::message).collect::<Vec<_>>(),
            }))?;
            return first(failures, true);
        }
        let verb = if self.dry_run { "would change" } else { "changed" };
        let mut text: String =
            changed.iter().map(|path| format!("{verb} {}\n", path.display())).collect();
        text.push_str(&removal.text(self.dry_run));
        output::print(&text)?;
        first(failures, false)
    }
}

/// The first failure of a client, whose files stay as they were.
fn first(failures: Vec<Failure>, is_reported: bool) -> Result<(), Failure> {
    match failures.into_iter().next() {
        None => Ok(()),
        Some(Failure::Rejected(rejection)) if is_reported => {
            Err(Failure::AlreadyReported(rejection))
        }
        Some(failure) => Err(failure),
    }
}

/// Names what stays: mail, settings, keys, and programs elsewhere.
fn find_left(context: &Context, dry_run: bool, removal: &mut Removal) {
    let state = XDG_STATE_HOME.path().map(|state| state.join("c2c"));
    let below_home = directories::home().map(|home| home.join(".c2c"));
    let mut left = vec![(context.root.path.clone(), "the mail of this broker root")];
    left.extend(state.or(below_home).map(|path| (path, "the mail of all broker roots")));
    left.extend(directories::state_home().map(|path| (path.join("c2c"), "logs of relays")));
    left.extend(directories::config_home().map(|path| (path.join("c2c"), "settings and keys")));
    left.extend(directories::data_home().map(|path| (path.join("c2c"), "data")));
    for directory in directories::program_directories() {
        left.push((directory.join("c2c"), "a program on the PATH"));
    }
    for (path, why) in left {
        let is_removed = dry_run && removal.removed.contains(&path);
        let is_empty = fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
        let is_named = removal.left.iter().any(|(named, _)| *named == path);
        if path.exists() && !is_removed && !is_empty && !is_named {
            removal.left.push((path, why));
        }
    }
}
