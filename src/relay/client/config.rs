//! Connection settings: URL and credentials of a relay.
//!
//! A setting comes from a flag, else from the environment, else from the settings file. That file is
//! the one named by `C2C_RELAY_CONFIG`, else `relay.json` in the broker root, else `relay.json` in
//! the user's configuration directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::env::directories::config_directory;
use crate::env::{C2C_RELAY_CONFIG, C2C_RELAY_NODE_ID, C2C_RELAY_TOKEN, C2C_RELAY_URL};
use crate::error::Failure;
use crate::platform::fs::write_private;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// Name of the settings file.
const FILE_NAME: &str = "relay.json";

/// Settings from the command line.
#[derive(Debug, Clone, Default)]
pub struct ConnectionOptions {
    /// URL of the relay.
    pub url: Option<String>,
    /// Operator's token.
    pub token: Option<String>,
    /// File whose first line is the token.
    pub token_file: Option<PathBuf>,
    /// Id of this node.
    pub node_id: Option<String>,
    /// File with additional trusted certificates, PEM.
    pub ca_bundle: Option<PathBuf>,
    /// Alias to save.
    pub alias: Option<String>,
}

/// The settings in effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// URL of the relay, without a trailing slash.
    pub url: Option<String>,
    /// Operator's token.
    pub token: Option<String>,
    /// Id of this node.
    pub node_id: Option<String>,
    /// File with additional trusted certificates, PEM.
    pub ca_bundle: Option<PathBuf>,
    /// The alias that the command line registered last.
    pub alias: Option<String>,
}

/// The file to read settings from: the first candidate that exists.
pub fn path_to_read(broker_root: &Path) -> Result<PathBuf, Rejection> {
    if let Some(path) = C2C_RELAY_CONFIG.text() {
        return Ok(path.into());
    }
    let in_root = broker_root.join(FILE_NAME);
    if in_root.is_file() {
        return Ok(in_root);
    }
    Ok(config_directory()?.join(FILE_NAME))
}

/// The file to save settings to. `named` is the broker root if the user named one explicitly.
pub fn path_to_save(named: Option<&Path>) -> Result<PathBuf, Rejection> {
    if let Some(path) = C2C_RELAY_CONFIG.text() {
        return Ok(path.into());
    }
    match named {
        Some(root) => Ok(root.join(FILE_NAME)),
        None => Ok(config_directory()?.join(FILE_NAME)),
    }
}

/// The fields of the settings file; empty if the file does not exist.
fn read_saved(path: &Path) -> Result<Map<String, Value>, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(e) => return Err(Failure::io("read", path, e)),
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => {
            let message = format!("{} is not a JSON object", path.display());
            let rejection = Rejection::new(Code::InvalidArgument, "relay.json", message);
            Err(rejection.hint("correct the file, or replace it: c2c relay setup --url URL").into())
        }
    }
}

/// Reads a text file that the user named with the flag for `field`.
pub fn read_named(field: &'static str, path: &Path) -> Result<String, Rejection> {
    fs::read_to_string(path).map_err(|e| {
        let message = format!("cannot read {}: {e}", path.display());
        Rejection::new(Code::InvalidArgument, field, message)
            .hint(format!("pass a readable text file with --{}", field.replace('_', "-")))
    })
}

/// Reads a token from the first line of a file.
pub fn read_token(path: &Path) -> Result<String, Failure> {
    let text = read_named("token_file", path)?;
    let token = check_token(text.lines().next().unwrap_or_default())?;
    if token.is_empty() {
        let message = format!("{} contains no token", path.display());
        return Err(Rejection::new(Code::InvalidArgument, "token_file", message).into());
    }
    Ok(token)
}

