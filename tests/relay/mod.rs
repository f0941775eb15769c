//! Do machines that talk through a relay keep the promises that one machine keeps?

mod access;
mod batches;
mod clients;
mod crash;
mod doors;
mod findings;
mod histories;
mod hosts;
mod machines;
mod mirror;
mod net;
mod operator;
mod page;
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
use c2c::relay::Storage;
use serde_json::Value;
use tempfile::TempDir;

use net::Net;

use crate::support::{Done, World, contents, run};

pub const TOKEN: &str = "test-token";
/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

thread_local! {
    /// Which store a relay inside of a test is on.
    static STORE: Cell<&'static str> = const { Cell::new("memory") };
}

/// Runs a test whose relay is inside of it once for each store.
pub fn on_each_store(test: impl Fn()) {
    for name in ["memory", "log", "sqlite"] {
        STORE.set(name);
        test();
    }
    STORE.set("memory");
}

/// The store of this turn.
pub fn store() -> &'static str {
    STORE.get()
}

/// A broker for a relay inside of a test, and what it lives in.
pub fn broker_inside() -> (Broker, TempDir) {
    let dir = TempDir::new().expect("a directory");
    let storage = match STORE.get() {
        "log" => Storage::Log(dir.path().join("relay")),
        #[cfg(feature = "sqlite")]
        "sqlite" => Storage::Sqlite(dir.path().join("relay.db")),
        _ => Storage::Memory,
    };
    let store = c2c::relay::open(&storage).expect("a store");
    (Broker::on(&store.directory, store.events), dir)
}

/// A relay process; it ends with the test.
pub struct Hub {
    world: World,
    storage: &'static str,
    args: Vec<String>,
    address: String,
    /// Words before the program: where it runs.
    prefix: Vec<String>,
    child: Option<Child>,
}

/// A program of ours, perhaps on another host.
fn program(world: &World, prefix: &[String], args: &[&str]) -> Command {
    let c2c = env!("CARGO_BIN_EXE_c2c").to_owned();
    let words: Vec<&String> = prefix.iter().chain([&c2c]).collect();
    let mut command = world.program(words[0], &[]);
    command.args(&words[1..]).args(args);
    command
}

impl Hub {
    /// A relay with a token on a free port.
    pub fn start(storage: &'static str) -> Self {
        Self::with(storage, &["--token", TOKEN, "--rate-limit", "0"])
    }

    pub fn with(storage: &'static str, args: &[&str]) -> Self {
        Self::under(Vec::new(), storage, args)
    }

    /// Started by another program, whose words come first.
    pub fn under(prefix: Vec<String>, storage: &'static str, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let address = "127.0.0.1:0".to_owned();
        let mut hub = Self { world: World::new(), storage, args, address, prefix, child: None };
        hub.go_on();
        hub
    }

