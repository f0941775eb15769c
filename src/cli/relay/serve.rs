//! The `c2c relay serve` command.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use c2c_log_format::id::fold;
use clap::{Args, ValueEnum};

use super::logging::LogOptions;
use crate::broker::Broker;
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::env::{C2C_RELAY_PERSIST_DIR, C2C_RELAY_TOKEN, PORT};
use crate::error::Failure;
use crate::relay::client::config::{check_token, read_named, read_token};
use crate::relay::protocol::sign::PublicKey;
use crate::relay::server::{
    self, AllowedKeys, ListenOptions, RelayProfile, RelayService, RelayStorage, RemoteBroker,
    RemoteBrokerMonitor, Tls,
};
use c2c_core::code::Code;
use c2c_core::decide::Rejection;
use c2c_core::limits::table::{self, Limit};
use c2c_core::limits::{MIRROR_GIB_MAX, RELAY_REQUESTS_PER_S};

/// Port to listen on if none is given.
const DEFAULT_PORT: u16 = 7331;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StorageKind {
    /// In memory; a restart loses all events
    Memory,
    /// In an event log, like a broker root
    Log,
    /// In one SQLite file
    #[cfg(feature = "sqlite")]
    Sqlite,
}

/// The limits of a relay and the examples, for the help.
fn after_help() -> String {
    let mut text = String::from("Limits:\n");
    for Limit { name, value } in table::of_relay() {
        let name = name.strip_prefix("relay: ").unwrap_or(name);
        text.push_str(&format!("  {name:58} {}\n", value.replace('`', "")));
    }
    text.push_str(
        "\nExamples:\n  \
         c2c relay serve --token-file relay.token                 on this machine only\n  \
         c2c relay serve --listen 0.0.0.0:7331 --token-file relay.token\n  \
         c2c relay serve --storage sqlite --db-path relay.db",
    );
    text
}

#[derive(Args)]
#[command(after_help = after_help())]
pub struct RelayServe {
    /// Address to listen on [default: 127.0.0.1:7331, or 0.0.0.0:$PORT in a hosted container]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Operator's token [default: C2C_RELAY_TOKEN]; with a token, requests need credentials
    #[arg(long)]
    token: Option<String>,
    /// File whose first line is the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where to store events
    #[arg(long, value_enum, default_value = "log")]
    storage: StorageKind,
    /// File of the sqlite storage
    #[arg(long, value_name = "FILE")]
    db_path: Option<PathBuf>,
    /// Directory of the log storage [default: C2C_RELAY_PERSIST_DIR, else in the state directory]
    #[arg(long, value_name = "DIR")]
    persist_dir: Option<PathBuf>,
    /// Remove expired leases at this interval; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    gc_interval: u64,
    /// Additional name of this relay in addresses
    #[arg(long, value_name = "NAME")]
    relay_name: Option<String>,
    /// JSON file {alias: public key} of the only agents that may register
    #[arg(long, value_name = "FILE")]
    allowed_identities: Option<PathBuf>,
    /// Requests per second allowed for each identity; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = RELAY_REQUESTS_PER_S)]
    rate_limit: u32,
    /// PEM file with the TLS certificates
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the key of the TLS certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Disk space for the mirrors of nodes that connect with --mirror; 0 for none
    #[arg(long, value_name = "GIB", default_value_t = MIRROR_GIB_MAX)]
    mirror_limit: u64,
    /// Host whose broker is read through SSH every 5 seconds, for /remote_inbox
    #[arg(long, value_name = "USER@HOST", requires = "remote_broker_root")]
    remote_broker_ssh_target: Option<String>,
    /// Root of the broker on that host
    #[arg(long, value_name = "DIR", requires = "remote_broker_ssh_target")]
    remote_broker_root: Option<String>,
    /// Name of that broker in responses
    #[arg(long, value_name = "NAME", default_value = "default")]
    remote_broker_id: String,
    /// Allow other machines to connect without a token
    #[arg(long)]
    insecure: bool,
    /// Log each request to standard error
    #[arg(long, short = 'v')]
    verbose: bool,
    #[command(flatten)]
    log: LogOptions,
}

impl Run for RelayServe {
    fn run(self, _context: &mut Context) -> Result<(), Failure> {
        self.log.start_logging()?;
        let address = self.address()?;
        let token = self.token()?;
        if token.is_none() && !address.ip().is_loopback() && !self.insecure {
            let message = format!("without a token, {address} would be open to everyone");
            return Err(Rejection::new(Code::InvalidArgument, "token", message)
                .hint("pass --token or --token-file, or allow it with --insecure")
                .into());
        }
        let persist_dir = self.persist_dir.clone().or_else(|| C2C_RELAY_PERSIST_DIR.path());
        let remote = self.remote_broker()?;
        let storage = self.storage(persist_dir.as_deref(), &address)?;
        let relay =
            self.relay(&address, token.clone(), &storage, persist_dir.as_deref(), remote)?;
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificates), Some(key)) => Some(Tls::read(certificates, key)?),
            _ => None,
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listen = ListenOptions {
            address,
            gc_interval: (self.gc_interval > 0).then(|| Duration::from_secs(self.gc_interval)),
            verbose: self.verbose,
            is_open: token.is_none(),
            accepts_any_host: self.insecure,
            tls,
        };
        server::serve(&listen, relay, &mut |address| {
            let url = format!("{scheme}://{address}");
            let text = self.start_text(&url, &storage, persist_dir.as_deref(), token.is_some());
            output::print(&text)
        })
    }
}

