//! How is an agent's client told about c2c?
//!
//! A plan first: what each file says now and what it will say. What is foreign in a file stays as it
//! is, to the comment. The plan is shown, or carried out: file by file, each whole or not at all.

mod claude;
mod codex;
mod crush;
mod file;
mod gemini;
mod hooks;
mod json;
mod kimi;
mod opencode;
mod toml;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::code::Code;
use crate::decide::Refusal;
use crate::failure::Failure;

pub use file::{Change, carry_out};

/// What is wanted of a client.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The user's home.
    pub home: PathBuf,
    /// Where the client keeps its files, if its variable says so.
    pub config_directory: Option<PathBuf>,
    /// The project, for a client that is set up in each.
    pub directory: PathBuf,
    /// For all projects, where a client has both.
    pub global: bool,
    /// This program, as the client shall start it.
    pub program: PathBuf,
    /// The alias that sessions of this client take; none to leave it to each of them.
    pub alias: Option<String>,
    /// Rooms that they join.
    pub rooms: Option<String>,
    /// Take away what was put there.
    pub undo: bool,
    /// Replace an entry `c2c` that is of something else.
    pub force: bool,
}

impl Wish {
    /// Environment of the server, if it needs any.
    fn environment(&self) -> Option<Value> {
        let rows = self.variables();
        let rows = rows.into_iter().map(|(name, text)| (name.to_owned(), json!(text)));
        let rows: serde_json::Map<String, Value> = rows.collect();
        (!rows.is_empty()).then_some(Value::Object(rows))
    }

    fn variables(&self) -> Vec<(&'static str, &str)> {
        let alias = self.alias.as_deref().map(|alias| ("C2C_MCP_AUTO_REGISTER_ALIAS", alias));
        let rooms = self.rooms.as_deref().map(|rooms| ("C2C_MCP_AUTO_JOIN_ROOMS", rooms));
        alias.into_iter().chain(rooms).collect()
    }

    fn hook_command(&self) -> String {
        format!("{} hook", quoted(&self.program))
    }

    fn unless_undo(&self, hook: &Value) -> Option<Value> {
        (!self.undo).then(|| hook.clone())
    }
}

/// What is to be done for one client.
#[derive(Debug, Clone)]
pub struct Plan {
    pub client: &'static str,
    pub changes: Vec<Change>,
    /// What is left for the user.
    pub next: Vec<String>,
}

/// A client that can be set up.
pub struct Client {
    pub name: &'static str,
    /// Another name for it.
    pub also: Option<&'static str>,
    /// The program that is it.
    pub program: &'static str,
    /// The variable that moves its files.
    pub variable: Option<&'static str>,
    plan: fn(&Wish) -> Result<Plan, Failure>,
}

/// Clients that can be set up.
pub const CLIENTS: &[Client] = &[
    Client {
        name: "claude-code",
        also: Some("claude"),
        program: "claude",
        variable: Some("CLAUDE_CONFIG_DIR"),
        plan: claude::plan,
    },
    Client {
        name: "codex",
        also: None,
        program: "codex",
        variable: Some("CODEX_HOME"),
        plan: codex::plan,
    },
    Client {
        name: "opencode",
        also: None,
        program: "opencode",
        variable: Some("XDG_CONFIG_HOME"),
        plan: opencode::plan,
    },
    Client {
        name: "kimi",
        also: None,
        program: "kimi",
        variable: Some("KIMI_CODE_HOME"),
        plan: kimi::plan,
    },
    Client {
        name: "crush",
        also: None,
        program: "crush",
        variable: Some("XDG_CONFIG_HOME"),
        plan: crush::plan,
    },
    Client {
        name: "gemini",
        also: None,
        program: "gemini",
        variable: Some("GEMINI_CLI_HOME"),
        plan: gemini::plan,
    },
];

