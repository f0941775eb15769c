//! Log lines of relays and connectors on standard error.

use std::fs::{self, File, OpenOptions, read_to_string};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::{Machine, PATIENCE, RelayProcess, TOKEN, pair};
use crate::support::{World, run};

/// A relay whose standard error is a file.
struct LoggedRelay {
    world: World,
    child: Child,
    address: String,
    /// The first line that it printed, and the rest.
    first_line: String,
    stdout: BufReader<ChildStdout>,
}

impl LoggedRelay {
    /// A relay with a token. `filter` is the value of `C2C_LOG`.
    fn start(filter: Option<&str>, args: &[&str]) -> Self {
        let world = World::new();
        let stderr = File::create(world.path().join("stderr")).expect("a file");
        Self::start_in(world, filter, &[&["--token", TOKEN], args].concat(), stderr)
    }

    fn start_in(world: World, filter: Option<&str>, args: &[&str], stderr: File) -> Self {
        let serve = ["relay", "serve", "--listen", "127.0.0.1:0"];
        let is_stored = args.contains(&"--storage");
        let storage = if is_stored { &[][..] } else { &["--storage", "memory"] };
        let mut command = world.c2c(&[&serve[..], storage, args].concat());
        command.envs(filter.map(|filter| ("C2C_LOG", filter)));
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("a relay");
        let mut stdout = BufReader::new(child.stdout.take().expect("its output"));
        let mut first_line = String::new();
        stdout.read_line(&mut first_line).expect("a line");
        let (_, address) = first_line.trim().split_once("://").expect("an address");
        Self { world, child, address: address.to_owned(), first_line, stdout }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// Sends bytes and returns everything that the relay answers.
    fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // A relay that rejects a request may close before all of it is written.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn request(&self, method: &str, target: &str, token: &str, body: &str) -> String {
        self.exchange(request(method, target, token, body).as_bytes())
    }

    fn log(&self) -> String {
        read_to_string(self.world.path().join("stderr")).expect("a log")
    }

    fn log_lines(&self) -> Vec<Value> {
        json_lines(&self.log())
    }

    /// Stops the relay as an operator does. Returns what it printed.
    fn stop(&mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
        assert!(self.child.wait().expect("its end").success());
        let mut printed = self.first_line.replace(&self.address, "ADDRESS");
        self.stdout.read_to_string(&mut printed).expect("its output");
        printed
    }
}

impl Drop for LoggedRelay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn request(method: &str, target: &str, token: &str, body: &str) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn json_lines(log: &str) -> Vec<Value> {
    let line = |line: &str| match serde_json::from_str(line) {
        Ok(value) => value,
        Err(e) => panic!("no JSON ({e}): {line:?}"),
    };
    log.lines().map(line).collect()
}

/// The lines with a message, in order.
fn with_message(lines: &[Value], message: &str) -> Vec<Value> {
    lines.iter().filter(|line| line["message"] == message).cloned().collect()
}