impl RelayServe {
    fn address(&self) -> Result<SocketAddr, Failure> {
        let text = match (&self.listen, PORT.text()) {
            (Some(listen), _) => listen.clone(),
            (None, Some(port)) => format!("0.0.0.0:{port}"),
            (None, None) => format!("127.0.0.1:{DEFAULT_PORT}"),
        };
        let field = if self.listen.is_none() { PORT.name } else { "listen" };
        let invalid = || {
            let message = format!("'{}' is not HOST:PORT", text.escape_default());
            Rejection::new(Code::InvalidArgument, field, message).hint("for example 127.0.0.1:7331")
        };
        let mut addresses = text.to_socket_addrs().map_err(|_| invalid())?;
        Ok(addresses.next().ok_or_else(invalid)?)
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        match (&self.token, &self.token_file) {
            (Some(token), _) if token.trim().is_empty() => {
                let message = "the token is empty";
                Err(Rejection::new(Code::InvalidArgument, "token", message).into())
            }
            (Some(token), _) => Ok(Some(check_token(token)?)),
            (None, Some(path)) => Ok(Some(read_token(path)?)),
            // Hosted containers pass their settings in the environment.
            (None, None) => {
                let token = C2C_RELAY_TOKEN.text();
                let token = token.map(|token| check_token(&token)).transpose()?;
                Ok(token.filter(|token| !token.is_empty()))
            }
        }
    }

    fn remote_broker(&self) -> Result<Option<RemoteBroker>, Rejection> {
        let options = self.remote_broker_ssh_target.clone().zip(self.remote_broker_root.clone());
        let Some((target, root)) = options else { return Ok(None) };
        let broker = RemoteBroker { target, root, id: self.remote_broker_id.clone() };
        broker.check()?;
        Ok(Some(broker))
    }

    fn storage(
        &self,
        persist_dir: Option<&Path>,
        address: &SocketAddr,
    ) -> Result<RelayStorage, Failure> {
        match self.storage {
            StorageKind::Memory => Ok(RelayStorage::Memory),
            StorageKind::Log => {
                if self.db_path.is_some() {
                    let message = "--db-path applies only to --storage sqlite";
                    let rejection = Rejection::new(Code::InvalidArgument, "db_path", message);
                    return Err(rejection.hint("add --storage sqlite, or omit --db-path").into());
                }
                let default = || server::default_directory(address);
                Ok(RelayStorage::Log(persist_dir.map_or_else(default, |path| Ok(path.to_owned()))?))
            }
            #[cfg(feature = "sqlite")]
            StorageKind::Sqlite => match &self.db_path {
                Some(path) => Ok(RelayStorage::Sqlite(path.clone())),
                None => {
                    let message = "--storage sqlite needs --db-path FILE";
                    Err(Rejection::new(Code::InvalidArgument, "db_path", message).into())
                }
            },
        }
    }

    fn relay(
        &self,
        address: &SocketAddr,
        token: Option<String>,
        storage: &RelayStorage,
        persist_dir: Option<&Path>,
        remote: Option<RemoteBroker>,
    ) -> Result<RelayService, Failure> {
        let store = server::open(storage)?;
        let mut names = vec![self.relay_name.clone().unwrap_or_else(|| "relay".into())];
        names.extend(["relay".into(), address.ip().to_string(), "localhost".into()]);
        names.dedup();
        let about = RelayProfile {
            storage: storage.name(),
            persist_dir: persist_dir.map(|path| path.display().to_string()),
            names,
            mirror_bytes_max: self.mirror_limit.saturating_mul(1 << 30),
        };
        let allowed = self.allowed_identities.as_deref().map(read_allowed).transpose()?;
        let broker = Broker::with_store(&store.directory, store.events);
        let relay = RelayService::new(broker, token, allowed, about, self.rate_limit)?;
        let mut relay = relay.with_lock(store.lock);
        if let Some(directory) = persist_dir {
            relay = relay.with_histories(directory)?;
        }
        if let Some(remote) = remote {
            relay = relay.with_remote(RemoteBrokerMonitor::new(remote));
        }
        Ok(relay)
    }

    /// The lines that a relay prints when it starts to serve.
    fn start_text(
        &self,
        url: &str,
        storage: &RelayStorage,
        persist_dir: Option<&Path>,
        needs_token: bool,
    ) -> String {
        let mut text = format!("c2c relay serving on {url}\n");
        text.push_str(&format!("storage: {}\n", storage.name()));
        if let Some(path) = self.db_path.as_ref().filter(|_| storage.name() == "sqlite") {
            text.push_str(&format!("db: {}\n", path.display()));
        }
        if let Some(path) = persist_dir {
            text.push_str(&format!("persist_dir: {}\n", path.display()));
        }
        text.push_str(match needs_token {
            true => "auth: Bearer token required\n",
            false => "auth: DISABLED (no token set — do not expose publicly)\n",
        });
        if self.gc_interval > 0 {
            text.push_str(&format!("gc: running every {}s\n", self.gc_interval));
        }
        text
    }
}

/// Reads the public keys that may register, by alias.
fn read_allowed(path: &Path) -> Result<AllowedKeys, Failure> {
    let invalid = |message| {
        Failure::from(Rejection::new(Code::InvalidArgument, "allowed_identities", message))
    };
    let name = path.display();
    let text = read_named("allowed_identities", path)?;
    let rows: BTreeMap<String, String> = serde_json::from_str(&text).map_err(|e| {
        invalid(format!("{name} is not a JSON object of aliases and public keys: {e}"))
    })?;
    for (alias, key) in &rows {
        PublicKey::parse(key).map_err(|e| {
            invalid(format!("{name}: the key of '{}': {e}", alias.escape_default()))
        })?;
    }
    Ok(rows.into_iter().map(|(alias, key)| (fold(&alias), key)).collect())
}
