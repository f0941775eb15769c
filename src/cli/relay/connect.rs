//! `c2c relay connect`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{Target, connect_to, key_path, node_id, own_key};
use crate::cli::{Context, Run, output};
use crate::code::Code;
use crate::connector::{Client, Connector, Tick};
use crate::decide::Refusal;
use crate::failure::Failure;
use crate::files::write_private;
use crate::identity as keys;
use crate::log::LogError;
use crate::root;

/// The relay when none is named anywhere.
const LOCAL: &str = "http://localhost:7331";

#[derive(Args)]
pub struct Connect {
    /// One round, then the end
    #[arg(long)]
    once: bool,
    /// Serve all broker roots of this user, each as a node of its own
    #[arg(long, conflicts_with_all = ["broker_root", "node_id"])]
    all: bool,
    /// Write a systemd user unit that keeps this running, and say how to start it
    #[arg(long)]
    install_service: bool,
    /// A full round at least every so many seconds; mail itself waits for none
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = output::seconds)]
    interval: Duration,
    /// How long the relay takes these agents for alive after the last sign, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    ttl: u64,
    /// Keep a copy of the whole log at the relay, local messages included, for `relay restore`
    #[arg(long)]
    mirror: bool,
    /// Show every round
    #[arg(long, short = 'v')]
    verbose: bool,
    #[command(flatten)]
    target: Target,
}

impl Run for Connect {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        if self.install_service {
            return self.install_service(context);
        }
        let mut settings = self.target.settings(context)?;
        settings.url.get_or_insert_with(|| LOCAL.to_owned());
        let key = own_key(self.target.identity_path.as_deref(), context)?;
        let client = connect_to(&settings, Some(key))?;
        let round = Round { json: context.common.json, verbose: self.verbose, ..Round::default() };
        if self.all {
            return self.serve_all(&client, &round);
        }
        let node = node_id(&settings);
        self.announce(&client, &node, context.broker.root(), &round);
        if self.mirror && !round.json {
            output::note("mirror: the relay gets the whole log, local messages included");
        }
        let mut connector = self.connector(context.broker.root(), client, &node);
        if self.once {
            let tick = connector.tick()?;
            return round.tell(&tick, self.verbose);
        }
        let _held = connector.hold()?;
        let stop = Arc::new(AtomicBool::new(false));
        stop_on_signals(&stop)?;
        connector.follow(self.interval(), &stop, &|done| round.done(done));
        Ok(())
    }
}

impl Connect {
    /// Rounds that follow one another without a rest would only keep the relay busy.
    fn interval(&self) -> Duration {
        self.interval.max(Duration::from_secs(1))
    }

    fn connector(&self, root: &Path, client: Client, node: &str) -> Connector {
        Connector::new(root, client, node, self.ttl.max(1)).with_mirror(self.mirror)
    }

    fn announce(&self, client: &Client, node: &str, root: &Path, round: &Round) {
        if self.verbose && !round.json {
            let (url, root) = (client.base_url(), root.display());
            let interval = self.interval().as_secs_f64();
            output::note(&format!(
                "[relay-connector] relay={url} node={node} root={root} auth=Ed25519-signed interval={interval}s"
            ));
        }
    }

    /// All roots; those that come later, too.
    fn serve_all(&self, client: &Client, round: &Round) -> Result<(), Failure> {
        let made = |(path, fingerprint): &(PathBuf, String)| {
            let node = root::node_id_of(fingerprint);
            self.announce(client, &node, path, round);
            self.connector(path, client.clone(), &node)
        };
        if self.once {
            // What is wrong with one root keeps no other out.
            let mut failed = None;
            for place in root::all() {
                match made(&place).tick() {
                    Ok(tick) => round.tell(&tick, self.verbose)?,
                    Err(failure) => {
                        round.done(Err(failure));
                        failed = Some(place.0);
                    }
                }
            }
            return failed.map_or(Ok(()), |root| {
                let message = format!("{} could not be served", root.display());
                Err(Refusal::new(Code::BadRoot, "broker_root", message).into())
            });
        }
        let stop = Arc::new(AtomicBool::new(false));
        stop_on_signals(&stop)?;
        let mut served = BTreeSet::new();
        thread::scope(|scope| {
            while !stop.load(Ordering::Relaxed) {
                for place in root::all() {
                    if !served.insert(place.0.clone()) {
                        continue;
                    }
                    let (connector, stop) = (made(&place), &stop);
                    scope.spawn(move || match connector.hold() {
                        Ok(_held) => {
                            connector.follow(self.interval(), stop, &|done| round.done(done))
                        }
                        Err(failure) => round.done(Err(failure)),
                    });
                }
                thread::sleep(Duration::from_millis(500));
            }
        });
        Ok(())
    }
}

/// A word of a command line in a unit.
fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@,=".contains(&byte);
    if text.bytes().all(plain) { text.to_owned() } else { quoted(text) }
}

fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('%', "%%").replace('$', "$$"))
}

/// A path that means the same file wherever the service starts.
fn whole(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

impl Connect {
    /// The words after the program: what was given here, and what is in the environment only.
    fn words(&self, context: &Context) -> Result<Vec<String>, Failure> {
        let target = &self.target;
        let from_environment = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        if target.token.is_some() || from_environment("C2C_RELAY_TOKEN").is_some() {
            let message = "a token is no part of a unit";
            return Err(Refusal::new(Code::InvalidArgument, "token", message)
                .hint("save it first: c2c relay setup --url URL --token-file FILE")
                .into());
        }
        let mut words = vec!["relay".to_owned(), "connect".to_owned()];
        let node_id = target.node_id.clone().or_else(|| from_environment("C2C_RELAY_NODE_ID"));
        let is_named =
            context.common.broker_root.is_some() || context.root.reason == "C2C_MCP_BROKER_ROOT";
        let in_root = is_named || node_id.is_some();
        if in_root {
            words.extend(["--broker-root".into(), whole(context.broker.root())]);
        } else {
            words.push("--all".into());
        }
        let path = |path: &Option<PathBuf>| path.as_deref().map(whole);
        // The key that is used here, wherever it was found.
        let usual = keys::path(None).ok();
        let key = key_path(target.identity_path.as_deref(), context).ok();
        let is_usual = key == usual && from_environment("C2C_RELAY_IDENTITY_PATH").is_none();
        let identity = key.filter(|_| !is_usual).as_deref().map(whole);
        let url = target.relay_url.clone().or_else(|| from_environment("C2C_RELAY_URL"));
        let seconds = |given: Duration, usual: u64| {
            let differs = given != Duration::from_secs(usual);
            differs.then(|| given.as_secs_f64().to_string())
        };
        for (flag, value) in [
            ("--relay-url", url),
            ("--token-file", path(&target.token_file)),
            ("--identity-path", identity),
            ("--node-id", node_id),
            ("--ca-bundle", path(&target.ca_bundle)),
            ("--interval", seconds(self.interval(), 30)),
            ("--ttl", seconds(Duration::from_secs(self.ttl), 300)),
        ] {
            words.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
        }
        let flags = [("--mirror", self.mirror), ("--verbose", self.verbose)];
        words.extend(flags.iter().filter(|(_, given)| *given).map(|(flag, _)| (*flag).to_owned()));
        Ok(words)
    }

    /// Writes the unit. Unless a root or a node is named, it serves all roots: a user has one
    /// connector.
    fn install_service(&self, context: &Context) -> Result<(), Failure> {
        let as_json = context.common.json;
        let words = self.words(context)?;
        let io = |e| LogError::io("find", "this program", e);
        let program = std::env::current_exe().map_err(io)?.display().to_string();
        let rest = words.iter().map(|text| word(text));
        let line: Vec<String> = std::iter::once(quoted(&program)).chain(rest).collect();
        let unit = format!(
            "[Unit]\nDescription=c2c relay connector\n\n[Service]\n\
         ExecStart={}\nRestart=always\nRestartSec=5\n\n\
         [Install]\nWantedBy=default.target\n",
            line.join(" ")
        );
        let directory = root::config_directory()?;
        let path = directory.with_file_name("systemd").join("user/c2c-connect.service");
        write_private(&path, unit.as_bytes())
            .map_err(|e| LogError::io("write", &path.display().to_string(), e))?;
        let next = "systemctl --user daemon-reload && systemctl --user enable --now c2c-connect";
        if as_json {
            return output::say_json(&json!({ "ok": true, "path": path, "next": next }));
        }
        output::say(&format!("wrote {}\nstart it with: {next}\n", path.display()))
    }
}

/// How rounds are told.
#[derive(Default)]
struct Round {
    json: bool,
    verbose: bool,
    /// Whether the relay did not answer last time.
    silent: AtomicBool,
}

impl Round {
    fn done(&self, done: Result<Tick, Failure>) {
        match done {
            Ok(tick) => {
                if self.silent.swap(false, Ordering::Relaxed) {
                    output::note("[relay-connector] the relay answers again");
                }
                let told = self.verbose && !(tick.is_quiet() && tick.heartbeated == 0);
                if told || !tick.errors.is_empty() {
                    let _ = self.tell(&tick, true);
                }
            }
            // Said once, not with every try.
            Err(failure) if failure.code() == Code::RemoteUnavailable => {
                if !self.silent.swap(true, Ordering::Relaxed) {
                    output::note(&format!("[relay-connector] {}", failure.message()));
                }
            }
            Err(failure) => output::note(&format!(
                "[relay-connector] {} [{}]",
                failure.message(),
                failure.code().name()
            )),
        }
    }

    fn tell(&self, tick: &Tick, verbose: bool) -> Result<(), Failure> {
        tell(tick, self.json, verbose, &mut |text| output::say(text))
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
            "mirrored_bytes": tick.mirrored,
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
