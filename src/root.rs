//! Which broker root? The only resolver.
//!
//! `--broker-root`; `C2C_MCP_BROKER_ROOT`; `$XDG_STATE_HOME/c2c/repos/<fp>/broker`;
//! `$HOME/.c2c/repos/<fp>/broker`. `<fp>` comes from the git remote, else from the git common
//! directory, else it is `default`. Git's files are read; git is not run.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use c2c_log_format::checksum::sha256;
use c2c_log_format::id::hex;

use crate::code::Code;
use crate::decide::Refusal;

/// A root, and why it is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    pub path: PathBuf,
    pub reason: &'static str,
}

/// Finds the root for a working directory. It need not be there, but nothing else may be.
pub fn resolve(flag: Option<&Path>, working_directory: &Path) -> Result<Root, Refusal> {
    let root = named(flag, working_directory)?;
    if fs::metadata(&root.path).is_ok_and(|found| !found.is_dir()) {
        let message = format!("{} is not a directory", root.path.display());
        return Err(Refusal::new(Code::BadRoot, "broker_root", message).hint("name a directory"));
    }
    Ok(root)
}

/// The same, whatever lies there.
pub fn named(flag: Option<&Path>, working_directory: &Path) -> Result<Root, Refusal> {
    if let Some(path) = flag {
        let path = working_directory.join(path);
        return Ok(Root { path, reason: "--broker-root" });
    }
    if let Some(path) = env::var_os("C2C_MCP_BROKER_ROOT").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        if path.is_relative() {
            let message = format!("C2C_MCP_BROKER_ROOT is '{}', a relative path", path.display());
            return Err(Refusal::new(Code::BadRoot, "C2C_MCP_BROKER_ROOT", message)
                .hint("use an absolute path"));
        }
        return Ok(Root { path, reason: "C2C_MCP_BROKER_ROOT" });
    }
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let tail = Path::new("repos").join(fingerprint(working_directory)).join("broker");
    match (state, home) {
        (Some(state), _) => {
            Ok(Root { path: state.join("c2c").join(tail), reason: "XDG_STATE_HOME" })
        }
        (None, Some(home)) => Ok(Root { path: home.join(".c2c").join(tail), reason: "HOME" }),
        (None, None) => Err(Refusal::new(Code::BadRoot, "HOME", "neither HOME nor a root is set")
            .hint("set HOME, or pass --broker-root")),
    }
}

/// The roots of this user, each with its fingerprint; others may come at any time.
pub fn all() -> Vec<(PathBuf, String)> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let places = [
        absolute("XDG_STATE_HOME").map(|state| state.join("c2c/repos")),
        absolute("HOME").map(|home| home.join(".c2c/repos")),
    ];
    let mut found = Vec::new();
    for entry in places.into_iter().flatten().flat_map(fs::read_dir).flatten().flatten() {
        let (root, name) = (entry.path().join("broker"), entry.file_name());
        if let Some(name) = name.to_str().filter(|_| root.is_dir()) {
            found.push((root, name.to_owned()));
        }
    }
    found.sort();
    found
}

/// Where this user's settings of c2c are: `$XDG_CONFIG_HOME/c2c`, else `~/.config/c2c`.
pub fn config_directory() -> Result<PathBuf, Refusal> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME");
    let config = config.or_else(|| absolute("HOME").map(|home| home.join(".config")));
    config
        .map(|path| path.join("c2c"))
        .ok_or_else(|| Refusal::new(Code::BadRoot, "HOME", "HOME is not set").hint("set HOME"))
}

/// Where the log of a relay is: below `$XDG_STATE_HOME`, else `~/.local/state`.
pub fn relay_directory(listen: &str) -> Result<PathBuf, Refusal> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME");
    let state = state.or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = listen.chars().map(plain).collect();
    state.map(|path| path.join("c2c/relay").join(name)).ok_or_else(|| {
        Refusal::new(Code::BadRoot, "HOME", "HOME is not set").hint("set HOME, or --persist-dir")
    })
}

fn hex12(bytes: &[u8]) -> String {
    hex(&sha256(bytes)[..6])
}

/// First 12 hex digits of the SHA-256 of what identifies the repository.
pub fn fingerprint(working_directory: &Path) -> String {
    let Some(common) = git_common_dir(working_directory) else { return String::from("default") };
    match remote_url(&common) {
        Some(url) => hex12(url.as_bytes()),
        None => hex12(common.as_os_str().as_encoded_bytes()),
    }
}

/// What `C2C_RELAY_NODE_ID` says, else host name and repository.
pub fn node_id(working_directory: &Path) -> String {
    match env::var("C2C_RELAY_NODE_ID") {
        Ok(id) if !id.is_empty() => id,
        _ => node_id_of(&fingerprint(working_directory)),
    }
}

/// `<hostname>-<first 8 hex digits of the repository's fingerprint>`, outside of repositories
/// `<hostname>-local`: two roots of one host are two nodes.
pub fn node_id_of(fingerprint: &str) -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = host.to_string_lossy();
    match fingerprint.get(..8) {
        Some(start) if start.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{host}-{start}")
        }
        _ => format!("{host}-local"),
    }
}

/// The git directory that all worktrees share.
fn git_common_dir(working_directory: &Path) -> Option<PathBuf> {
    let start = fs::canonicalize(working_directory).ok()?;
    let dot_git = start.ancestors().map(|dir| dir.join(".git")).find(|path| path.exists())?;
    let git_dir = if dot_git.is_dir() {
        dot_git
    } else {
        let pointer = fs::read_to_string(&dot_git).ok()?;
        let path = pointer.strip_prefix("gitdir:")?.trim();
        dot_git.parent()?.join(path)
    };
    let common = match fs::read_to_string(git_dir.join("commondir")) {
        Ok(relative) => git_dir.join(relative.trim()),
        Err(_) => git_dir,
    };
    fs::canonicalize(common).ok()
}

/// `remote.origin.url` from the repository's own configuration file.
fn remote_url(common: &Path) -> Option<String> {
    let config = fs::read_to_string(common.join("config")).ok()?;
    let mut in_origin = false;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            in_origin = line.eq_ignore_ascii_case("[remote \"origin\"]");
        } else if in_origin
            && let Some((key, value)) = line.split_once('=')
            && key.trim().eq_ignore_ascii_case("url")
        {
            return Some(value.trim().trim_matches('"').to_owned());
        }
    }
    None
}
