//! Claims of mail: what was claimed and not shown is delivered again.

use std::fs::OpenOptions;
use std::io::Read;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Outcome, World, contents, run};

fn with_mail(texts: &[&str]) -> World {
    let world = World::new();
    world.register(&["alice", "bob"]);
    for text in texts {
        world.run("alice", &["send", "bob", text]).ok();
    }
    world
}

/// The texts of a poll in which every message was shown before.
fn redelivered(world: &World) -> Vec<String> {
    let rows = world.run("bob", &["poll-inbox", "--json"]).ok().json();
    assert!(rows.as_array().unwrap().iter().all(|row| row["redelivered"] == true), "{rows}");
    contents(&rows)
}

/// The claim id that a manual poll printed on standard error.
fn claim_of(done: &Outcome) -> String {
    let line = done.err.lines().find(|line| line.starts_with("claim ")).expect("a claim");
    line.split(' ').nth(1).expect("its id").to_owned()
}

fn hops(world: &World, id: &str) -> Vec<String> {
    let trace = world.run("alice", &["trace", id, "--json"]).ok().json();
    let rows = trace[0]["hops"].as_array().unwrap();
    rows.iter().map(|hop| hop["what"].as_str().unwrap().to_owned()).collect()
}

fn a_full_output_device_loses_no_mail() {
    let world = with_mail(&["one", "two", "three"]);
    for args in [&["poll-inbox", "--json"][..], &["poll-inbox"], &["listen", "--take", "--once"]] {
        let mut command = world.c2c(args);
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        command.env("C2C_MCP_SESSION_ID", "s-bob").stdout(full).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(err.contains("[output_failed]"), "{err:?}");
    }
    assert_eq!(redelivered(&world), ["one", "two", "three"]);
    assert_eq!(world.poll("bob"), [""; 0]);
}

fn a_closed_pipe_loses_no_mail() {
    let world = with_mail(&["one", "two"]);
    for _ in 0..20 {
        let mut command = world.c2c(&["poll-inbox", "--json"]);
        command.env("C2C_MCP_SESSION_ID", "s-bob").stderr(Stdio::null());
        // A pipe whose reading end is closed.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stdout(writer);
        assert_eq!(command.status().unwrap().code(), Some(1));
    }
    assert_eq!(redelivered(&world), ["one", "two"]);
}

fn mail_of_a_poller_killed_while_writing_is_redelivered() {
    let large = "x".repeat(100_000);
    let world = with_mail(&["first", &large, "last"]);
    let mut command = world.c2c(&["poll-inbox", "--json"]);
    command.env("C2C_MCP_SESSION_ID", "s-bob").stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The first byte shows that the claim was made; the pipe is too small for the rest.
    let mut byte = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    let busy = world.run("bob", &["poll-inbox", "--json"]).ok();
    assert_eq!(busy.json(), json!([]));
    assert!(busy.err.contains("3 messages are claimed by another poller"), "{:?}", busy.err);
    assert_eq!(world.run("bob", &["peek-inbox", "--json"]).ok().json(), json!([]));
    child.kill().unwrap();
    child.wait().unwrap();
    let peeked = world.run("bob", &["peek-inbox", "--json"]).ok().json();
    assert!(peeked.as_array().unwrap().iter().all(|row| row["redelivered"] == true), "{peeked}");
    assert!(redelivered(&world) == ["first", &large, "last"]);
    assert_eq!(world.poll("bob"), [""; 0]);
}

fn a_manual_claim_stays_open_until_it_is_acked() {
    let world = with_mail(&["one", "two", "three"]);
    let taken = world.run("bob", &["poll-inbox", "--manual", "--limit", "2", "--json"]).ok();
    assert_eq!(contents(&taken.json()), ["one", "two"]);
    let claim = claim_of(&taken);
    let busy = world.run("bob", &["poll-inbox", "--json"]).ok();
    assert_eq!(busy.json(), json!([]));
    assert!(busy.err.contains("2 messages are claimed"), "{:?}", busy.err);
    world.run("alice", &["ack", &claim]).fails_with("claim_not_open");
    world.run("bob", &["ack", "no-such-claim"]).fails_with("claim_not_open");
    let acked = world.run("bob", &["ack", &claim, "--json"]).ok().json();
    assert_eq!(acked, json!({ "ok": true, "claim": claim }));
    world.run("bob", &["ack", &claim]).fails_with("claim_not_open");
    assert_eq!(world.poll("bob"), ["three"]);
}

