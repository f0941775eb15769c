//! Liveness of processes, and mail that a dead or foreign process has claimed.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::skip;
use crate::support::{World, contents, run};

/// A file longer than a pipe can hold: a program that prints it blocks until its output is read.
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

/// Starts a poll that claims the mail of bob and then blocks on an unread pipe.
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
        assert!(Instant::now() < deadline, "the poll claimed no mail");
    }
}

fn while_the_claiming_process_lives_other_polls_are_empty_and_say_why() {
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

fn mail_claimed_by_a_zombie_is_redelivered_with_its_mark() {
    let world = World::new();
    world.register(&["ada", "bob"]);
    send_long(&world);
    let mut child = stuck_poll(&world, world.c2c(&["poll-inbox"]));
    // Killed and not waited for: a zombie that is still in /proc.
    child.kill().expect("kill");
    let stat = format!("/proc/{}/stat", child.id());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !std::fs::read_to_string(&stat).is_ok_and(|text| text.contains(") Z ")) {
        assert!(Instant::now() < deadline, "the process is not a zombie");
    }
    let rows = world.run("bob", &["poll-inbox", "--json"]).ok().json();
    assert_eq!(rows[0]["redelivered"], true);
    assert_eq!(contents(&rows)[0].len(), 200_000);
    assert_eq!(child.wait().expect("wait").signal(), Some(9));
    assert!(world.poll("bob").is_empty(), "the mail is delivered once");
}

fn a_claim_from_another_pid_namespace_is_not_judged_by_its_pid() {
    let probe = Command::new("unshare").args(["-pf", "--mount-proc", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        skip("no right to create a pid namespace");
    }
    let world = World::new();
    world.register(&["ada", "bob"]);
    send_long(&world);
    let c2c = env!("CARGO_BIN_EXE_c2c");
    let inside = world.program("unshare", &["-pf", "--mount-proc", c2c, "poll-inbox"]);
    let mut child = stuck_poll(&world, inside);
    child.kill().expect("kill");
    child.wait().expect("wait");
    // This namespace cannot see whether the process lives: its mail stays claimed until the claim
    // expires.
    let other = world.run("bob", &["poll-inbox", "--json"]).ok();
    assert_eq!(other.json().as_array().map(Vec::len), Some(0));
    assert!(other.err.contains("claimed"), "{}", other.err);
    // The claim can be acked by its id, and the mailbox continues.
    let state = run(world.log_tool(&["state", "--json"])).ok().json();
    let rows = state["mailboxes"].as_array().cloned().unwrap_or_default();
    let bob = rows.iter().find(|row| row["alias"] == "bob").expect("bob");
    let claim = bob["claim"].as_str().expect("an open claim").to_owned();
    world.run("bob", &["ack", &claim]).ok();
    world.run("ada", &["send", "bob", "next"]).ok();
    assert_eq!(world.poll("bob"), ["next"]);
}

fn a_sweep_ends_dead_sessions_and_keeps_their_mail_for_the_alias() {
    let world = World::new();
    world.register(&["ada"]);
    // The shell is the process of bob, and exits at the end of the line.
    let c2c = env!("CARGO_BIN_EXE_c2c");
    let line = format!("{c2c} register --alias bob -s s-bob; true");
    run(world.program("sh", &["-c", &line])).ok();
    let sent = world.run("ada", &["send", "bob", "kept", "--json"]).ok().json();
    assert_eq!(sent["recipient_state"], "dead");
    let plan = world.run("ada", &["sweep", "--dry-run", "--json"]).ok().json();
    let done = world.run("ada", &["sweep", "--json"]).ok().json();
    assert_eq!(plan, done, "the dry run reports what the sweep does");
    assert_eq!(done["preserved_messages"], 1);
    let letters = world.run("ada", &["dead-letter", "--json"]).ok().json();
    assert_eq!(letters[0]["reason"], "sweep");
    let back = world.run("bob", &["register", "--alias", "bob", "--json"]).ok().json();
    assert_eq!(back["redelivered"], 1);
    assert_eq!(world.poll("bob"), ["kept"]);
    assert!(world.poll("bob").is_empty());
}

crate::harness::tests! {
    fast:
        while_the_claiming_process_lives_other_polls_are_empty_and_say_why,
        mail_claimed_by_a_zombie_is_redelivered_with_its_mark,
        a_claim_from_another_pid_namespace_is_not_judged_by_its_pid,
        a_sweep_ends_dead_sessions_and_keeps_their_mail_for_the_alias;
}
