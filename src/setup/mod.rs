//! Configuration of AI clients so that they start c2c.
//!
//! Setup first makes a plan: the current and the new text of each file. Entries of other programs
//! stay unchanged, and so do comments. The plan is then shown or applied: all files change, or none.
//! A record of the change lets `--undo` restore the bytes of before.

mod claude;
mod codex;
mod crush;
mod decline;
mod disk;
mod file;
mod force;
mod gemini;
mod hooks;
mod json;
mod kimi;
mod ledger;
mod lines;
mod opencode;
mod own_entries;
mod plan;
mod record;
#[cfg(test)]
mod tests;
mod toml;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::env::{
    CLAUDE_CONFIG_DIR, CODEX_HOME, GEMINI_CLI_HOME, KIMI_CODE_HOME, Variable, XDG_CONFIG_HOME,
    XDG_STATE_HOME,
};
use crate::error::Failure;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;
use disk::{Disk, RealDisk};
use file::{Original, Recorded};
use ledger::{Applied, Ledger};
use own_entries::OUR_VARIABLES;
use record::{Record, digest};

pub use decline::{decline, is_declined};
pub use file::FileChange;
pub use force::Gap;
pub use own_entries::variable_in;
pub use plan::{SetupOptions, SetupPlan};

/// A client that can be set up.
pub struct SupportedClient {
    pub name: &'static str,
    /// A second name that is accepted for it.
    pub also: Option<&'static str>,
    /// Name of its program on the `PATH`.
    pub program: &'static str,
    /// The environment variable that moves its files.
    pub variable: Option<Variable>,
    plan: fn(&SetupOptions) -> Result<SetupPlan, Failure>,
    gaps: fn(&SetupOptions) -> Vec<Gap>,
}

/// All clients that can be set up.
pub const CLIENTS: &[SupportedClient] = &[
    SupportedClient {
        name: "claude-code",
        also: Some("claude"),
        program: "claude",
        variable: Some(CLAUDE_CONFIG_DIR),
        plan: claude::plan,
        gaps: claude::gaps,
    },
    SupportedClient {
        name: "codex",
        also: None,
        program: "codex",
        variable: Some(CODEX_HOME),
        plan: codex::plan,
        gaps: codex::gaps,
    },
    SupportedClient {
        name: "opencode",
        also: None,
        program: "opencode",
        variable: Some(XDG_CONFIG_HOME),
        plan: opencode::plan,
        gaps: opencode::gaps,
    },
    SupportedClient {
        name: "kimi",
        also: None,
        program: "kimi",
        variable: Some(KIMI_CODE_HOME),
        plan: kimi::plan,
        gaps: kimi::gaps,
    },
    SupportedClient {
        name: "crush",
        also: None,
        program: "crush",
        variable: Some(XDG_CONFIG_HOME),
        plan: crush::plan,
        gaps: crush::gaps,
    },
    SupportedClient {
        name: "gemini",
        also: None,
        program: "gemini",
        variable: Some(GEMINI_CLI_HOME),
        plan: gemini::plan,
        gaps: gemini::gaps,
    },
];

