//! Commands about other machines.

mod connect;
mod identity;
mod operate;
mod people;
mod restore;
mod rooms;
mod serve;
mod setup;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{Context, Run};
use crate::clock;
use crate::code::Code;
use crate::connector::config::{self, Given, Settings};
use crate::connector::{Client, Credentials, Http, Unreachable};
use crate::decide::Refusal;
use crate::failure::Failure;
use crate::identity::{self as keys, IdentityError};
use crate::root;
use crate::wire::body;

#[derive(Args)]
pub struct Relay {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Serve a relay for other machines
    Serve(serve::Serve),
    /// Connect this machine's agents to a relay
    Connect(connect::Connect),
    /// Make a broker root from the copy that `connect --mirror` keeps at the relay
    Restore(restore::Restore),
    /// Save the relay's URL and token
    Setup(setup::Setup),
    /// Whether the relay answers, and who is there
    Status(operate::Status),
    /// List the peers that the relay knows
    List(operate::List),
    /// End leases that are over
    Gc(operate::Gc),
    /// Messages that the relay could not deliver
    DeadLetter(operate::DeadLetter),
    /// Free an alias from its key
    Unbind(operate::Unbind),
    /// Rooms on the relay: list, join, leave, send, history, ...
    Rooms(rooms::Rooms),
    /// Take an alias on the relay without a connector
    Register(people::Register),
    /// Send and take direct messages on the relay without a connector
    Dm(people::Dm),
    /// Take messages of a session on the relay
    PollInbox(people::PollInbox),
    /// The key of this machine: init, show, fingerprint, rotate
    Identity(identity::Identity),
}

impl Run for Relay {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self.what {
            What::Serve(command) => command.run(context),
            What::Connect(command) => command.run(context),
            What::Restore(command) => command.run(context),
            What::Setup(command) => command.run(context),
            What::Status(command) => command.run(context),
            What::List(command) => command.run(context),
            What::Gc(command) => command.run(context),
            What::DeadLetter(command) => command.run(context),
            What::Unbind(command) => command.run(context),
            What::Rooms(command) => command.run(context),
            What::Register(command) => command.run(context),
            What::Dm(command) => command.run(context),
            What::PollInbox(command) => command.run(context),
            What::Identity(command) => command.run(context),
        }
    }
}

/// Which relay, and with which credentials.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Relay")]
pub struct Target {
    /// URL of the relay; else C2C_RELAY_URL, else the saved one
    #[arg(long, value_name = "URL", global = true)]
    relay_url: Option<String>,
    /// Bearer token; else C2C_RELAY_TOKEN, else the saved one
    #[arg(long, value_name = "TOKEN", global = true)]
    token: Option<String>,
    /// File whose first line is the token
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// File with the key instead of ~/.config/c2c/identity.json
    #[arg(long, value_name = "FILE", global = true)]
    identity_path: Option<PathBuf>,
    /// Name of this machine among others; else C2C_RELAY_NODE_ID, else host name and repository
    #[arg(long, value_name = "NODE", global = true)]
    node_id: Option<String>,
    /// Further certificate authorities to trust, PEM
    #[arg(long, value_name = "FILE", global = true)]
    ca_bundle: Option<PathBuf>,
}

impl Target {
    fn given(&self) -> Given {
        Given {
            url: self.relay_url.clone(),
            token: self.token.clone(),
            token_file: self.token_file.clone(),
            node_id: self.node_id.clone(),
            ca_bundle: self.ca_bundle.clone(),
            alias: None,
        }
    }

    fn settings(&self, context: &Context) -> Result<Settings, Failure> {
        config::settle(&self.given(), context.broker.root())
    }

    /// A relay to ask. The key is loaded if there is one.
    fn client(&self, context: &Context) -> Result<(Client, Settings), Failure> {
        let settings = self.settings(context)?;
        let path = key_path(self.identity_path.as_deref(), context);
        let key = match path.and_then(|path| Ok((keys::load(&path)?, path))) {
            Ok(key) => Some(key),
            Err(IdentityError::NoPlace | IdentityError::Missing(_)) => None,
            Err(error) => return Err(identity::failure(error)),
        };
        Ok((connect_to(&settings, key)?, settings))
    }

    /// The same, making a key if there is none yet.
    fn client_with_key(&self, context: &Context) -> Result<(Client, Settings), Failure> {
        let settings = self.settings(context)?;
        let key = own_key(self.identity_path.as_deref(), context)?;
        Ok((connect_to(&settings, Some(key))?, settings))
    }
}

