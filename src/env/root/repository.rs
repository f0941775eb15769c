//! The git repository around a directory: its common directory and its remote.
//!
//! Git's files are read directly; git is not run.

use std::fs;
use std::path::{Path, PathBuf};

use super::git_config::{self, ConfigEntry};
use super::remote::{Remote, lexical, normalise};
use crate::env::directories::home;

/// Longest chain of includes, and of remotes that are directories with a remote of their own.
const DEPTH_MAX: usize = 8;

/// What identifies a repository beside its common directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryIdentity {
    /// The normalised remote.
    Remote(String),
    /// The common directory of the repository that this one was cloned from.
    CommonDirectory(PathBuf),
}

/// The remote of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryRemote {
    /// Its URL as configured.
    pub url: String,
    /// Whether it is the remote `origin`.
    pub is_origin: bool,
    pub identity: RepositoryIdentity,
}

/// The git directory that all worktrees of the repository around a directory share. The directory
/// must be absolute and without symbolic links.
pub fn common_directory(directory: &Path) -> Option<PathBuf> {
    let git_directory = directory.ancestors().find_map(git_directory_of)?;
    let common = match fs::read_to_string(git_directory.join("commondir")) {
        Ok(relative) => git_directory.join(relative.trim_end_matches(['\n', '\r'])),
        Err(_) => git_directory,
    };
    if let Ok(common) = fs::canonicalize(&common) {
        return Some(common);
    }
    // A worktree whose repository was moved or removed.
    let common = lexical(&common);
    let is_worktree = |path: &&Path| path.file_name().is_some_and(|name| name == "worktrees");
    let repository = common.parent().filter(is_worktree).and_then(Path::parent);
    Some(repository.map_or(common.clone(), Path::to_owned))
}

/// The git directory that belongs to exactly this directory.
fn git_directory_of(directory: &Path) -> Option<PathBuf> {
    let dot_git = directory.join(".git");
    match fs::metadata(&dot_git) {
        Ok(metadata) if metadata.is_dir() => return Some(dot_git),
        Ok(metadata) if metadata.is_file() => {
            let text = fs::read_to_string(&dot_git).unwrap_or_default();
            if let Some(path) = text.strip_prefix("gitdir:") {
                return Some(directory.join(path.trim()));
            }
        }
        _ => {}
    }
    is_git_directory(directory).then(|| directory.to_owned())
}

/// Whether a directory is a git directory, as that of a bare repository or of a worktree.
fn is_git_directory(path: &Path) -> bool {
    fs::symlink_metadata(path.join("HEAD")).is_ok()
        && (path.join("objects").is_dir() || path.join("commondir").is_file())
}

/// The remote `origin` of a repository, or its only remote.
pub fn remote(common: &Path) -> Option<RepositoryRemote> {
    remote_within(common, DEPTH_MAX)
}

fn remote_within(common: &Path, depth: usize) -> Option<RepositoryRemote> {
    let entries = read_config(&common.join("config"), common, DEPTH_MAX);
    let (name, url) = remote_url(&entries)?;
    let identity = match normalise(&url) {
        Remote::Network(text) => RepositoryIdentity::Remote(text),
        Remote::Directory(path) => identity_of_directory(&path, common, depth)?,
    };
    Some(RepositoryRemote { is_origin: name == "origin", url, identity })
}

/// Name and first URL of `origin`, or of the only remote.
fn remote_url(entries: &[ConfigEntry]) -> Option<(String, String)> {
    let is_url = |entry: &&ConfigEntry| {
        entry.section == "remote" && entry.key == "url" && !entry.value.is_empty()
    };
    let remotes = || entries.iter().filter(is_url).filter(|entry| !entry.subsection.is_empty());
    let first = remotes().next()?;
    let is_only = remotes().all(|entry| entry.subsection == first.subsection);
    let origin = remotes().find(|entry| entry.subsection == "origin");
    let chosen = origin.or(Some(first).filter(|_| is_only))?;
    Some((chosen.subsection.clone(), chosen.value.clone()))
}