impl SupportedClient {
    /// Finds a client by its name or second name. Fails with `invalid_argument` for another name.
    pub fn named(name: &str) -> Result<&'static Self, Rejection> {
        let matches = |client: &&Self| client.name == name || client.also == Some(name);
        CLIENTS.iter().find(matches).ok_or_else(|| {
            let message =
                format!("'{}' is not a client that c2c can set up", name.escape_default());
            let names: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
            Rejection::new(Code::InvalidArgument, "client", message)
                .hint(format!("choose one of: {}", names.join(", ")))
        })
    }

    /// Reads the files of the client and returns what setup changes in them.
    pub fn plan(&self, options: &SetupOptions) -> Result<SetupPlan, Failure> {
        let mut plan = (self.plan)(options)?;
        if options.undo {
            for change in plan.changes.iter_mut().filter(|change| change.is_as_written) {
                change.after = match &change.original {
                    Some(Original::Text(text)) => Some(text.clone()),
                    Some(Original::Absent) => None,
                    None => continue,
                };
            }
            return Ok(plan);
        }
        if plan.changes.iter().all(FileChange::is_unchanged) {
            return Ok(plan);
        }
        let undone = (self.plan)(&SetupOptions { undo: true, ..options.clone() })?;
        for (change, undone) in plan.changes.iter_mut().zip(undone.changes) {
            change.recorded = recorded(change, &undone, &options.record);
        }
        Ok(plan)
    }

    /// What keeps a part of the setup from being used; empty if all of it is in force.
    pub fn gaps(&self, options: &SetupOptions) -> Vec<Gap> {
        (self.gaps)(options)
    }

    /// The files that contain entries of c2c.
    pub fn files(&self, options: &SetupOptions) -> Result<Vec<PathBuf>, Failure> {
        let plan = (self.plan)(&SetupOptions { undo: true, ..options.clone() })?;
        let changed = plan.changes.into_iter().filter(|change| !change.is_unchanged());
        Ok(changed.map(|change| change.path).collect())
    }

    /// Makes the changes of a plan. The plan is made again while other programs change the files.
    /// Returns the first plan that changed something.
    pub fn apply(&self, options: &SetupOptions) -> Result<SetupPlan, Failure> {
        apply(&RealDisk, self, options)
    }

    /// The alias and the rooms of an earlier setup.
    pub fn settings(
        &self,
        options: &SetupOptions,
    ) -> Result<(Option<String>, Option<String>), Failure> {
        // Only the present texts are of interest, so any plan will do.
        let plan = (self.plan)(&SetupOptions { undo: true, ..options.clone() })?;
        let texts = || plan.changes.iter().filter_map(|change| change.before.as_deref());
        let find = |name| texts().find_map(|text| variable_in(text, name));
        Ok((find(OUR_VARIABLES[0]), find(OUR_VARIABLES[1])))
    }

    /// Whether a change of the client's files was interrupted. The next setup takes it back.
    pub fn is_interrupted(&self, options: &SetupOptions) -> bool {
        options.record.pending.is_some()
    }

    /// Reads what earlier runs have recorded for this client.
    pub fn recorded(&self, options: &SetupOptions) -> Arc<Record> {
        Arc::new(Record::load(&self.record_directory(options)).unwrap_or_default())
    }

    /// The projects for which the client was set up, as far as they are recorded.
    pub fn recorded_projects(&self, options: &SetupOptions) -> Vec<PathBuf> {
        let prefix = format!("{}-", self.name);
        let records = std::fs::read_dir(&options.state).into_iter().flatten().flatten();
        let records = records
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .filter_map(|entry| Record::load(&entry.path()).ok());
        let targets = records.flat_map(|record| record.files).map(|file| file.target);
        let mut projects: Vec<PathBuf> =
            targets.filter_map(|target| opencode::project_of(&target)).collect();
        projects.sort();
        projects.dedup();
        projects
    }

    /// Directory of this client's record. A project has its own.
    fn record_directory(&self, options: &SetupOptions) -> PathBuf {
        let is_project = self.name == "opencode" && !options.global;
        let place = match &options.config_directory {
            _ if is_project => &options.directory,
            Some(own) => own,
            None => &options.home,
        };
        let place = digest(&place.display().to_string());
        options.state.join(format!("{}-{}", self.name, &place[..12]))
    }
}

/// Number of times that setup plans again because other programs change the files.
const ATTEMPTS: usize = 20;

fn apply(
    disk: &dyn Disk,
    client: &SupportedClient,
    options: &SetupOptions,
) -> Result<SetupPlan, Failure> {
    let mut ledger = Ledger::open(disk, &client.record_directory(options))?;
    let mut first = None;
    let mut changed = None;
    for _ in 0..ATTEMPTS {
        let options = SetupOptions { record: Arc::new(ledger.record.clone()), ..options.clone() };
        let plan = client.plan(&options)?;
        let is_done = plan.changes.iter().all(FileChange::is_unchanged);
        if is_done && (!options.undo || ledger.record.files.is_empty()) {
            return Ok(first.unwrap_or(plan));
        }
        match ledger.apply(&plan.changes)? {
            Applied::Done => {
                let holds = plan.changes.iter().all(FileChange::is_in_place);
                let first = first.get_or_insert(plan);
                if options.undo || holds {
                    return Ok(first.clone());
                }
                // Another program has overwritten the new text.
            }
            Applied::ChangedMeanwhile(path) => changed = Some(path),
        }
    }
    let path = changed.unwrap_or_default();
    let message = format!("{} is changed by another program all the time", path.display());
    Err(Rejection::new(Code::Busy, "file", message)
        .hint("close the client, then run the command again")
        .into())
}

/// What the record says of a file after setup. `undone` is the same file without our entries.
fn recorded(change: &FileChange, undone: &FileChange, record: &Record) -> Recorded {
    let has_entries = !undone.is_unchanged();
    let is_recorded = record.file(&change.target).is_some();
    if is_recorded && (has_entries || change.is_as_written) {
        Recorded::SameOriginal
    } else if !has_entries || is_recorded {
        Recorded::Present
    } else if change.original.is_some() {
        Recorded::Copy
    } else if undone.after.is_none() && change.after.is_some() {
        // An earlier version of c2c made the file.
        Recorded::Absent
    } else {
        Recorded::Present
    }
}

/// Directory of the records of setup, by default.
pub fn state_directory(home: &Path) -> PathBuf {
    let state = XDG_STATE_HOME.path().map(|state| state.join("c2c"));
    state.unwrap_or_else(|| home.join(".c2c")).join("setup")
}
