//! Relays, connectors and machines, as processes or in the process of the test.

mod access;
mod batches;
mod clients;
mod commands;
mod crash;
mod histories;
mod hosts;
mod in_process;
mod logging;
mod machines;
mod mirror;
mod net;
mod older;
mod older_proxy;
mod operator;
mod page;
mod regressions;
mod restore;
mod rooms;
mod ssh;
mod transport;

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use c2c::broker::Broker;
use c2c::relay::server::RelayStorage;
use serde_json::Value;
use tempfile::TempDir;

use net::Net;

use crate::harness::runs_slow;
use crate::support::{Outcome, World, contents, run};

pub const TOKEN: &str = "test-token";
/// Time after which a wait fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

thread_local! {
    /// The store of an in-process relay.
    static STORE: Cell<&'static str> = const { Cell::new("memory") };
}

/// Restores the default store, even if the test fails: its thread runs other tests later.
struct DefaultStore;

impl Drop for DefaultStore {
    fn drop(&mut self) {
        STORE.set("memory");
    }
}

/// Runs a test with an in-process relay once on each store.
pub fn on_each_store(test: impl Fn()) {
    on_stores(&["memory", "log", "sqlite"], test);
}

/// The same for a long test: a fast run uses the memory store only.
pub fn on_each_store_if_slow(test: impl Fn()) {
    on_stores(if runs_slow() { &["memory", "log", "sqlite"] } else { &["memory"] }, test);
}

fn on_stores(names: &[&'static str], test: impl Fn()) {
    let _default = DefaultStore;
    for name in names {
        STORE.set(name);
        test();
    }
}

/// The store of the present run.
pub fn store() -> &'static str {
    STORE.get()
}

/// A broker for an in-process relay, and the directory of its store.
pub fn broker_in_process() -> (Broker, TempDir) {
    let dir = TempDir::new().expect("a directory");
    let storage = match STORE.get() {
        "log" => RelayStorage::Log(dir.path().join("relay")),
        #[cfg(feature = "sqlite")]
        "sqlite" => RelayStorage::Sqlite(dir.path().join("relay.db")),
        _ => RelayStorage::Memory,
    };
    let store = c2c::relay::server::open(&storage).expect("a store");
    (Broker::with_store(&store.directory, store.events), dir)
}

/// A relay process, killed when dropped.
pub struct RelayProcess {
    world: World,
    storage: &'static str,
    args: Vec<String>,
    address: String,
    /// Command and arguments that start the program, such as `nsenter`.
    prefix: Vec<String>,
    child: Option<Child>,
}

/// `c2c`, started by another program if `prefix` names one.
fn program(world: &World, prefix: &[String], args: &[&str]) -> Command {
    let c2c = env!("CARGO_BIN_EXE_c2c").to_owned();
    let line: Vec<&String> = prefix.iter().chain([&c2c]).collect();
    let mut command = world.program(line[0], &[]);
    command.args(&line[1..]).args(args);
    command
}

impl RelayProcess {
    /// Starts a relay with a token on a free port.
    pub fn start(storage: &'static str) -> Self {
        Self::with(storage, &["--token", TOKEN, "--rate-limit", "0"])
    }

    pub fn with(storage: &'static str, args: &[&str]) -> Self {
        Self::under(Vec::new(), storage, args)
    }

    /// Starts a relay through another program, whose command line comes first.
    pub fn under(prefix: Vec<String>, storage: &'static str, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let address = "127.0.0.1:0".to_owned();
        let mut relay = Self { world: World::new(), storage, args, address, prefix, child: None };
        relay.restart();
        relay
    }

    /// Starts a relay on its own host.
    pub fn on(storage: &'static str, net: &Net) -> Self {
        let args = vec!["--token".to_owned(), TOKEN.to_owned()];
        let (address, prefix) = (format!("0.0.0.0:{}", net::RELAY), net.prefix("relay"));
        let mut relay = Self { world: World::new(), storage, args, address, prefix, child: None };
        relay.restart();
        relay
    }

    fn command(&self, address: &str) -> Command {
        let words = ["relay", "serve", "--listen", address];
        let mut command = program(&self.world, &self.prefix, &words);
        command.args(["--storage", self.storage]).args(&self.args);
        match self.storage {
            "log" if self.args.iter().any(|arg| arg == "--persist-dir") => &mut command,
            "log" => command.arg("--persist-dir").arg(self.world.path().join("relay")),
            "sqlite" => command.arg("--db-path").arg(self.world.path().join("relay.db")),
            _ => &mut command,
        };
        command
    }

