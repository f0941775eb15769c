//! Relay: sends, replication, delay between machines, start and idle connections (R1 to R5).
//!
//! `cargo bench --bench relay -- R2` runs one part.

#[path = "support/relay.rs"]
mod process;
mod support;

use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use c2c::relay::protocol::batch::Compression;
use c2c::relay::protocol::{WireBatch, WireCursor, WireItem};
use c2c_log_format::Payload;
use c2c_log_format::payload::{MessageSent, Origin, Receipt, ReceiptsRecorded, Target};
use process::{Relay, TOKEN, delayed, exchange, key, open, register, signed};
use serde_json::json;
use support::{Samples, Sync, setting};

/// R1: signed durable sends of 1 KB over several connections. Returns sends per second, and the time
/// of each.
fn sends(relay: &Relay, connections: usize, each: usize) -> (f64, Samples) {
    let text = "x".repeat(1024);
    let request = |at: usize| {
        let body = json!({ "from_alias": "ann", "to_alias": "bob", "content": text });
        signed("/send", body.to_string().as_bytes(), "ann", &key(1), at as u64)
    };
    let (finished, times) = mpsc::channel();
    // Signed in advance, so that the clients do not compete with the relay for the processor.
    let work: Vec<Vec<Vec<u8>>> = (0..connections)
        .map(|one| (0..each).map(|at| request(one * each + at)).collect())
        .collect();
    let start = Instant::now();
    thread::scope(|scope| {
        for requests in work {
            let (finished, mut stream) = (finished.clone(), open(relay));
            scope.spawn(move || {
                let mut buffer = Vec::new();
                for request in requests {
                    let begin = Instant::now();
                    let status = exchange(&mut stream, &request, &mut buffer);
                    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&buffer));
                    finished.send(begin.elapsed()).expect("a receiver");
                }
            });
        }
    });
    let took = start.elapsed();
    drop(finished);
    let mut samples = Samples::default();
    times.iter().for_each(|time| samples.add(time));
    ((connections * each) as f64 / took.as_secs_f64(), samples)
}

fn log_number(log: &[u8; 16]) -> u64 {
    log[..8].try_into().map_or(0, u64::from_le_bytes)
}

/// A machine that pushes: its alias, its node, and the seed of its key.
type Pusher = (&'static str, &'static str, u8);

const PUSHERS: [Pusher; 4] =
    [("ann", "one", 1), ("amy", "three", 3), ("abe", "four", 4), ("ada", "five", 5)];

/// Signed batches of a thousand events.
fn work_of(batches: u64, log: [u8; 16], (alias, node, seed): Pusher) -> Vec<Vec<u8>> {
    let mut after = WireCursor::start(log);
    let mut number = 0;
    let target = format!("/push?node_id={node}");
    (0..batches)
        .map(|_| {
            let mut batch = WireBatch::after(after);
            for _ in 0..1_000 {
                number += 1;
                let sent = Payload::MessageSent(MessageSent {
                    from_mailbox: alias.into(),
                    sent_us: number,
                    ..MessageSent::new(
                        format!("m-{}-{alias}-{number}", log_number(&log)),
                        alias,
                        "bob@two",
                        Target::Outbox { alias: "bob".into(), host: "two".into() },
                        "x".repeat(200),
                    )
                });
                let item = WireItem::new(log, number, 7, &sent);
                let place = item.origin();
                batch.push(item, place);
            }
            after = batch.end();
            let bytes = batch.encode(Compression::None).expect("a batch");
            signed(&target, &bytes, alias, &key(seed), 1 << 40 | number)
        })
        .collect()
}

/// R2: events in batches of a thousand from several machines at once; returns events per second.
fn pushes(relay: &Relay, batches: u64, log: [u8; 16], machines: usize) -> f64 {
    let mut work = Vec::new();
    for (at, pusher) in PUSHERS.into_iter().take(machines).enumerate() {
        let mut log = log;
        log[15] ^= at as u8;
        work.push(work_of(batches, log, pusher));
    }
    let start = Instant::now();
    thread::scope(|scope| {
        for requests in work {
            let mut stream = open(relay);
            scope.spawn(move || {
                let mut buffer = Vec::new();
                for request in requests {
                    let status = exchange(&mut stream, &request, &mut buffer);
                    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&buffer));
                }
            });
        }
    });
    (machines as u64 * batches * 1_000) as f64 / start.elapsed().as_secs_f64()
}

/// A machine with a running connector.
struct Machine {
    root: PathBuf,
    home: PathBuf,
    node: &'static str,
    connector: Child,
}

impl Machine {
    fn start(dir: &Path, node: &'static str, alias: &str, url: &str) -> Self {
        let home = dir.join(node);
        std::fs::create_dir_all(&home).expect("a home");
        let root = home.join("root");
        let mut register = Self::command(&root, &home, alias);
        assert!(
            register.args(["register", "--alias", alias]).output().expect("ran").status.success()
        );
        let mut connect = Self::command(&root, &home, alias);
        connect.args(["relay", "connect", "--relay-url", url, "--token", TOKEN, "--node-id", node]);
        let connector = connect.stdout(Stdio::null()).spawn().expect("starts");
        Self { root, home, node, connector }
    }

