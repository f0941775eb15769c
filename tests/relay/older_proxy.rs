//! A proxy that makes a relay look like one of the older generation, and that breaks requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use serde_json::{Map, Value, json};

/// Routes that the older generation does not have.
const NEWER: &[&str] = &["/push", "/pull", "/mirror", "/mirror_read", "/rotate_key", "/ready"];
/// Keys of its responses and of the rows in them.
const OLDER_KEYS: &[&str] = &[
    "ok",
    "result",
    "ts",
    "error",
    "error_code",
    "version",
    "git_hash",
    "auth_mode",
    "messages",
    "history",
    "rooms",
    "room_id",
    "peers",
    "message_id",
    "from_alias",
    "to_alias",
    "content",
    "node_id",
    "session_id",
    "alias",
    "client_type",
    "registered_at",
    "last_seen",
    "ttl",
    "alive",
    "lease",
    "delivered",
    "skipped",
    "member_count",
    "members",
    "identity_pk",
];

/// When a fault occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the relay receives the request.
    Before,
    /// After the relay has executed it.
    After,
}

/// What happens then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Continue,
    /// The connection ends without a response.
    Cut,
    /// The response is that there were too many requests.
    Limit,
}

struct Fault {
    path: &'static str,
    when: When,
    then: Then,
    action: Box<dyn FnOnce() + Send>,
}

#[derive(Default)]
struct Shared {
    relay: String,
    /// Whether the relay looks like one of the older generation.
    hides: AtomicBool,
    /// Whether the relay does not recognise a message id that it has seen.
    forgets_ids: AtomicBool,
    faults: Mutex<Vec<Fault>>,
    /// The requests so far.
    seen: Mutex<Vec<(String, Value)>>,
    /// Notified of each request.
    arrival: Condvar,
}

pub struct OlderProxy {
    address: String,
    shared: Arc<Shared>,
}

struct Request {
    head: Vec<String>,
    path: String,
    body: Vec<u8>,
}

impl OlderProxy {
    pub fn start(relay: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let shared = Arc::new(Shared { relay: relay.to_owned(), ..Shared::default() });
        shared.hides.store(true, Ordering::Relaxed);
        let at_work = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&at_work);
                thread::spawn(move || serve(client, &shared));
            }
        });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Shows or hides what the relay has beyond the older generation.
    pub fn hide(&self, hides: bool) {
        self.shared.hides.store(hides, Ordering::Relaxed);
    }

    /// Makes the relay accept a message again that it has already.
    pub fn forget_ids(&self) {
        self.shared.forgets_ids.store(true, Ordering::Relaxed);
    }

    /// Runs `action` once with the next request to a path.
    pub fn at(
        &self,
        path: &'static str,
        when: When,
        then: Then,
        action: impl FnOnce() + Send + 'static,
    ) {
        let fault = Fault { path, when, then, action: Box::new(action) };
        self.shared.faults.lock().expect("faults").push(fault);
    }

    /// Whether all faults have occurred.
    pub fn is_done(&self) -> bool {
        self.shared.faults.lock().expect("faults").is_empty()
    }

    pub fn clear(&self) {
        self.shared.faults.lock().expect("faults").clear();
    }

    /// Waits until `count` requests to a path have arrived since the start.
    pub fn wait_for(&self, path: &str, count: usize) {
        let lacks = |seen: &mut Vec<(String, Value)>| {
            seen.iter().filter(|(at, _)| at == path).count() < count
        };
        let seen = self.shared.seen.lock().expect("requests");
        let waited = self.shared.arrival.wait_timeout_while(seen, super::PATIENCE, lacks);
        assert!(!waited.expect("requests").1.timed_out(), "fewer than {count} requests to {path}");
    }

    /// Bodies of the requests to a path so far.
    pub fn requests(&self, path: &str) -> Vec<Value> {
        let seen = self.shared.seen.lock().expect("requests");
        seen.iter().filter(|(at, _)| at == path).map(|(_, body)| body.clone()).collect()
    }
}

