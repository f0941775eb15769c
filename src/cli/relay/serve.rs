//! `c2c relay serve`.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use c2c_log_format::id::fold;
use clap::{Args, ValueEnum};

use crate::broker::Broker;
use crate::cli::{Context, Run, output};
use crate::code::Code;
use crate::connector::config::{check_token, read_named, read_token};
use crate::decide::Refusal;
use crate::failure::Failure;
use crate::limits::{
    BODY_BYTES_MAX, MIRROR_GIB_MAX, RELAY_BURST_S, RELAY_CONNECTIONS_MAX, RELAY_HEAD_BYTES_MAX,
    RELAY_HEAD_WAIT_S, RELAY_HEADERS_MAX, RELAY_KNOWN_BYTES, RELAY_REQUEST_BYTES_MAX,
    RELAY_REQUESTS_PER_S, RELAY_STRANGERS_BYTES, RELAY_WAIT_S_MAX,
};
use crate::relay::{self, About, Allowed, Listen, Relay, Remote, RemoteBroker, Storage, Tls};
use crate::wire::sign::PublicKey;

/// Port when none is named.
const PORT: u16 = 7331;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kept {
    /// Nowhere: a restart forgets everything
    Memory,
    /// In a log, as on every machine
    Log,
    /// In one SQLite file
    #[cfg(feature = "sqlite")]
    Sqlite,
}

/// What a relay puts up with, as the help says it.
fn limits_text() -> String {
    let mib = |bytes: usize| bytes / 1024 / 1024;
    format!(
        "Limits: {RELAY_CONNECTIONS_MAX} connections, more wait; {RELAY_HEADERS_MAX} headers and {} KiB \
         of head, within {RELAY_HEAD_WAIT_S} s; {} MiB of body, within 60 s; bodies of {} MiB at once \
         from strangers and {} MiB from those whose key is known; a message of {} MiB; a wait of \
         {RELAY_WAIT_S_MAX} s; --rate-limit requests a second, {RELAY_BURST_S} seconds of them at once.",
        RELAY_HEAD_BYTES_MAX / 1024,
        mib(RELAY_REQUEST_BYTES_MAX),
        mib(RELAY_STRANGERS_BYTES),
        mib(RELAY_KNOWN_BYTES),
        mib(BODY_BYTES_MAX),
    )
}

#[derive(Args)]
#[command(after_help = limits_text())]
pub struct Serve {
    /// Address to listen on [default: 127.0.0.1:7331, or 0.0.0.0:$PORT in a hosted container]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Token of the operator, else C2C_RELAY_TOKEN; with it every request needs credentials
    #[arg(long)]
    token: Option<String>,
    /// File whose first line is the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where events are kept
    #[arg(long, value_enum, default_value = "log")]
    storage: Kept,
    /// File of the sqlite storage
    #[arg(long, value_name = "FILE")]
    db_path: Option<PathBuf>,
    /// Directory of the log storage; else C2C_RELAY_PERSIST_DIR
    #[arg(long, value_name = "DIR")]
    persist_dir: Option<PathBuf>,
    /// End leases that are over every so many seconds; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    gc_interval: u64,
    /// A further name that means this relay in addresses
    #[arg(long, value_name = "NAME")]
    relay_name: Option<String>,
    /// JSON file {alias: public key}: only these may register
    #[arg(long, value_name = "FILE")]
    allowed_identities: Option<PathBuf>,
    /// Requests a second from one identity before it has to wait; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = RELAY_REQUESTS_PER_S)]
    rate_limit: u32,
    /// Certificates for TLS, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Room for the copies of machines that connect with --mirror, in GiB; 0 for none
    #[arg(long, value_name = "GIB", default_value_t = MIRROR_GIB_MAX)]
    mirror_limit: u64,
    /// Machine whose broker is read over SSH every 5 seconds, for /remote_inbox
    #[arg(long, value_name = "USER@HOST", requires = "remote_broker_root")]
    remote_broker_ssh_target: Option<String>,
    /// Root of that broker, over there
    #[arg(long, value_name = "DIR", requires = "remote_broker_ssh_target")]
    remote_broker_root: Option<String>,
    /// What that broker is called in answers
    #[arg(long, value_name = "NAME", default_value = "default")]
    remote_broker_id: String,
    /// Serve other machines without a token, too
    #[arg(long)]
    insecure: bool,
    /// Show each request
    #[arg(long, short = 'v')]
    verbose: bool,
}

