//! A network of three hosts, a relay and two machines, each in a network namespace.

use crate::harness::skip;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Port of the relay, and of the proxy that delays.
pub const RELAY: u16 = 7331;
const PROXY: u16 = 7332;

/// Three namespaces, deleted when dropped.
pub struct Net {
    name: String,
}

fn ip(args: &str) -> bool {
    let args: Vec<&str> = args.split_whitespace().collect();
    let run = Command::new("ip").args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

impl Net {
    /// Creates the namespaces. Skips the test without the right to do so.
    pub fn create() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("c2c{}n{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let net = Self { name };
        let relay = net.host("relay");
        let is_created = ip(&format!("netns add {relay}"))
            && ip(&format!("-n {relay} link set lo up"))
            && ["a", "b"].iter().zip(1..).all(|(host, number)| net.add(host, number));
        if is_created && net.filter("add table inet faults") {
            return net;
        }
        let required = std::env::var_os("C2C_TEST_REQUIRE_NETNS").is_some();
        assert!(!required, "no right to create network namespaces, or nft is missing");
        skip("no right to create network namespaces, or nft is missing")
    }

    fn add(&self, host: &str, number: u32) -> bool {
        let (relay, ns) = (self.host("relay"), self.host(host));
        ip(&format!("netns add {ns}"))
            && ip(&format!("link add eth0 netns {ns} type veth peer name to-{host} netns {relay}"))
            && ip(&format!("-n {ns} addr add 10.201.{number}.2/24 dev eth0"))
            && ip(&format!("-n {relay} addr add 10.201.{number}.1/24 dev to-{host}"))
            && ip(&format!("-n {ns} link set eth0 up"))
            && ip(&format!("-n {relay} link set to-{host} up"))
            && ip(&format!("-n {ns} link set lo up"))
    }

    /// The namespace of a host: `relay`, `a` or `b`.
    pub fn host(&self, name: &str) -> String {
        format!("{}{name}", self.name)
    }

    /// URL of the relay for a machine.
    pub fn url(&self, machine: &str) -> String {
        let number = if machine == "a" { 1 } else { 2 };
        format!("http://10.201.{number}.1:{PROXY}")
    }

    /// Command and arguments that run a program on a host.
    pub fn prefix(&self, host: &str) -> Vec<String> {
        vec!["nsenter".into(), format!("--net=/run/netns/{}", self.host(host))]
    }

    fn filter(&self, rule: &str) -> bool {
        let mut nft = Command::new("nsenter");
        nft.arg(format!("--net=/run/netns/{}", self.host("relay"))).arg("nft").arg(rule);
        nft.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// Number of packets that the present faults have dropped.
    pub fn dropped(&self) -> u64 {
        let mut nft = Command::new("nsenter");
        nft.arg(format!("--net=/run/netns/{}", self.host("relay")));
        let listed = nft.args(["nft", "list table inet faults"]).output().expect("nft");
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let counters = text.split("counter packets ").skip(1);
        counters.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Sends a packet from a machine to a closed port of the relay's host.
    pub fn knock(&self, machine: &str) {
        let host = self.url(machine).replace("http://", "").replace(&format!(":{PROXY}"), "");
        let prefix = self.prefix(machine);
        let knock = format!("echo > /dev/udp/{host}/9");
        let run = Command::new(&prefix[0]).args(&prefix[1..]).args(["bash", "-c", &knock]).status();
        assert!(run.is_ok_and(|status| status.success()), "{knock}");
    }

    /// Drops this share of all packets at the relay, in percent, and all packets of `cut_off`.
    pub fn faults(&self, loss_percent: u32, cut_off: Option<&str>) {
        let mut rules = String::from("flush table inet faults");
        for hook in ["input", "output"] {
            let chain = "add chain inet faults";
            rules.push_str(&format!(
                "; {chain} {hook} {{ type filter hook {hook} priority 0; policy accept; }}"
            ));
            if let Some(machine) = cut_off {
                let side = if hook == "input" { "iifname" } else { "oifname" };
                rules.push_str(&format!(
                    "; add rule inet faults {hook} {side} to-{machine} counter drop"
                ));
            }
            if loss_percent > 0 {
                let lossy = format!("numgen random mod 100 < {loss_percent} counter drop");
                let beyond = if hook == "input" { "iifname" } else { "oifname" };
                rules.push_str(&format!("; add rule inet faults {hook} {beyond} != lo {lossy}"));
            }
        }
        assert!(self.filter(&rules), "{rules}");
    }

    /// Starts a proxy in front of the relay that delays all bytes, in both directions.
    pub fn delay(&self, delay: Duration) {
        let path = format!("/run/netns/{}", self.host("relay"));
        let ready = Arc::new((Mutex::new(false), Condvar::new()));
        let is_listening = Arc::clone(&ready);
        thread::spawn(move || {
            let ns = std::fs::File::open(path).expect("a namespace");
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&ns), network).expect("moved");
            let listener = TcpListener::bind(("0.0.0.0", PROXY)).expect("a port");
            *is_listening.0.lock().expect("a lock") = true;
            is_listening.1.notify_all();
            for client in listener.incoming().flatten() {
                // If the relay is down, the connection is closed.
                if let Ok(server) = TcpStream::connect(("127.0.0.1", RELAY)) {
                    let _ = (client.set_nodelay(true), server.set_nodelay(true));
                    let back = (server.try_clone().expect("fd"), client.try_clone().expect("fd"));
                    thread::spawn(move || pump(client, server, delay));
                    thread::spawn(move || pump(back.0, back.1, delay));
                }
            }
        });
        let mut is_ready = ready.0.lock().expect("a lock");
        while !*is_ready {
            is_ready = ready.1.wait(is_ready).expect("a lock");
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in ["relay", "a", "b"] {
            ip(&format!("netns del {}", self.host(host)));
        }
    }
}

type Line = Arc<(Mutex<VecDeque<(Instant, Vec<u8>)>>, Condvar)>;

/// Forwards bytes from one end to the other, each piece `delay` after it arrived.
fn pump(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let line: Line = Arc::default();
    let far = Arc::clone(&line);
    thread::spawn(move || {
        loop {
            let mut pieces = far.0.lock().expect("a lock");
            let bytes = loop {
                let left =
                    pieces.front().map(|(due, _)| due.checked_duration_since(Instant::now()));
                pieces = match left {
                    Some(None | Some(Duration::ZERO)) => break pieces.pop_front().expect("it").1,
                    Some(Some(left)) => far.1.wait_timeout(pieces, left).expect("a lock").0,
                    None => far.1.wait(pieces).expect("a lock"),
                };
            };
            drop(pieces);
            if bytes.is_empty() || to.write_all(&bytes).is_err() {
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    });
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        let piece = (Instant::now() + delay, buffer[..read].to_vec());
        line.0.lock().expect("a lock").push_back(piece);
        line.1.notify_all();
        if read == 0 {
            return;
        }
    }
}
