//! The environment of the process: variables, acting identity, broker root, directories.
//!
//! Only this module reads environment variables. `docs/operating/environment.md` shows the tables
//! below to users.

pub mod actor;
pub mod directories;
pub mod node;
pub mod root;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::platform::process::{environment, parent_pid};

/// How the value of a variable is read. An empty value counts as unset in every form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueForm {
    /// UTF-8 text, unchanged; other bytes count as unset.
    Text,
    /// UTF-8 text without the white space at its ends; other bytes count as unset.
    TrimmedText,
    /// A path.
    Path,
    /// A path; a relative one counts as unset.
    AbsolutePath,
}

impl ValueForm {
    /// The form in words, for the documentation.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::TrimmedText => "trimmed text",
            Self::Path => "path",
            Self::AbsolutePath => "absolute path",
        }
    }
}

/// An environment variable that c2c reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// How its value is read.
    pub form: ValueForm,
    /// The meaning of its value, in Markdown.
    pub meaning: &'static str,
    /// What applies if the variable is unset, in Markdown.
    pub default: &'static str,
}

// The methods are inlined, so that only the name of a variable is part of the program.
impl Variable {
    /// The value as text.
    #[inline]
    pub fn text(&self) -> Option<String> {
        value(self.name).and_then(|value| to_text(value, self.form))
    }

    /// The value as a path.
    #[inline]
    pub fn path(&self) -> Option<PathBuf> {
        value(self.name).and_then(|value| to_path(value, self.form))
    }

    /// Whether the variable has a value.
    #[inline]
    pub fn is_set(&self) -> bool {
        value(self.name).is_some()
    }
}

fn value(name: &str) -> Option<OsString> {
    let adopted = || {
        let (_, value) = ADOPTED.get()?.iter().find(|(adopted, _)| adopted == name)?;
        Some(value.clone())
    };
    env::var_os(name).or_else(adopted).filter(|value| !value.is_empty())
}

/// Variables of the client that it did not pass on.
static ADOPTED: OnceLock<Vec<(String, OsString)>> = OnceLock::new();

/// Takes over the variables that determine the broker root from the client that started this
/// process, where this process lacks them. Some clients start their servers with a few variables
/// only, and would use another root than their own hooks. A client with another home directory is
/// another user's.
pub fn adopt_from_client() {
    let names = [C2C_MCP_BROKER_ROOT.name, XDG_STATE_HOME.name, HOME.name];
    let mut adopted = environment(parent_pid(), &names);
    let is_same_home = |(name, value): &(String, OsString)| {
        *name == HOME.name && env::var_os(HOME.name).is_some_and(|own| own == *value)
    };
    if adopted.iter().any(is_same_home) {
        adopted.retain(|(name, _)| env::var_os(name).is_none());
        let _ = ADOPTED.set(adopted);
    }
}

fn to_text(value: OsString, form: ValueForm) -> Option<String> {
    let text = value.into_string().ok()?;
    if form != ValueForm::TrimmedText {
        return Some(text);
    }
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn to_path(value: OsString, form: ValueForm) -> Option<PathBuf> {
    let path = PathBuf::from(value);
    (form != ValueForm::AbsolutePath || path.is_absolute()).then_some(path)
}

/// Hides the variables of this process whose names have one of the prefixes from a command.
pub fn hide_prefixed(command: &mut Command, prefixes: &[&str]) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if prefixes.iter().any(|prefix| text.starts_with(*prefix)) {
            command.env_remove(&name);
        }
    }
}

/// Defines a constant for each variable, and the table of all of them.
macro_rules! variables {
    ($($name:ident $form:ident: $meaning:literal, default: $default:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $name: Variable = Variable {
                name: stringify!($name),
                form: ValueForm::$form,
                meaning: $meaning,
                default: $default,
            };
        )*

        /// All environment variables that c2c reads.
        pub const VARIABLES: &[Variable] = &[$($name),*];
    };
}

