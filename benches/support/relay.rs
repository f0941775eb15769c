//! Relay processes, signed requests and a slow network for the bench of the relay.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use c2c::relay::protocol::sign::{self, AuthorizationHeader, Moment, SecretKey, SignedRequest};
use serde_json::json;

use super::support;

pub const TOKEN: &str = "bench";

/// A relay process on a free port.
pub struct Relay {
    child: Child,
    pub address: String,
    /// Time from spawn to the line that reports the address.
    pub start_time: Duration,
}

impl Relay {
    pub fn start(directory: &Path, storage: &str) -> Self {
        let mut command = Command::new(support::program());
        command.args(["relay", "serve", "--listen", "127.0.0.1:0", "--token", TOKEN]);
        command.args(["--rate-limit", "0", "--storage", storage, "--persist-dir"]).arg(directory);
        if storage == "sqlite" {
            command.arg("--db-path").arg(directory.join("relay.db"));
        }
        command.env("HOME", directory).stdout(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn().expect("starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let start_time = start.elapsed();
        let (_, address) = line.trim().split_once("http://").expect("an address");
        Self { child, address: address.to_owned(), start_time }
    }

    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let text = status.expect("its status");
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    }

    /// Stops the relay with SIGTERM, so that it writes a due checkpoint.
    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
        self.child.wait().expect("its end");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

pub fn nonce(number: u64) -> String {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&c2c::platform::clock::now_us().to_le_bytes());
    sign::encode(&bytes)
}

pub fn post(target: &str, authorization: &str, body: &[u8]) -> Vec<u8> {
    let mut head =
        format!("POST {target} HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n", body.len());
    if !authorization.is_empty() {
        head.push_str(&format!("Authorization: {authorization}\r\n"));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

pub fn signed(target: &str, body: &[u8], alias: &str, key: &SecretKey, number: u64) -> Vec<u8> {
    let now_us = c2c::platform::clock::now_us();
    let ts = format!("{}.{:06}", now_us / 1_000_000, now_us % 1_000_000);
    let nonce = nonce(number);
    let request = SignedRequest { method: "POST", target, body, ts: &ts, nonce: &nonce };
    let sig = key.sign(&request.text().expect("a text"));
    post(target, &AuthorizationHeader { alias: alias.into(), ts, nonce, sig }.to_string(), body)
}

/// Sends one request and reads the response; returns the status.
pub fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> u16 {
    stream.write_all(request).expect("written");
    buffer.clear();
    let mut chunk = [0; 16 * 1024];
    loop {
        let read = stream.read(&mut chunk).expect("read");
        assert!(read > 0, "closed: {}", String::from_utf8_lossy(buffer));
        buffer.extend_from_slice(&chunk[..read]);
        let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
        let length =
            head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length: usize = length.and_then(|text| text.trim().parse().ok()).expect("a length");
        if buffer.len() >= end + 4 + length {
            return head
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok())
                .expect("a status");
        }
    }
}

pub fn open(relay: &Relay) -> TcpStream {
    let stream = TcpStream::connect(&relay.address).expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    stream
}

pub fn register(relay: &Relay, alias: &str, node: &str, key: &SecretKey, number: u64) {
    let ts = c2c_core::time::rfc3339_seconds(c2c::platform::clock::now_us());
    let (nonce, public) = (nonce(number), key.public().to_string());
    let url = "http://bench";
    let moment = Moment { ts: &ts, nonce: &nonce };
    let text = sign::register(alias, url, &public, moment).expect("a text");
    let body = json!({ "node_id": node, "session_id": alias, "alias": alias, "ttl": 3600,
        "replicated": true, "identity_pk": public, "signature": key.sign(&text), "nonce": nonce,
        "timestamp": ts });
    let request = post("/register", "", body.to_string().as_bytes());
    let mut buffer = Vec::new();
    let status = exchange(&mut open(relay), &request, &mut buffer);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&buffer));
}

/// Starts a proxy in front of the relay that delays all bytes, in both directions.
pub fn delayed(relay: &Relay, delay: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (url, to) = (listener.local_addr().expect("its address"), relay.address.clone());
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&to) else { continue };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let back = (server.try_clone().expect("fd"), client.try_clone().expect("fd"));
            thread::spawn(move || pump(client, server, delay));
            thread::spawn(move || pump(back.0, back.1, delay));
        }
    });
    format!("http://{url}")
}

fn pump(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (piece, pieces) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        for (due, bytes) in pieces {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if piece.send((Instant::now() + delay, buffer[..read].to_vec())).is_err() {
            return;
        }
    }
}