    fn command(root: &Path, home: &Path, alias: &str) -> Command {
        let mut command = Command::new(support::program());
        command.env_clear().env("HOME", home).env("C2C_MCP_BROKER_ROOT", root);
        command.env("C2C_MCP_SESSION_ID", format!("s-{alias}"));
        command.current_dir(home).stdin(Stdio::null());
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.connector.kill();
        let _ = self.connector.wait();
    }
}

/// R3: from the start of `send` on one machine to the line of `listen` on the other.
fn across(a: &Machine, b: &Machine, rounds: u64) -> Samples {
    let mut samples = Samples::default();
    for round in 0..rounds + 3 {
        let mut listen = Machine::command(&b.root, &b.home, "bob");
        listen.args(["listen", "--once", "--take", "--timeout", "30"]).stdout(Stdio::piped());
        let mut listening = listen.spawn().expect("starts");
        // When it is ready, it sleeps in the kernel.
        let stat = format!("/proc/{}/wchan", listening.id());
        while std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains("futex")) {
            thread::yield_now();
        }
        let mut send = Machine::command(&a.root, &a.home, "ann");
        send.args(["send", &format!("bob@{}", b.node), "hello"]).stdout(Stdio::null());
        let start = Instant::now();
        let mut sending = send.spawn().expect("starts");
        let mut out = listening.stdout.take().expect("piped");
        let mut byte = [0; 1];
        out.read_exact(&mut byte).expect("a line");
        let took = start.elapsed();
        assert!(sending.wait().expect("ends").success());
        assert!(listening.wait().expect("ends").success());
        if round >= 3 {
            samples.add(took);
        }
    }
    samples
}

/// Fills a relay with `events` events. All messages are delivered except the last thousand.
fn fill(directory: &Path, events: u64) {
    let relay = Relay::start(directory, "log");
    register(&relay, "ann", "one", &key(1), 1);
    register(&relay, "bob", "two", &key(2), 2);
    let (mut after, mut stream) = (WireCursor::start([8; 16]), open(&relay));
    for round in 0..events / 1_000 {
        let log = 9_000 + round;
        let mut ids = [9; 16];
        ids[..8].copy_from_slice(&log.to_le_bytes());
        pushes(&relay, 1, ids, 1);
        if round + 1 == events / 1_000 {
            break;
        }
        let receipts = (1..=1_000).map(|number| Receipt {
            message_id: format!("m-{}-ann-{number}", log_number(&ids)),
            sender: "ann@one".into(),
            origin: Origin {
                log: c2c_log_format::id::hex(&ids),
                sequence: number,
                node: "one".into(),
                digest: String::new(),
            },
            level: "delivered".into(),
            by: "bob@two".into(),
            at_us: number,
            code: None,
        });
        let fact = ReceiptsRecorded { receipts: receipts.collect(), origin: None };
        let mut batch = WireBatch::after(after);
        let item = WireItem::new([8; 16], after.sequence + 1, 7, &Payload::ReceiptsRecorded(fact));
        let place = item.origin();
        batch.push(item, place);
        after = place;
        let bytes = batch.encode(Compression::Zstd).expect("a batch");
        let request = signed("/push?node_id=two", &bytes, "bob", &key(2), 1 << 41 | round);
        let mut buffer = Vec::new();
        let status = exchange(&mut stream, &request, &mut buffer);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&buffer));
    }
}

/// R1.
fn durable_sends(dir: &Path, runs: u64) {
    println!("R1 durable signed sends of 1 KB");
    for storage in ["log", "sqlite", "memory"] {
        let place = dir.join(format!("r1-{storage}"));
        std::fs::create_dir_all(&place).expect("a directory");
        let relay = Relay::start(&place, storage);
        register(&relay, "ann", "one", &key(1), 1);
        register(&relay, "bob", "two", &key(2), 2);
        for (connections, each) in [(1, 1_000), (8, 500), (64, 150)] {
            let mut rates = Vec::new();
            let mut sync_us = f64::NAN;
            let mut p50 = f64::NAN;
            for _ in 0..runs {
                let mut sync = Sync::new(&place);
                let mut syncs = Samples::default();
                (0..101).for_each(|_| syncs.add(sync.timed()));
                sync_us = syncs.median();
                let (rate, times) = sends(&relay, connections, each);
                rates.push(rate);
                p50 = times.median();
            }
            rates.sort_by(f64::total_cmp);
            let (low, high) = (rates[0], rates[rates.len() - 1]);
            let median = rates[rates.len() / 2];
            println!(
                "  {storage:<7} {connections:>3} connections {median:>9.0} /s ({low:.0} to {high:.0}), p50 of the last {p50:.0} us, sync {sync_us:.0} us"
            );
        }
    }
}