/// Determines the settings in effect from the command line, the environment and the settings file.
pub fn resolve(
    options: &ConnectionOptions,
    broker_root: &Path,
) -> Result<ConnectionSettings, Failure> {
    let saved = read_saved(&path_to_read(broker_root)?)?;
    let saved_text = |name: &str| {
        let value = saved.get(name).and_then(Value::as_str);
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let file_token = options.token_file.as_deref().map(read_token).transpose()?;
    let token = options
        .token
        .clone()
        .or(file_token)
        .or_else(|| C2C_RELAY_TOKEN.text())
        .map(|token| check_token(&token))
        .transpose()?
        .filter(|token| !token.is_empty());
    let url = options
        .url
        .clone()
        .or_else(|| C2C_RELAY_URL.text())
        .or_else(|| saved_text("url"))
        .map(|url| check_url(&url))
        .transpose()?;
    // A saved token belongs to the saved relay and is never sent to another one.
    let is_saved_relay = saved_text("url").is_none_or(|saved| check_url(&saved).ok() == url);
    let saved_token = saved_text("token").filter(|_| is_saved_relay);
    Ok(ConnectionSettings {
        url,
        token: token.or(saved_token).filter(|token| !token.is_empty()),
        node_id: options
            .node_id
            .clone()
            .or_else(|| C2C_RELAY_NODE_ID.text())
            .or_else(|| saved_text("node_id")),
        ca_bundle: options.ca_bundle.clone().or_else(|| saved_text("ca_bundle").map(PathBuf::from)),
        alias: saved_text("alias"),
    })
}

/// Checks that a token can be sent in a header, and trims it.
pub fn check_token(token: &str) -> Result<String, Rejection> {
    let token = token.trim();
    if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(token.to_owned());
    }
    let message = "a token may contain only visible ASCII characters and no spaces";
    Err(Rejection::new(Code::InvalidArgument, "token", message))
}

/// Checks the URL of a relay. Returns it without a trailing slash, in the form in which it reaches
/// the relay, because registrations are signed for that form.
fn check_url(url: &str) -> Result<String, Rejection> {
    let url = url.trim().trim_end_matches('/');
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    if rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', '@']))
        && let Ok(parsed) = reqwest::Url::parse(url)
        && parsed.has_host()
    {
        let parsed = parsed.as_str().trim_end_matches('/');
        return Ok(if parsed.eq_ignore_ascii_case(url) { url } else { parsed }.to_owned());
    }
    let message = format!("'{}' is not a relay URL", url.escape_default());
    Err(Rejection::new(Code::InvalidArgument, "relay_url", message)
        .hint("pass a URL such as http://host:7331"))
}

/// Saves the given settings. Settings that are not given keep their saved values.
pub fn save(path: &Path, options: &ConnectionOptions) -> Result<ConnectionSettings, Failure> {
    // An invalid file is replaced.
    let mut fields = match read_saved(path) {
        Err(Failure::Rejected(_)) => Map::new(),
        result => result?,
    };
    let file_token = options.token_file.as_deref().map(read_token).transpose()?;
    let url = options.url.as_deref().map(check_url).transpose()?;
    // The file may be read from another working directory.
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let ca_bundle = options.ca_bundle.as_ref().map(|path| absolute(path).display().to_string());
    let token = options.token.as_deref().map(check_token).transpose()?;
    let previous_url = fields.get("url").and_then(Value::as_str).map(check_url);
    if url.is_some() && previous_url.is_some_and(|previous| previous.ok() != url) {
        // The saved token belongs to the previous relay.
        fields.remove("token");
    }
    for (name, value) in [
        ("url", url),
        ("token", token.or(file_token)),
        ("node_id", options.node_id.clone()),
        ("ca_bundle", ca_bundle),
        ("alias", options.alias.clone()),
    ] {
        if let Some(value) = value {
            fields.insert(name.into(), json!(value));
        }
    }
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    let settings = ConnectionSettings {
        url: text("url"),
        token: text("token"),
        node_id: text("node_id"),
        ca_bundle: text("ca_bundle").map(PathBuf::from),
        alias: text("alias"),
    };
    let text = format!("{:#}\n", Value::Object(fields));
    write_private(path, text.as_bytes()).map_err(|e| Failure::io("write", path, e))?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_normalised_to_the_form_that_reaches_the_relay() {
        for (given, expected) in [
            ("http://hub:7331/", "http://hub:7331"),
            ("http://HUB:7331", "http://HUB:7331"),
            ("http://hub:80", "http://hub"),
            ("https://hub:443/", "https://hub"),
            ("https://hub:80", "https://hub:80"),
            ("http://127.1:7331", "http://127.0.0.1:7331"),
            (" http://[::1]:7331 ", "http://[::1]:7331"),
        ] {
            assert_eq!(check_url(given).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn tokens_that_cannot_be_sent_in_a_header_are_rejected() {
        assert_eq!(check_token(" tok\n").as_deref(), Ok("tok"));
        for bad in ["two words", "a\nb", "t\u{f6}k", "t\0k"] {
            assert_eq!(check_token(bad).expect_err("rejected").field, "token");
        }
    }
}
