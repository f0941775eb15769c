//! Which relay is meant, and with which credentials?
//!
//! A flag; then the environment; then the saved file: the one that `C2C_RELAY_CONFIG` names, else
//! `relay.json` in the broker root, else `relay.json` in this user's configuration.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::code::Code;
use crate::decide::Refusal;
use crate::failure::Failure;
use crate::files::write_private;
use crate::log::LogError;
use crate::root;

/// Name of the saved file.
const FILE: &str = "relay.json";

/// What was given on the command line.
#[derive(Debug, Clone, Default)]
pub struct Given {
    pub url: Option<String>,
    pub token: Option<String>,
    pub token_file: Option<PathBuf>,
    pub node_id: Option<String>,
    pub ca_bundle: Option<PathBuf>,
    pub alias: Option<String>,
}

/// What is to be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    pub url: Option<String>,
    pub token: Option<String>,
    pub node_id: Option<String>,
    pub ca_bundle: Option<PathBuf>,
    /// The alias that was registered last by the command line.
    pub alias: Option<String>,
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// The file that settings are read from: the first that is there.
pub fn path(broker_root: &Path) -> Result<PathBuf, Refusal> {
    if let Some(path) = variable("C2C_RELAY_CONFIG") {
        return Ok(path.into());
    }
    let own = broker_root.join(FILE);
    if own.is_file() {
        return Ok(own);
    }
    Ok(root::config_directory()?.join(FILE))
}

/// The file that settings are saved to. `named` is the broker root, if somebody named one.
pub fn path_to_save(named: Option<&Path>) -> Result<PathBuf, Refusal> {
    if let Some(path) = variable("C2C_RELAY_CONFIG") {
        return Ok(path.into());
    }
    match named {
        Some(root) => Ok(root.join(FILE)),
        None => Ok(root::config_directory()?.join(FILE)),
    }
}

/// The saved settings; none if there is no file.
fn saved(path: &Path) -> Result<Map<String, Value>, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(e) => return Err(LogError::io("read", &path.display().to_string(), e).into()),
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => {
            let message = format!("{} is not a JSON object", path.display());
            let refusal = Refusal::new(Code::InvalidArgument, "relay.json", message);
            Err(refusal.hint("put it right, or write it anew with: c2c relay setup").into())
        }
    }
}

/// The text of a file that somebody named.
pub fn read_named(field: &'static str, path: &Path) -> Result<String, Refusal> {
    fs::read_to_string(path).map_err(|e| {
        let message = format!("cannot read {}: {e}", path.display());
        Refusal::new(Code::InvalidArgument, field, message).hint(format!(
            "name a file of text that you may read with --{}",
            field.replace('_', "-")
        ))
    })
}

/// A token is the first line of its file.
pub fn read_token(path: &Path) -> Result<String, Failure> {
    let text = read_named("token_file", path)?;
    let token = check_token(text.lines().next().unwrap_or_default())?;
    if token.is_empty() {
        let message = format!("{} holds no token", path.display());
        return Err(Refusal::new(Code::InvalidArgument, "token_file", message).into());
    }
    Ok(token)
}

/// Puts everything together.
pub fn settle(given: &Given, broker_root: &Path) -> Result<Settings, Failure> {
    let file = path(broker_root)?;
    let saved = saved(&file)?;
    let text = |name: &str| {
        let value = saved.get(name).and_then(Value::as_str);
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let from_file = given.token_file.as_deref().map(read_token).transpose()?;
    let token = given.token.clone().or(from_file).or_else(|| variable("C2C_RELAY_TOKEN"));
    let token = token.map(|token| check_token(&token)).transpose()?.filter(|it| !it.is_empty());
    let url = given.url.clone().or_else(|| variable("C2C_RELAY_URL")).or_else(|| text("url"));
    let url = url.map(|url| check_url(&url)).transpose()?;
    // A saved token is for the saved relay, and for no other.
    let same = text("url").is_none_or(|saved| check_url(&saved).ok() == url);
    let saved_token = text("token").filter(|_| same);
    let settings = Settings {
        url,
        token: token.or(saved_token).filter(|token| !token.is_empty()),
        node_id: given
            .node_id
            .clone()
            .or_else(|| variable("C2C_RELAY_NODE_ID"))
            .or_else(|| text("node_id")),
        ca_bundle: given.ca_bundle.clone().or_else(|| text("ca_bundle").map(PathBuf::from)),
        alias: text("alias"),
    };
    Ok(settings)
}

/// A token as it is shown in a header: visible ASCII, without spaces around it.
pub fn check_token(token: &str) -> Result<String, Refusal> {
    let token = token.trim();
    if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(token.to_owned());
    }
    let message = "a token is of visible ASCII characters, without spaces in it";
    Err(Refusal::new(Code::InvalidArgument, "token", message))
}

