//! Every command on a root with 100,000 events.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::feed;
use crate::support::{World, contents};

const EVENTS: usize = 100_000;
const SESSIONS: usize = 1_000;
const PENDING: usize = 10_000;
/// Events of one batch, and messages of one claim.
const BATCH: usize = 500;
/// Far above the time of any command. A quadratic algorithm takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lines for `c2c-log import`.
#[derive(Default)]
struct Log {
    text: String,
    count: usize,
}

impl Log {
    fn add(&mut self, kind: u16, payload: &Value) {
        let begins = self.count.is_multiple_of(BATCH);
        self.count += 1;
        let row = json!({
            "sequence": self.count, "kind_number": kind, "payload": payload,
            "time_us": 1_790_000_000_000_000_u64 + self.count as u64,
            "durable": false, "begins_batch": begins,
        });
        writeln!(self.text, "{row}").expect("in memory");
    }

    fn message(&mut self, to: &str) {
        let id = format!("m-{}", self.count + 1);
        self.add(
            200,
            &json!({
                "message_id": id, "from": "a-0", "from_mailbox": "a-0", "to": to,
                "body": format!("text of {id}"), "sent_us": 1_790_000_000_000_000_u64,
                "target": { "mailbox": to },
            }),
        );
    }

    /// Messages that `to` has claimed and acked.
    fn acked(&mut self, to: &str, count: usize) {
        let first = self.count + 1;
        (0..count).for_each(|_| self.message(to));
        let messages: Vec<usize> = (first..first + count).collect();
        let claim = format!("claim-{first}");
        self.add(
            201,
            &json!({
                "claim": claim, "mailbox": to, "messages": messages, "surface": "cli_poll",
                "until_us": 0,
            }),
        );
        self.add(202, &json!({ "claim": claim, "mailbox": to, "level": "written" }));
    }
}

/// A large root; `a-1` has the pending messages, among them one of 1 MB.
fn large() -> World {
    let world = World::new();
    let mut log = Log::default();
    for n in 0..SESSIONS {
        let name = format!("a-{n}");
        log.add(
            100,
            &json!({
                "session_id": format!("s-{name}"), "alias": name, "mailbox": name,
                "node_id": "node", "build": "test",
            }),
        );
    }
    let mut round = 2;
    while log.count + BATCH + PENDING < EVENTS {
        log.acked(&format!("a-{}", 2 + round % 50), BATCH - 2);
        round += 1;
    }
    while log.count + PENDING < EVENTS {
        log.acked("a-2", 1);
    }
    (0..PENDING - 1).for_each(|_| log.message("a-1"));
    let root = world.root().display().to_string();
    let imported = feed(world.log_tool(&["import", "-", "--to", &root]), log.text.as_bytes());
    assert!(imported.ok().out.contains("events into"));
    let mut big = world.c2c(&["send", "a-1", "-", "--message-id", "big"]);
    big.env("C2C_MCP_SESSION_ID", "s-a-0");
    feed(big, &vec![b'x'; 1 << 20]).ok();
    for room in ["den", "hall"] {
        world.run("a-0", &["rooms", "join", room]).ok();
    }
    world.run("a-0", &["rooms", "send", "den", "hi"]).ok();
    world
}

/// Runs one MCP session and returns the result of each tool call.
fn mcp(world: &World, who: &str, calls: &[(&str, Value)]) -> Vec<Value> {
    let mut command = world.c2c(&["mcp"]);
    command.env("C2C_MCP_SESSION_ID", format!("s-{who}"));
    let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
    let mut to = server.stdin.take().expect("piped");
    let mut from = BufReader::new(server.stdout.take().expect("piped"));
    let mut ask = |method: &str, params: Value| {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        writeln!(to, "{request}").expect("written");
        let mut line = String::new();
        from.read_line(&mut line).expect("a line");
        serde_json::from_str::<Value>(&line).expect("JSON")["result"].take()
    };
    let client = json!({ "name": "test", "version": "0" });
    ask(
        "initialize",
        json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client }),
    );
    let call = |(name, arguments): &(&str, Value)| {
        ask("tools/call", json!({ "name": name, "arguments": arguments }))["structuredContent"]
            .take()
    };
    let results = calls.iter().map(call).collect();
    drop(to);
    assert!(server.wait().expect("ends").success());
    results
}

