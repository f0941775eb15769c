//! Wake-up of a waiting process, calls of the MCP server, and its cost while idle (L5, L6, L8, L9).

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use support::{Samples, Sync};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// A server on pipes.
struct Server {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    id: u64,
}

impl Server {
    /// Starts and initializes a server; returns the time from spawn to the reply.
    fn start(root: &Path) -> (Self, Duration) {
        let mut command = support::c2c(root, "s-3", &["mcp"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn().expect("starts");
        let (to, from) = (child.stdin.take(), child.stdout.take().expect("piped"));
        let mut server = Self { child, to, from: BufReader::new(from), id: 1 };
        let reply = server.ask(INITIALIZE);
        let took = start.elapsed();
        assert!(reply.contains("serverInfo"), "{reply}");
        server.send(INITIALIZED);
        (server, took)
    }

    fn send(&mut self, line: &str) {
        let to = self.to.as_mut().expect("open");
        to.write_all(format!("{line}\n").as_bytes()).expect("written");
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        let mut reply = String::new();
        self.from.read_line(&mut reply).expect("read");
        reply
    }

    fn call(&mut self, tool: &str, arguments: &str) -> Duration {
        self.id += 1;
        let line = format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#,
            self.id
        );
        let start = Instant::now();
        let reply = self.ask(&line);
        let took = start.elapsed();
        assert!(reply.contains("\"isError\":false"), "{reply}");
        took
    }

    fn stop(mut self) {
        self.to = None;
        self.child.wait().expect("ends");
    }

    /// Resident memory in KB, and the number of wake-ups of its threads.
    fn usage(&self) -> (u64, u64) {
        let number = |text: &str, key: &str| -> u64 {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or("");
            line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
        };
        let base = format!("/proc/{}", self.child.id());
        let status = std::fs::read_to_string(format!("{base}/status")).expect("runs");
        let tasks = std::fs::read_dir(format!("{base}/task")).expect("runs").flatten();
        let switches = tasks
            .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
            .map(|text| number(&text, "voluntary_ctxt_switches"))
            .sum();
        (number(&status, "VmRSS"), switches)
    }
}

fn main() {
    if support::filled() {
        return;
    }
    let rounds = support::setting("C2C_BENCH_ROUNDS", 201);
    let dir = support::scratch();
    let floor_binary = support::build_floor(dir.path());
    support::enter_repository(dir.path());
    let root = dir.path().join("root");
    support::fill_apart(&root, 100_000, 1_000, 10_000);
    let (mut floor, mut synced) = (Samples::default(), Samples::default());
    let (mut start, mut send, mut poll) =
        (Samples::default(), Samples::default(), Samples::default());
    let (mut woken, mut whole) = (Samples::default(), Samples::default());
    let mut sync = Sync::new(dir.path());
    let (mut server, _) = Server::start(&root);
    let body = format!(r#"{{"to_alias":"a-0","content":"{}"}}"#, "x".repeat(1024));
    for round in 0..rounds + 5 {
        let one_floor = support::timed_floor(&floor_binary);
        let one_sync = sync.timed();
        let (other, one_start) = Server::start(&root);
        other.stop();
        let one_send = server.call("send", &body);
        let one_poll = server.call("poll_inbox", "{}");
        let (one_wake, one_whole) = wake(&root);
        if round >= 5 {
            floor.add(one_floor);
            synced.add(one_sync);
            start.add(one_start);
            send.add(one_send);
            poll.add(one_poll);
            woken.add_us(one_wake);
            whole.add(one_whole);
        }
    }
    let unit = floor.median();
    floor.print("floor", unit);
    synced.print("sync: 1 KB append + fdatasync", unit);
    start.print("mcp: spawn to initialize reply", unit);
    send.print("mcp: durable send, 1 KB", unit);
    println!("  send / (2 sync + 200 us) = {:.2}", send.median() / (2.0 * synced.median() + 200.0));
    poll.print("mcp: empty poll_inbox", unit);
    woken.print("listen printed after send returned", unit);
    whole.print("listen printed after send started", unit);
    server.stop();
    idle(&root);
    let size = std::fs::metadata(support::program()).expect("built").len();
    println!("binary: {:.2} MB", size as f64 / 1e6);
}

/// Microseconds from the end of `c2c send` to the first line of a waiting `c2c listen` (negative if
/// the line was printed first), and the time since the start of `c2c send`.
fn wake(root: &Path) -> (f64, Duration) {
    let mut listen = support::c2c(root, "s-1", &["listen", "--once"]);
    let mut listening = listen.stdout(Stdio::piped()).spawn().expect("starts");
    let mut out = listening.stdout.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut byte = [0; 1];
        out.read_exact(&mut byte).expect("a line");
        Instant::now()
    });
    std::thread::sleep(Duration::from_millis(20));
    let started = Instant::now();
    support::timed(support::c2c(root, "s-2", &["send", "a-1", "wake up"]));
    let returned = Instant::now();
    let printed = reader.join().expect("read");
    listening.wait().expect("ends");
    support::timed(support::c2c(root, "s-1", &["poll-inbox"]));
    let after = match printed.checked_duration_since(returned) {
        Some(after) => after.as_secs_f64() * 1e6,
        None => -(returned.duration_since(printed).as_secs_f64() * 1e6),
    };
    (after, printed.duration_since(started))
}

/// Memory of an idle server, and its wake-ups in 10 s.
fn idle(root: &Path) {
    let (mut server, _) = Server::start(root);
    server.call("poll_inbox", "{}");
    std::thread::sleep(Duration::from_secs(1));
    let (_, before) = server.usage();
    std::thread::sleep(Duration::from_secs(10));
    let (rss_kb, after) = server.usage();
    println!(
        "idle mcp, 1000 sessions: {rss_kb} KB resident, woken {} times in 10 s",
        after - before
    );
    server.stop();
}
