//! Inboxes of a broker that a relay reads over SSH.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};

use super::{PATIENCE, RelayProcess, TOKEN, request};
use crate::harness::skip;
use crate::support::{World, run};

/// Number of attempts to read an inbox, and the longest wait for the next SSH connection.
const ATTEMPTS: usize = 60;
const PAUSE: std::time::Duration = std::time::Duration::from_secs(2);

/// A real `sshd` on its own port, with one process for each connection.
struct Sshd {
    dir: tempfile::TempDir,
    down: Arc<AtomicBool>,
    /// Receives a value when a connection has ended.
    ended: Receiver<()>,
}

fn program(name: &str) -> Option<PathBuf> {
    let places = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    places.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists())
}

fn keygen(path: &Path) {
    let mut make = Command::new("ssh-keygen");
    make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).stdin(Stdio::null());
    assert!(make.status().expect("ssh-keygen").success());
}

impl Sshd {
    /// Skips the test if no `sshd` is installed.
    fn start() -> Self {
        let found = program("sshd").zip(program("ssh")).zip(program("ssh-keygen"));
        let Some(((sshd, ssh), _)) = found else {
            let required = std::env::var_os("C2C_TEST_REQUIRE_SSHD").is_some();
            assert!(!required, "no sshd is installed");
            skip("no sshd is installed");
        };
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").expect("the directory that sshd needs as root");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        keygen(&at("host"));
        keygen(&at("user"));
        let ours = Path::new(env!("CARGO_BIN_EXE_c2c")).parent().expect("a directory").display();
        let here = dir.path().display();
        let config = format!(
            "HostKey {here}/host\nAuthorizedKeysFile {here}/user.pub\nStrictModes no\n\
             UsePAM no\nPidFile none\nSetEnv PATH={ours}:/usr/bin:/bin\n"
        );
        fs::write(at("sshd.conf"), config).expect("written");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let host = fs::read_to_string(at("host.pub")).expect("a key");
        fs::write(at("known"), format!("[127.0.0.1]:{port} {host}")).expect("written");
        let user = String::from_utf8(Command::new("id").arg("-un").output().expect("id").stdout);
        let user = user.expect("a name");
        let config = format!(
            "Host box\nHostName 127.0.0.1\nPort {port}\nUser {user}\nIdentityFile {here}/user\n\
             IdentitiesOnly yes\nUserKnownHostsFile {here}/known\n"
        );
        fs::write(at("client.conf"), config).expect("written");
        fs::create_dir(at("bin")).expect("a directory");
        let wrapper = format!("#!/bin/sh\nexec {} -F {here}/client.conf \"$@\"\n", ssh.display());
        fs::write(at("bin/ssh"), wrapper).expect("written");
        fs::set_permissions(at("bin/ssh"), fs::Permissions::from_mode(0o700)).expect("a mode");
        let down = Arc::new(AtomicBool::new(false));
        let (notify, ended) = channel();
        let (is_down, config) = (Arc::clone(&down), at("sshd.conf"));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_down.load(Ordering::Relaxed) {
                    continue;
                }
                let reading = stream.try_clone().expect("a descriptor");
                let mut serve = Command::new(&sshd);
                serve.arg("-i").arg("-f").arg(&config).stderr(Stdio::null());
                serve.stdin(Stdio::from(std::os::fd::OwnedFd::from(reading)));
                serve.stdout(Stdio::from(std::os::fd::OwnedFd::from(stream)));
                let notify = notify.clone();
                // A silent connection does not block the others.
                thread::spawn(move || {
                    serve.status().expect("sshd");
                    let _ = notify.send(());
                });
            }
        });
        Self { dir, down, ended }
    }

    /// Starts a relay that reads a root over this server.
    fn relay(&self, root: &str) -> RelayProcess {
        let path = format!("PATH={}:/usr/bin:/bin", self.dir.path().join("bin").display());
        let ssh = ["--remote-broker-ssh-target", "box", "--remote-broker-root", root];
        let more = ["--token", TOKEN, "--rate-limit", "0", "--remote-broker-id", "far"];
        let args = [&more[..], &ssh].concat();
        RelayProcess::under(vec!["env".into(), path], "memory", &args)
    }

    /// Waits until a connection that began after this call has ended.
    fn wait_for_connection(&self) {
        while self.ended.try_recv().is_ok() {}
        for _ in 0..2 {
            self.ended.recv_timeout(PATIENCE).expect("a connection");
        }
    }
}

fn inbox(relay: &RelayProcess, session: &str, token: &str) -> (u16, Value) {
    request(relay, "GET", &format!("/remote_inbox/{session}"), token, &Value::Null)
}

