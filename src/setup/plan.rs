//! Options of a setup and the plan that follows from them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::file::FileChange;
use super::record::Record;
use crate::env::{C2C_MCP_AUTO_JOIN_ROOMS, C2C_MCP_AUTO_REGISTER_ALIAS};
use crate::error::Failure;
use crate::present::shell::quote;

/// What the user requests for a client.
#[derive(Debug, Clone)]
pub struct SetupOptions {
    /// The user's home directory.
    pub home: PathBuf,
    /// Directory of the records of setup.
    pub state: PathBuf,
    /// Directory of the client's files, if its environment variable names one.
    pub config_directory: Option<PathBuf>,
    /// The project, for a client that is set up per project.
    pub directory: PathBuf,
    /// Set up all projects, for a client that supports both.
    pub global: bool,
    /// This program, as the client starts it.
    pub program: PathBuf,
    /// The alias for sessions of this client; `None` lets each session choose.
    pub alias: Option<String>,
    /// Rooms that the sessions join, separated by commas.
    pub rooms: Option<String>,
    /// Remove the entries of an earlier setup.
    pub undo: bool,
    /// Replace an unrelated entry named `c2c`.
    pub force: bool,
    /// What earlier runs have recorded for this client.
    pub record: Arc<Record>,
}

impl SetupOptions {
    /// Reads a file of the client.
    pub fn read(&self, path: PathBuf) -> Result<FileChange, Failure> {
        FileChange::read(path, &self.record)
    }

    /// The directory of the client's files, by default one below the home directory.
    pub fn directory_or(&self, below_home: impl AsRef<Path>) -> PathBuf {
        self.config_directory.clone().unwrap_or_else(|| self.home.join(below_home))
    }

    /// Environment of the MCP server as a JSON object, if it needs any.
    pub fn environment(&self) -> Option<Value> {
        let rows = self.variables().into_iter();
        let object: serde_json::Map<String, Value> =
            rows.map(|(name, text)| (name.to_owned(), json!(text))).collect();
        (!object.is_empty()).then_some(Value::Object(object))
    }

    /// Environment variables of the MCP server.
    pub fn variables(&self) -> Vec<(&'static str, &str)> {
        let alias = self.alias.as_deref().map(|alias| (C2C_MCP_AUTO_REGISTER_ALIAS.name, alias));
        let rooms = self.rooms.as_deref().map(|rooms| (C2C_MCP_AUTO_JOIN_ROOMS.name, rooms));
        alias.into_iter().chain(rooms).collect()
    }

    /// The command line of our hook, for a shell.
    pub fn hook_command(&self) -> String {
        format!("{} hook", quote(&self.program.display().to_string()))
    }

    /// The hook to set at an event; `None` removes it.
    pub fn unless_undo(&self, hook: &Value) -> Option<Value> {
        (!self.undo).then(|| hook.clone())
    }
}

/// What setup does for one client.
#[derive(Debug, Clone)]
pub struct SetupPlan {
    pub client: &'static str,
    pub changes: Vec<FileChange>,
    /// Steps that remain for the user.
    pub next: Vec<String>,
}