variables! {
    C2C_MCP_BROKER_ROOT Path: "Broker root. A relative path is an error",
        default: "the root of the session, else of the repository: `$XDG_STATE_HOME/c2c/repos/FP/broker`, else `~/.c2c/repos/FP/broker`";

    C2C_MCP_SESSION_ID Text: "Session id of the caller",
        default: "the session id of the client, else `C2C_MCP_AUTO_REGISTER_ALIAS`";
    C2C_MCP_AUTO_REGISTER_ALIAS Text:
        "Alias of the caller. The MCP server registers it when it starts",
        default: "`cli-USER` for commands, none for the MCP server";
    C2C_MCP_CLIENT_TYPE Text: "Name of the client, recorded with the session",
        default: "the client whose session id is set";
    C2C_MCP_CLIENT_PID Text:
        "Process id of the agent. Ignored unless that process is an ancestor of c2c",
        default: "the parent process";
    C2C_TMUX_LOCATION Text: "tmux pane of the agent, recorded with the session", default: "none";
    CLAUDE_CODE_SESSION_ID Text: "Session id, set by Claude Code", default: "none";
    CLAUDE_SESSION_ID Text: "Session id, set by older versions of Claude Code", default: "none";
    CODEX_THREAD_ID Text: "Session id, set by Codex", default: "none";
    C2C_OPENCODE_SESSION_ID Text: "Session id of an OpenCode session", default: "none";
    CRUSH_SESSION_ID Text: "Session id, set by Crush", default: "none";

    C2C_MCP_TOOLS Text: "`all` makes the MCP server list all of its tools",
        default: "the tools in daily use";
    C2C_MCP_AUTO_JOIN_ROOMS Text:
        "Rooms that the MCP server joins after it registers, separated by commas",
        default: "none";
    C2C_MCP_AUTO_DRAIN_CHANNEL Text: "`1` delivers mail through the notification `claude/channel`",
        default: "off";

    C2C_RELAY_URL TrimmedText: "URL of the relay", default: "the saved URL";
    C2C_RELAY_TOKEN TrimmedText:
        "Bearer token for the relay; for `relay serve`, the token that it requires",
        default: "the saved token; for `relay serve`, none";
    C2C_RELAY_NODE_ID TrimmedText: "Node id of this machine", default: "host name and repository";
    C2C_RELAY_IDENTITY_PATH Path: "File of this machine's key",
        default: "`$XDG_CONFIG_HOME/c2c/identity.json`, else `identity.json` in the broker root";
    C2C_RELAY_CONFIG TrimmedText: "File of the saved connection settings",
        default: "`relay.json` in the broker root, else `$XDG_CONFIG_HOME/c2c/relay.json`";
    C2C_RELAY_PERSIST_DIR Path: "Directory for the log of `relay serve`",
        default: "`$XDG_STATE_HOME/c2c/relay/ADDRESS`";
    PORT Text: "Port of `relay serve`, on all IPv4 addresses", default: "`127.0.0.1:7331`";
    C2C_LOG TrimmedText:
        "Log level of `relay serve` and `relay connect`, or a list of `MODULE=LEVEL`",
        default: "no log; with `--log-format`, `info`";

    CLAUDE_CONFIG_DIR AbsolutePath: "Directory of Claude Code's files",
        default: "`~` and `~/.claude`";
    CODEX_HOME AbsolutePath: "Directory of Codex's files", default: "`~/.codex`";
    CODEX_SQLITE_HOME Path: "Directory of Codex's databases, passed on to `codex queue`",
        default: "`CODEX_HOME`";
    KIMI_CODE_HOME AbsolutePath: "Directory of Kimi's files", default: "`~/.kimi-code`";
    GEMINI_CLI_HOME AbsolutePath: "Directory that contains `.gemini`", default: "`~`";

    HOME AbsolutePath: "Home directory",
        default: "none; without it, name a broker root or set `XDG_STATE_HOME`";
    XDG_CONFIG_HOME AbsolutePath: "Directory for configuration, also of OpenCode and Crush",
        default: "`~/.config`";
    XDG_DATA_HOME AbsolutePath: "Directory for shell completions and manual pages",
        default: "`~/.local/share`";
    XDG_STATE_HOME AbsolutePath: "Directory for broker roots and for the logs of relays",
        default: "`~/.c2c` for broker roots, `~/.local/state` for relays";
    USER Text: "User name in default aliases", default: "`LOGNAME`";
    LOGNAME Text: "User name in default aliases",
        default: "`uid` and the user id; in `c2c setup`, `user`";
    PATH Path: "Directories, separated by colons, in which `c2c setup` finds clients", default: "none";
    NO_COLOR Text: "Any value turns colours off", default: "colours on a terminal";
}

/// A variable that c2c sets for a program that it starts. c2c itself does not read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvidedVariable {
    /// Its name.
    pub name: &'static str,
    /// The meaning of its value, in Markdown.
    pub meaning: &'static str,
}

/// All variables that c2c only sets, for other programs.
pub const PROVIDED: &[ProvidedVariable] = &[
    ProvidedVariable {
        name: "C2C_WAKE_ALIAS",
        meaning: "Alias that `c2c wake` watches, for its `--command`",
    },
    ProvidedVariable {
        name: "C2C_WAKE_SESSION",
        meaning: "Session that holds the alias; empty if none does",
    },
    ProvidedVariable { name: "C2C_WAKE_UNREAD", meaning: "Number of unread messages" },
    ProvidedVariable {
        name: "C2C_WAKE_TEXT",
        meaning: "Text that `c2c wake` types into a terminal",
    },
    ProvidedVariable {
        name: "C2C_PLUGIN",
        meaning: "`1` in the MCP servers that the plugin for OpenCode configures",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trimmed_text_loses_the_white_space_at_its_ends() {
        assert_eq!(to_text(" a b\n".into(), ValueForm::TrimmedText), Some("a b".into()));
        assert_eq!(to_text(" a b\n".into(), ValueForm::Text), Some(" a b\n".into()));
        assert_eq!(to_text(" \n".into(), ValueForm::TrimmedText), None);
    }

    #[test]
    fn a_relative_value_counts_as_unset_where_a_path_must_be_absolute() {
        for (value, form, expected) in [
            ("/a", ValueForm::AbsolutePath, Some("/a")),
            ("a", ValueForm::AbsolutePath, None),
            ("a", ValueForm::Path, Some("a")),
        ] {
            assert_eq!(
                to_path(value.into(), form),
                expected.map(PathBuf::from),
                "{value} {form:?}"
            );
        }
    }
}
