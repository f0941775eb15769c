//! Who counts as alive, and what becomes of the mail that a dead or foreign process had taken?

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{World, contents, run};

/// More than a pipe holds: whoever prints it blocks until somebody reads.
fn long_body(world: &World) -> std::path::PathBuf {
    let file = world.path().join("body");
    std::fs::write(&file, "z".repeat(200_000)).expect("write");
    file
}

fn send_long(world: &World) {
    let mut send = world.c2c(&["send", "bob", "-"]);
    send.env("C2C_MCP_SESSION_ID", "s-ada");
    send.stdin(std::fs::File::open(long_body(world)).expect("open"));
    run(send).ok();
}

/// Starts a poll that takes bob's mail and then hangs on a pipe that nobody reads.
#[expect(clippy::zombie_processes, reason = "the caller waits; a panic ends the test anyway")]
fn stuck_poll(world: &World, mut command: Command) -> Child {
    command.env("C2C_MCP_SESSION_ID", "s-bob").stdout(Stdio::piped()).stderr(Stdio::null());
    let child = command.spawn().expect("poll starts");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let state = run(world.log_tool(&["state", "--json"])).json();
        let rows = state["mailboxes"].as_array().cloned().unwrap_or_default();
        if rows.iter().any(|row| row["alias"] == "bob" && row["claim"].is_string()) {
            return child;
        }
        assert!(Instant::now() < deadline, "the poll never claimed");
    }
}

#[test]
fn while_the_claimer_lives_others_get_nothing_and_are_told() {
    let world = World::new();
    world.register(&["ada", "bob"]);
    send_long(&world);
    let mut child = stuck_poll(&world, world.c2c(&["poll-inbox"]));
    let other = world.run("bob", &["poll-inbox", "--json"]).ok();
    assert_eq!(other.json().as_array().map(Vec::len), Some(0));
    assert!(other.err.contains("1 messages are claimed"), "{}", other.err);
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert_eq!(world.poll("bob").len(), 1);
}

#[test]
fn a_zombie_claimer_is_dead_and_its_mail_comes_back_marked() {
    let world = World::new();
    world.register(&["ada", "bob"]);
    send_long(&world);
    let mut child = stuck_poll(&world, world.c2c(&["poll-inbox"]));
    // Killed and not waited for: a zombie, whose number still stands in /proc.
    child.kill().expect("kill");
    let stat = format!("/proc/{}/stat", child.id());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !std::fs::read_to_string(&stat).is_ok_and(|text| text.contains(") Z ")) {
        assert!(Instant::now() < deadline, "no zombie");
    }
    let rows = world.run("bob", &["poll-inbox", "--json"]).ok().json();
    assert_eq!(rows[0]["redelivered"], true);
    assert_eq!(contents(&rows)[0].len(), 200_000);
    assert_eq!(child.wait().expect("wait").signal(), Some(9));
    assert!(world.poll("bob").is_empty(), "and not a second time");
}

#[test]
fn a_claim_from_another_pid_namespace_is_not_judged_by_its_pid() {
    let probe = Command::new("unshare").args(["-pf", "--mount-proc", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no right to make a pid namespace");
        return;
    }
    let world = World::new();
    world.register(&["ada", "bob"]);
    send_long(&world);
    let c2c = env!("CARGO_BIN_EXE_c2c");
    let inside = world.program("unshare", &["-pf", "--mount-proc", c2c, "poll-inbox"]);
    let mut child = stuck_poll(&world, inside);
    child.kill().expect("kill");
    child.wait().expect("wait");
    // Whether that process lives cannot be seen from here: its mail stays claimed for a while.
    let other = world.run("bob", &["poll-inbox", "--json"]).ok();
    assert_eq!(other.json().as_array().map(Vec::len), Some(0));
    assert!(other.err.contains("claimed"), "{}", other.err);
    // Its claim can be named and acked, and the mailbox goes on.
    let state = run(world.log_tool(&["state", "--json"])).ok().json();
    let rows = state["mailboxes"].as_array().cloned().unwrap_or_default();
    let bob = rows.iter().find(|row| row["alias"] == "bob").expect("bob");
    let claim = bob["claim"].as_str().expect("an open claim").to_owned();
    world.run("bob", &["ack", &claim]).ok();
    world.run("ada", &["send", "bob", "next"]).ok();
    assert_eq!(world.poll("bob"), ["next"]);
}

#[test]
fn a_sweep_ends_dead_sessions_and_their_mail_returns_with_the_alias() {
    let world = World::new();
    world.register(&["ada"]);
    // The shell is bob's process; it is gone when the line is done.
    let c2c = env!("CARGO_BIN_EXE_c2c");
    let line = format!("{c2c} register --alias bob -s s-bob; true");
    run(world.program("sh", &["-c", &line])).ok();
    let sent = world.run("ada", &["send", "bob", "kept", "--json"]).ok().json();
    assert_eq!(sent["recipient_state"], "dead");
    let plan = world.run("ada", &["sweep", "--dry-run", "--json"]).ok().json();
    let done = world.run("ada", &["sweep", "--json"]).ok().json();
    assert_eq!(plan, done, "the dry run tells what the sweep does");
    assert_eq!(done["preserved_messages"], 1);
    let letters = world.run("ada", &["dead-letter", "--json"]).ok().json();
    assert_eq!(letters[0]["reason"], "sweep");
    let back = world.run("bob", &["register", "--alias", "bob", "--json"]).ok().json();
    assert_eq!(back["redelivered"], 1);
    assert_eq!(world.poll("bob"), ["kept"]);
    assert!(world.poll("bob").is_empty());
}
