//! Configuration of AI clients so that they start c2c.
//!
//! Setup first makes a plan: the current and the new text of each file. Entries of other programs
//! stay unchanged, and so do comments. The plan is then shown or applied; each file is replaced
//! atomically.

mod claude;
mod codex;
mod crush;
mod file;
mod gemini;
mod hooks;
mod json;
mod kimi;
mod opencode;
mod own_entries;
mod plan;
mod toml;

use crate::env::{
    CLAUDE_CONFIG_DIR, CODEX_HOME, GEMINI_CLI_HOME, KIMI_CODE_HOME, Variable, XDG_CONFIG_HOME,
};
use crate::error::Failure;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;
use own_entries::{OUR_VARIABLES, variable_in};

pub use file::{FileChange, apply_changes};
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
}

/// All clients that can be set up.
pub const CLIENTS: &[SupportedClient] = &[
    SupportedClient {
        name: "claude-code",
        also: Some("claude"),
        program: "claude",
        variable: Some(CLAUDE_CONFIG_DIR),
        plan: claude::plan,
    },
    SupportedClient {
        name: "codex",
        also: None,
        program: "codex",
        variable: Some(CODEX_HOME),
        plan: codex::plan,
    },
    SupportedClient {
        name: "opencode",
        also: None,
        program: "opencode",
        variable: Some(XDG_CONFIG_HOME),
        plan: opencode::plan,
    },
    SupportedClient {
        name: "kimi",
        also: None,
        program: "kimi",
        variable: Some(KIMI_CODE_HOME),
        plan: kimi::plan,
    },
    SupportedClient {
        name: "crush",
        also: None,
        program: "crush",
        variable: Some(XDG_CONFIG_HOME),
        plan: crush::plan,
    },
    SupportedClient {
        name: "gemini",
        also: None,
        program: "gemini",
        variable: Some(GEMINI_CLI_HOME),
        plan: gemini::plan,
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
        let undone = (self.plan)(&SetupOptions { undo: true, ..options.clone() })?;
        for (change, undone) in plan.changes.iter_mut().zip(undone.changes) {
            // A file with nothing but our entries needs no backup, unless it is removed for good.
            let ours_alone = undone.after.is_empty() && !change.after.is_empty();
            change.keeps_backup = !options.undo && !ours_alone;
        }
        Ok(plan)
    }

    /// The alias and the rooms of an earlier setup.
    pub fn settings(
        &self,
        options: &SetupOptions,
    ) -> Result<(Option<String>, Option<String>), Failure> {
        let plan = (self.plan)(&SetupOptions { undo: true, ..options.clone() })?;
        let texts = || plan.changes.iter().filter_map(|change| change.before.as_deref());
        let find = |name| texts().find_map(|text| variable_in(text, name));
        Ok((find(OUR_VARIABLES[0]), find(OUR_VARIABLES[1])))
    }
}
