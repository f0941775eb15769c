//! Which key is this machine known by?
//!
//! One key speaks for all aliases of a machine. The node id, its name among machines, is found in
//! `root.rs`, because the purely local program has one, too.

mod fingerprint;
mod key_file;

use std::env;
use std::path::{Path, PathBuf};

pub use fingerprint::fingerprint;
pub use key_file::{create, load, replace};

use crate::code::Code;
use crate::time;
use crate::wire::body::RotateKey;
use crate::wire::sign::{self, Moment, SecretKey};

/// The key of a machine, and what is known about it.
#[derive(Debug, Clone)]
pub struct Identity {
    pub key: SecretKey,
    /// RFC 3339.
    pub created_at: String,
    /// Alias that its owner had in mind; empty for none.
    pub alias_hint: String,
    /// Statements by which relays come from earlier keys to this one, oldest first.
    pub rotations: Vec<RotateKey>,
}

/// Why there is no key to use.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("neither HOME nor an identity path is set")]
    NoPlace,
    #[error("no identity at {}", .0.display())]
    Missing(PathBuf),
    #[error("{} holds an identity already", .0.display())]
    Exists(PathBuf),
    #[error("{} has mode {mode:04o}: others have access to it", path.display())]
    Mode { path: PathBuf, mode: u32, wanted: u32 },
    #[error("{} belongs to another user", .0.display())]
    Owner(PathBuf),
    #[error("{} is no identity: {what}", path.display())]
    Invalid { path: PathBuf, what: String },
    #[error("cannot {operation} {}: {cause}", path.display())]
    Io { operation: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

impl IdentityError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::NoPlace | Self::Missing(_) => Code::NoIdentity,
            Self::Exists(_) => Code::IdentityExists,
            Self::Mode { .. } | Self::Owner(_) | Self::Invalid { .. } => Code::BadIdentity,
            Self::Io { .. } => Code::StorageFailed,
            Self::Random(_) => Code::Internal,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoPlace => Some("set HOME, or pass --identity-path".into()),
            Self::Missing(_) => Some("run: c2c relay identity init".into()),
            Self::Exists(_) => {
                Some("c2c relay identity rotate gives it a new key that relays accept".into())
            }
            Self::Mode { path, wanted, .. } => {
                Some(format!("run: chmod {wanted:o} '{}'", path.display()))
            }
            Self::Owner(_) => Some("use --identity-path or C2C_RELAY_IDENTITY_PATH".into()),
            Self::Invalid { .. } => Some("bring it back from a copy, or run init --force".into()),
            Self::Io { .. } | Self::Random(_) => None,
        }
    }
}

/// Where the key lies: the flag, the environment, the user's configuration.
pub fn path(flag: Option<&Path>) -> Result<PathBuf, IdentityError> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let named = flag.map(Path::to_owned).or_else(|| variable("C2C_RELAY_IDENTITY_PATH"));
    if let Some(path) = named {
        return Ok(path);
    }
    let absolute = |path: &PathBuf| path.is_absolute();
    let config = variable("XDG_CONFIG_HOME").filter(absolute);
    let config = config.or_else(|| Some(variable("HOME").filter(absolute)?.join(".config")));
    config.map(|config| config.join("c2c").join("identity.json")).ok_or(IdentityError::NoPlace)
}

impl Identity {
    /// A new key.
    pub fn generate(now_us: u64, alias_hint: String) -> Result<Self, IdentityError> {
        let key = SecretKey::from_seed(&random()?);
        let created_at = time::rfc3339_seconds(now_us);
        Ok(Self { key, created_at, alias_hint, rotations: Vec::new() })
    }

    /// A new key that follows this one, with the statement that relays ask for.
    pub fn rotated(&self, now_us: u64) -> Result<Self, IdentityError> {
        let mut next = Self::generate(now_us, self.alias_hint.clone())?;
        let nonce = sign::encode(&random::<16>()?);
        let moment = Moment { ts: &next.created_at, nonce: &nonce };
        let stated = RotateKey::signed(&self.key, &next.key, moment);
        // Keys, a time and a nonce of our own making hold no separator.
        next.rotations = self.rotations.iter().cloned().chain(stated).collect();
        Ok(next)
    }
}

/// Random bytes for keys and nonces.
pub fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(IdentityError::Random)?;
    Ok(bytes)
}