/// Reads the inbox after each connection until the answer satisfies `is_expected`. The relay may
/// still process the output of one connection when the next one begins.
fn wait_for(
    sshd: &Sshd,
    relay: &RelayProcess,
    session: &str,
    is_expected: &dyn Fn(u16, &Value) -> bool,
) -> Value {
    for _ in 0..ATTEMPTS {
        let (status, answer) = inbox(relay, session, TOKEN);
        if is_expected(status, &answer) {
            return answer;
        }
        // Without a connection in this time, the next attempt decides.
        let _ = sshd.ended.recv_timeout(PAUSE);
    }
    let (status, answer) = inbox(relay, session, TOKEN);
    panic!("{status} {answer}")
}

fn texts(answer: &Value) -> Vec<&str> {
    let rows = answer["messages"].as_array().expect("messages");
    rows.iter().map(|row| row["content"].as_str().expect("a text")).collect()
}

fn files_of_the_older_program_are_read_over_ssh_and_never_drained() {
    let sshd = Sshd::start();
    let remote = World::new();
    let root = remote.path().join("it's a root");
    fs::create_dir_all(root.join("inbox")).expect("a root");
    let row = |id: &str, text: &str| json!({"message_id": id, "from_alias": "x", "content": text});
    let put = |name: &str, rows: Value| fs::write(root.join(name), rows.to_string()).expect("put");
    put("s1.inbox.json", json!([row("a", "one"), row("b", "two")]));
    put("inbox/s1.json", json!([row("b", "two"), row("c", "three\nc2c-inbox forged s2.json")]));
    put("s2.inbox.json", json!("not an inbox"));
    let relay = sshd.relay(root.to_str().expect("a path"));
    let answer = wait_for(&sshd, &relay, "s1", &|status, _| status == 200);
    assert_eq!(texts(&answer), ["one", "two", "three\nc2c-inbox forged s2.json"]);
    assert_eq!(answer["broker_id"], "far");
    assert!(texts(&inbox(&relay, "s2", TOKEN).1).is_empty());
    assert_eq!(inbox(&relay, "s1", "wrong").0, 401);
    assert_eq!(inbox(&relay, "s.1", TOKEN).0, 400);
    // The inbox is drained remotely, and new mail arrives.
    put("s1.inbox.json", json!([]));
    put("inbox/s1.json", json!([row("d", "four")]));
    sshd.wait_for_connection();
    wait_for(&sshd, &relay, "s1", &|_, answer| texts(answer) == ["four"]);
    // Out of reach: the known mail stays, and the answer contains the error.
    sshd.down.store(true, Ordering::Relaxed);
    let stale = wait_for(&sshd, &relay, "s1", &|_, answer| answer["error"].is_string());
    assert_eq!(texts(&stale), ["four"]);
}

fn a_log_is_read_over_ssh_by_the_remote_program() {
    let sshd = Sshd::start();
    let remote = World::new();
    remote.register(&["ann", "bob"]);
    remote.run("ann", &["send", "bob", "hello"]).ok();
    let relay = sshd.relay(remote.root().to_str().expect("a path"));
    let answer = wait_for(&sshd, &relay, "s-bob", &|status, _| status == 200);
    assert_eq!(texts(&answer), ["hello"]);
    assert_eq!(remote.poll("bob"), ["hello"], "reading claimed nothing");
    sshd.wait_for_connection();
    wait_for(&sshd, &relay, "s-bob", &|_, answer| texts(answer).is_empty());
}

fn a_broker_that_was_never_reached_is_reported_as_unavailable() {
    let sshd = Sshd::start();
    let relay = sshd.relay("/nowhere/at/all");
    let failed = |_: u16, answer: &Value| answer["error"].to_string().contains("/nowhere");
    let answer = wait_for(&sshd, &relay, "s1", &failed);
    assert_eq!(answer["error_code"], "remote_unavailable");
    let world = World::new();
    for (target, root) in [("-oProxyCommand=x", "/r"), ("a b", "/r"), ("box", "relative")] {
        let mut serve = world.c2c(&["relay", "serve", "--listen", "127.0.0.1:0", "--storage"]);
        serve.args(["memory", &format!("--remote-broker-ssh-target={target}")]);
        serve.arg(format!("--remote-broker-root={root}"));
        run(serve).fails_with("invalid_argument");
    }
}

crate::harness::tests! {
    slow:
        files_of_the_older_program_are_read_over_ssh_and_never_drained,
        a_log_is_read_over_ssh_by_the_remote_program,
        a_broker_that_was_never_reached_is_reported_as_unavailable;
}
