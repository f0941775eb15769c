//! Resource limits of this process.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the number of files that this process may open to the maximum it may set.
pub fn raise_open_files() {
    if let Ok((_, maximum)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // If this fails, opening the files reports the error.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, maximum, maximum);
    }
}