fn every_command_answers_on_a_large_root() {
    let world = large();
    let commands: [&[&str]; 31] = [
        &["whoami"],
        &["list"],
        &["list", "--json"],
        &["peek-inbox"],
        &["peek-inbox", "--json"],
        &["history", "--alias", "a-3"],
        &["history", "--alias", "a-3", "--limit", "1000000", "--json"],
        &["trace", "m-1600"],
        &["trace", "big"],
        &["rooms", "list"],
        &["rooms", "history", "den"],
        &["rooms", "history", "den", "--limit", "0"],
        &["rooms", "members", "den"],
        &["rooms", "tail", "den", "-n"],
        &["my-rooms"],
        &["health"],
        &["health", "--json"],
        &["status"],
        &["sweep", "--dry-run"],
        &["sweep-dryrun"],
        &["dead-letter", "list"],
        &["dead-letter", "list", "--limit", "1000000"],
        &["dnd"],
        &["listen", "--once"],
        &["monitor", "--from-seq", "0", "--timeout", "0"],
        &["mirror", "views"],
        &["register", "--alias", "a-1"],
        &["send", "a-5", "hello"],
        &["send-all", "hello all"],
        &["rooms", "join", "den"],
        &["rooms", "send", "den", "me too"],
    ];
    for args in commands {
        let start = Instant::now();
        let done = world.run("a-1", args).ok();
        let took = start.elapsed();
        assert!(took < PATIENCE, "{args:?} took {took:?}");
        assert!(!done.out.is_empty(), "{args:?}");
    }

    let start = Instant::now();
    let calls = [
        ("poll_inbox", json!({})),
        ("peek_inbox", json!({ "limit": 1_000_000 })),
        ("list", json!({})),
        ("trace", json!({ "message_id": "big" })),
    ];
    let results = mcp(&world, "a-1", &calls);
    assert_eq!(results[0]["messages"].as_array().map(Vec::len), Some(50));
    assert_eq!(results[0]["remaining"], PENDING - 50);
    let peeked = results[1]["messages"].as_array().expect("rows");
    assert_eq!(peeked.len(), PENDING - 50);
    let big = peeked.last().expect("a row");
    assert_eq!((&big["truncated"], &big["bytes"]), (&json!(true), &json!(1 << 20)));
    assert_eq!(results[2]["peers"].as_array().map(Vec::len), Some(SESSIONS));
    assert_eq!(results[3]["content"].as_str().map(str::len), Some(1 << 20));
    let took = start.elapsed();
    assert!(took < PATIENCE, "MCP took {took:?}");

    let start = Instant::now();
    let polled = contents(&world.run("a-1", &["poll-inbox", "--json"]).ok().json());
    assert_eq!((polled.len(), polled[PENDING - 51].len()), (PENDING - 50, 1 << 20));
    let history = ["history", "--limit", "1000000", "--json"];
    assert_eq!(contents(&world.run("a-1", &history).ok().json()).len(), PENDING);
    let took = start.elapsed();
    assert!(took < PATIENCE, "a poll of all messages took {took:?}");
    let mut larger = world.c2c(&["send", "a-1", "-"]);
    larger.env("C2C_MCP_SESSION_ID", "s-a-0");
    let rejected = feed(larger, &vec![b'x'; (4 << 20) + 1]).fails_with("body_too_large");
    assert!(rejected.err.contains("the limit is 4194304"), "{}", rejected.err);
}

crate::harness::tests! {
    slow:
        every_command_answers_on_a_large_root;
}
