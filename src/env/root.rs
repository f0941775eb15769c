//! Resolution of the broker root.
//!
//! In order of precedence: `--broker-root`; `C2C_MCP_BROKER_ROOT`;
//! `$XDG_STATE_HOME/c2c/repos/<fp>/broker`; `$HOME/.c2c/repos/<fp>/broker`. `<fp>` is the fingerprint
//! of the repository.

use std::fs;
use std::path::{Path, PathBuf};

use super::repository::fingerprint;
use super::{C2C_MCP_BROKER_ROOT, HOME, XDG_STATE_HOME};
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// A broker root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    pub path: PathBuf,
    /// The option or variable that determined the path.
    pub reason: &'static str,
}

/// Finds the root for a working directory. The root need not exist; fails with `bad_root` if its path
/// names something other than a directory.
pub fn resolve(flag: Option<&Path>, working_directory: &Path) -> Result<Root, Rejection> {
    let root = named(flag, working_directory)?;
    if fs::metadata(&root.path).is_ok_and(|metadata| !metadata.is_dir()) {
        let message = format!("{} is not a directory", root.path.display());
        return Err(Rejection::new(Code::BadRoot, "broker_root", message).hint("pass a directory"));
    }
    Ok(root)
}

/// Like [`resolve`], but does not check what the path names.
pub fn named(flag: Option<&Path>, working_directory: &Path) -> Result<Root, Rejection> {
    if let Some(path) = flag {
        let path = working_directory.join(path);
        return Ok(Root { path, reason: "--broker-root" });
    }
    if let Some(path) = C2C_MCP_BROKER_ROOT.path() {
        let reason = C2C_MCP_BROKER_ROOT.name;
        if path.is_relative() {
            let message = format!("{reason} is '{}', a relative path", path.display());
            return Err(Rejection::new(Code::BadRoot, reason, message).hint("use an absolute path"));
        }
        return Ok(Root { path, reason });
    }
    let Some((parent, reason)) = parents().next() else {
        return Err(Rejection::new(Code::BadRoot, "HOME", "neither HOME nor a broker root is set")
            .hint("set HOME, or pass --broker-root DIR"));
    };
    let path = parent.join(fingerprint(working_directory)).join("broker");
    Ok(Root { path, reason })
}

/// The directories that contain the broker roots of this user, in order of precedence, each with the
/// variable that determines it.
fn parents() -> impl Iterator<Item = (PathBuf, &'static str)> {
    let state = XDG_STATE_HOME.path().map(|state| (state.join("c2c/repos"), XDG_STATE_HOME.name));
    let home = HOME.path().map(|home| (home.join(".c2c/repos"), HOME.name));
    state.into_iter().chain(home)
}

/// The existing roots of this user, each with its fingerprint, sorted by path.
pub fn all() -> Vec<(PathBuf, String)> {
    let directories = parents().flat_map(|(parent, _)| fs::read_dir(parent));
    let mut roots = Vec::new();
    for entry in directories.flatten().flatten() {
        let (root, name) = (entry.path().join("broker"), entry.file_name());
        if let Some(name) = name.to_str().filter(|_| root.is_dir()) {
            roots.push((root, name.to_owned()));
        }
    }
    roots.sort();
    roots
}
