//! Resolution of the broker root.
//!
//! In order of precedence: `--broker-root`; `C2C_MCP_BROKER_ROOT`; the root in which the caller's
//! session is registered; the root to which the repository is pinned; an existing root under an older
//! fingerprint; a new root under `$XDG_STATE_HOME/c2c`, else under `$HOME/.c2c`.

mod git_config;
mod pin;
mod pointer;
mod record;
mod remote;
mod repository;

use std::fs;
use std::path::{Path, PathBuf};

use c2c_log_format::checksum::sha256;
use c2c_log_format::id::hex;
use c2c_log_format::payload::Process;

use self::pin::PinKey;
use self::repository::{RepositoryIdentity, common_directory, remote};
use super::C2C_MCP_BROKER_ROOT;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

pub use self::pointer::SessionHint;

/// Directory of the roots below a base directory.
const REPOSITORIES: &str = "repos";
/// Directory of a root below the fingerprint of its repository.
const BROKER: &str = "broker";
/// The fingerprint outside of repositories.
const DEFAULT: &str = "default";

/// The reasons of roots that the working directory does not determine, beside the variable.
const OPTION: &str = "--broker-root";
const SESSION: &str = "session";

/// A broker root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    pub path: PathBuf,
    /// The option, variable or record that determined the path.
    pub reason: &'static str,
    /// What the first write records about the repository.
    pub claim: Option<RootClaim>,
}

impl Root {
    /// Whether the working directory led to this root.
    pub fn is_by_directory(&self) -> bool {
        !self.is_named() && self.reason != SESSION
    }

    /// Whether an option or a variable names this root.
    pub fn is_named(&self) -> bool {
        self.reason == OPTION || self.reason == C2C_MCP_BROKER_ROOT.name
    }
}

/// The repository for which a root was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootClaim {
    common: PathBuf,
    is_pinned: bool,
}

impl RootClaim {
    /// Pins the repository to a root, unless its common directory is pinned.
    pub fn record(&mut self, root: &Path) {
        if !self.is_pinned {
            self.record_all(root);
            self.is_pinned = true;
        }
    }

    /// Pins the repository to a root under each of its keys that has no pin, such as that of a remote
    /// that was added.
    pub fn record_all(&self, root: &Path) {
        pin::write(&self.common, root);
    }
}

