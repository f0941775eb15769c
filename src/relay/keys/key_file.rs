//! The key file: private to its owner, written atomically, and backed up before it is replaced.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Identity, IdentityError, fingerprint};
use crate::platform::fs::{
    PreparedFile, WriteOptions, create_private_directory, mode_of, owner_of, set_file_mode,
};
use crate::platform::{self, user};
use crate::relay::protocol::request::KeyRotation;
use crate::relay::protocol::sign::{SecretKey, decode, encode};

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// In a sticky directory, other users may create files but not replace those of others.
const STICKY: u32 = 0o1000;
/// A larger file is not an identity.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Contents of the file. Older programs know all fields except `rotations`.
#[derive(Serialize, Deserialize)]
struct IdentityFile {
    version: u32,
    alg: String,
    public_key: String,
    private_key: String,
    fingerprint: String,
    created_at: String,
    #[serde(default)]
    alias_hint: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rotations: Vec<KeyRotation>,
}

/// Loads a key. Rejects it if other users could have read or replaced it.
pub fn load(path: &Path) -> Result<Identity, IdentityError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(IdentityError::Missing(path.into()));
        }
        Err(source) => return Err(io_error("open", path)(source)),
    };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(IdentityError::Invalid { path: path.into(), what: "not a file".into() });
    }
    check_private(&file, path, 0o077, FILE_MODE)?;
    // A user who can write to the directory of the file, or of the link to it, can replace the key.
    for path in [path, &resolve_links(path)?] {
        let directory = parent_directory(path);
        let opened = File::open(&directory).map_err(io_error("open", &directory))?;
        let mode = mode_of(&opened.metadata().map_err(io_error("inspect", &directory))?);
        let forbidden = if mode & STICKY == 0 { 0o022 } else { 0 };
        check_private(&opened, &directory, forbidden, DIRECTORY_MODE)?;
    }
    let mut text = String::new();
    let read = (&mut file).take(FILE_BYTES_MAX).read_to_string(&mut text);
    read.map_err(io_error("read", path))?;
    parse(&text).map_err(|what| IdentityError::Invalid { path: path.into(), what })
}

/// Checks that a file has none of the mode bits in `forbidden` and belongs to this user.
fn check_private(
    file: &File,
    path: &Path,
    forbidden: u32,
    expected: u32,
) -> Result<(), IdentityError> {
    let metadata = file.metadata().map_err(io_error("inspect", path))?;
    let mode = mode_of(&metadata);
    if mode & forbidden != 0 {
        return Err(IdentityError::Mode { path: path.into(), mode, required: expected });
    }
    // A directory of another user is usually one of root, such as /tmp.
    let is_safe = user::acts_for(owner_of(&metadata)) || metadata.is_dir();
    if is_safe { Ok(()) } else { Err(IdentityError::Owner(path.into())) }
}

fn parse(text: &str) -> Result<Identity, String> {
    let stored: IdentityFile = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if stored.version != 1 {
        return Err(format!("version {} is newer than this program", stored.version));
    }
    if stored.alg != "ed25519" {
        return Err(format!("algorithm '{}' is not ed25519", stored.alg));
    }
    let seed = decode("private_key", &stored.private_key).map_err(|e| e.to_string())?;
    let key = SecretKey::from_seed(&seed);
    if key.public().to_string() != stored.public_key {
        return Err("public_key does not belong to private_key".into());
    }
    if fingerprint(&key.public()) != stored.fingerprint {
        return Err("fingerprint does not belong to public_key".into());
    }
    let IdentityFile { created_at, alias_hint, rotations, .. } = stored;
    Ok(Identity { key, created_at, alias_hint, rotations })
}

fn to_json(identity: &Identity) -> String {
    let stored = IdentityFile {
        version: 1,
        alg: "ed25519".into(),
        public_key: identity.key.public().to_string(),
        private_key: encode(identity.key.seed()),
        fingerprint: fingerprint(&identity.key.public()),
        created_at: identity.created_at.clone(),
        alias_hint: identity.alias_hint.clone(),
        rotations: identity.rotations.clone(),
    };
    // Serialising strings and one number cannot fail.
    let mut text = serde_json::to_string_pretty(&stored).unwrap_or_default();
    text.push('\n');
    text
}

