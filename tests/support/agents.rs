//! Many agents at once, each a process over MCP: everybody writes to everybody, and all that arrives
//! is counted.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What the agents do.
pub struct Plan {
    pub agents: usize,
    /// How often each writes to another one, and as often to the room.
    pub messages: usize,
    /// Between two of them.
    pub pause: Duration,
    /// After this long without any arrival all that is missing counts as lost.
    pub patience: Duration,
}

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    /// From the start of each send to its arrival at the recipient.
    pub delays: Vec<Duration>,
    pub expected: usize,
    pub doubled: usize,
    /// At somebody whom they were not for.
    pub astray: usize,
    /// Polls that ended early although nothing had come.
    pub empty_polls: usize,
}

const ROOM: &str = "lobby";
/// How long one poll waits, seconds.
const WAIT_S: f64 = 20.0;

/// A server of one agent, and its end of the pipe.
struct Agent {
    child: Child,
    to: Arc<Mutex<ChildStdin>>,
    reader: JoinHandle<()>,
}

struct Arrival {
    at: usize,
    content: String,
    when: Instant,
}

fn say(to: &Mutex<ChildStdin>, line: &Value) {
    let mut to = to.lock().expect("a lock");
    // A server that is gone shows by what does not arrive.
    let _ = writeln!(to, "{line}");
}

fn call(id: usize, tool: &str, arguments: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
        "params": {"name": tool, "arguments": arguments}})
}

fn poll(to: &Mutex<ChildStdin>, id: usize) {
    say(to, &call(id, "poll_inbox", &json!({ "wait_s": WAIT_S })));
}

/// Reads what the server says: arrivals, after each of which it polls again.
fn listen(
    at: usize,
    out: ChildStdout,
    to: &Mutex<ChildStdin>,
    arrived: &Sender<Arrival>,
    empty: &AtomicUsize,
) {
    let mut asked = Instant::now();
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        // Even numbers are polls.
        let Some(id) = answer["id"].as_u64().filter(|id| id % 2 == 0 && *id > 0) else {
            assert_ne!(answer["result"]["isError"], true, "{line}");
            continue;
        };
        let when = Instant::now();
        let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_default();
        let rows: Vec<Value> = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {line}"));
        if rows.is_empty() && asked.elapsed().as_secs_f64() < WAIT_S - 1.0 {
            empty.fetch_add(1, Ordering::Relaxed);
        }
        for row in rows {
            let content = row["content"].as_str().expect("content").to_owned();
            let _ = arrived.send(Arrival { at, content, when });
        }
        asked = Instant::now();
        poll(to, id as usize + 2);
    }
}

impl Agent {
    fn start(
        at: usize,
        mut command: Command,
        arrived: Sender<Arrival>,
        empty: Arc<AtomicUsize>,
    ) -> Self {
        command.args(["mcp"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.env("C2C_MCP_AUTO_REGISTER_ALIAS", format!("agent-{at}"));
        command.env("C2C_MCP_AUTO_JOIN_ROOMS", ROOM).stderr(Stdio::null());
        let mut child = command.spawn().expect("starts");
        let to = Arc::new(Mutex::new(child.stdin.take().expect("piped")));
        let mut out = child.stdout.take().expect("piped");
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "agent", "version": "1"}}});
        say(&to, &hello);
        // Byte by byte: what comes after the line is for the reader.
        let (mut byte, mut line) = ([0], Vec::new());
        while std::io::Read::read(&mut out, &mut byte).is_ok_and(|n| n > 0) && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        assert!(String::from_utf8_lossy(&line).contains("serverInfo"));
        say(&to, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        let writer = Arc::clone(&to);
        let reader = thread::spawn(move || listen(at, out, &writer, &arrived, &empty));
        poll(&to, 2);
        Self { child, to, reader }
    }

    fn end(mut self) {
        drop(self.to);
        // Its reader holds the other end of the pipe as long as the server runs.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.reader.join();
    }
}

