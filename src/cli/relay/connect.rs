//! `c2c relay connect`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{Target, connect_to, node_id, own_key};
use crate::cli::{Context, Run, output};
use crate::code::Code;
use crate::connector::{Connector, Tick};
use crate::failure::Failure;

/// The relay when none is named anywhere.
const LOCAL: &str = "http://localhost:7331";

#[derive(Args)]
pub struct Connect {
    /// One round, then the end
    #[arg(long)]
    once: bool,
    /// A full round at least every so many seconds; mail itself waits for none
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = output::seconds)]
    interval: Duration,
    /// How long the relay takes these agents for alive after the last sign, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    ttl: u64,
    /// Show every round
    #[arg(long, short = 'v')]
    verbose: bool,
    #[command(flatten)]
    target: Target,
}

impl Run for Connect {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let mut settings = self.target.settings(context)?;
        settings.url.get_or_insert_with(|| LOCAL.to_owned());
        let identity = own_key(self.target.identity_path.as_deref())?;
        let client = connect_to(&settings, Some(identity))?;
        let node = node_id(&settings);
        let json = context.common.json;
        if self.verbose && !json {
            let (url, root) = (client.base_url(), context.broker.root().display());
            let interval = self.interval.as_secs_f64();
            output::note(&format!(
                "[relay-connector] relay={url} node={node} root={root} auth=Ed25519-signed interval={interval}s"
            ));
        }
        let mut connector = Connector::new(context.broker.root(), client, &node, self.ttl.max(1));
        if self.once {
            let tick = connector.tick()?;
            return tell(&tick, json, self.verbose, &mut |text| output::say(text));
        }
        let _held = connector.hold()?;
        let stop = Arc::new(AtomicBool::new(false));
        stop_on_signals(&stop)?;
        let verbose = self.verbose;
        let silent = AtomicBool::new(false);
        connector.follow(self.interval, &stop, &|round| match round {
            Ok(tick) => {
                if silent.swap(false, Ordering::Relaxed) {
                    output::note("[relay-connector] the relay answers again");
                }
                if verbose || !tick.errors.is_empty() {
                    let _ = tell(&tick, json, true, &mut |text| output::say(text));
                }
            }
            // Said once, not with every try.
            Err(failure) if failure.code() == Code::RemoteUnavailable => {
                if !silent.swap(true, Ordering::Relaxed) {
                    output::note(&format!("[relay-connector] {}", failure.message()));
                }
            }
            Err(failure) => output::note(&format!(
                "[relay-connector] {} [{}]",
                failure.message(),
                failure.code().name()
            )),
        });
        Ok(())
    }
}

/// SIGTERM and SIGINT end the present round and then the connector.
fn stop_on_signals(stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let stop = Arc::clone(stop);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let io = |e| crate::log::LogError::io("watch", "signals", e);
    let runtime = runtime.map_err(io)?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async {
                use tokio::signal::unix::{SignalKind, signal};
                let (Ok(mut term), Ok(mut int)) =
                    (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
                else {
                    return;
                };
                tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
                stop.store(true, Ordering::Relaxed);
                // A second one means now: whatever is half done is done again next time.
                tokio::select! {
                    _ = term.recv() => {},
                    _ = int.recv() => {},
                    () = tokio::time::sleep(Duration::from_secs(2)) => {}
                }
                std::process::exit(0);
            });
        })
        .map_err(io)?;
    Ok(())
}

fn tell(
    tick: &Tick,
    as_json: bool,
    verbose: bool,
    say: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if as_json {
        let errors: Vec<Value> = tick.errors.iter().map(Failure::to_json).collect();
        return say(&output::json_line(&json!({
            "ok": true,
            "registered": tick.registered,
            "heartbeated": tick.heartbeated,
            "forwarded": tick.forwarded,
            "failed": tick.failed,
            "bounced": tick.bounced,
            "inbound": tick.inbound,
            "waits": tick.parked,
            "errors": errors,
        })));
    }
    if verbose || !tick.is_quiet() {
        let mut text = format!(
            "[relay-connector] sync: registered={} heartbeated={} fwd={} failed={} dlqed={} inbound={}",
            tick.registered,
            tick.heartbeated,
            tick.forwarded,
            tick.failed,
            tick.bounced,
            tick.inbound
        );
        if let Some(why) = &tick.parked {
            text.push_str(&format!(" [send: {}]", crate::envelope::for_terminal(why)));
        }
        for error in &tick.errors {
            let message = error.message();
            text.push_str(&format!(" [register: {}]", crate::envelope::for_terminal(&message)));
        }
        say(&format!("{text}\n"))?;
    }
    Ok(())
}
