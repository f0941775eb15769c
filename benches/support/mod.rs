//! Shared parts of the benches: a filled root, the yardsticks, and the output.
#![allow(dead_code)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use c2c::broker::Broker;
use c2c::log::{Directory, Durability, Log, Options};
use c2c::platform::clock;
use c2c_core::decide::Actor;
use c2c_log_format::payload::{
    ClaimAcked, InboxClaimed, MessageSent, Payload, SessionRegistered, Target,
};

/// Events of one frame while filling.
const BATCH: usize = 500;

/// Measured durations of one kind of work.
#[derive(Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn add(&mut self, took: Duration) {
        self.0.push(took.as_secs_f64() * 1e6);
    }

    pub fn add_us(&mut self, us: f64) {
        self.0.push(us);
    }

    /// A quantile, microseconds.
    pub fn at(&self, quantile: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1) as f64;
        sorted.get((last * quantile).round() as usize).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// Prints the median, the spread, and the ratio to a yardstick.
    pub fn print(&self, name: &str, floor_us: f64) {
        println!(
            "{name:<34} median {:>8.0} us   p10 {:>7.0}   p90 {:>7.0}   max {:>8.0}   n {:>4}   {:>5.2} x floor",
            self.median(),
            self.at(0.1),
            self.at(0.9),
            self.at(1.0),
            self.0.len(),
            self.median() / floor_us,
        );
    }
}

/// The value of a number in the environment, or a default.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A directory that is deleted when dropped, in `C2C_BENCH_DIR` or the directory for temporary files.
pub fn scratch() -> tempfile::TempDir {
    let parent = std::env::var_os("C2C_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::Builder::new().prefix("c2c-bench-").tempdir_in(parent).expect("a directory")
}

/// The program under test: `C2C_BENCH_BIN`, or the one built with the bench.
pub fn program() -> PathBuf {
    std::env::var_os("C2C_BENCH_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_c2c").into(), PathBuf::from)
}

/// The program to compare with: `C2C_BENCH_BASE`, a build of an earlier version.
pub fn base_program() -> Option<PathBuf> {
    std::env::var_os("C2C_BENCH_BASE").map(PathBuf::from)
}

/// Builds the yardstick `fn main() {}` with the flags of the release binary.
pub fn build_floor(dir: &Path) -> PathBuf {
    let (source, binary) = (dir.join("floor.rs"), dir.join("floor"));
    fs::write(&source, "fn main() {}\n").expect("written");
    let flags = "-C opt-level=3 -C target-feature=+crt-static -C relocation-model=static \
                 -C panic=abort -C strip=symbols --edition 2024";
    let status = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(flags.split_whitespace())
        .arg(&source)
        .arg("-o")
        .arg(&binary)
        .status()
        .expect("rustc runs");
    assert!(status.success(), "floor does not build");
    binary
}

/// Enters a working directory as agents have it, inside a repository with a remote.
pub fn enter_repository(dir: &Path) {
    let here = dir.join("repository");
    fs::create_dir_all(here.join(".git")).expect("made");
    let config =
        "[core]\n\tbare = false\n[remote \"origin\"]\n\turl = https://example.invalid/r.git\n";
    fs::write(here.join(".git/config"), config).expect("written");
    std::env::set_current_dir(here).expect("entered");
}

/// A command of the program under test, as a session of a root, in a clean environment.
pub fn c2c(root: &Path, session: &str, args: &[&str]) -> Command {
    with(&program(), root, session, args)
}