/// Runs them all; `program` makes the command for the agent of that number.
pub fn run(plan: &Plan, program: &dyn Fn(usize) -> Command) -> Outcome {
    let (sender, arrived) = channel();
    let empty = Arc::new(AtomicUsize::new(0));
    let agents: Vec<Agent> = (0..plan.agents)
        .map(|at| Agent::start(at, program(at), sender.clone(), Arc::clone(&empty)))
        .collect();
    drop(sender);
    let sent = Arc::new(Mutex::new(HashMap::new()));
    let writers: Vec<JoinHandle<()>> = agents
        .iter()
        .enumerate()
        .map(|(at, agent)| {
            let (to, sent) = (Arc::clone(&agent.to), Arc::clone(&sent));
            let (agents, messages, pause) = (plan.agents, plan.messages, plan.pause);
            thread::spawn(move || write(at, agents, messages, pause, &to, &sent))
        })
        .collect();
    let mut outcome = collect(plan, &arrived, &sent);
    for writer in writers {
        writer.join().expect("written");
    }
    outcome.empty_polls = empty.load(Ordering::Relaxed);
    agents.into_iter().for_each(Agent::end);
    outcome
}

/// Each message says whom it is for: a number, or the room.
fn write(
    at: usize,
    agents: usize,
    messages: usize,
    pause: Duration,
    to: &Mutex<ChildStdin>,
    sent: &Mutex<HashMap<String, Instant>>,
) {
    for number in 0..messages {
        let peer = (at + 1 + number % (agents - 1)) % agents;
        let direct = format!("{peer} {at} {number}");
        let said = format!("room {at} {number}");
        let start = Instant::now();
        for (content, id) in [(direct, 0), (said, 1)] {
            let (tool, arguments) = match id {
                0 => ("send", json!({"to_alias": format!("agent-{peer}"), "content": content})),
                _ => ("send_room", json!({"room_id": ROOM, "content": content})),
            };
            sent.lock().expect("a lock").insert(content, Instant::now());
            say(to, &call(4 * number + 2 * id + 1, tool, &arguments));
        }
        if let Some(rest) = pause.checked_sub(start.elapsed()).filter(|rest| !rest.is_zero()) {
            thread::park_timeout(rest);
        }
    }
}

fn collect(
    plan: &Plan,
    arrived: &Receiver<Arrival>,
    sent: &Mutex<HashMap<String, Instant>>,
) -> Outcome {
    let direct = plan.agents * plan.messages;
    let mut outcome = Outcome { expected: direct * plan.agents, ..Outcome::default() };
    let mut seen = HashMap::<(usize, String), usize>::new();
    while outcome.delays.len() < outcome.expected {
        let Ok(arrival) = arrived.recv_timeout(plan.patience) else { break };
        let start = sent.lock().expect("a lock").get(&arrival.content).copied();
        let meant = arrival.content.split(' ').next().unwrap_or_default();
        let own = arrival.content.split(' ').nth(1) == Some(&arrival.at.to_string());
        let right = meant == arrival.at.to_string() || meant == "room" && !own;
        outcome.astray += usize::from(!right || start.is_none());
        let count = seen.entry((arrival.at, arrival.content)).or_default();
        *count += 1;
        outcome.doubled += usize::from(*count > 1);
        if let Some(start) = start.filter(|_| *count == 1) {
            outcome.delays.push(arrival.when.duration_since(start));
        }
    }
    // What is doubled would come late.
    while let Ok(arrival) = arrived.try_recv() {
        outcome.doubled += usize::from(seen.contains_key(&(arrival.at, arrival.content)));
    }
    outcome
}

/// A clean environment for one agent.
pub fn command(program: &Path, root: &Path, home: &Path, at: usize) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("C2C_MCP_BROKER_ROOT", root);
    command.env("C2C_MCP_SESSION_ID", format!("s-agent-{at}")).current_dir(home);
    command
}