impl Run for Serve {
    fn run(self, _context: &mut Context) -> Result<(), Failure> {
        let address = self.address()?;
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) if token.trim().is_empty() => {
                let message = "the token is empty";
                return Err(Refusal::new(Code::InvalidArgument, "token", message).into());
            }
            (Some(token), _) => Some(check_token(token)?),
            (None, Some(path)) => Some(read_token(path)?),
            // As hosted containers are told.
            (None, None) => {
                let named = std::env::var("C2C_RELAY_TOKEN").ok();
                let token = named.map(|token| check_token(&token)).transpose()?;
                token.filter(|token| !token.is_empty())
            }
        };
        if token.is_none() && !address.ip().is_loopback() && !self.insecure {
            let message = format!("without a token {address} would be open to everybody");
            return Err(Refusal::new(Code::InvalidArgument, "token", message)
                .hint("pass --token or --token-file; or --insecure, if you mean it")
                .into());
        }
        let persist_dir = self.persist_dir.clone().or_else(|| {
            let named = std::env::var_os("C2C_RELAY_PERSIST_DIR").filter(|path| !path.is_empty());
            named.map(PathBuf::from)
        });
        let remote = self.remote_broker()?;
        let storage = self.storage(persist_dir.as_deref(), &address)?;
        let store = relay::open(&storage)?;
        let mut names = vec![self.relay_name.clone().unwrap_or_else(|| "relay".into())];
        names.extend(["relay".into(), address.ip().to_string(), "localhost".into()]);
        names.dedup();
        let about = About {
            storage: storage.name(),
            persist_dir: persist_dir.as_ref().map(|path| path.display().to_string()),
            names,
            mirror_bytes_max: self.mirror_limit.saturating_mul(1 << 30),
        };
        let allowed = self.allowed_identities.as_deref().map(read_allowed).transpose()?;
        let broker = Broker::on(&store.directory, store.events);
        let mut relay = Relay::new(broker, token.clone(), allowed, about, self.rate_limit)?;
        if let Some(directory) = &persist_dir {
            relay = relay.with_histories(directory)?;
        }
        if let Some(remote) = remote {
            relay = relay.with_remote(Remote::new(remote));
        }
        let gc_interval = (self.gc_interval > 0).then(|| Duration::from_secs(self.gc_interval));
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificates), Some(key)) => Some(Tls::read(certificates, key)?),
            _ => None,
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (verbose, open) = (self.verbose, token.is_none());
        let any_name = self.insecure;
        let listen = Listen { address, gc_interval, verbose, open, any_name, tls };
        relay::serve(&listen, relay, &mut |address| {
            let mut text = format!("c2c relay serving on {scheme}://{address}\n");
            text.push_str(&format!("storage: {}\n", storage.name()));
            if let Some(path) = self.db_path.as_ref().filter(|_| storage.name() == "sqlite") {
                text.push_str(&format!("db: {}\n", path.display()));
            }
            if let Some(path) = &persist_dir {
                text.push_str(&format!("persist_dir: {}\n", path.display()));
            }
            text.push_str(match &token {
                Some(_) => "auth: Bearer token required\n",
                None => "auth: DISABLED (no token set — do not expose publicly)\n",
            });
            if self.gc_interval > 0 {
                text.push_str(&format!("gc: running every {}s\n", self.gc_interval));
            }
            output::say(&text)
        })
    }
}

impl Serve {
    fn address(&self) -> Result<SocketAddr, Failure> {
        let port = std::env::var("PORT").ok().filter(|port| !port.is_empty());
        let named = match (&self.listen, port) {
            (Some(listen), _) => listen.clone(),
            (None, Some(port)) => format!("0.0.0.0:{port}"),
            (None, None) => format!("127.0.0.1:{PORT}"),
        };
        let field = if self.listen.is_none() { "PORT" } else { "listen" };
        let wrong = || {
            let message = format!("'{}' is not HOST:PORT", named.escape_default());
            Refusal::new(Code::InvalidArgument, field, message).hint("for example 127.0.0.1:7331")
        };
        let mut found = named.to_socket_addrs().map_err(|_| wrong())?;
        Ok(found.next().ok_or_else(wrong)?)
    }

    fn remote_broker(&self) -> Result<Option<RemoteBroker>, Refusal> {
        let named = self.remote_broker_ssh_target.clone().zip(self.remote_broker_root.clone());
        let Some((target, root)) = named else { return Ok(None) };
        let broker = RemoteBroker { target, root, id: self.remote_broker_id.clone() };
        broker.check()?;
        Ok(Some(broker))
    }

    fn storage(
        &self,
        persist_dir: Option<&Path>,
        address: &SocketAddr,
    ) -> Result<Storage, Failure> {
        match self.storage {
            Kept::Memory => Ok(Storage::Memory),
            Kept::Log => {
                if self.db_path.is_some() {
                    let message = "--db-path is the file of --storage sqlite";
                    let refusal = Refusal::new(Code::InvalidArgument, "db_path", message);
                    return Err(refusal.hint("add --storage sqlite, or leave it out").into());
                }
                let default = || relay::default_directory(address);
                Ok(Storage::Log(persist_dir.map_or_else(default, |path| Ok(path.to_owned()))?))
            }
            #[cfg(feature = "sqlite")]
            Kept::Sqlite => match &self.db_path {
                Some(path) => Ok(Storage::Sqlite(path.clone())),
                None => {
                    let message = "--storage sqlite needs --db-path";
                    Err(Refusal::new(Code::InvalidArgument, "db_path", message).into())
                }
            },
        }
    }
}

/// Who may register: public keys by alias.
fn read_allowed(path: &Path) -> Result<Allowed, Failure> {
    let name = path.display().to_string();
    let text = read_named("allowed_identities", path)?;
    let rows: BTreeMap<String, String> = serde_json::from_str(&text).map_err(|e| {
        let message = format!("{name} is not a JSON object of alias and public key: {e}");
        Failure::from(Refusal::new(Code::InvalidArgument, "allowed_identities", message))
    })?;
    for (alias, key) in &rows {
        PublicKey::parse(key).map_err(|e| {
            let message = format!("{name}: the key of '{}': {e}", alias.escape_default());
            Failure::from(Refusal::new(Code::InvalidArgument, "allowed_identities", message))
        })?;
    }
    Ok(rows.into_iter().map(|(alias, key)| (fold(&alias), key)).collect())
}