/// The same with another program.
pub fn with(program: &Path, root: &Path, session: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("USER", "bench")
        .env("C2C_MCP_BROKER_ROOT", root)
        .env("C2C_MCP_SESSION_ID", session)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Time from spawn to exit.
pub fn timed(mut command: Command) -> Duration {
    let start = Instant::now();
    let status = command.status().expect("program starts");
    let took = start.elapsed();
    assert!(status.success(), "{command:?} ended with {status}");
    took
}

/// Time from spawn to exit of the empty program.
pub fn timed_floor(floor: &Path) -> Duration {
    let mut command = Command::new(floor);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    timed(command)
}

/// The yardstick for the disk: 1 KB append and `fdatasync`.
pub struct Sync(File);

impl Sync {
    pub fn new(dir: &Path) -> Self {
        let path = dir.join("sync");
        Self(OpenOptions::new().append(true).create(true).open(path).expect("opened"))
    }

    pub fn timed(&mut self) -> Duration {
        let start = Instant::now();
        self.0.write_all(&[b'x'; 1024]).expect("written");
        self.0.sync_data().expect("synced");
        start.elapsed()
    }
}

/// A message as the broker writes it.
pub fn message(from: u64, to: u64, id: u64, bytes: usize) -> Payload {
    Payload::MessageSent(MessageSent {
        from_mailbox: format!("a-{from}"),
        sent_us: clock::now_us(),
        source: Some("send".into()),
        ..MessageSent::new(
            format!("01900000-0000-7000-8000-{id:012x}"),
            format!("a-{from}"),
            format!("a-{to}"),
            Target::Mailbox(format!("a-{to}")),
            "m".repeat(bytes),
        )
    })
}

fn registered(number: u64) -> Payload {
    Payload::SessionRegistered(SessionRegistered {
        client_type: Some("claude-code".into()),
        cwd: Some("/home/agent/project".into()),
        build: env!("CARGO_PKG_VERSION").into(),
        ..SessionRegistered::new(
            format!("s-{number}"),
            format!("a-{number}"),
            format!("a-{number}"),
            "bench-node",
        )
    })
}

/// Fills a root: sessions `s-N` with aliases `a-N`; messages that were claimed and acked; at the end
/// messages that are pending for all agents except `a-0` to `a-3`. Writes a checkpoint if one is due.
pub fn fill(root: &Path, events: u64, sessions: u64, pending: u64) {
    fs::create_dir_all(root).expect("made");
    let mut log = Log::open(Arc::new(Directory::new(&root.join("log"))), Options::default());
    let mut put = |batch: &[Payload], durability: Durability| {
        log.lock().expect("locked");
        let done = log.append(batch, clock::now_us(), durability).expect("appended");
        log.unlock();
        if durability.is_promised() {
            log.wait_durable(done.last).expect("synced");
        }
        done
    };
    let all: Vec<Payload> = (0..sessions).map(registered).collect();
    let mut head = 0;
    for batch in all.chunks(BATCH) {
        head = put(batch, Durability::Eventual).last;
    }
    let mut round = 0;
    while head + pending < events {
        let count = (events - pending - head).min(BATCH as u64);
        let to = round % sessions;
        round += 1;
        if count < 3 {
            let extra: Vec<Payload> = (0..count).map(|_| registered(4 % sessions)).collect();
            head = put(&extra, Durability::Eventual).last;
            continue;
        }
        let messages: Vec<u64> = (head + 1..head + count - 1).collect();
        let mut batch: Vec<Payload> =
            messages.iter().map(|id| message((to + 1) % sessions, to, *id, 200)).collect();
        let claim = format!("claim-{round}");
        batch.push(Payload::InboxClaimed(InboxClaimed {
            claim: claim.clone(),
            mailbox: format!("a-{to}"),
            messages,
            rooms: Vec::new(),
            process: None,
            surface: "cli_poll".into(),
            manual: false,
            until_us: 0,
        }));
        let level = "written".into();
        batch.push(Payload::ClaimAcked(ClaimAcked { claim, mailbox: format!("a-{to}"), level }));
        head = put(&batch, Durability::Eventual).last;
    }
    let others = sessions.saturating_sub(4).max(1);
    let waiting: Vec<Payload> =
        (0..pending).map(|n| message(0, 4 + n % others, head + 1 + n, 200)).collect();
    for batch in waiting.chunks(BATCH) {
        put(batch, Durability::Promised);
    }
    let mut broker = Broker::open(root);
    broker.refresh(&nobody()).expect("read");
    broker.checkpoint_if_due();
    assert_eq!(broker.state().head, events, "the root has the requested number of events");
    let names = fs::read_dir(root.join("log")).expect("listed").flatten();
    let kept = names.filter(|e| e.file_name().to_string_lossy().starts_with("checkpoint-"));
    assert!(kept.count() > 0 || events < 256, "a checkpoint was written");
}

/// Fills a root in another process, so that the measuring process stays small.
pub fn fill_apart(root: &Path, events: u64, sessions: u64, pending: u64) {
    let this = std::env::current_exe().expect("known");
    let numbers = [events, sessions, pending].map(|number| number.to_string());
    let status = Command::new(this).arg("fill").arg(root).args(numbers).status().expect("starts");
    assert!(status.success(), "filling failed");
}

/// Fills a root if [`fill_apart`] started this process for that; returns whether it did.
pub fn filled() -> bool {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) != Some("fill") {
        return false;
    }
    let number = |at: usize| args[at].parse().expect("a number");
    fill(Path::new(&args[2]), number(3), number(4), number(5));
    true
}

/// An actor without session or alias.
pub fn nobody() -> Actor {
    acting("")
}

/// An actor with a session.
pub fn acting(session: &str) -> Actor {
    Actor {
        source: c2c_core::decide::SessionSource::Given,
        session_id: (!session.is_empty()).then(|| session.into()),
        alias: None,
        process: None,
        node_id: "bench-node".into(),
        fallback_alias: None,
        client_type: None,
        role: None,
        cwd: None,
        tmux_location: None,
        exact: false,
        key: None,
    }
}
