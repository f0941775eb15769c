//! How does a key lie on disk, so that only its owner can read it and nothing can destroy it?

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fs2::FileExt;
use serde::{Deserialize, Serialize};

use super::{Identity, IdentityError, fingerprint};
use crate::wire::body::RotateKey;
use crate::wire::sign::{SecretKey, decode, encode};

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// Sticky: others may write to the directory, but not replace what is not theirs.
const STICKY: u32 = 0o1000;
/// More is no identity.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The file as older programs write and read it, and our rotations.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    alg: String,
    public_key: String,
    private_key: String,
    fingerprint: String,
    created_at: String,
    #[serde(default)]
    alias_hint: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rotations: Vec<RotateKey>,
}

/// Reads a key, if nobody else could have read or changed it.
pub fn load(path: &Path) -> Result<Identity, IdentityError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(IdentityError::Missing(path.into()));
        }
        Err(cause) => return Err(io_error("open", path)(cause)),
    };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(IdentityError::Invalid { path: path.into(), what: "not a file".into() });
    }
    check_private(&file, path, 0o077, FILE_MODE)?;
    // Whoever can put another file here, or there if this is a link, can put another key.
    for path in [path, &real(path)?] {
        let folder = folder(path);
        let opened = File::open(&folder).map_err(io_error("open", &folder))?;
        let mode = opened.metadata().map_err(io_error("look at", &folder))?.mode();
        let replaceable = if mode & STICKY == 0 { 0o022 } else { 0 };
        check_private(&opened, &folder, replaceable, DIRECTORY_MODE)?;
    }
    let mut text = String::new();
    let read = (&mut file).take(FILE_BYTES_MAX).read_to_string(&mut text);
    read.map_err(io_error("read", path))?;
    parse(&text).map_err(|what| IdentityError::Invalid { path: path.into(), what })
}

/// Whether nobody but its owner has one of the rights in `forbidden`, and the owner is us.
fn check_private(
    file: &File,
    path: &Path,
    forbidden: u32,
    wanted: u32,
) -> Result<(), IdentityError> {
    let metadata = file.metadata().map_err(io_error("look at", path))?;
    if metadata.mode() & forbidden != 0 {
        let mode = metadata.mode() & 0o7777;
        return Err(IdentityError::Mode { path: path.into(), mode, wanted });
    }
    let user = nix::unistd::geteuid();
    // Directories of root, as /tmp, are as safe as root is.
    let safe = metadata.uid() == user.as_raw() || user.is_root() || metadata.is_dir();
    if safe { Ok(()) } else { Err(IdentityError::Owner(path.into())) }
}

fn parse(text: &str) -> Result<Identity, String> {
    let stored: Stored = serde_json::from_str(text).map_err(|e| e.to_string())?;
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
    let Stored { created_at, alias_hint, rotations, .. } = stored;
    Ok(Identity { key, created_at, alias_hint, rotations })
}

fn text_of(identity: &Identity) -> String {
    let stored = Stored {
        version: 1,
        alg: "ed25519".into(),
        public_key: identity.key.public().to_string(),
        private_key: encode(identity.key.seed()),
        fingerprint: fingerprint(&identity.key.public()),
        created_at: identity.created_at.clone(),
        alias_hint: identity.alias_hint.clone(),
        rotations: identity.rotations.clone(),
    };
    // Strings and one number: serialisation has no way to fail.
    let mut text = serde_json::to_string_pretty(&stored).unwrap_or_default();
    text.push('\n');
    text
}

/// Writes a key where there is none yet.
pub fn create(path: &Path, identity: &Identity) -> Result<(), IdentityError> {
    let _guard = lock(path)?;
    let aside = write_aside(path, identity)?;
    // A link never takes the place of another file, not even of one made at this moment.
    let linked = fs::hard_link(&aside, path);
    let _ = fs::remove_file(&aside);
    match linked {
        Ok(()) => sync_folder(path),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            Err(IdentityError::Exists(path.into()))
        }
        Err(cause) => Err(io_error("create", path)(cause)),
    }
}

