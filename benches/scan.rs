//! Reading a whole log with `c2c-log` (L7).
//!
//! `C2C_BENCH_EVENTS` sets the size (2,500,000 events are about 1 GB), `C2C_BENCH_RUNS` the runs.
//! The yardstick is reading the same files and doing nothing with them.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn main() {
    if support::filled() {
        return;
    }
    let events = support::setting("C2C_BENCH_EVENTS", 2_500_000);
    let runs = support::setting("C2C_BENCH_RUNS", 5);
    let dir = support::scratch();
    let root = dir.path().join("root");
    support::fill_apart(&root, events, 1_000, 10_000.min(events / 10));
    let bytes = read_all(&root).1 as f64;
    println!("log of {events} events, {:.2} GB", bytes / 1e9);
    let cases = [
        ("verify --no-replay", vec!["verify", "--no-replay"]),
        ("verify", vec!["verify"]),
        ("inspect --grep", vec!["inspect", "--grep", "no such text"]),
        ("inspect -n 5", vec!["inspect", "-n", "5"]),
    ];
    let mut read = support::Samples::default();
    let mut took = cases.each_ref().map(|_| support::Samples::default());
    for _ in 0..runs {
        read.add(read_all(&root).0);
        for ((_, args), samples) in cases.iter().zip(&mut took) {
            let mut command = Command::new(env!("CARGO_BIN_EXE_c2c-log"));
            command.args(args).arg(&root).env_clear().stdout(Stdio::null());
            samples.add(support::timed(command));
        }
    }
    read.print("reading the files", read.median());
    for ((name, _), samples) in cases.iter().zip(&took) {
        samples.print(name, read.median());
        println!("  {:.2} GB/s", bytes / 1e3 / samples.median());
    }
}

/// Reads every segment; returns the time and the number of bytes.
fn read_all(root: &Path) -> (Duration, u64) {
    let start = Instant::now();
    let mut bytes = 0;
    for entry in std::fs::read_dir(root.join("log")).expect("listed").flatten() {
        if entry.path().extension().is_some_and(|end| end == "seg") {
            bytes += std::fs::read(entry.path()).expect("read").len() as u64;
        }
    }
    (start.elapsed(), bytes)
}
