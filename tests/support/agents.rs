//! Many agents at once, each a process over MCP: each writes to the others, and arrivals are counted.

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

/// Number and pace of the agents' messages.
pub struct Plan {
    pub agents: usize,
    /// Messages of each agent to another agent, and as many to the room.
    pub messages: usize,
    /// Pause between two messages.
    pub pause: Duration,
    /// Time without an arrival after which the missing messages count as lost.
    pub patience: Duration,
}

/// Delays and counts of the arrivals.
#[derive(Default)]
pub struct Tally {
    /// Time from the start of each send to its arrival.
    pub delays: Vec<Duration>,
    pub expected: usize,
    pub duplicated: usize,
    /// Messages that arrived at another agent than their recipient.
    pub misdelivered: usize,
    /// Polls that returned early without a message.
    pub empty_polls: usize,
}

const ROOM: &str = "lobby";
/// Waiting time of one poll, seconds.
const WAIT_S: f64 = 20.0;

/// The MCP server of one agent, and the client's end of the pipe.
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

fn write_line(to: &Mutex<ChildStdin>, line: &Value) {
    let mut to = to.lock().expect("a lock");
    // If the server has exited, its messages will be missing.
    let _ = writeln!(to, "{line}");
}

fn call(id: usize, tool: &str, arguments: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
        "params": {"name": tool, "arguments": arguments}})
}

fn poll(to: &Mutex<ChildStdin>, id: usize) {
    write_line(to, &call(id, "poll_inbox", &json!({ "wait_s": WAIT_S })));
}

/// Reads responses: passes arrivals on and polls again after each response to a poll.
fn read_responses(
    at: usize,
    out: ChildStdout,
    to: &Mutex<ChildStdin>,
    arrived: &Sender<Arrival>,
    empty: &AtomicUsize,
) {
    let mut polled = Instant::now();
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        let response: Value = serde_json::from_str(&line).expect("JSON");
        // Even ids are polls.
        let Some(id) = response["id"].as_u64().filter(|id| id % 2 == 0 && *id > 0) else {
            assert_ne!(response["result"]["isError"], true, "{line}");
            continue;
        };
        let when = Instant::now();
        let text = response["result"]["content"][0]["text"].as_str().unwrap_or_default();
        let rows: Vec<Value> = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {line}"));
        if rows.is_empty() && polled.elapsed().as_secs_f64() < WAIT_S - 1.0 {
            empty.fetch_add(1, Ordering::Relaxed);
        }
        for row in rows {
            let content = row["content"].as_str().expect("content").to_owned();
            let _ = arrived.send(Arrival { at, content, when });
        }
        polled = Instant::now();
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
        let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "agent", "version": "1"}}});
        write_line(&to, &initialize);
        // Byte by byte, because the reader thread needs everything after the line.
        let (mut byte, mut line) = ([0], Vec::new());
        while std::io::Read::read(&mut out, &mut byte).is_ok_and(|n| n > 0) && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        assert!(String::from_utf8_lossy(&line).contains("serverInfo"));
        write_line(&to, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        let writer = Arc::clone(&to);
        let reader = thread::spawn(move || read_responses(at, out, &writer, &arrived, &empty));
        poll(&to, 2);
        Self { child, to, reader }
    }

    fn end(mut self) {
        drop(self.to);
        // The reader thread holds the other end of the pipe as long as the server runs.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.reader.join();
    }
}

/// Runs all agents; `program` returns the command of each agent by its number.
pub fn run(plan: &Plan, program: &dyn Fn(usize) -> Command) -> Tally {
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
            thread::spawn(move || send_all(at, agents, messages, pause, &to, &sent))
        })
        .collect();
    let mut tally = collect(plan, &arrived, &sent);
    for writer in writers {
        writer.join().expect("written");
    }
    tally.empty_polls = empty.load(Ordering::Relaxed);
    agents.into_iter().for_each(Agent::end);
    tally
}

/// Sends the messages of one agent. Each names its recipient: a number, or the room.
fn send_all(
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
        let to_room = format!("room {at} {number}");
        let start = Instant::now();
        for (content, id) in [(direct, 0), (to_room, 1)] {
            let (tool, arguments) = match id {
                0 => ("send", json!({"to_alias": format!("agent-{peer}"), "content": content})),
                _ => ("send_room", json!({"room_id": ROOM, "content": content})),
            };
            sent.lock().expect("a lock").insert(content, Instant::now());
            write_line(to, &call(4 * number + 2 * id + 1, tool, &arguments));
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
) -> Tally {
    let direct = plan.agents * plan.messages;
    let mut tally = Tally { expected: direct * plan.agents, ..Tally::default() };
    let mut seen = HashMap::<(usize, String), usize>::new();
    while tally.delays.len() < tally.expected {
        let Ok(arrival) = arrived.recv_timeout(plan.patience) else { break };
        let start = sent.lock().expect("a lock").get(&arrival.content).copied();
        let recipient = arrival.content.split(' ').next().unwrap_or_default();
        let own = arrival.content.split(' ').nth(1) == Some(&arrival.at.to_string());
        let is_recipient = recipient == arrival.at.to_string() || recipient == "room" && !own;
        tally.misdelivered += usize::from(!is_recipient || start.is_none());
        let count = seen.entry((arrival.at, arrival.content)).or_default();
        *count += 1;
        tally.duplicated += usize::from(*count > 1);
        if let Some(start) = start.filter(|_| *count == 1) {
            tally.delays.push(arrival.when.duration_since(start));
        }
    }
    // Duplicates would arrive late.
    while let Ok(arrival) = arrived.try_recv() {
        tally.duplicated += usize::from(seen.contains_key(&(arrival.at, arrival.content)));
    }
    tally
}

/// A command in a clean environment for one agent.
pub fn command(program: &Path, root: &Path, home: &Path, at: usize) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("C2C_MCP_BROKER_ROOT", root);
    command.env("C2C_MCP_SESSION_ID", format!("s-agent-{at}")).current_dir(home);
    command
}