/// Where the key is: where it is named, else in this user's configuration; in the broker root if only
/// there is one, or if that is all that outlives this process, as in a container.
fn key_path(named: Option<&Path>, context: &Context) -> Result<PathBuf, IdentityError> {
    let own = keys::path(named);
    let beside = context.broker.root().join("identity.json");
    let is_named = named.is_some() || std::env::var_os("C2C_RELAY_IDENTITY_PATH").is_some();
    let in_root = context.common.broker_root.is_some() || beside.is_file();
    match own {
        Ok(path) if is_named || path.is_file() || !in_root => Ok(path),
        Err(IdentityError::NoPlace) | Ok(_) if in_root => Ok(beside),
        other => other,
    }
}

/// Saves the URL of a relay, as `relay setup --url` does.
pub fn remember(url: &str, context: &Context) -> Result<(), Failure> {
    let named =
        context.common.broker_root.is_some() || context.root.reason == "C2C_MCP_BROKER_ROOT";
    let path = config::path_to_save(named.then_some(context.broker.root()))?;
    config::save(&path, &Given { url: Some(url.to_owned()), ..Given::default() }).map(|_| ())
}

/// How the configured relay is, with its URL; nothing if none is configured.
pub fn health(context: &Context) -> Result<Option<(String, body::Health)>, Failure> {
    let settings = config::settle(&Given::default(), context.broker.root())?;
    let Some(url) = settings.url.clone() else { return Ok(None) };
    let health = connect_to(&settings, None)?.get("/health", None)?;
    Ok(Some((url, health)))
}

/// A key, and the file that it lies in.
type Key = (keys::Identity, PathBuf);

/// The key of this machine; made now if there is none.
fn own_key(named: Option<&Path>, context: &Context) -> Result<Key, Failure> {
    let path = key_path(named, context).map_err(identity::failure)?;
    let found = match keys::load(&path) {
        Err(IdentityError::Missing(_)) => {
            let made = keys::Identity::generate(clock::now_us(), String::new());
            match made.and_then(|made| keys::create(&path, &made)) {
                // Another process was faster: its key counts.
                Ok(()) | Err(IdentityError::Exists(_)) => keys::load(&path),
                Err(error) => Err(error),
            }
        }
        found => found,
    };
    Ok((found.map_err(identity::failure)?, path))
}

fn connect_to(settings: &Settings, key: Option<Key>) -> Result<Client, Failure> {
    let Some(url) = &settings.url else {
        let message = "--relay-url required (or set C2C_RELAY_URL or run c2c relay setup)";
        return Err(Refusal::new(Code::InvalidArgument, "relay_url", message).into());
    };
    let read = |path: &PathBuf| config::read_named("ca_bundle", path);
    let pem = settings.ca_bundle.as_ref().map(read).transpose()?;
    let http = Http::new(url, pem.as_deref().map(str::as_bytes)).map_err(|Unreachable(why)| {
        Failure::from(Refusal::new(Code::InvalidArgument, "ca_bundle", why))
    })?;
    let token = settings.token.clone();
    let (identity, key_file) = key.unzip();
    Ok(Client::new(Arc::new(http), Credentials { identity, key_file, token }))
}

/// Name of this machine among others.
fn node_id(settings: &Settings) -> String {
    settings.node_id.clone().unwrap_or_else(|| {
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        root::node_id(&here)
    })
}

/// The alias that signs a request: the one that was named, else that of this session, else the one
/// that the command line registered last, else any of this root, else the one that the key's owner
/// had in mind.
fn speaker(
    named: Option<&str>,
    client: &Client,
    context: &mut Context,
) -> Result<Option<String>, Failure> {
    if let Some(alias) = named {
        return Ok(Some(alias.to_owned()));
    }
    let Some(identity) = client.identity() else { return Ok(None) };
    context.broker.look(&context.actor)?;
    let own = context.broker.own_mailbox(&context.actor).map(|row| row.alias);
    let any = || {
        let peers = context.broker.peers().into_iter();
        peers.filter(|peer| peer.session.is_some()).map(|peer| peer.mailbox.alias).next()
    };
    let saved = config::settle(&Given::default(), context.broker.root())?.alias;
    let hint = Some(identity.alias_hint.clone()).filter(|hint| !hint.is_empty());
    Ok(own.or(saved).or_else(any).or(hint))
}
