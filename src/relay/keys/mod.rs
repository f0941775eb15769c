//! The Ed25519 key that identifies this machine to relays.
//!
//! One key signs for all aliases of a machine. The node id is determined in `env/node.rs`, because the
//! program has one even without a relay.

mod fingerprint;
mod key_file;

use std::path::{Path, PathBuf};

pub use fingerprint::fingerprint;
pub use key_file::{create, load, replace};

use crate::env::{C2C_RELAY_IDENTITY_PATH, directories};
use crate::present::shell::single_quote;
use crate::relay::protocol::request::KeyRotation;
use crate::relay::protocol::sign::{self, Moment, SecretKey};
use c2c_core::code::Code;
use c2c_core::time;

/// The key of a machine and its metadata.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The private key.
    pub key: SecretKey,
    /// Creation time, RFC 3339.
    pub created_at: String,
    /// Alias that the owner intended to use; empty for none.
    pub alias_hint: String,
    /// Signed statements that lead from earlier keys to this one, oldest first.
    pub rotations: Vec<KeyRotation>,
}

/// Why no key can be used or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No path is configured and no home directory is known.
    #[error("neither HOME nor an identity path is set")]
    NoPath,
    /// No file exists at the path.
    #[error("no identity at {}", .0.display())]
    Missing(PathBuf),
    /// A file exists where a new one was to be created.
    #[error("{} already exists", .0.display())]
    Exists(PathBuf),
    /// Other users can read the file or replace it.
    #[error("{} has mode {mode:04o}: other users have access to it", path.display())]
    Mode {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode that it should have.
        required: u32,
    },
    /// The file belongs to another user.
    #[error("{} belongs to another user", .0.display())]
    Owner(PathBuf),
    /// The file is not a valid identity.
    #[error("{} is not a valid identity: {what}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The reason.
        what: String,
    },
    /// An operation on a file or directory failed.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// The operation, as a verb.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The operating system provides no random numbers.
    #[error("cannot get random numbers: {0}")]
    Random(getrandom::Error),
}

impl IdentityError {
    /// The stable error code.
    pub fn code(&self) -> Code {
        match self {
            Self::NoPath | Self::Missing(_) => Code::NoIdentity,
            Self::Exists(_) => Code::IdentityExists,
            Self::Mode { .. } | Self::Owner(_) | Self::Invalid { .. } => Code::BadIdentity,
            Self::Io { .. } => Code::StorageFailed,
            Self::Random(_) => Code::Internal,
        }
    }

    /// The command or action that resolves the error.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoPath => Some("set HOME, or pass --identity-path".into()),
            Self::Missing(_) => Some("run: c2c relay identity init".into()),
            Self::Exists(_) => Some("to replace the key, run: c2c relay identity rotate".into()),
            Self::Mode { path, required, .. } => {
                let path = single_quote(&path.display().to_string());
                Some(format!("run: chmod {required:o} {path}"))
            }
            Self::Owner(_) => Some("use --identity-path or C2C_RELAY_IDENTITY_PATH".into()),
            Self::Invalid { .. } => {
                Some("restore it from a backup, or run: c2c relay identity init --force".into())
            }
            Self::Io { .. } | Self::Random(_) => None,
        }
    }
}

/// Path of the key file: from the flag, the environment, or the user's configuration directory.
pub fn path(flag: Option<&Path>) -> Result<PathBuf, IdentityError> {
    let in_configuration =
        || directories::config_home().map(|config| config.join("c2c").join("identity.json"));
    flag.map(Path::to_owned)
        .or_else(|| C2C_RELAY_IDENTITY_PATH.path())
        .or_else(in_configuration)
        .ok_or(IdentityError::NoPath)
}

impl Identity {
    /// Generates a new key.
    pub fn generate(now_us: u64, alias_hint: String) -> Result<Self, IdentityError> {
        let key = SecretKey::from_seed(&random()?);
        let created_at = time::rfc3339_seconds(now_us);
        Ok(Self { key, created_at, alias_hint, rotations: Vec::new() })
    }

    /// Generates a key that replaces this one, with the signed statement that relays require.
    pub fn rotated(&self, now_us: u64) -> Result<Self, IdentityError> {
        let mut next = Self::generate(now_us, self.alias_hint.clone())?;
        let nonce = sign::encode(&random::<16>()?);
        let moment = Moment { ts: &next.created_at, nonce: &nonce };
        // Signing cannot fail: keys, time and nonce created here contain no separator.
        let rotation = KeyRotation::signed(&self.key, &next.key, moment);
        next.rotations = self.rotations.iter().cloned().chain(rotation).collect();
        Ok(next)
    }
}

/// Returns random bytes for keys and nonces.
pub fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(IdentityError::Random)?;
    Ok(bytes)
}