/// Puts what `next` makes of the present key in its place, and keeps the file before. Gives the
/// new key and the name of the kept file. `None` stands for a file that cannot be read.
pub fn replace(
    path: &Path,
    next: impl FnOnce(Option<&Identity>) -> Result<Identity, IdentityError>,
) -> Result<(Identity, PathBuf), IdentityError> {
    let path = &real(path)?;
    let _guard = lock(path)?;
    let present = match load(path) {
        Ok(identity) => Some(identity),
        Err(IdentityError::Invalid { .. }) => None,
        Err(error) => return Err(error),
    };
    let identity = next(present.as_ref())?;
    let kept = keep(path, present.as_ref())?;
    let aside = write_aside(path, &identity)?;
    fs::rename(&aside, path).map_err(io_error("replace", path))?;
    sync_folder(path)?;
    Ok((identity, kept))
}

/// A second name for the present file. It is synced with the folder before the first name goes.
fn keep(path: &Path, present: Option<&Identity>) -> Result<PathBuf, IdentityError> {
    let print = present.map(|identity| fingerprint(&identity.key.public()));
    let mark = match &print {
        Some(print) => print.trim_start_matches("SHA256:").chars().take(12).collect(),
        None => String::from("unreadable"),
    };
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{mark}.bak"));
    let kept = PathBuf::from(name);
    match fs::hard_link(path, &kept) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(io_error("keep", &kept)(e)),
        // The same key has the same name, so it is kept already. Damage is kept once only.
        Err(_) if present.is_none() => Err(IdentityError::Exists(kept)),
        _ => sync_folder(path).map(|()| kept),
    }
}

/// Keeps other writers of this key out until it is dropped.
fn lock(path: &Path) -> Result<File, IdentityError> {
    let folder = folder(path);
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(&folder)
        .map_err(io_error("create", &folder))?;
    let opened = File::open(&folder).map_err(io_error("open", &folder))?;
    keep_others_out(&opened, &folder)?;
    opened.lock_exclusive().map_err(io_error("lock", &folder))?;
    Ok(opened)
}

/// Whoever may write to the directory of a key can put another key in its place. One that is c2c's
/// own is closed to them; another one is refused before anything is written there.
fn keep_others_out(opened: &File, folder: &Path) -> Result<(), IdentityError> {
    let metadata = opened.metadata().map_err(io_error("look at", folder))?;
    let replaceable = metadata.mode() & STICKY == 0 && metadata.mode() & 0o022 != 0;
    if !replaceable {
        return Ok(());
    }
    let mode = metadata.mode() & 0o7777;
    let is_root = || ["log", "registry.json"].iter().any(|name| folder.join(name).exists());
    let is_ours = folder.file_name().is_some_and(|name| name == "c2c") || is_root();
    if !is_ours || metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(IdentityError::Mode { path: folder.into(), mode, wanted: DIRECTORY_MODE });
    }
    let closed = fs::Permissions::from_mode(mode & !0o022);
    opened.set_permissions(closed).map_err(io_error("close to others", folder))
}

/// The whole file under another name, on disk.
fn write_aside(path: &Path, identity: &Identity) -> Result<PathBuf, IdentityError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let aside = PathBuf::from(name);
    // What a killed process left under this name is nobody's.
    let _ = fs::remove_file(&aside);
    let opened = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&aside);
    let written = opened.and_then(|mut file| {
        file.write_all(text_of(identity).as_bytes())?;
        file.sync_all()
    });
    written.map_err(|cause| {
        let _ = fs::remove_file(&aside);
        io_error("write", &aside)(cause)
    })?;
    Ok(aside)
}

fn sync_folder(path: &Path) -> Result<(), IdentityError> {
    let folder = folder(path);
    File::open(&folder).and_then(|folder| folder.sync_all()).map_err(io_error("sync", &folder))
}

/// The file itself, where the path is a link.
fn real(path: &Path) -> Result<PathBuf, IdentityError> {
    fs::canonicalize(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => IdentityError::Missing(path.into()),
        _ => io_error("find", path)(cause),
    })
}

fn folder(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |cause| IdentityError::Io { operation, path, cause }
}
