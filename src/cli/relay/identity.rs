//! Commands about the key of this machine. The private half is never shown.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::{Context, Run, output};
use crate::clock;
use crate::decide::Refusal;
use crate::envelope::for_terminal;
use crate::failure::Failure;
use crate::identity::{self, IdentityError, fingerprint};

#[derive(Args)]
pub struct Identity {
    /// File with the key instead of ~/.config/c2c/identity.json
    #[arg(long, visible_alias = "path", value_name = "FILE", global = true)]
    identity_path: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Make a key
    Init {
        /// Alias that you have in mind for it
        #[arg(long, default_value = "", hide_default_value = true)]
        alias_hint: String,
        /// Make another one if there is one already; the file before is kept
        #[arg(long)]
        force: bool,
    },
    /// Show the public half and its fingerprint
    Show,
    /// Show the fingerprint only
    Fingerprint,
    /// Make a new key, signed by the old one so that relays accept it; the old file is kept
    Rotate,
}

impl Run for Identity {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let path = identity::path(self.identity_path.as_deref()).map_err(failure)?;
        let json = context.common.json;
        match self.what {
            What::Init { alias_hint, force } => init(&path, &alias_hint, force, json),
            What::Show => show(&path, json),
            What::Fingerprint => {
                let print = fingerprint(&identity::load(&path).map_err(failure)?.key.public());
                if json {
                    return output::say_json(&json!({ "ok": true, "fingerprint": print }));
                }
                output::say(&format!("{print}\n"))
            }
            What::Rotate => rotate(&path, json),
        }
    }
}

pub(super) fn failure(error: IdentityError) -> Failure {
    let refusal = Refusal::new(error.code(), "", error.to_string());
    match error.hint() {
        Some(hint) => refusal.hint(hint).into(),
        None => refusal.into(),
    }
}

fn init(path: &Path, alias_hint: &str, force: bool, json: bool) -> Result<(), Failure> {
    let fresh = || identity::Identity::generate(clock::now_us(), alias_hint.to_owned());
    let made = fresh().and_then(|made| identity::create(path, &made).map(|()| (made, None)));
    let made = match made {
        Err(IdentityError::Exists(_)) if force => {
            identity::replace(path, |_| fresh()).map(|(made, kept)| (made, Some(kept)))
        }
        made => made,
    };
    let (made, kept) = made.map_err(failure)?;
    tell("wrote", path, &made, kept.as_deref(), json)
}

fn show(path: &Path, json: bool) -> Result<(), Failure> {
    let identity = identity::load(path).map_err(failure)?;
    tell("identity", path, &identity, None, json)
}

fn rotate(path: &Path, json: bool) -> Result<(), Failure> {
    let next = |present: Option<&identity::Identity>| match present {
        Some(present) => present.rotated(clock::now_us()),
        // Nothing to sign with: the reason is what reading it says.
        None => identity::load(path),
    };
    let (made, kept) = identity::replace(path, next).map_err(failure)?;
    tell("rotated", path, &made, Some(&kept), json)
}

fn tell(
    what: &str,
    path: &Path,
    identity: &identity::Identity,
    kept: Option<&Path>,
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
        if let (Some(kept), Value::Object(row)) = (kept, &mut row) {
            row.insert("backup".into(), json!(kept));
        }
        return output::say_json(&row);
    }
    let mut text = format!("{what}: {}\n", path.display());
    text.push_str(&format!("  fingerprint: {}\n", fingerprint(&public)));
    text.push_str(&format!("  public_key:  {public}\n"));
    text.push_str(&format!("  created_at:  {}\n", for_terminal(&identity.created_at)));
    if !identity.alias_hint.is_empty() {
        text.push_str(&format!("  alias_hint:  {}\n", for_terminal(&identity.alias_hint)));
    }
    if let Some(kept) = kept {
        text.push_str(&format!("  before:      {}\n", kept.display()));
    }
    output::say(&text)
}