fn an_expired_manual_claim_releases_its_mail_and_rejects_a_late_ack() {
    let world = with_mail(&["one", "two"]);
    let taken = world.run("bob", &["poll-inbox", "--manual", "--limit", "1"]).ok();
    let claim = claim_of(&taken);
    // A copy of the log in which the claim has expired, so that the test need not wait.
    let text = run(world.log_tool(&["export"])).ok().out;
    let mut rows: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let claimed = rows.last_mut().unwrap();
    let (until, at) = (&claimed["payload"]["until_us"], &claimed["time_us"]);
    let lasts_us = until.as_u64().unwrap() - at.as_u64().unwrap();
    assert!((30_000_000..=60_000_000).contains(&lasts_us), "{claimed}");
    claimed["payload"]["until_us"] = at.clone();
    let later = World::new();
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let file = later.path().join("events");
    std::fs::write(&file, lines).unwrap();
    let (file, root) = (file.display().to_string(), later.root().display().to_string());
    run(later.log_tool(&["import", &file, "--to", &root])).ok();

    let peeked = later.run("bob", &["peek-inbox", "--json"]).ok().json();
    assert_eq!(contents(&peeked), ["one", "two"]);
    assert_eq!((&peeked[0]["redelivered"], peeked[1].get("redelivered")), (&json!(true), None));
    later.run("bob", &["ack", &claim]).fails_with("claim_not_open");
    let polled = later.run("bob", &["poll-inbox", "--json"]).ok().json();
    assert_eq!(polled, peeked);
    let id = polled[0]["message_id"].as_str().unwrap();
    let actual = hops(&later, id);
    let expected = ["late ack refused", "returned: expired", "claimed by cli_poll", "written"];
    assert_eq!(actual[2..], expected, "{actual:?}");
    // In the original log the claim is open, and its ack is accepted.
    assert_eq!(world.poll("bob"), [""; 0]);
    world.run("bob", &["ack", &claim]).ok();
    assert_eq!(world.poll("bob"), ["two"]);
}

fn a_limited_poll_returns_the_oldest_messages_and_keeps_the_rest_in_order() {
    let world = with_mail(&["1", "2", "3", "4", "5"]);
    let poll = |limit: &str| {
        contents(&world.run("bob", &["poll-inbox", "--json", "-l", limit]).ok().json())
    };
    assert_eq!(poll("0"), [""; 0]);
    assert_eq!(poll("2"), ["1", "2"]);
    assert_eq!(poll("1"), ["3"]);
    assert_eq!(poll("9"), ["4", "5"]);
    let history = world.run("bob", &["history", "--json", "-l", "2"]).ok().json();
    assert_eq!(contents(&history), ["5", "4"]);
}

fn a_trace_lists_each_hop_that_happened_and_no_other() {
    let world = World::new();
    world.register(&["alice", "bob"]);
    let sent = world.run("alice", &["send", "bob", "hi", "--json"]).ok().json();
    let id = sent["message_id"].as_str().unwrap();
    assert_eq!(hops(&world, id), ["accepted"]);
    let text = world.run("alice", &["trace", id]).ok().out;
    assert!(text.contains("no evidence that it was shown"), "{text:?}");
    assert_eq!(world.poll("bob"), ["hi"]);
    assert_eq!(hops(&world, id), ["accepted", "claimed by cli_poll", "written"]);
    let text = world.run("alice", &["trace", id]).ok().out;
    assert!(!text.contains("no evidence"), "{text:?}");
    world.run("alice", &["trace", "no-such-id"]).fails_with("unknown_message");

    let sent = world.run("alice", &["send", "bob", "again", "--json"]).ok().json();
    let id = sent["message_id"].as_str().unwrap();
    let taken = world.run("bob", &["poll-inbox", "--manual"]).ok();
    world.run("bob", &["ack", &claim_of(&taken)]).ok();
    assert_eq!(hops(&world, id), ["accepted", "claimed by cli_poll", "acked by agent"]);
    let trace = world.run("alice", &["trace", id, "--json"]).ok().json();
    assert_eq!(trace[0]["shown"], true, "an agent that acks has seen it");
}