/// Writes a new key file. Fails if the file exists.
pub fn create(path: &Path, identity: &Identity) -> Result<(), IdentityError> {
    let _guard = lock(path)?;
    match prepare(path, identity)?.commit_new() {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            Err(IdentityError::Exists(path.into()))
        }
        Err(source) => Err(io_error("create", path)(source)),
    }
}

/// Replaces a key by the one that `next` creates, and keeps the old file as a backup.
///
/// `next` receives the current key, or `None` if the file is not a valid identity. Returns the new
/// key and the path of the backup.
pub fn replace(
    path: &Path,
    next: impl FnOnce(Option<&Identity>) -> Result<Identity, IdentityError>,
) -> Result<(Identity, PathBuf), IdentityError> {
    let path = &resolve_links(path)?;
    let _guard = lock(path)?;
    let current = match load(path) {
        Ok(identity) => Some(identity),
        Err(IdentityError::Invalid { .. }) => None,
        Err(error) => return Err(error),
    };
    let identity = next(current.as_ref())?;
    let backup = back_up(path, current.as_ref())?;
    prepare(path, &identity)?.commit().map_err(io_error("replace", path))?;
    Ok((identity, backup))
}

/// Creates a backup of the current file: a second hard link, named after the fingerprint of the
/// key. The directory is synced, so that the backup is durable before the file is replaced.
fn back_up(path: &Path, current: Option<&Identity>) -> Result<PathBuf, IdentityError> {
    let fingerprint = current.map(|identity| fingerprint(&identity.key.public()));
    let label = match &fingerprint {
        Some(text) => text.trim_start_matches("SHA256:").chars().take(12).collect(),
        None => String::from("unreadable"),
    };
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{label}.bak"));
    let backup = PathBuf::from(name);
    match fs::hard_link(path, &backup) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(io_error("create", &backup)(e)),
        // An existing backup of the same name holds the same key, except that all unreadable files
        // share one name: only the first of them is backed up.
        Err(_) if current.is_none() => Err(IdentityError::Exists(backup)),
        _ => sync_directory(path).map(|()| backup),
    }
}

/// Locks the directory of the key against other writers until the returned file is dropped.
fn lock(path: &Path) -> Result<File, IdentityError> {
    let directory = parent_directory(path);
    create_private_directory(&directory).map_err(io_error("create", &directory))?;
    let opened = File::open(&directory).map_err(io_error("open", &directory))?;
    close_to_others(&opened, &directory)?;
    platform::lock::lock(&opened).map_err(io_error("lock", &directory))?;
    Ok(opened)
}

/// Ensures that other users cannot write to the directory of the key, because they could replace
/// the key. Removes their access if the directory belongs to c2c; otherwise returns an error before
/// anything is written.
fn close_to_others(opened: &File, directory: &Path) -> Result<(), IdentityError> {
    let metadata = opened.metadata().map_err(io_error("inspect", directory))?;
    let mode = mode_of(&metadata);
    let is_open_to_others = mode & STICKY == 0 && mode & 0o022 != 0;
    if !is_open_to_others {
        return Ok(());
    }
    let is_broker_root =
        || ["log", "registry.json"].iter().any(|name| directory.join(name).exists());
    let is_ours = directory.file_name().is_some_and(|name| name == "c2c") || is_broker_root();
    if !is_ours || owner_of(&metadata) != user::effective_id() {
        return Err(IdentityError::Mode { path: directory.into(), mode, required: DIRECTORY_MODE });
    }
    set_file_mode(opened, mode & !0o022).map_err(io_error("change the mode of", directory))
}

/// Writes and syncs the file under a temporary name in the same directory.
fn prepare(path: &Path, identity: &Identity) -> Result<PreparedFile, IdentityError> {
    PreparedFile::create(path, to_json(identity).as_bytes(), WriteOptions::PRIVATE)
        .map_err(io_error("write", path))
}

fn sync_directory(path: &Path) -> Result<(), IdentityError> {
    let directory = parent_directory(path);
    platform::fs::sync_directory(&directory).map_err(io_error("sync", &directory))
}

/// The path of the file itself, with all symbolic links resolved.
fn resolve_links(path: &Path) -> Result<PathBuf, IdentityError> {
    fs::canonicalize(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => IdentityError::Missing(path.into()),
        _ => io_error("find", path)(source),
    })
}

fn parent_directory(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::Io { operation, path, source }
}
