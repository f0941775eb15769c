//! Location and creation of the key that this machine signs with.

use std::path::{Path, PathBuf};

use crate::cli::context::Context;
use crate::env::C2C_RELAY_IDENTITY_PATH;
use crate::error::Failure;
use crate::platform::clock;
use crate::relay::keys::{self, Identity, IdentityError};
use c2c_core::decide::Rejection;

/// A key and the file that it is stored in.
pub type StoredKey = (Identity, PathBuf);

/// The failure of a command because of its key.
pub fn key_failure(error: IdentityError) -> Failure {
    let rejection = Rejection::new(error.code(), "", error.to_string());
    match error.hint() {
        Some(hint) => rejection.hint(hint).into(),
        None => rejection.into(),
    }
}

/// The path of the key file: the named one, else the one in this user's configuration. Without that
/// file the key is in the broker root if it exists there, or if the root was named on the command
/// line: a container may keep nothing else.
pub fn key_path(named: Option<&Path>, context: &Context) -> Result<PathBuf, IdentityError> {
    let configured = keys::path(named);
    let in_root = context.broker.root().join("identity.json");
    let is_named = named.is_some() || C2C_RELAY_IDENTITY_PATH.is_set();
    let uses_root = context.common.broker_root.is_some() || in_root.is_file();
    match configured {
        Ok(path) if is_named || path.is_file() || !uses_root => Ok(path),
        Err(IdentityError::NoPath) | Ok(_) if uses_root => Ok(in_root),
        other => other,
    }
}

/// Loads the key of this machine, if it exists.
pub fn load_key(named: Option<&Path>, context: &Context) -> Result<Option<StoredKey>, Failure> {
    let path = key_path(named, context);
    match path.and_then(|path| Ok((keys::load(&path)?, path))) {
        Ok(key) => Ok(Some(key)),
        Err(IdentityError::NoPath | IdentityError::Missing(_)) => Ok(None),
        Err(error) => Err(key_failure(error)),
    }
}

/// Loads the key of this machine; creates it first if it does not exist.
pub fn load_or_create_key(named: Option<&Path>, context: &Context) -> Result<StoredKey, Failure> {
    let path = key_path(named, context).map_err(key_failure)?;
    let key = match keys::load(&path) {
        Err(IdentityError::Missing(_)) => {
            let new = Identity::generate(clock::now_us(), String::new());
            match new.and_then(|new| keys::create(&path, &new)) {
                // If another process created a key meanwhile, use that one.
                Ok(()) | Err(IdentityError::Exists(_)) => keys::load(&path),
                Err(error) => Err(error),
            }
        }
        loaded => loaded,
    };
    Ok((key.map_err(key_failure)?, path))
}