fn a_sender_can_wait_until_the_message_is_acked() {
    let world = World::new();
    world.register(&["alice", "bob"]);
    let wait = |timeout: &str| {
        world.c2c(&["send", "bob", "hi", "--wait-for", "acked", "--timeout", timeout, "--json"])
    };
    let mut late = wait("0");
    late.env("C2C_MCP_SESSION_ID", "s-alice");
    let late = run(late).fails_with("timeout");
    // The receipt is one JSON value, also after a timeout.
    let receipt = late.json();
    assert_eq!((&receipt["queued"], &receipt["acked"]), (&json!(true), &json!(false)));
    assert_eq!(receipt["error_code"], "timeout");
    assert_eq!(world.poll("bob"), ["hi"]);

    let mut waiting = wait("60");
    waiting.env("C2C_MCP_SESSION_ID", "s-alice").stdout(Stdio::piped());
    let child = waiting.spawn().unwrap();
    let listened = world.run("bob", &["listen", "--take", "--once", "--json", "--timeout", "60"]);
    assert_eq!(listened.ok().json()["content"], "hi");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let receipt: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&receipt["acked"], receipt.get("error_code")), (&json!(true), None));
}

fn an_invalid_command_line_claims_no_mail() {
    let world = with_mail(&["one"]);
    let wrong: [&[&str]; 4] = [
        &["poll-inbox", "--no-such-flag"],
        &["poll-inbox", "--limit", "many"],
        &["poll-inbox", "extra"],
        &["listen", "--take", "--once", "--no-such-flag"],
    ];
    for args in wrong {
        let done = world.run("bob", args);
        assert_eq!((done.status, done.out.as_str()), (2, ""), "{args:?}");
    }
    assert_eq!(world.poll("bob"), ["one"]);
}

fn the_history_lists_shown_messages_with_the_time_of_their_ack() {
    let world = World::new();
    world.register(&["ada", "bob"]);
    let sent = world.run("ada", &["send", "bob", "shown", "--json"]).ok().json();
    world.run("ada", &["send", "bob", "too late", "--ttl", "0"]).ok();
    world.run("ada", &["send", "bob", "unread", "--deferrable"]).ok();
    assert_eq!(world.run("bob", &["history", "--json"]).ok().json(), json!([]));
    world.run("bob", &["poll-inbox", "-l", "1"]).ok();
    let rows = world.run("bob", &["history", "--json"]).ok().json();
    assert_eq!(contents(&rows), ["shown"]);
    let (drained, ts) = (rows[0]["drained_at"].as_str(), sent["ts"].as_str());
    assert!(drained.is_some() && drained > ts, "{rows}: acked after it was sent");
}

crate::harness::tests! {
    fast:
        a_full_output_device_loses_no_mail,
        a_closed_pipe_loses_no_mail,
        mail_of_a_poller_killed_while_writing_is_redelivered,
        a_manual_claim_stays_open_until_it_is_acked,
        an_expired_manual_claim_releases_its_mail_and_rejects_a_late_ack,
        a_limited_poll_returns_the_oldest_messages_and_keeps_the_rest_in_order,
        a_trace_lists_each_hop_that_happened_and_no_other,
        a_sender_can_wait_until_the_message_is_acked,
        an_invalid_command_line_claims_no_mail,
        the_history_lists_shown_messages_with_the_time_of_their_ack;
}