fn a_relay_logs_one_json_line_for_each_request() {
    let mut relay = LoggedRelay::start(Some("info"), &["--log-format", "json"]);
    let body = json!({ "from_alias": "secret-name", "to_alias": "bob", "content": "secret" });
    let requests = [
        ("GET", "/health", "", String::new(), "/health"),
        ("GET", "/gc", TOKEN, String::new(), "/gc"),
        ("POST", "/send", "secret-token", body.to_string(), "/send"),
        ("GET", "/pubkey/secret-name?secret=1", "secret-token", String::new(), "/pubkey/<alias>"),
        ("GET", "/secret-path", "secret-token", String::new(), "unknown"),
        ("SECRETMETHODTHATISLONG", "/", "", String::new(), "unknown"),
    ];
    let answers = requests.clone().map(|(method, target, token, body, _)| {
        let answer = relay.request(method, target, token, &body);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        let id = head.split("x-request-id: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let error: Value = serde_json::from_str(body).unwrap_or_default();
        let outcome = error["error_code"].as_str().unwrap_or("ok").to_owned();
        (id.expect("an id").to_owned(), head[9..12].to_owned(), outcome, body.len())
    });
    relay.stop();
    let lines = relay.log_lines();
    let logged = with_message(&lines, "request");
    assert_eq!(logged.len(), requests.len(), "{lines:#?}");
    for ((row, (method, .., sent, route)), (id, status, outcome, bytes)) in
        logged.iter().zip(&requests).zip(&answers)
    {
        assert_eq!(row["level"], "INFO", "{row}");
        assert_eq!((&row["request_id"], &row["route"]), (&json!(id), &json!(route)), "{row}");
        assert!(method.starts_with(row["method"].as_str().expect("a method")), "{row}");
        assert_eq!(row["status"].to_string(), *status, "{row}");
        assert_eq!(row["outcome"], **outcome, "{row}");
        assert_eq!(row["client"], "127.0.0.1", "{row}");
        assert_eq!(row["request_bytes"], sent.len(), "{row}");
        assert_eq!(row["response_bytes"], *bytes, "{row}");
        assert!(row["latency_ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{row}");
    }
    let outcomes: Vec<&str> = answers.iter().map(|(_, _, outcome, _)| outcome.as_str()).collect();
    assert_eq!(outcomes[..3], ["ok", "ok", "unauthorized"]);
    let log = relay.log();
    for secret in [TOKEN, "secret", "SECRETMETHODTHATISLONG"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    let messages: Vec<&Value> = lines.iter().map(|line| &line["message"]).collect();
    let (first, last) = (messages[0], messages[messages.len() - 1]);
    assert_eq!((first, last), (&json!("relay started"), &json!("relay stopped")));
}

fn a_request_whose_client_disconnects_is_logged_as_abandoned() {
    let world = World::new();
    let stderr = File::create(world.path().join("stderr")).expect("a file");
    let relay = LoggedRelay::start_in(world, None, &["--log-format", "json"], stderr);
    let session = json!({ "node_id": "one", "session_id": "s-ann", "alias": "ann" });
    relay.request("POST", "/register", "", &session.to_string());
    let poll = json!({ "node_id": "one", "session_id": "s-ann", "wait_s": 50 });
    let until = Instant::now() + PATIENCE;
    loop {
        let mut stream = relay.connect();
        stream
            .write_all(request("POST", "/poll_inbox", "", &poll.to_string()).as_bytes())
            .expect("sent");
        // Requests on other connections give the relay time to read this one and to notice its end.
        relay.request("GET", "/health", "", "");
        drop(stream);
        relay.request("GET", "/health", "", "");
        let rows = with_message(&relay.log_lines(), "request");
        let abandoned = rows.iter().find(|row| row["outcome"] == "abandoned");
        if let Some(abandoned) = abandoned {
            assert_eq!(abandoned["route"], "/poll_inbox");
            assert_eq!(abandoned["status"], Value::Null);
            return;
        }
        assert!(Instant::now() < until, "{rows:#?}");
    }
}

fn a_failure_of_the_storage_is_logged_and_its_answer_names_no_path() {
    let world = World::new();
    let path = world.path().to_owned();
    let directory = path.join("relay").display().to_string();
    let stderr = File::create(path.join("stderr")).expect("a file");
    let args = ["--token", TOKEN, "--log-format", "json"];
    let storage = ["--storage", "log", "--persist-dir", &directory];
    let relay = LoggedRelay::start_in(world, Some("info"), &[args, storage].concat(), stderr);
    let log = path.join("relay/log");
    fs::rename(&log, path.join("relay/elsewhere")).expect("a move");
    fs::write(&log, "not a directory").expect("a file");
    let answer = relay.request("GET", "/gc", TOKEN, "");
    assert!(answer.contains("\"storage_failed\"") && answer.contains("operator"), "{answer}");
    assert!(!answer.contains(&directory) && !answer.contains("cannot "), "{answer}");
    let failed = with_message(&relay.log_lines(), "storage failed");
    assert_eq!(failed[0]["code"], "storage_failed", "{failed:?}");
    assert!(failed[0]["error"].as_str().is_some_and(|e| e.starts_with("cannot ")), "{failed:?}");
}

fn a_relay_logs_nothing_by_default_and_prints_the_same_lines_with_a_log() {
    let mut printed = Vec::new();
    for (filter, args, is_silent) in [
        (None, &[][..], true),
        (Some(""), &[][..], true),
        (Some("off"), &["--log-format", "json"][..], true),
        (Some("debug"), &[][..], false),
        (None, &["--log-format", "text"][..], false),
    ] {
        let mut relay = LoggedRelay::start(filter, args);
        relay.request("GET", "/health", "", "");
        printed.push(relay.stop());
        assert_eq!(relay.log().is_empty(), is_silent, "{filter:?} {args:?}: {}", relay.log());
    }
    assert!(printed[0].starts_with("c2c relay serving on http://ADDRESS\n"), "{}", printed[0]);
    assert!(printed.iter().all(|lines| *lines == printed[0]), "{printed:?}");
}

fn nothing_that_a_client_sends_puts_an_escape_sequence_into_the_log() {
    let mut relay = LoggedRelay::start(Some("debug"), &[]);
    for bytes in [
        &b"GET /\x1b[31mred HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"GET /%1b%5b31mred%0a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"\x1b[31m / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: \x1b[31m\r\nConnection: close\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: chosen\xe2\x80\xae\r\n\
          Authorization: Bearer \xc2\x9b31m\r\nConnection: close\r\n\r\n",
    ] {
        relay.exchange(bytes);
    }
    relay.stop();
    let log = relay.log();
    assert!(log.contains(": request ") && log.contains(": group committed "), "{log}");
    assert!(log.contains(": connection ended with an error "), "{log}");
    for line in log.lines() {
        assert!(line.starts_with("20") && line.contains(" c2c::relay::"), "{line:?}");
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
    }
    assert!(!log.contains("chosen") && !log.contains("31m"), "{log}");
}

fn failed_tls_handshakes_are_logged_for_debugging() {
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/relay/tls");
    let path = |name: &str| tls.join(name).display().to_string();
    let (certificate, key) = (path("cert.pem"), path("key.pem"));
    let args = ["--tls-cert", &certificate, "--tls-key", &key];
    let mut relay = LoggedRelay::start(Some("c2c::relay::server=debug"), &args);
    relay.exchange(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    relay.stop();
    assert!(relay.log().contains(": TLS handshake failed client=\"127.0.0.1:"), "{}", relay.log());
}

fn a_relay_whose_log_cannot_be_written_continues() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("a full disk");
    let relay = LoggedRelay::start_in(World::new(), Some("trace"), &["--token", TOKEN], full);
    for _ in 0..3 {
        let answer = relay.request("GET", "/health", "", "");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

fn a_connector_logs_each_sync_and_its_errors() {
    let mut hub = RelayProcess::start("memory");
    let machine = Machine::new(&hub, "machine-a");
    machine.world.register(&["ann"]);
    let logged = run(machine.connect(&["--once", "--log-format", "json"])).ok();
    assert!(!logged.err.contains(TOKEN), "{}", logged.err);
    // A new key is reported as text.
    let json: Vec<&str> = logged.err.lines().filter(|line| line.starts_with('{')).collect();
    let json = json.join("\n");
    let rows = with_message(&json_lines(&json), "sync");
    let [row] = rows.as_slice() else { panic!("{}", logged.err) };
    assert_eq!((&row["node"], &row["direction"]), (&json!("machine-a"), &json!("both")));
    assert_eq!((&row["registered"], &row["pulled"]), (&json!(1), &json!(0)), "{row}");
    assert!(row["pushed"].is_u64() && row["latency_ms"].is_f64(), "{row}");
    let other = Machine::new(&hub, "machine-b");
    other.world.register(&["bob"]);
    other.once();
    machine.run("ann", &["send", "bob@machine-b", "secret text"]).ok();
    let mut command = machine.connect(&["--once"]);
    command.env("C2C_LOG", "c2c::relay::client=info");
    let text = run(command).ok().err;
    assert!(text.contains(" INFO  c2c::relay::client::run: sync node=\"machine-a\""), "{text}");
    assert!(!text.contains(" pushed=0 ") && !text.contains("secret"), "{text}");
    assert_eq!(run(machine.connect(&["--once"])).ok().err, "");
    hub.kill();
    let mut command = machine.connect(&["--once"]);
    command.env("C2C_LOG", "warn");
    let failed = run(command).fails_with("remote_unavailable");
    assert!(failed.err.contains(" WARN  c2c::relay::client::run: sync failed "), "{}", failed.err);
    assert!(failed.err.contains(" code=\"remote_unavailable\" "), "{}", failed.err);
}

fn a_running_connector_logs_pushes_pulls_and_the_delay_after_a_failure() {
    let mut hub = RelayProcess::start("memory");
    let (mut machine, other) = pair(&hub);
    machine.world.register(&["cyd"]);
    let path = machine.world.path().join("stderr");
    let mut command = machine.connect(&["--interval", "1", "--log-format", "json"]);
    command.stdout(Stdio::null()).stderr(File::create(&path).expect("a file"));
    machine.child = Some(command.spawn().expect("a connector"));
    let log = || read_to_string(&path).expect("a log");
    let wait_for = |what: &dyn Fn(&Value) -> bool| {
        let until = Instant::now() + PATIENCE;
        // The last line may be incomplete.
        let has_row = |line: &str| serde_json::from_str(line).is_ok_and(|row: Value| what(&row));
        while !log().lines().any(has_row) {
            assert!(Instant::now() < until, "{}", log());
            thread::yield_now();
        }
    };
    wait_for(&|row| row["message"] == "sync" && row["registered"].as_u64() >= Some(1));
    machine.run("ann", &["send", "bob@machine-b", "text"]).ok();
    wait_for(&|row| row["direction"] == "push" && row["pushed"].as_u64() >= Some(1));
    other.run("bob", &["send", "ann@machine-a", "text"]).ok();
    other.once();
    wait_for(&|row| row["direction"] == "pull" && row["pulled"] == 1);
    hub.kill();
    wait_for(&|row| row["message"] == "sync failed" && row["retry_ms"].as_f64() > Some(0.0));
}

fn an_invalid_filter_is_a_usage_error_and_other_commands_ignore_the_variable() {
    let world = World::new();
    for command in [&["relay", "serve", "--storage", "memory"][..], &["relay", "connect", "--once"]]
    {
        let mut command = world.c2c(command);
        command.env("C2C_LOG", "loud");
        let done = run(command).fails_with("usage");
        assert_eq!(done.status, 2, "{}", done.err);
        assert!(done.err.contains("C2C_LOG"), "{}", done.err);
    }
    world.register(&["ann"]);
    for filter in ["loud", "trace"] {
        for args in [&["send", "ann", "text"][..], &["poll-inbox"], &["hook"], &["list"]] {
            let mut command = world.c2c(args);
            command.env("C2C_MCP_SESSION_ID", "s-bob").env("C2C_LOG", filter);
            let done = run(command);
            assert!(!done.err.contains("c2c::") && !done.err.contains("C2C_LOG"), "{}", done.err);
        }
    }
}

fn the_service_unit_repeats_the_log_format() {
    let world = World::new();
    let args = ["relay", "connect", "--install-service", "--log-format", "json", "--json"];
    let done = run(world.c2c(&args)).ok().json();
    let unit = read_to_string(done["path"].as_str().expect("a path")).expect("the unit");
    assert!(unit.contains(" --log-format json"), "{unit}");
}

crate::harness::tests! {
    fast:
        a_failure_of_the_storage_is_logged_and_its_answer_names_no_path,
        a_relay_logs_one_json_line_for_each_request,
        a_request_whose_client_disconnects_is_logged_as_abandoned,
        a_relay_logs_nothing_by_default_and_prints_the_same_lines_with_a_log,
        nothing_that_a_client_sends_puts_an_escape_sequence_into_the_log,
        failed_tls_handshakes_are_logged_for_debugging,
        a_relay_whose_log_cannot_be_written_continues,
        a_connector_logs_each_sync_and_its_errors,
        a_running_connector_logs_pushes_pulls_and_the_delay_after_a_failure,
        an_invalid_filter_is_a_usage_error_and_other_commands_ignore_the_variable,
        the_service_unit_repeats_the_log_format;
}