/// R2.
fn replication(dir: &Path, runs: u64) {
    println!("R2 replication push, batches of 1,000 events of 200 bytes");
    for storage in ["log", "sqlite"] {
        let place = dir.join(format!("r2-{storage}"));
        std::fs::create_dir_all(&place).expect("a directory");
        let relay = Relay::start(&place, storage);
        register(&relay, "ann", "one", &key(1), 1);
        register(&relay, "bob", "two", &key(2), 2);
        for (alias, node, seed) in &PUSHERS[1..] {
            register(&relay, alias, node, &key(*seed), u64::from(*seed));
        }
        for run in 0..runs {
            let alone = pushes(&relay, 100, [2 * run as u8 + 1; 16], 1);
            let together = pushes(&relay, 25, [2 * run as u8 + 2; 16], 4);
            println!("  {storage:<7} {alone:>9.0} events/s, from 4 machines {together:>9.0}");
        }
    }
}

/// R3.
fn between_machines(dir: &Path, rounds: u64) {
    println!("R3 send on one machine to listen on the other");
    let place = dir.join("r3");
    std::fs::create_dir_all(&place).expect("a directory");
    let relay = Relay::start(&place, "log");
    for (what, url) in [
        ("loopback", format!("http://{}", relay.address)),
        ("20 ms round trip", delayed(&relay, Duration::from_millis(10))),
    ] {
        let homes = dir.join(what.replace(' ', "-"));
        let (node_a, node_b) = match what {
            "loopback" => ("near-a", "near-b"),
            _ => ("far-a", "far-b"),
        };
        let a = Machine::start(&homes, node_a, "ann", &url);
        let b = Machine::start(&homes, node_b, "bob", &url);
        across(&a, &b, rounds).print(&format!("  {what}"), 1_000.0);
    }
}

/// R4.
fn starts(dir: &Path) {
    let floor = support::build_floor(dir);
    println!("R4 start, and memory when idle");
    let mut floors = Samples::default();
    (0..101).for_each(|_| floors.add(support::timed_floor(&floor)));
    let floor_us = floors.median();
    for events in [0, setting("C2C_BENCH_EVENTS", 1_000_000)] {
        let place = dir.join(format!("r4-{events}"));
        std::fs::create_dir_all(&place).expect("a directory");
        if events > 0 {
            fill(&place, events);
        }
        // First killed under load, then stopped.
        let ends: &[&str] = if events == 0 { &[""] } else { &[", killed under load", ", stopped"] };
        for how in ends {
            if *how == ", stopped" {
                Relay::start(&place, "log").stop();
            }
            let mut samples = Samples::default();
            let mut resident_kib = 0;
            for _ in 0..11 {
                if events == 0 {
                    let _ = std::fs::remove_dir_all(&place);
                    std::fs::create_dir_all(&place).expect("a directory");
                }
                let relay = Relay::start(&place, "log");
                samples.add(relay.start_time);
                resident_kib = relay.resident_kib();
            }
            samples.print(&format!("  {events} events{how}"), floor_us);
            println!("  {events} events{how}: {:.1} MB resident", resident_kib as f64 / 1024.0);
        }
    }
}

/// R5.
fn idle_connections(dir: &Path) {
    println!("R5 idle connections");
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let limit = rustix::process::Rlimit { current: most, maximum: most };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    let place = dir.join("r5");
    std::fs::create_dir_all(&place).expect("a directory");
    let relay = Relay::start(&place, "log");
    register(&relay, "ann", "one", &key(1), 1);
    register(&relay, "bob", "two", &key(2), 2);
    let (quiet, _) = sends(&relay, 8, 500);
    let before = relay.resident_kib();
    let idle: Vec<TcpStream> = (0..10_000).map(|_| open(&relay)).collect();
    let mut last = open(&relay);
    exchange(&mut last, b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n", &mut Vec::new());
    let each = (relay.resident_kib().saturating_sub(before)) as f64 / idle.len() as f64;
    let (busy, _) = sends(&relay, 8, 500);
    println!(
        "  {each:.1} KB each; 8 connections send {quiet:.0} /s without and {busy:.0} /s with them"
    );
}

fn main() {
    let (runs, rounds) = (setting("C2C_BENCH_RUNS", 5), setting("C2C_BENCH_ROUNDS", 51));
    let scratch = support::scratch();
    let dir = scratch.path();
    let named: Vec<String> = std::env::args().filter(|arg| arg.starts_with('R')).collect();
    let is_selected = |name: &str| named.is_empty() || named.iter().any(|arg| arg == name);
    let parts: [(&str, &dyn Fn()); 5] = [
        ("R1", &|| durable_sends(dir, runs)),
        ("R2", &|| replication(dir, runs)),
        ("R3", &|| between_machines(dir, rounds)),
        ("R4", &|| starts(dir)),
        ("R5", &|| idle_connections(dir)),
    ];
    parts.iter().filter(|(name, _)| is_selected(name)).for_each(|(_, part)| part());
}
