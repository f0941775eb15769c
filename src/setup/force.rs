//! Whether a client uses all parts of a setup: the server, the rule and the hooks.
//!
//! Each client has a function `gaps` that reads the client's files as the client does, and states
//! what keeps a part of the setup from being used.

use std::path::Path;

use serde_json::Value;
use toml_edit::DocumentMut;

use super::json::{is_ours, value_in};
use super::toml;
use crate::platform::fs::read_regular_text;

/// A part of a setup that a client does not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The file, and what in it is the cause.
    pub what: String,
    /// Whether running setup again fills it. Setup changes no setting of the user.
    pub is_fixed_by_setup: bool,
}

impl Gap {
    pub fn missing(what: String) -> Self {
        Self { what, is_fixed_by_setup: true }
    }

    pub fn setting(what: String) -> Self {
        Self { what, is_fixed_by_setup: false }
    }
}

/// The value of a JSON file; null if it is missing or not JSON.
pub fn json_file(path: &Path) -> Value {
    read_regular_text(path).map(|text| value_in(&text)).unwrap_or_default()
}

/// The content of a TOML file; empty if it is missing or not TOML.
pub fn toml_file(path: &Path) -> DocumentMut {
    let text = read_regular_text(path).unwrap_or_default();
    toml::without_mark(&text).parse().unwrap_or_default()
}

/// Whether a list has a word.
pub fn has_word(list: &Value, word: &str) -> bool {
    list.as_array().is_some_and(|rows| rows.iter().any(|row| row == word))
}

/// What keeps the entry of a server from being used.
pub fn server(entry: &Value, path: &Path) -> Vec<Gap> {
    let shown = path.display();
    if !is_ours(entry) {
        return vec![Gap::missing(format!("{shown}: the server c2c is missing"))];
    }
    let mut gaps = Vec::new();
    if entry["enabled"] == false {
        gaps.push(Gap::setting(format!("{shown}: the server c2c has enabled = false")));
    }
    if entry["disabled"] == true {
        gaps.push(Gap::setting(format!("{shown}: the server c2c has disabled = true")));
    }
    for list in ["disabledTools", "excludeTools", "disabled_tools"] {
        for tool in ["send", "poll_inbox"].iter().filter(|tool| has_word(&entry[list], tool)) {
            gaps.push(Gap::setting(format!("{shown}: {list} of the server c2c names {tool}")));
        }
    }
    for list in ["enabledTools", "includeTools", "enabled_tools"] {
        let missing =
            ["send", "poll_inbox"].into_iter().filter(|tool| !has_word(&entry[list], tool));
        for tool in missing.filter(|_| entry[list].is_array()) {
            gaps.push(Gap::setting(format!("{shown}: {list} of the server c2c lacks {tool}")));
        }
    }
    gaps
}

/// The gap of hooks that are not set at these events.
pub fn missing_hooks<'a>(events: impl Iterator<Item = &'a str>, path: &Path) -> Option<Gap> {
    let events: Vec<&str> = events.collect();
    let plural = if events.len() == 1 { "" } else { "s" };
    let shown = path.display();
    (!events.is_empty())
        .then(|| Gap::missing(format!("{shown}: the hook{plural} {} missing", listed(&events))))
}

fn listed(events: &[&str]) -> String {
    let verb = if events.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", events.join(", "))
}
