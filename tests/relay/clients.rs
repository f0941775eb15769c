//! Bad clients: a relay keeps serving the others.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Machine, RelayProcess, TOKEN};
use crate::harness::skip;
use crate::support::run;

fn open(relay: &RelayProcess) -> TcpStream {
    let stream = TcpStream::connect(relay.address()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    stream
}

/// Sends bytes and reads until the relay closes or has sent a whole header.
fn exchange(relay: &RelayProcess, bytes: &[u8]) -> String {
    let mut stream = open(relay);
    // A relay that rejects a request may close before all of it is written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer);
        if read == 0 || text.contains("\r\n\r\n") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

/// Asserts that the relay serves a correct client.
fn serves(relay: &RelayProcess) {
    let health = exchange(relay, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&health), "200", "{health}");
}

fn resident_kib(relay: &RelayProcess) -> u64 {
    let text =
        std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).expect("its status");
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

fn a_relay_with_a_full_standard_error_keeps_serving() {
    // Each request is reported on standard error, which is full.
    let relay = RelayProcess::start("memory");
    let mut command = relay.second();
    command.args(["--verbose", "--gc-interval", "1"]).stdout(std::process::Stdio::piped());
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a full disk");
    let mut child = command.stderr(full).spawn().expect("a relay");
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().expect("its output"));
    std::io::BufRead::read_line(&mut out, &mut line).expect("a line");
    let (_, address) = line.trim().split_once("://").expect("an address");
    for _ in 0..3 {
        let mut stream = TcpStream::connect(address).expect("a connection");
        let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("a response");
        assert_eq!(status(&answer), "200", "{answer}");
    }
    assert!(child.try_wait().expect("its state").is_none(), "the relay exited");
    child.kill().expect("a kill");
    child.wait().expect("its end");
}

fn malformed_requests_are_rejected_and_others_served() {
    let relay = RelayProcess::start("log");
    let long = "x".repeat(200_000);
    let many: String = (0..500).map(|at| format!("h{at}: v\r\n")).collect();
    for (what, request, statuses) in [
        ("garbage", "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(), ["400", ""]),
        ("no host", "GET /health HTTP/1.1\r\n\r\n".into(), ["200", ""]),
        ("a long target", format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), ["414", "431"]),
        ("a long header", format!("GET / HTTP/1.1\r\nHost: x\r\nh: {long}\r\n\r\n"), ["431", ""]),
        ("many headers", format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"), ["431", "400"]),
        (
            "a huge body",
            "POST /register HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{".into(),
            ["413", ""],
        ),
        (
            "two lengths",
            "POST /send HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"
                .into(),
            ["400", ""],
        ),
        (
            "bytes that are not JSON",
            "POST /register HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{\u{7f}".into(),
            ["400", ""],
        ),
    ] {
        let answer = exchange(&relay, request.as_bytes());
        assert!(statuses.contains(&status(&answer)), "{what}: {answer:.300}");
        serves(&relay);
    }
}

fn a_body_above_the_limit_is_rejected_without_buffering_it() {
    let relay = RelayProcess::start("log");
    let before = resident_kib(&relay);
    let limit = c2c_core::limits::RELAY_REQUEST_BYTES_MAX;
    for _ in 0..4 {
        let head =
            format!("POST /send HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", limit + 1);
        let mut request = head.into_bytes();
        request.resize(request.len() + limit + 1, b' ');
        assert_eq!(status(&exchange(&relay, &request)), "413");
    }
    let grown = resident_kib(&relay).saturating_sub(before);
    assert!(grown < 2 * limit as u64 / 1024, "{grown} KiB");
    serves(&relay);
}

fn slow_and_half_open_clients_do_not_delay_others() {
    let relay = RelayProcess::start("log");
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = open(&relay);
        // A request whose header never ends, and a connection that is closed on one side.
        stream.write_all(b"POST /send HTTP/1.1\r\nHost: x\r\nContent-Le").expect("a part");
        let half = open(&relay);
        half.shutdown(Shutdown::Write).expect("half open");
        slow.push((stream, half));
    }
    let machines = [Machine::new(&relay, "machine-a"), Machine::new(&relay, "machine-b")];
    machines[0].world.register(&["ann"]);
    machines[1].world.register(&["bob"]);
    machines[0].once();
    machines[1].once();
    machines[0].run("ann", &["send", "bob@machine-b", "through"]).ok();
    machines[0].once();
    machines[1].once();
    assert_eq!(machines[1].world.poll("bob"), ["through"]);
    drop(slow);
    serves(&relay);
}