/// The repository in a directory of this machine is the same one as its clone.
fn identity_of_directory(path: &Path, common: &Path, depth: usize) -> Option<RepositoryIdentity> {
    let is_dot_git = common.file_name().is_some_and(|name| name == ".git");
    let top = common.parent().filter(|_| is_dot_git).unwrap_or(common);
    let path = lexical(&top.join(path));
    let with_suffix = path.with_file_name(format!("{}.git", path.file_name()?.to_string_lossy()));
    let cloned = [&path, &with_suffix].into_iter().find_map(|path| {
        let path = fs::canonicalize(path).ok()?;
        git_directory_of(&path).and_then(|_| common_directory(&path))
    });
    match cloned {
        Some(cloned) if cloned == common || depth == 0 => None,
        Some(cloned) => Some(match remote_within(&cloned, depth - 1) {
            Some(remote) => remote.identity,
            None => RepositoryIdentity::CommonDirectory(cloned),
        }),
        None => {
            let text = path.to_string_lossy();
            Some(RepositoryIdentity::Remote(text.strip_suffix(".git").unwrap_or(&text).to_owned()))
        }
    }
}

/// Reads a configuration file with the files that it includes.
fn read_config(path: &Path, common: &Path, depth: usize) -> Vec<ConfigEntry> {
    let bytes = fs::read(path).unwrap_or_default();
    let mut entries = Vec::new();
    for entry in git_config::parse(&String::from_utf8_lossy(&bytes)) {
        let is_included = entry.key == "path"
            && match (&*entry.section, &*entry.subsection) {
                ("include", "") => true,
                ("includeif", condition) => applies(condition, path, common),
                _ => false,
            };
        if is_included && depth > 0 {
            let directory = path.parent().unwrap_or(common);
            let included = directory.join(expand_home(&entry.value));
            entries.extend(read_config(&included, common, depth - 1));
        }
        entries.push(entry);
    }
    entries
}

fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), home()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => path.into(),
    }
}

/// Whether the condition of an `includeIf` holds. Only conditions about the git directory can.
fn applies(condition: &str, config: &Path, common: &Path) -> bool {
    let (pattern, ignores_case) = match condition.strip_prefix("gitdir:") {
        Some(pattern) => (pattern, false),
        None => match condition.strip_prefix("gitdir/i:") {
            Some(pattern) => (pattern, true),
            None => return false,
        },
    };
    let mut pattern = match pattern.strip_prefix("./") {
        Some(rest) => config.with_file_name("").join(rest).to_string_lossy().into_owned(),
        None => expand_home(pattern).to_string_lossy().into_owned(),
    };
    if !pattern.starts_with('/') {
        pattern.insert_str(0, "**/");
    }
    if pattern.ends_with('/') {
        pattern.push_str("**");
    }
    let mut path = common.to_string_lossy().into_owned();
    if ignores_case {
        (pattern, path) = (pattern.to_lowercase(), path.to_lowercase());
    }
    matches_glob(pattern.as_bytes(), path.as_bytes())
}

/// Whether a path matches a pattern with `*`, `?` and `**`.
fn matches_glob(pattern: &[u8], path: &[u8]) -> bool {
    if let Some(rest) = pattern.strip_prefix(b"**/") {
        let starts = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        return matches_glob(rest, path)
            || starts.map(|(at, _)| at + 1).any(|at| matches_glob(rest, &path[at..]));
    }
    match (pattern, path) {
        ([], _) => path.is_empty(),
        ([b'*', b'*', rest @ ..], _) => {
            (0..=path.len()).any(|skipped| matches_glob(rest, &path[skipped..]))
        }
        ([b'*', rest @ ..], _) => {
            let name = path.iter().take_while(|byte| **byte != b'/').count();
            (0..=name).any(|skipped| matches_glob(rest, &path[skipped..]))
        }
        ([b'?', rest @ ..], [byte, path @ ..]) => *byte != b'/' && matches_glob(rest, path),
        ([wanted, rest @ ..], [byte, path @ ..]) => wanted == byte && matches_glob(rest, path),
        ([_, ..], []) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_matches_as_in_git() {
        for (pattern, path, expected) in [
            ("/a/b", "/a/b", true),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/b/c", false),
            ("/a/**", "/a/b/c", true),
            ("**/b/**", "/a/b/.git", true),
            ("**/b/**", "/a/bb/.git", false),
            ("/?/b", "/a/b", true),
            ("/a", "/a/b", false),
        ] {
            assert_eq!(matches_glob(pattern.as_bytes(), path.as_bytes()), expected, "{pattern}");
        }
    }
}
