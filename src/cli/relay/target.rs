//! The relay that a command uses, the credentials for it, and the identity of this machine there.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::key::{StoredKey, load_key, load_or_create_key};
use crate::cli::context::Context;
use crate::env::node;
use crate::error::Failure;
use crate::relay::client::config::{self, ConnectionOptions, ConnectionSettings};
use crate::relay::client::{Credentials, HttpTransport, RelayClient, Unreachable};
use crate::relay::protocol::response;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// Options that select a relay and the credentials for it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Relay")]
pub struct RelayTarget {
    /// URL of the relay [default: C2C_RELAY_URL, else the saved URL]
    #[arg(long, value_name = "URL", global = true)]
    pub relay_url: Option<String>,
    /// Bearer token [default: C2C_RELAY_TOKEN, else the saved token]
    #[arg(long, value_name = "TOKEN", global = true)]
    pub token: Option<String>,
    /// File whose first line is the token
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// File of this machine's key [default: C2C_RELAY_IDENTITY_PATH, else ~/.config/c2c/identity.json]
    #[arg(long, value_name = "FILE", global = true)]
    pub identity_path: Option<PathBuf>,
    /// Name of this machine [default: C2C_RELAY_NODE_ID, else host name and repository]
    #[arg(long, value_name = "NODE", global = true)]
    pub node_id: Option<String>,
    /// PEM file with additional certificate authorities to trust
    #[arg(long, value_name = "FILE", global = true)]
    pub ca_bundle: Option<PathBuf>,
}

impl RelayTarget {
    /// The options as the saved settings have them.
    pub fn given(&self) -> ConnectionOptions {
        ConnectionOptions {
            url: self.relay_url.clone(),
            token: self.token.clone(),
            token_file: self.token_file.clone(),
            node_id: self.node_id.clone(),
            ca_bundle: self.ca_bundle.clone(),
            alias: None,
        }
    }

    /// Merges the options with the environment and the saved settings.
    pub fn settings(&self, context: &Context) -> Result<ConnectionSettings, Failure> {
        config::resolve(&self.given(), context.broker.root())
    }

    /// A client of the relay. It signs requests if this machine has a key.
    pub fn client(&self, context: &Context) -> Result<(RelayClient, ConnectionSettings), Failure> {
        let settings = self.settings(context)?;
        let key = load_key(self.identity_path.as_deref(), context)?;
        Ok((new_client(&settings, key)?, settings))
    }

    /// A client of the relay that signs requests; creates the key of this machine if necessary.
    pub fn signing_client(
        &self,
        context: &Context,
    ) -> Result<(RelayClient, ConnectionSettings), Failure> {
        let settings = self.settings(context)?;
        let key = load_or_create_key(self.identity_path.as_deref(), context)?;
        Ok((new_client(&settings, Some(key))?, settings))
    }
}

/// A client of the relay in `settings`. Does not connect yet.
pub fn new_client(
    settings: &ConnectionSettings,
    key: Option<StoredKey>,
) -> Result<RelayClient, Failure> {
    let Some(url) = &settings.url else {
        return Err(Rejection::new(Code::InvalidArgument, "relay_url", "no relay URL is set")
            .hint("pass --relay-url URL, set C2C_RELAY_URL, or run: c2c relay setup --url URL")
            .into());
    };
    let read = |path: &PathBuf| config::read_named("ca_bundle", path);
    let pem = settings.ca_bundle.as_ref().map(read).transpose()?;
    let http = HttpTransport::new(url, pem.as_deref().map(str::as_bytes)).map_err(
        |Unreachable { reason, .. }| {
            Failure::from(Rejection::new(Code::InvalidArgument, "ca_bundle", reason))
        },
    )?;
    let token = settings.token.clone();
    let (identity, key_file) = key.unzip();
    Ok(RelayClient::new(Arc::new(http), Credentials { identity, key_file, token }))
}

/// The name of this machine at the relay.
pub fn node_id(settings: &ConnectionSettings, context: &Context) -> String {
    settings.node_id.clone().unwrap_or_else(|| node::node_id(context.broker.root()))
}

/// The alias that signs a request: the named one, else that of this session, else the one that
/// `relay register` saved, else any of this root, else the hint that was stored with the key. `None`
/// without a key or an alias.
pub fn signing_alias(
    named: Option<&str>,
    client: &RelayClient,
    context: &mut Context,
) -> Result<Option<String>, Failure> {
    if let Some(alias) = named {
        return Ok(Some(alias.to_owned()));
    }
    let Some(identity) = client.identity() else { return Ok(None) };
    context.broker.refresh(&context.actor)?;
    let own = context.broker.own_mailbox(&context.actor).map(|mailbox| mailbox.alias.into());
    let any = || {
        let mut agents = context.broker.agents().into_iter();
        agents.find(|agent| agent.session.is_some()).map(|agent| agent.mailbox.alias.into())
    };
    let saved = config::resolve(&ConnectionOptions::default(), context.broker.root())?.alias;
    let hint = Some(identity.alias_hint.clone()).filter(|hint| !hint.is_empty());
    Ok(own.or(saved).or_else(any).or(hint))
}

/// The same alias for a request that must be signed. Fails with `invalid_argument` without one.
pub fn required_alias(
    named: Option<&str>,
    client: &RelayClient,
    context: &mut Context,
) -> Result<String, Failure> {
    signing_alias(named, client, context)?.ok_or_else(|| {
        Rejection::new(Code::InvalidArgument, "alias", "no alias to act as")
            .hint("pass --alias ALIAS")
            .into()
    })
}

/// Whether the broker root was named by an option or the environment.
pub fn root_is_named(context: &Context) -> bool {
    context.root.is_named()
}

/// Saves the URL of a relay, as `c2c relay setup --url` does.
pub fn save_url(url: &str, context: &Context) -> Result<(), Failure> {
    let path = config::path_to_save(root_is_named(context).then_some(context.broker.root()))?;
    config::save(
        &path,
        &ConnectionOptions { url: Some(url.to_owned()), ..ConnectionOptions::default() },
    )
    .map(|_| ())
}

/// The health of the configured relay, with its URL; `None` if no relay is configured.
pub fn health(context: &Context) -> Result<Option<(String, response::HealthResponse)>, Failure> {
    let settings = config::resolve(&ConnectionOptions::default(), context.broker.root())?;
    let Some(url) = settings.url.clone() else { return Ok(None) };
    let health = new_client(&settings, None)?.get("/health", None)?;
    Ok(Some((url, health)))
}