/// Runs the fault for a path, if one is set.
fn fault(shared: &Shared, path: &str, when: When) -> Then {
    let mut faults = shared.faults.lock().expect("faults");
    let found = faults.iter().position(|fault| fault.path == path && fault.when == when);
    let fault = found.map(|at| faults.remove(at));
    drop(faults);
    fault.map_or(Then::Continue, |fault| {
        (fault.action)();
        fault.then
    })
}

fn serve(mut client: TcpStream, shared: &Shared) {
    let Some(mut request) = read_request(&client) else { return };
    let body = serde_json::from_slice(&request.body).unwrap_or_default();
    shared.seen.lock().expect("requests").push((request.path.clone(), body));
    shared.arrival.notify_all();
    let limits = match fault(shared, &request.path, When::Before) {
        Then::Cut => return,
        then => then == Then::Limit,
    };
    let hides = shared.hides.load(Ordering::Relaxed);
    let response = if limits {
        let body = json!({ "error": "rate_limit_exceeded", "retry_after": 1.0 });
        Some(("HTTP/1.1 429 Too Many Requests".to_owned(), body.to_string().into_bytes()))
    } else if hides && NEWER.contains(&request.path.as_str()) {
        let message = format!("unknown endpoint: {}", request.path);
        let body = json!({ "ok": false, "error_code": "not_found", "error": message });
        Some(("HTTP/1.1 404 Not Found".to_owned(), body.to_string().into_bytes()))
    } else {
        if shared.forgets_ids.load(Ordering::Relaxed) {
            give_new_id(&mut request, shared);
        }
        forward(&request, &shared.relay)
    };
    if fault(shared, &request.path, When::After) == Then::Cut {
        return;
    }
    let Some((status, body)) = response else { return };
    let body = match serde_json::from_slice(&body) {
        Ok(value) if hides => older(value).to_string().into_bytes(),
        _ => body,
    };
    let head = format!(
        "{status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let _ = client.write_all(head.as_bytes()).and_then(|()| client.write_all(&body));
}

/// A relay without credentials accepts a request whose body was changed.
fn give_new_id(request: &mut Request, shared: &Shared) {
    if request.path != "/send" {
        return;
    }
    let mut body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let count = shared.seen.lock().expect("requests").len();
    body["message_id"] = json!(format!("renamed-{count}"));
    request.body = body.to_string().into_bytes();
}

fn read_request(client: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let length = head.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
    });
    let mut body = vec![0; length.unwrap_or_default()];
    reader.read_exact(&mut body).ok()?;
    let target = head.first()?.split(' ').nth(1)?;
    let path = target.split('?').next()?.to_owned();
    Some(Request { head, path, body })
}

/// Status line and body of the relay's response; `None` if it does not respond.
fn forward(request: &Request, relay: &str) -> Option<(String, Vec<u8>)> {
    let mut stream = TcpStream::connect(relay).ok()?;
    let is_kept = |line: &&String| {
        let name = line.split(':').next().unwrap_or_default().to_lowercase();
        name != "connection" && name != "content-length"
    };
    let mut head: Vec<String> = request.head.iter().filter(is_kept).cloned().collect();
    head.push("Connection: close".into());
    head.push(format!("Content-Length: {}", request.body.len()));
    let head = head.join("\r\n") + "\r\n\r\n";
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&request.body).ok()?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).ok()?;
    let end = response.windows(4).position(|part| part == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&response[..end]).into_owned();
    Some((head.lines().next()?.to_owned(), response[end + 4..].to_vec()))
}

/// A response as the older generation gives it: fewer keys, and senders without their node.
fn older(value: Value) -> Value {
    match value {
        Value::Array(rows) => rows.into_iter().map(older).collect(),
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(key, _)| OLDER_KEYS.contains(&key.as_str()));
            let mut kept: Map<String, Value> =
                kept.map(|(key, value)| (key, older(value))).collect();
            if let Some(from) = kept.get("from_alias").and_then(Value::as_str) {
                let alias = from.split('@').next().unwrap_or_default().to_owned();
                kept.insert("from_alias".into(), alias.into());
            }
            Value::Object(kept)
        }
        other => other,
    }
}
