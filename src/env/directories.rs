//! The user's directories, according to the XDG Base Directory Specification.

use std::env;
use std::path::PathBuf;

use c2c_core::code::Code;
use c2c_core::decide::Rejection;

use super::{HOME, PATH, Variable, XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_STATE_HOME};

/// The user's home directory. The user database is not consulted: without `HOME` there is none.
pub fn home() -> Option<PathBuf> {
    HOME.path()
}

/// Base directory for configuration: `$XDG_CONFIG_HOME`, else `~/.config`.
pub fn config_home() -> Option<PathBuf> {
    base(&XDG_CONFIG_HOME, ".config")
}

/// Base directory for data: `$XDG_DATA_HOME`, else `~/.local/share`.
pub fn data_home() -> Option<PathBuf> {
    base(&XDG_DATA_HOME, ".local/share")
}

/// Base directory for state: `$XDG_STATE_HOME`, else `~/.local/state`.
pub fn state_home() -> Option<PathBuf> {
    base(&XDG_STATE_HOME, ".local/state")
}

#[inline]
fn base(variable: &Variable, below_home: &str) -> Option<PathBuf> {
    variable.path().or_else(|| home().map(|home| home.join(below_home)))
}

/// Directory of this user's c2c configuration. Fails with `bad_root` without `HOME`.
pub fn config_directory() -> Result<PathBuf, Rejection> {
    config_home()
        .map(|config| config.join("c2c"))
        .ok_or_else(|| Rejection::new(Code::BadRoot, "HOME", "HOME is not set").hint("set HOME"))
}

/// Default directory for the log of a relay that listens on `listen`. Fails with `bad_root` without
/// `HOME`.
pub fn relay_directory(listen: &str) -> Result<PathBuf, Rejection> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = listen.chars().map(plain).collect();
    state_home().map(|state| state.join("c2c/relay").join(name)).ok_or_else(|| {
        Rejection::new(Code::BadRoot, "HOME", "HOME is not set")
            .hint("set HOME, or pass --persist-dir DIR")
    })
}

/// The directories in which a shell finds programs.
pub fn program_directories() -> Vec<PathBuf> {
    env::split_paths(&PATH.path().unwrap_or_default()).collect()
}