fn ten_thousand_idle_connections_use_little_memory_and_delay_no_request() {
    let count = 10_000;
    let most = getrlimit(Resource::Nofile).maximum;
    // The relay inherits the limit.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    if most.is_some_and(|most| most < count + 500) {
        skip(&format!("only {most:?} file descriptors are allowed"));
    }
    let relay = RelayProcess::start("log");
    serves(&relay);
    let before = resident_kib(&relay);
    let mut idle = Vec::new();
    for at in 0..count {
        let mut stream = open(&relay);
        if at % 2 == 0 {
            // Half of them send a request before they become idle.
            stream.write_all(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
        }
        idle.push(stream);
    }
    let mut buffer = [0; 1024];
    for stream in idle.iter_mut().step_by(2) {
        assert!(stream.read(&mut buffer).expect("an answer") > 0);
    }
    let grown = resident_kib(&relay).saturating_sub(before);
    // Unoptimized code needs more memory than the bench measures.
    assert!(grown < 20 * count, "{grown} KiB for {count}");
    let start = Instant::now();
    serves(&relay);
    assert!(start.elapsed() < Duration::from_secs(10));
    let machine = Machine::new(&relay, "machine-a");
    machine.world.register(&["ann"]);
    machine.once();
}

fn a_client_over_the_rate_limit_receives_retry_after() {
    let relay = RelayProcess::with("memory", &["--token", TOKEN, "--rate-limit", "2"]);
    let request =
        b"POST /heartbeat HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    let answers: Vec<String> = (0..40).map(|_| exchange(&relay, request)).collect();
    let late = answers.iter().find(|answer| status(answer) == "429").expect("a limit");
    assert!(late.to_lowercase().contains("retry-after: 1"), "{late}");
    serves(&relay);
}

fn a_connector_with_two_hundred_sessions_is_not_throttled() {
    let relay = RelayProcess::with("memory", &["--token", TOKEN, "--rate-limit", "1000"]);
    let machine = Machine::new(&relay, "machine-a");
    let rows: Vec<String> = (0..200)
        .map(|at| {
            format!(r#"{{"session_id":"s{at}","alias":"agent-{at}","pid":1,"pid_start_time":1}}"#)
        })
        .collect();
    std::fs::create_dir(machine.world.root()).expect("a root");
    let registry = machine.world.root().join("registry.json");
    std::fs::write(registry, format!("[{}]", rows.join(","))).expect("an older registry");
    for round in 0..5 {
        let tick = machine.once();
        let sum = tick["registered"].as_u64().zip(tick["heartbeated"].as_u64());
        assert_eq!(sum.map(|(a, b)| a + b), Some(200), "{round}: {tick}");
        assert_eq!(tick["failed"], 0, "{tick}");
    }
}

fn a_second_relay_on_the_same_files_is_rejected_and_names_the_first() {
    for storage in ["log", "sqlite"] {
        let relay = RelayProcess::start(storage);
        let done = run(relay.second());
        assert!(done.err.contains(&format!("process {}", relay.pid())), "{storage}: {}", done.err);
        assert_ne!(done.status, 0);
    }
}

fn a_relay_without_a_token_serves_only_its_own_machine() {
    let world = crate::support::World::new();
    let args = ["relay", "serve", "--listen", "0.0.0.0:0", "--storage", "memory"];
    world.run("x", &args).fails_with("invalid_argument");
}

fn a_relay_stops_cleanly_on_a_termination_signal() {
    let mut relay = RelayProcess::start("log");
    let machine = Machine::new(&relay, "machine-a");
    machine.world.register(&["ann"]);
    machine.once();
    let _idle = open(&relay);
    assert!(relay.stop().success());
}

crate::harness::tests! {
    fast:
        a_relay_with_a_full_standard_error_keeps_serving,
        malformed_requests_are_rejected_and_others_served,
        a_body_above_the_limit_is_rejected_without_buffering_it,
        slow_and_half_open_clients_do_not_delay_others,
        a_client_over_the_rate_limit_receives_retry_after,
        a_second_relay_on_the_same_files_is_rejected_and_names_the_first,
        a_relay_without_a_token_serves_only_its_own_machine,
        a_relay_stops_cleanly_on_a_termination_signal;
    slow:
        ten_thousand_idle_connections_use_little_memory_and_delay_no_request,
        a_connector_with_two_hundred_sessions_is_not_throttled;
}
