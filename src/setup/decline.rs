//! Clients that the user does not want to set up.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Failure;
use crate::platform::fs::write_private;

fn mark(state: &Path, client: &str) -> PathBuf {
    state.join("declined").join(client)
}

/// Whether the user has declined a client.
pub fn is_declined(state: &Path, client: &str) -> bool {
    mark(state, client).exists()
}

/// Remembers, or forgets, that the user declines a client.
pub fn decline(state: &Path, client: &str, declined: bool) -> Result<(), Failure> {
    let path = mark(state, client);
    if declined == path.exists() {
        return Ok(());
    }
    if declined {
        return write_private(&path, b"").map_err(|e| Failure::io("write", &path, e));
    }
    fs::remove_file(&path).map_err(|e| Failure::io("remove", &path, e))?;
    // The directory may hold other clients, and the one above it the records.
    for directory in path.ancestors().skip(1).take(3) {
        if fs::remove_dir(directory).is_err() {
            break;
        }
    }
    Ok(())
}
