//! Time of each command on a large root.
//!
//! 10^6 events, 1,000 sessions, and one mailbox with 10,000 messages and one of 1 MB.
//! `C2C_BENCH_ROUNDS` sets the rounds.

mod support;

use std::sync::Arc;

use c2c::log::{Directory, Durability, Log, Options};
use c2c::platform::clock;
use support::Samples;

/// The agent with the full mailbox.
const FULL: u64 = 4;

fn main() {
    if support::filled() {
        return;
    }
    let rounds = support::setting("C2C_BENCH_ROUNDS", 11);
    let dir = support::scratch();
    let floor_binary = support::build_floor(dir.path());
    support::enter_repository(dir.path());
    let root = dir.path().join("root");
    support::fill_apart(&root, 1_000_000, 1_000, 1_000);
    let mut log = Log::open(Arc::new(Directory::new(&root.join("log"))), Options::default());
    let large = [support::message(1, FULL, 2_000_000, 1 << 20)];
    let small: Vec<_> =
        (0..10_000).map(|n| support::message(1, FULL, 2_000_001 + n, 200)).collect();
    for batch in small.chunks(500).chain([&large[..]]) {
        log.lock().expect("locked");
        let last = log.append(batch, clock::now_us(), Durability::Promised).expect("appended").last;
        log.unlock();
        log.wait_durable(last).expect("synced");
    }
    let (session, alias) = (format!("s-{FULL}"), format!("a-{FULL}"));
    let run = |args: &[&str]| support::timed(support::c2c(&root, &session, args));
    run(&["register", "--alias", &alias]);
    run(&["rooms", "join", "den"]);
    run(&["rooms", "send", "den", "hello"]);
    let mut floor = Samples::default();
    (0..rounds).for_each(|_| floor.add(support::timed_floor(&floor_binary)));
    let commands: [&[&str]; 20] = [
        &["whoami"],
        &["list", "--json"],
        &["peek-inbox", "--json"],
        &["history"],
        &["history", "-a", "a-7", "-l", "100000"],
        &["trace", "01900000-0000-7000-8000-0000001e8480"],
        &["rooms", "list"],
        &["rooms", "history", "den"],
        &["rooms", "history", "den", "-l", "0"],
        &["my-rooms"],
        &["health", "--json"],
        &["status"],
        &["sweep", "--dry-run"],
        &["dead-letter", "list"],
        &["mirror", "views"],
        &["monitor", "--from-seq", "0", "--timeout", "0"],
        &["send", "a-7", "hello"],
        &["send-all", "hello"],
        &["poll-inbox", "--limit", "50"],
        &["poll-inbox", "--json"],
    ];
    for args in commands {
        let mut took = Samples::default();
        // The last poll empties the mailbox, so it runs once.
        let rounds = if args == ["poll-inbox", "--json"] { 1 } else { rounds };
        (0..rounds).for_each(|_| took.add(run(args)));
        took.print(&args.join(" "), floor.median());
    }
}