    /// On a host of its own.
    pub fn on(storage: &'static str, net: &Net) -> Self {
        let args = vec!["--token".to_owned(), TOKEN.to_owned()];
        let (address, prefix) = (format!("0.0.0.0:{}", net::RELAY), net.prefix("relay"));
        let mut hub = Self { world: World::new(), storage, args, address, prefix, child: None };
        hub.go_on();
        hub
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

    /// Starts it again, on the port that it had.
    pub fn go_on(&mut self) {
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
            // Somebody else may have the port for a moment.
            let _ = child.wait();
            assert!(Instant::now() < until, "the relay does not start");
        }
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a kill");
            child.wait().expect("its end");
        }
    }

    /// As an operator stops it.
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

    /// The one segment that a machine's copy has here.
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
        panic!("the relay keeps no copy")
    }

    /// What starts another one on the same files.
    pub fn second(&self) -> Command {
        self.command("127.0.0.1:0")
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Copies everything that the relay keeps; it must not run.
    pub fn keep(&self) {
        let world = self.world.path();
        let _ = std::fs::create_dir(world.join("kept"));
        for name in ["relay", "relay.db", "relay.db-wal", "relay.db-shm"] {
            if world.join(name).exists() {
                let to = world.join("kept");
                let copied = Command::new("cp").arg("-a").arg(world.join(name)).arg(to).status();
                assert!(copied.is_ok_and(|status| status.success()));
            }
        }
    }

    /// Puts the copy back in the place of what is there.
    pub fn put_back(&self) {
        let world = self.world.path();
        for name in ["relay", "relay.db", "relay.db-wal", "relay.db-shm"] {
            let _ = std::fs::remove_dir_all(world.join(name));
            let _ = std::fs::remove_file(world.join(name));
            if world.join("kept").join(name).exists() {
                let from = world.join("kept").join(name);
                let copied = Command::new("cp").arg("-a").arg(from).arg(world).status();
                assert!(copied.is_ok_and(|status| status.success()));
            }
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A machine of its own: HOME, root and node id, and perhaps a connector that runs.
pub struct Machine {
    pub world: World,
    pub node: String,
    url: String,
    prefix: Vec<String>,
    child: Option<Child>,
}

impl Machine {
    pub fn new(hub: &Hub, node: &str) -> Self {
        Self::in_world(World::new(), hub, node)
    }

    pub fn in_world(world: World, hub: &Hub, node: &str) -> Self {
        let (node, url) = (node.to_owned(), hub.url());
        Self { world, node, url, prefix: Vec::new(), child: None }
    }

    /// On a host of its own: `a` or `b`.
    pub fn on(net: &Net, host: &str) -> Self {
        let (node, url, prefix) = (format!("machine-{host}"), net.url(host), net.prefix(host));
        Self { world: World::new(), node, url, prefix, child: None }
    }

    fn connect(&self, args: &[&str]) -> Command {
        let words = ["relay", "connect", "--node-id", &self.node];
        let mut command = program(&self.world, &self.prefix, &words);
        command.args(["--relay-url", &self.url, "--token", TOKEN]).args(args);
        command
    }

    /// One round of the connector.
    pub fn once(&self) -> Value {
        run(self.connect(&["--once", "--json"])).ok().json()
    }

    /// A connector that runs until the test ends, or it is killed.
    pub fn start(&mut self) {
        let mut command = self.connect(&["--interval", "1"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("a connector"));
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a kill");
            child.wait().expect("its end");
        }
    }

    pub fn run(&self, who: &str, args: &[&str]) -> Done {
        self.world.run(who, args)
    }

    /// What a look at the mailbox shows, without taking anything.
    pub fn peek(&self, who: &str) -> Vec<Value> {
        let rows = self.run(who, &["peek-inbox", "--json"]).ok().json();
        rows.as_array().expect("messages").clone()
    }

    /// Waits until the mailbox holds that many messages, and shows their texts.
    pub fn wait_for(&self, who: &str, count: usize) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let rows = self.peek(who);
            if rows.len() >= count {
                return contents(&Value::Array(rows));
            }
            assert!(Instant::now() < until, "{who} has {} of {count}", rows.len());
            // Returns as soon as something is written here, whatever it is.
            let _ = run(self.world.c2c(&["listen", "--timeout", "0.2", "-s", &format!("s-{who}")]));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One request with the operator's token, and its answer.
fn ask(hub: &Hub, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
    let mut stream = TcpStream::connect(hub.address()).expect("a connection");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).expect("JSON"))
}

/// Machines with one agent each, ann and bob, whom the relay knows.
fn pair(hub: &Hub) -> (Machine, Machine) {
    let (a, b) = (Machine::new(hub, "machine-a"), Machine::new(hub, "machine-b"));
    a.world.register(&["ann"]);
    b.world.register(&["bob"]);
    a.once();
    b.once();
    (a, b)
}

/// The same two, both in a room that ann made.
fn pair_in(hub: &Hub, room: &str) -> (Machine, Machine) {
    let (a, b) = pair(hub);
    a.run("ann", &["rooms", "join", room]).ok();
    settle(&[&a, &b]);
    b.run("bob", &["rooms", "join", room]).ok();
    settle(&[&a, &b]);
    (a, b)
}

/// Everybody hears everything: rounds of all connectors.
fn settle(machines: &[&Machine]) {
    for _ in 0..3 {
        machines.iter().for_each(|machine| drop(machine.once()));
    }
}
