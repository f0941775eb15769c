//! Delay of messages between many agents that write at once (A2).
//!
//! `C2C_BENCH_AGENTS` (30) and `C2C_BENCH_SECONDS` (60) set the size. Each agent writes to another one
//! and to the room every two seconds.

#[path = "../tests/support/agents.rs"]
mod agents;
mod support;

use std::time::Duration;

use support::Samples;

const PAUSE: Duration = Duration::from_secs(2);

fn main() {
    let dir = support::scratch();
    let (root, home) = (dir.path().join("root"), dir.path().join("home"));
    std::fs::create_dir_all(&home).expect("a home");
    let agents = support::setting("C2C_BENCH_AGENTS", 30) as usize;
    let seconds = support::setting("C2C_BENCH_SECONDS", 60);
    let plan = agents::Plan {
        agents,
        messages: (seconds / PAUSE.as_secs()) as usize,
        pause: PAUSE,
        patience: Duration::from_secs(30),
    };
    println!("A2 {agents} agents over MCP, one room and direct messages, {seconds} s");
    let program = support::program();
    let tally = agents::run(&plan, &|at| agents::command(&program, &root, &home, at));
    let mut samples = Samples::default();
    tally.delays.iter().for_each(|delay| samples.add(*delay));
    println!(
        "  {} of {} arrived, {} duplicated, {} misdelivered, {} polls that woke without mail",
        tally.delays.len(),
        tally.expected,
        tally.duplicated,
        tally.misdelivered,
        tally.empty_polls
    );
    let at = |quantile: f64| samples.at(quantile) / 1_000.0;
    println!("  p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms", at(0.5), at(0.9), at(0.99));
}
