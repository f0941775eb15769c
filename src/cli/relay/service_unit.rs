//! The systemd user unit that runs the connector.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::key::key_path;
use super::target::{RelayTarget, root_is_named};
use crate::cli::context::Context;
use crate::cli::output;
use crate::env::directories::config_directory;
use crate::env::{C2C_RELAY_IDENTITY_PATH, C2C_RELAY_NODE_ID, C2C_RELAY_TOKEN, C2C_RELAY_URL};
use crate::error::Failure;
use crate::platform::fs::write_private;
use crate::relay::keys;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// Default of `relay connect --interval`, seconds.
pub const DEFAULT_INTERVAL_S: u64 = 30;
/// Default of `relay connect --ttl`, seconds.
pub const DEFAULT_TTL_S: u64 = 300;

/// The command that starts the service.
const START: &str = "systemctl --user daemon-reload && systemctl --user enable --now c2c-connect";

/// The options of `relay connect` that the unit repeats.
pub struct ServiceOptions<'a> {
    pub target: &'a RelayTarget,
    pub interval: Duration,
    pub ttl_s: u64,
    pub mirror: bool,
    pub verbose: bool,
    /// The value of `--log-format`.
    pub log_format: Option<&'static str>,
}

/// Writes the unit and prints how to start it. The service serves all broker roots of the user,
/// because a user has one connector, unless a root or a node was named.
pub fn install_service(options: &ServiceOptions<'_>, context: &Context) -> Result<(), Failure> {
    let arguments = arguments(options, context)?;
    let program = std::env::current_exe().map_err(|e| Failure::io("find", "this program", e))?;
    let mut command_line = quoted(&program.display().to_string());
    for argument in &arguments {
        command_line.push(' ');
        command_line.push_str(&quoted_if_necessary(argument));
    }
    let unit = format!(
        "[Unit]\nDescription=c2c relay connector\n\n[Service]\n\
         ExecStart={command_line}\nRestart=always\nRestartSec=5\n\n\
         [Install]\nWantedBy=default.target\n"
    );
    let directory = config_directory()?;
    let path = directory.with_file_name("systemd").join("user/c2c-connect.service");
    write_private(&path, unit.as_bytes()).map_err(|e| Failure::io("write", &path, e))?;
    if context.common.json {
        return output::print_json(&json!({ "ok": true, "path": path, "next": START }));
    }
    output::print(&format!("wrote {}\nstart it with: {START}\n", path.display()))
}

/// The arguments of the service: the given options, and settings that are only in the environment.
fn arguments(options: &ServiceOptions<'_>, context: &Context) -> Result<Vec<String>, Failure> {
    let target = options.target;
    if target.token.is_some() || C2C_RELAY_TOKEN.is_set() {
        let message = "a token must not be written to a unit";
        return Err(Rejection::new(Code::InvalidArgument, "token", message)
            .hint("save it first: c2c relay setup --url URL --token-file FILE")
            .into());
    }
    let mut arguments = vec!["relay".to_owned(), "connect".to_owned()];
    let node_id = target.node_id.clone().or_else(|| C2C_RELAY_NODE_ID.text());
    if root_is_named(context) || node_id.is_some() {
        arguments.extend(["--broker-root".into(), absolute(context.broker.root())]);
    } else {
        arguments.push("--all".into());
    }
    // The key in use, unless the service finds it itself.
    let default_key = keys::path(None).ok();
    let key = key_path(target.identity_path.as_deref(), context).ok();
    let is_default = key == default_key && !C2C_RELAY_IDENTITY_PATH.is_set();
    let path = |path: &Option<PathBuf>| path.as_deref().map(absolute);
    let interval = options.interval;
    let is_default_interval = interval == Duration::from_secs(DEFAULT_INTERVAL_S);
    for (flag, value) in [
        ("--relay-url", target.relay_url.clone().or_else(|| C2C_RELAY_URL.text())),
        ("--token-file", path(&target.token_file)),
        ("--identity-path", path(&key.filter(|_| !is_default))),
        ("--node-id", node_id),
        ("--ca-bundle", path(&target.ca_bundle)),
        ("--interval", (!is_default_interval).then(|| interval.as_secs_f64().to_string())),
        ("--log-format", options.log_format.map(str::to_owned)),
        ("--ttl", (options.ttl_s != DEFAULT_TTL_S).then(|| options.ttl_s.to_string())),
    ] {
        arguments.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
    }
    for (flag, is_set) in [("--mirror", options.mirror), ("--verbose", options.verbose)] {
        arguments.extend(is_set.then(|| flag.to_owned()));
    }
    Ok(arguments)
}

/// A path that names the same file in every working directory.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// An argument in the `ExecStart` of a unit.
fn quoted_if_necessary(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@,=".contains(&byte);
    if text.bytes().all(is_plain) { text.to_owned() } else { quoted(text) }
}

/// A quoted argument in the `ExecStart` of a unit. Quotes do not disable `%` and `$` there.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('%', "%%").replace('$', "$$"))
}
