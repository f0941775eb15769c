//! The `c2c relay connect` command.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;

use super::key::load_or_create_key;
use super::logging::{LineFormat, LogOptions};
use super::progress::Progress;
use super::service_unit::{DEFAULT_TTL_S, ServiceOptions, install_service};
use super::target::{RelayTarget, new_client, node_id};
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::env::node::node_id_of;
use crate::env::root;
use crate::error::Failure;
use crate::platform::signal::StopSignals;
use crate::relay::client::{Connector, RelayClient};
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// The relay to connect to if none is set.
const DEFAULT_URL: &str = "http://localhost:7331";
/// Time between two searches for new broker roots, with `--all`.
const SEARCH_INTERVAL: Duration = Duration::from_millis(500);
/// After a first signal, the connector may finish its round for this long.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c relay connect                                   run until SIGINT or SIGTERM\n  \
    c2c relay connect --relay-url http://host:7331 --once\n  \
    c2c relay connect --install-service                 write a systemd user unit")]
pub struct RelayConnect {
    /// Run one sync and exit
    #[arg(long)]
    once: bool,
    /// Serve all broker roots of this user, each as its own node
    #[arg(long, conflicts_with_all = ["broker_root", "node_id"])]
    all: bool,
    /// Write a systemd user unit that runs this command, and show how to start it
    #[arg(long)]
    install_service: bool,
    /// Longest time between two full syncs; mail does not wait for one
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = output::parse_seconds)]
    interval: Duration,
    /// Seconds after which this machine's leases expire at the relay unless renewed
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_TTL_S)]
    ttl: u64,
    /// Copy the whole log to the relay, including local messages, for `relay restore`
    #[arg(long)]
    mirror: bool,
    /// Show the result of every sync
    #[arg(long, short = 'v')]
    verbose: bool,
    #[command(flatten)]
    log: LogOptions,
    #[command(flatten)]
    target: RelayTarget,
}

impl Run for RelayConnect {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        if self.install_service {
            let options = ServiceOptions {
                target: &self.target,
                interval: self.interval(),
                ttl_s: self.ttl,
                mirror: self.mirror,
                verbose: self.verbose,
                log_format: self.log.log_format.map(LineFormat::name),
            };
            return install_service(&options, context);
        }
        self.log.start_logging()?;
        let mut settings = self.target.settings(context)?;
        settings.url.get_or_insert_with(|| DEFAULT_URL.to_owned());
        let key = load_or_create_key(self.target.identity_path.as_deref(), context)?;
        let client = new_client(&settings, Some(key))?;
        let progress = Progress::new(context.common.json, self.verbose);
        if self.all {
            return self.serve_all(&client, &progress);
        }
        let node = node_id(&settings, context);
        self.announce(&client, &node, context.broker.root(), &progress);
        if self.mirror && !progress.json {
            output::note("mirror: the relay receives the whole log, local messages included");
        }
        let mut connector = self.connector(context.broker.root(), client, &node);
        if self.once {
            let tick = connector.sync_once()?;
            return progress.print(&tick, self.verbose);
        }
        let _lock = connector.lock_root()?;
        let stop = Arc::new(AtomicBool::new(false));
        stop_on_signals(&stop)?;
        connector.run(self.interval(), &stop, &|round| progress.report(round));
        Ok(())
    }
}

impl RelayConnect {
    /// At least a second: rounds without a pause would only keep the relay busy.
    fn interval(&self) -> Duration {
        self.interval.max(Duration::from_secs(1))
    }

    fn connector(&self, root: &Path, client: RelayClient, node: &str) -> Connector {
        Connector::new(root, client, node, self.ttl.max(1)).with_mirror(self.mirror)
    }

    fn announce(&self, client: &RelayClient, node: &str, root: &Path, progress: &Progress) {
        if self.verbose && !progress.json {
            let (url, root) = (client.base_url(), root.display());
            let interval = self.interval().as_secs_f64();
            output::note(&format!(
                "[relay-connector] relay={url} node={node} root={root} auth=Ed25519-signed interval={interval}s"
            ));
        }
    }

    /// The connector of one of this user's roots.
    fn connector_of(&self, path: &Path, client: &RelayClient, progress: &Progress) -> Connector {
        let node = node_id_of(path);
        self.announce(client, &node, path, progress);
        self.connector(path, client.clone(), &node)
    }

    /// Serves all broker roots of this user, and those that are created meanwhile.
    fn serve_all(&self, client: &RelayClient, progress: &Progress) -> Result<(), Failure> {
        if self.once {
            return self.sync_all(client, progress);
        }
        let stop = Arc::new(AtomicBool::new(false));
        stop_on_signals(&stop)?;
        let mut served = BTreeSet::new();
        thread::scope(|scope| {
            while !stop.load(Ordering::Relaxed) {
                for root in root::all() {
                    if !served.insert(root.clone()) {
                        continue;
                    }
                    let (connector, stop) = (self.connector_of(&root, client, progress), &stop);
                    scope.spawn(move || match connector.lock_root() {
                        Ok(_lock) => {
                            connector.run(self.interval(), stop, &|round| progress.report(round));
                        }
                        Err(failure) => progress.report(Err(failure)),
                    });
                }
                thread::sleep(SEARCH_INTERVAL);
            }
        });
        Ok(())
    }

    /// Runs one sync of each root. A failure of one root does not stop the others.
    fn sync_all(&self, client: &RelayClient, progress: &Progress) -> Result<(), Failure> {
        let mut failed = None;
        for root in root::all() {
            match self.connector_of(&root, client, progress).sync_once() {
                Ok(tick) => progress.print(&tick, self.verbose)?,
                Err(failure) => {
                    progress.report(Err(failure));
                    failed = Some(root);
                }
            }
        }
        failed.map_or(Ok(()), |root| {
            let message = format!("{} could not be synchronised", root.display());
            Err(Rejection::new(Code::BadRoot, "broker_root", message).into())
        })
    }
}

/// Stops the connector after its current round on SIGTERM or SIGINT. A second signal exits
/// immediately: the next run repeats an interrupted round.
fn stop_on_signals(stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let stop = Arc::clone(stop);
    let failed = |e| Failure::io("wait for", "signals", e);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async {
                let Ok(mut signals) = StopSignals::install() else { return };
                signals.received().await;
                stop.store(true, Ordering::Relaxed);
                tokio::select! {
                    () = signals.received() => {},
                    () = tokio::time::sleep(STOP_TIMEOUT) => {}
                }
                std::process::exit(0);
            });
        })
        .map_err(failed)?;
    Ok(())
}
