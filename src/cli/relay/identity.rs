//! The `c2c relay identity` commands. They never show the private half of the key.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::key::key_failure;
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;
use crate::platform::clock;
use crate::present::envelope::for_terminal;
use crate::relay::keys::{self, Identity, IdentityError, fingerprint};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c relay identity init    create a key\n  \
    c2c relay identity show    show the public half and its fingerprint\n  \
    c2c relay identity rotate  replace the key; relays accept the new one")]
pub struct RelayIdentity {
    /// File of the key [default: C2C_RELAY_IDENTITY_PATH, else ~/.config/c2c/identity.json]
    #[arg(long, visible_alias = "path", value_name = "FILE", global = true)]
    identity_path: Option<PathBuf>,
    #[command(subcommand)]
    command: RelayIdentityCommand,
}

#[derive(Subcommand)]
enum RelayIdentityCommand {
    /// Create a key
    #[command(after_help = "Examples:\n  c2c relay identity init --alias-hint ann")]
    Init {
        /// Alias to use with the key when a command names none
        #[arg(long, value_name = "ALIAS", default_value = "", hide_default_value = true)]
        alias_hint: String,
        /// Replace an existing key, and back up the old file
        #[arg(long)]
        force: bool,
    },
    /// Show the public half of the key and its fingerprint
    #[command(after_help = "Examples:\n  c2c relay identity show --json")]
    Show,
    /// Show the fingerprint only
    #[command(after_help = "Examples:\n  c2c relay identity fingerprint")]
    Fingerprint,
    /// Replace the key with one that the old key signs, and back up the old file
    #[command(after_help = "Examples:\n  c2c relay identity rotate")]
    Rotate,
}

impl Run for RelayIdentity {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let path = keys::path(self.identity_path.as_deref()).map_err(key_failure)?;
        let json = context.common.json;
        match self.command {
            RelayIdentityCommand::Init { alias_hint, force } => {
                init(&path, &alias_hint, force, json)
            }
            RelayIdentityCommand::Show => {
                let identity = keys::load(&path).map_err(key_failure)?;
                print("identity", &path, &identity, None, json)
            }
            RelayIdentityCommand::Fingerprint => {
                let identity = keys::load(&path).map_err(key_failure)?;
                let text = fingerprint(&identity.key.public());
                if json {
                    return output::print_json(&json!({ "ok": true, "fingerprint": text }));
                }
                output::print(&format!("{text}\n"))
            }
            RelayIdentityCommand::Rotate => rotate(&path, json),
        }
    }
}

fn init(path: &Path, alias_hint: &str, force: bool, json: bool) -> Result<(), Failure> {
    let generate = || Identity::generate(clock::now_us(), alias_hint.to_owned());
    let created =
        generate().and_then(|identity| keys::create(path, &identity).map(|()| (identity, None)));
    let stored = match created {
        Err(IdentityError::Exists(_)) if force => {
            keys::replace(path, |_| generate()).map(|(new, backup)| (new, Some(backup)))
        }
        other => other,
    };
    let (identity, backup) = stored.map_err(key_failure)?;
    print("wrote", path, &identity, backup.as_deref(), json)
}

fn rotate(path: &Path, json: bool) -> Result<(), Failure> {
    let rotated = |current: Option<&Identity>| match current {
        Some(current) => current.rotated(clock::now_us()),
        // The machine has no key to sign with. Loading it returns the error to report.
        None => keys::load(path),
    };
    let (identity, backup) = keys::replace(path, rotated).map_err(key_failure)?;
    print("rotated", path, &identity, Some(&backup), json)
}

fn print(
    verb: &str,
    path: &Path,
    identity: &Identity,
    backup: Option<&Path>,
    json: bool,
) -> Result<(), Failure> {
    let public = identity.key.public();
    if json {
        let mut row = json!({
            "ok": true,
            "path": path,
            "public_key": public.to_string(),
            "fingerprint": fingerprint(&public),
            "alias_hint": identity.alias_hint,
            "created_at": identity.created_at,
            "alg": "ed25519",
            "version": 1,
            "rotations": identity.rotations.len(),
        });
        if let (Some(backup), Value::Object(row)) = (backup, &mut row) {
            row.insert("backup".into(), json!(backup));
        }
        return output::print_json(&row);
    }
    let mut text = format!("{verb}: {}\n", path.display());
    text.push_str(&format!("  fingerprint: {}\n", fingerprint(&public)));
    text.push_str(&format!("  public_key:  {public}\n"));
    text.push_str(&format!("  created_at:  {}\n", for_terminal(&identity.created_at)));
    if !identity.alias_hint.is_empty() {
        text.push_str(&format!("  alias_hint:  {}\n", for_terminal(&identity.alias_hint)));
    }
    if let Some(backup) = backup {
        text.push_str(&format!("  backup:      {}\n", backup.display()));
    }
    output::print(&text)
}