impl Client {
    /// The client of that name.
    pub fn named(name: &str) -> Result<&'static Self, Refusal> {
        let named = |client: &&Self| client.name == name || client.also == Some(name);
        CLIENTS.iter().find(named).ok_or_else(|| {
            let message = format!("there is no set-up for '{}'", name.escape_default());
            let names: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
            Refusal::new(Code::InvalidArgument, "client", message)
                .hint(format!("one of: {}", names.join(", ")))
        })
    }

    /// What its files say now, and what they will say.
    pub fn plan(&self, wish: &Wish) -> Result<Plan, Failure> {
        let mut plan = (self.plan)(wish)?;
        let without = (self.plan)(&Wish { undo: true, ..wish.clone() })?;
        for (change, without) in plan.changes.iter_mut().zip(without.changes) {
            // What says nothing but ours is not worth keeping, unless it goes for good.
            let ours_alone = without.after.is_empty() && !change.after.is_empty();
            change.keeps = !wish.undo && !ours_alone;
        }
        Ok(plan)
    }

    /// The alias and the rooms that it has been set up with.
    pub fn settings(&self, wish: &Wish) -> Result<(Option<String>, Option<String>), Failure> {
        let plan = (self.plan)(&Wish { undo: true, ..wish.clone() })?;
        let texts = || plan.changes.iter().filter_map(|change| change.before.as_deref());
        let find = |name| texts().find_map(|text| variable_in(text, name));
        Ok((find(OURS[0]), find(OURS[1])))
    }
}

/// A path as a shell reads it.
fn quoted(program: &std::path::Path) -> String {
    let text = program.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Whether a hook's command is one of ours, of this generation or of an older one.
fn is_ours(command: &str) -> bool {
    let words: Vec<&str> = command.split_whitespace().collect();
    let name = |word: &str| {
        let word = word.trim_matches(|c| c == '\'' || c == '"');
        word.rsplit('/').next().unwrap_or(word).to_owned()
    };
    let older = ["c2c-inbox-hook", "c2c-inbox-hook-ocaml", "c2c-inbox-check.sh"];
    words.iter().any(|word| older.contains(&name(word).as_str()))
        || words.windows(2).any(|two| name(two[0]) == "c2c" && two[1] == "hook")
}

/// Whether a server's command line is one of ours, of this generation or of an older one: by its
/// program, or by the one that an interpreter was given.
fn is_server<'a>(words: impl Iterator<Item = &'a str>) -> bool {
    const INTERPRETERS: [&str; 6] = ["python", "python3", "opam", "env", "sh", "bash"];
    fn name(word: &str) -> &str {
        word.rsplit('/').next().unwrap_or(word)
    }
    let words: Vec<&str> = words.collect();
    let Some((program, others)) = words.split_first() else { return false };
    let is_ours = |word: &str| name(word).starts_with("c2c");
    is_ours(program) || INTERPRETERS.contains(&name(program)) && others.iter().any(|w| is_ours(w))
}

fn foreign_server(server: &str) -> Refusal {
    let message = format!("there is an entry 'c2c' of something else: {}", server.escape_default());
    Refusal::new(Code::InvalidArgument, "file", message).hint("--force replaces it")
}

/// The variables that a set-up writes.
const OURS: [&str; 3] =
    ["C2C_MCP_AUTO_REGISTER_ALIAS", "C2C_MCP_AUTO_JOIN_ROOMS", "C2C_MCP_CLIENT_TYPE"];

/// What a variable is set to in a file, of whatever form.
fn variable_in(text: &str, name: &str) -> Option<String> {
    let rest = text.split_once(name)?.1.trim_start_matches(['"', '\'']).trim_start();
    let rest = rest.strip_prefix([':', '='])?.trim_start().strip_prefix(['"', '\''])?;
    rest.split(['"', '\'']).next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_hooks_are_known_by_their_program_and_not_by_their_directory() {
        for ours in
            ["c2c hook", "/opt/c2c hook", "'/a b/c2c' hook --event Stop", "~/c2c-inbox-check.sh"]
        {
            assert!(is_ours(ours), "{ours}");
        }
        for foreign in
            ["/work/c2c/hook", "my-c2c hook", "c2c-hooks", "echo c2c", "c2c monitor hook"]
        {
            assert!(!is_ours(foreign), "{foreign}");
        }
        assert_eq!(quoted(std::path::Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
