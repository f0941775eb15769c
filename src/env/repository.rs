//! The fingerprint of the git repository around a directory.
//!
//! Git's files are read directly; git is not run.

use std::fs;
use std::path::{Path, PathBuf};

use c2c_log_format::checksum::sha256;
use c2c_log_format::id::hex;

fn hex12(bytes: &[u8]) -> String {
    hex(&sha256(bytes)[..6])
}

/// First 12 hex digits of the SHA-256 of the repository's remote URL, else of its git common
/// directory; `default` outside a repository.
pub fn fingerprint(working_directory: &Path) -> String {
    let Some(common) = git_common_dir(working_directory) else { return String::from("default") };
    match remote_url(&common) {
        Some(url) => hex12(url.as_bytes()),
        None => hex12(common.as_os_str().as_encoded_bytes()),
    }
}

/// The git directory that all worktrees of the repository share.
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

/// `remote.origin.url` from the repository's configuration file.
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