    /// Starts the relay, after the first time on the same port.
    pub fn restart(&mut self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut command = self.command(&self.address);
            command.stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
            let mut child = command.spawn().expect("a relay");
            let mut line = String::new();
            let out = child.stdout.take().expect("its output");
            BufReader::new(out).read_line(&mut line).expect("a line");
            if let Some((_, address)) = line.trim().split_once("://") {
                self.address = address.to_owned();
                self.child = Some(child);
                return;
            }
            // Another process may hold the port for a moment.
            let _ = child.wait();
            assert!(Instant::now() < until, "the relay does not start");
        }
    }

    /// Kills the process, as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a kill");
            child.wait().expect("its end");
        }
    }

    /// Stops the relay with SIGTERM, as an operator does.
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a relay");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
        child.wait().expect("its end")
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a relay").id()
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// The segment file of the only copy of a machine's log.
    pub fn mirrored(&self) -> std::path::PathBuf {
        let mut left = vec![self.world.path().join("relay")];
        while let Some(path) = left.pop() {
            let is_copy = path.components().any(|part| part.as_os_str() == "mirrors");
            if path.is_dir() {
                left.extend(path.read_dir().expect("read").flatten().map(|entry| entry.path()));
            } else if is_copy && path.extension().is_some_and(|end| end == "seg") {
                return path;
            }
        }
        panic!("the relay has no copy of a log")
    }

    /// The command that starts another relay on the same files.
    pub fn second(&self) -> Command {
        self.command("127.0.0.1:0")
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Backs up the files of the relay, which must not run.
    pub fn back_up(&self) {
        let world = self.world.path();
        let _ = std::fs::create_dir(world.join("backup"));
        for name in ["relay", "relay.db", "relay.db-wal", "relay.db-shm"] {
            if world.join(name).exists() {
                let to = world.join("backup");
                let copied = Command::new("cp").arg("-a").arg(world.join(name)).arg(to).status();
                assert!(copied.is_ok_and(|status| status.success()));
            }
        }
    }

    /// Replaces the files of the relay with the backup.
    pub fn restore_backup(&self) {
        let world = self.world.path();
        for name in ["relay", "relay.db", "relay.db-wal", "relay.db-shm"] {
            let _ = std::fs::remove_dir_all(world.join(name));
            let _ = std::fs::remove_file(world.join(name));
            if world.join("backup").join(name).exists() {
                let from = world.join("backup").join(name);
                let copied = Command::new("cp").arg("-a").arg(from).arg(world).status();
                assert!(copied.is_ok_and(|status| status.success()));
            }
        }
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A machine with its own HOME, root and node id, and optionally a running connector.
pub struct Machine {
    pub world: World,
    pub node: String,
    url: String,
    prefix: Vec<String>,
    child: Option<Child>,
}

impl Machine {
    pub fn new(relay: &RelayProcess, node: &str) -> Self {
        Self::in_world(World::new(), relay, node)
    }

    pub fn in_world(world: World, relay: &RelayProcess, node: &str) -> Self {
        let (node, url) = (node.to_owned(), relay.url());
        Self { world, node, url, prefix: Vec::new(), child: None }
    }

    /// A machine that reaches its relay through a proxy.
    pub fn at(url: &str, node: &str) -> Self {
        let (world, node, url) = (World::new(), node.to_owned(), url.to_owned());
        Self { world, node, url, prefix: Vec::new(), child: None }
    }

    /// A machine on its own host: `a` or `b`.
    pub fn on(net: &Net, host: &str) -> Self {
        let (node, url, prefix) = (format!("machine-{host}"), net.url(host), net.prefix(host));
        Self { world: World::new(), node, url, prefix, child: None }
    }

    pub fn connect(&self, args: &[&str]) -> Command {
        let words = ["relay", "connect", "--node-id", &self.node];
        let mut command = program(&self.world, &self.prefix, &words);
        command.args(["--relay-url", &self.url, "--token", TOKEN]).args(args);
        command
    }

    /// Runs one round of the connector and returns its report.
    pub fn once(&self) -> Value {
        run(self.connect(&["--once", "--json"])).ok().json()
    }

    /// Starts a connector that runs until it is killed or the machine is dropped.
    pub fn start(&mut self) {
        let mut command = self.connect(&["--interval", "1"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("a connector"));
    }

    /// Kills the connector, as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a kill");
            child.wait().expect("its end");
        }
    }

    pub fn run(&self, who: &str, args: &[&str]) -> Outcome {
        self.world.run(who, args)
    }

    /// The unread messages of a mailbox. Claims nothing.
    pub fn peek(&self, who: &str) -> Vec<Value> {
        let rows = self.run(who, &["peek-inbox", "--json"]).ok().json();
        rows.as_array().expect("messages").clone()
    }

    /// Waits until the mailbox holds `count` messages and returns their texts.
    pub fn wait_for(&self, who: &str, count: usize) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let rows = self.peek(who);
            if rows.len() >= count {
                return contents(&Value::Array(rows));
            }
            assert!(Instant::now() < until, "{who} has {} of {count}", rows.len());
            // Returns as soon as any event is written.
            let _ = run(self.world.c2c(&["listen", "--timeout", "0.2", "-s", &format!("s-{who}")]));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends one HTTP request with a bearer token; returns the status and the body.
fn request(
    relay: &RelayProcess,
    method: &str,
    path: &str,
    token: &str,
    body: &Value,
) -> (u16, Value) {
    let mut stream = TcpStream::connect(relay.address()).expect("a connection");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    let (head, body) = response.split_once("\r\n\r\n").expect("a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).expect("JSON"))
}

/// Two machines with one agent each, ann and bob, both registered at the relay.
fn pair(relay: &RelayProcess) -> (Machine, Machine) {
    let (a, b) = (Machine::new(relay, "machine-a"), Machine::new(relay, "machine-b"));
    a.world.register(&["ann"]);
    b.world.register(&["bob"]);
    a.once();
    b.once();
    (a, b)
}

/// The same two, both in a room that ann created.
fn pair_in(relay: &RelayProcess, room: &str) -> (Machine, Machine) {
    let (a, b) = pair(relay);
    a.run("ann", &["rooms", "join", room]).ok();
    settle(&[&a, &b]);
    b.run("bob", &["rooms", "join", room]).ok();
    settle(&[&a, &b]);
    (a, b)
}

/// Runs rounds of all connectors until every event has reached every machine.
fn settle(machines: &[&Machine]) {
    for _ in 0..3 {
        machines.iter().for_each(|machine| drop(machine.once()));
    }
}

crate::harness::tests! {
    modules: access, batches, clients, commands, crash, histories, hosts, logging, machines, mirror, older, operator, page, regressions, restore, rooms, ssh, transport;
}