/// Finds the root for a caller. The root need not exist.
///
/// `directory` is the working directory, `None` if it does not exist. Fails with `bad_directory` if
/// only a missing directory could determine the root, and with `bad_root` if the path names something
/// other than a directory.
pub fn resolve(
    flag: Option<&Path>,
    directory: Option<&Path>,
    sessions: &[SessionHint<'_>],
) -> Result<Root, Rejection> {
    let root = named(flag, directory, sessions)?;
    if fs::metadata(&root.path).is_ok_and(|metadata| !metadata.is_dir()) {
        let message = format!("{} is not a directory", root.path.display());
        return Err(Rejection::new(Code::BadRoot, "broker_root", message).hint("pass a directory"));
    }
    Ok(root)
}

/// Like [`resolve`], but does not check what the path names.
pub fn named(
    flag: Option<&Path>,
    directory: Option<&Path>,
    sessions: &[SessionHint<'_>],
) -> Result<Root, Rejection> {
    let without_claim = |path, reason| Root { path, reason, claim: None };
    if let Some(path) = flag {
        let path = match (path.is_absolute(), directory) {
            (true, _) => path.to_owned(),
            (false, Some(directory)) => directory.join(path),
            (false, None) => return Err(bad_directory(None)),
        };
        return Ok(without_claim(path, OPTION));
    }
    if let Some(path) = C2C_MCP_BROKER_ROOT.path() {
        let reason = C2C_MCP_BROKER_ROOT.name;
        if path.is_relative() {
            let message = format!("{reason} is '{}', a relative path", path.display());
            return Err(Rejection::new(Code::BadRoot, reason, message).hint("use an absolute path"));
        }
        return Ok(without_claim(path, reason));
    }
    if let Some(path) = sessions.iter().find_map(|hint| pointer::find(*hint)) {
        return Ok(without_claim(path, SESSION));
    }
    let Some((base, reason)) = record::base() else {
        return Err(Rejection::new(Code::BadRoot, "HOME", "neither HOME nor a broker root is set")
            .hint("set HOME, or pass --broker-root DIR"));
    };
    let found = directory.map(|directory| fs::canonicalize(directory).map_err(|_| directory));
    let directory = match found {
        Some(Ok(directory)) => directory,
        Some(Err(missing)) => return Err(bad_directory(Some(missing))),
        None => return Err(bad_directory(None)),
    };
    let Some(common) = common_directory(&directory) else {
        return Ok(without_claim(below(&base, DEFAULT), reason));
    };
    Ok(of_repository(common, &base, reason))
}

fn bad_directory(directory: Option<&Path>) -> Rejection {
    let message = match directory {
        Some(path) => format!("the working directory {} does not exist", path.display()),
        None => String::from("the working directory does not exist"),
    };
    Rejection::new(Code::BadDirectory, "cwd", message)
        .hint("it was removed: change to an existing directory")
}

fn below(base: &Path, fingerprint: &str) -> PathBuf {
    base.join(REPOSITORIES).join(fingerprint).join(BROKER)
}

/// The root of a repository: the pinned one, else an older one, else a new one.
fn of_repository(common: PathBuf, base: &Path, reason: &'static str) -> Root {
    let pinned = |path| Root { path, reason: "pin", claim: None };
    if let Some(path) = pin::find(&PinKey::CommonDirectory(&common)) {
        return Root { claim: Some(RootClaim { common, is_pinned: true }), ..pinned(path) };
    }
    let remote = remote(&common);
    let own_fingerprint = hex12(common.as_os_str().as_encoded_bytes());
    let claim = Some(RootClaim { common: common.clone(), is_pinned: false });
    let by_remote =
        remote.as_ref().and_then(|remote| pin::find(&PinKey::of_identity(&remote.identity)));
    let by_inode = || PinKey::of_inode(&common).and_then(|key| pin::find(&key));
    if let Some(path) = by_remote.or_else(by_inode) {
        return Root { claim, ..pinned(path) };
    }
    let of_url = remote.as_ref().filter(|remote| remote.is_origin);
    let of_url = of_url.map(|remote| hex12(remote.url.as_bytes()));
    let older = of_url.iter().chain([&own_fingerprint]).map(|older| below(base, older));
    let mut existing = older.filter(|path| path.is_dir());
    let path = existing.next().unwrap_or_else(|| {
        let fingerprint = match remote.map(|remote| remote.identity) {
            Some(RepositoryIdentity::Remote(text)) => hex12(text.as_bytes()),
            Some(RepositoryIdentity::CommonDirectory(cloned)) => {
                hex12(cloned.as_os_str().as_encoded_bytes())
            }
            None => own_fingerprint.clone(),
        };
        below(base, &fingerprint)
    });
    Root { path, reason, claim }
}

/// First 12 hex digits of the SHA-256 of a text.
fn hex12(bytes: &[u8]) -> String {
    hex(&sha256(bytes)[..6])
}

/// Records the root in which a session is registered.
pub fn remember_session(hint: SessionHint<'_>, process: Option<&Process>, root: &Path) {
    pointer::write(hint, process, root);
}

/// The root in which a session is registered, according to its pointer.
pub fn of_session(hint: SessionHint<'_>) -> Option<PathBuf> {
    pointer::find(hint)
}

/// Whether a client made a registered session's id for one conversation.
pub fn is_conversation(session_id: &str) -> bool {
    pointer::is_conversation(session_id)
}

/// The fingerprint in the path of a root; `None` for a root that a user named.
pub fn fingerprint(root: &Path) -> Option<&str> {
    let directory =
        root.parent().filter(|_| root.file_name().is_some_and(|name| name == BROKER))?;
    let is_below = directory.parent()?.file_name().is_some_and(|name| name == REPOSITORIES);
    directory.file_name()?.to_str().filter(|_| is_below)
}

/// The existing roots of this user in the usual place, sorted by path.
pub fn all() -> Vec<PathBuf> {
    let directories = record::bases().flat_map(|(base, _)| fs::read_dir(base.join(REPOSITORIES)));
    let entries = directories.flatten().flatten().map(|entry| entry.path().join(BROKER));
    let mut roots: Vec<PathBuf> = entries.filter(|root| root.is_dir()).collect();
    roots.sort();
    roots
}

/// The existing roots of this user, also those that sessions are registered in but that another
/// directory holds, each with the repository that was pinned to it first.
pub fn everywhere() -> Vec<(PathBuf, Option<PathBuf>)> {
    let pins = pin::all();
    let recorded = pins.iter().map(|(root, _)| root.clone()).chain(pointer::roots());
    let mut roots: Vec<PathBuf> =
        all().into_iter().chain(recorded).filter(|root| root.is_dir()).collect();
    roots.sort();
    roots.dedup();
    let repository_of = |root: &Path| {
        let common = pins.iter().find(|(pinned, _)| pinned == root).map(|(_, common)| common)?;
        let is_dot_git = common.file_name().is_some_and(|name| name == ".git");
        Some(common.parent().filter(|_| is_dot_git).unwrap_or(common).to_owned())
    };
    let with_repository = |root: PathBuf| {
        let repository = repository_of(&root);
        (root, repository)
    };
    roots.into_iter().map(with_repository).collect()
}
