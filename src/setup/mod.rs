//! How is an agent's client told about c2c?
//!
//! A plan first: what each file says now and what it will say. What is foreign in a file stays as it
//! is, to the comment. The plan is shown, or carried out: file by file, each whole or not at all.

mod claude;
mod file;
mod json;

use std::path::PathBuf;

use crate::code::Code;
use crate::decide::Refusal;

pub use file::{Change, carry_out};

/// What is wanted of a client.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The user's home.
    pub home: PathBuf,
    /// Where the client keeps its files, if somewhere else.
    pub config_directory: Option<PathBuf>,
    /// This program, as the client shall start it.
    pub program: PathBuf,
    /// The alias that sessions of this client take; none to leave it to each of them.
    pub alias: Option<String>,
    /// Take away what was put there.
    pub undo: bool,
}

/// What is to be done for one client.
#[derive(Debug, Clone)]
pub struct Plan {
    pub client: &'static str,
    pub changes: Vec<Change>,
    /// What is left for the user.
    pub next: Vec<&'static str>,
}

/// Clients that can be set up.
pub const CLIENTS: &[&str] = &["claude-code"];

/// The plan for a client.
pub fn plan(client: &str, wish: &Wish) -> Result<Plan, crate::failure::Failure> {
    match client {
        "claude" | "claude-code" => claude::plan(wish),
        other => {
            let message = format!("there is no set-up for '{}'", other.escape_default());
            let refusal = Refusal::new(Code::InvalidArgument, "client", message);
            Err(refusal.hint(format!("one of: {}", CLIENTS.join(", "))).into())
        }
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
    let older = ["c2c-inbox-hook", "c2c-inbox-check.sh"];
    words.iter().any(|word| older.contains(&name(word).as_str()))
        || words.windows(2).any(|two| name(two[0]) == "c2c" && two[1] == "hook")
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