/// A relay's URL, without a last slash.
fn check_url(url: &str) -> Result<String, Refusal> {
    let url = url.trim().trim_end_matches('/');
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    // In the one form in which it reaches the relay: that is what a registration is signed for.
    if rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', '@']))
        && let Ok(parsed) = reqwest::Url::parse(url)
        && parsed.has_host()
    {
        let parsed = parsed.as_str().trim_end_matches('/');
        return Ok(if parsed.eq_ignore_ascii_case(url) { url } else { parsed }.to_owned());
    }
    let message = format!("'{}' is not the URL of a relay", url.escape_default());
    Err(Refusal::new(Code::InvalidArgument, "relay_url", message)
        .hint("it looks like http://host:7331"))
}

/// Saves what was given, beside what was saved before.
pub fn save(path: &Path, given: &Given) -> Result<Settings, Failure> {
    // What cannot be read is written anew.
    let mut fields = match saved(path) {
        Err(Failure::Refused(_)) => Map::new(),
        other => other?,
    };
    let from_file = given.token_file.as_deref().map(read_token).transpose()?;
    let url = given.url.as_deref().map(check_url).transpose()?;
    // The same file from wherever it is read next.
    let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let ca_bundle = given.ca_bundle.as_ref().map(|path| whole(path).display().to_string());
    let token = given.token.as_deref().map(check_token).transpose()?;
    let before = fields.get("url").and_then(Value::as_str).map(check_url);
    if url.is_some() && before.is_some_and(|before| before.ok() != url) {
        // The token was for the relay before.
        fields.remove("token");
    }
    for (name, value) in [
        ("url", url),
        ("token", token.or(from_file)),
        ("node_id", given.node_id.clone()),
        ("ca_bundle", ca_bundle),
        ("alias", given.alias.clone()),
    ] {
        if let Some(value) = value {
            fields.insert(name.into(), json!(value));
        }
    }
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    let settings = Settings {
        url: text("url"),
        token: text("token"),
        node_id: text("node_id"),
        ca_bundle: text("ca_bundle").map(PathBuf::from),
        alias: text("alias"),
    };
    let text = format!("{:#}\n", Value::Object(fields));
    write_private(path, text.as_bytes())
        .map_err(|e| LogError::io("write", &path.display().to_string(), e))?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_the_form_in_which_it_reaches_the_relay() {
        for (given, meant) in [
            ("http://hub:7331/", "http://hub:7331"),
            ("http://HUB:7331", "http://HUB:7331"),
            ("http://hub:80", "http://hub"),
            ("https://hub:443/", "https://hub"),
            ("https://hub:80", "https://hub:80"),
            ("http://127.1:7331", "http://127.0.0.1:7331"),
            (" http://[::1]:7331 ", "http://[::1]:7331"),
        ] {
            assert_eq!(check_url(given).as_deref(), Ok(meant));
        }
    }

    #[test]
    fn a_token_fits_in_a_header() {
        assert_eq!(check_token(" tok\n").as_deref(), Ok("tok"));
        for bad in ["two words", "a\nb", "t\u{f6}k", "t\0k"] {
            assert_eq!(check_token(bad).expect_err("refused").field, "token");
        }
    }
}
