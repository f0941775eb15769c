//! Are the inboxes of a broker that only SSH reaches shown as they are?

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

use super::{Hub, PATIENCE, TOKEN, ask};
use crate::support::{World, run};

/// How often an answer is asked for, and how long for the next visit at most.
const VISITS: usize = 60;
const PAUSE: std::time::Duration = std::time::Duration::from_secs(2);

/// A real `sshd` on a port of its own, one process for each connection.
struct Sshd {
    dir: tempfile::TempDir,
    down: Arc<AtomicBool>,
    /// Says when a connection has ended.
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
    /// `None`, with the reason printed, where there is none.
    fn start() -> Option<Self> {
        let found = program("sshd").zip(program("ssh")).zip(program("ssh-keygen"));
        let Some(((sshd, ssh), _)) = found else {
            let required = std::env::var_os("C2C_TEST_REQUIRE_SSHD").is_some();
            assert!(!required, "no sshd is installed");
            crate::support::skipped("no sshd is installed");
            return None;
        };
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").expect("what sshd wants as root");
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
        let (tell, ended) = channel();
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
                let tell = tell.clone();
                // Whoever connects and says nothing keeps nobody else waiting.
                thread::spawn(move || {
                    serve.status().expect("sshd");
                    let _ = tell.send(());
                });
            }
        });
        Some(Self { dir, down, ended })
    }

    /// A relay that reads a root over it.
    fn relay(&self, root: &str) -> Hub {
        let path = format!("PATH={}:/usr/bin:/bin", self.dir.path().join("bin").display());
        let ssh = ["--remote-broker-ssh-target", "box", "--remote-broker-root", root];
        let more = ["--token", TOKEN, "--rate-limit", "0", "--remote-broker-id", "far"];
        let args = [&more[..], &ssh].concat();
        Hub::under(vec!["env".into(), path], "memory", &args)
    }

    /// Returns when a visit that began after this call has ended.
    fn visited(&self) {
        while self.ended.try_recv().is_ok() {}
        for _ in 0..2 {
            self.ended.recv_timeout(PATIENCE).expect("a visit");
        }
    }
}

fn inbox(hub: &Hub, session: &str, token: &str) -> (u16, Value) {
    ask(hub, "GET", &format!("/remote_inbox/{session}"), token, &Value::Null)
}

/// Asks after each visit until the answer is as wanted: the relay still reads what one has printed
/// when the next one begins.
fn wait_for(sshd: &Sshd, hub: &Hub, session: &str, wanted: &dyn Fn(u16, &Value) -> bool) -> Value {
    for _ in 0..VISITS {
        let (status, answer) = inbox(hub, session, TOKEN);
        if wanted(status, &answer) {
            return answer;
        }
        // Without a visit in this time the next question finds what there is.
        let _ = sshd.ended.recv_timeout(PAUSE);
    }
    let (status, answer) = inbox(hub, session, TOKEN);
    panic!("{status} {answer}")
}

fn texts(answer: &Value) -> Vec<&str> {
    let rows = answer["messages"].as_array().expect("messages");
    rows.iter().map(|row| row["content"].as_str().expect("a text")).collect()
}

#[test]
fn files_of_the_older_program_are_read_over_ssh_and_never_drained() {
    let Some(sshd) = Sshd::start() else { return };
    let far = World::new();
    let root = far.path().join("it's a root");
    fs::create_dir_all(root.join("inbox")).expect("a root");
    let row = |id: &str, text: &str| json!({"message_id": id, "from_alias": "x", "content": text});
    let put = |name: &str, rows: Value| fs::write(root.join(name), rows.to_string()).expect("put");
    put("s1.inbox.json", json!([row("a", "one"), row("b", "two")]));
    put("inbox/s1.json", json!([row("b", "two"), row("c", "three\nc2c-inbox forged s2.json")]));
    put("s2.inbox.json", json!("not an inbox"));
    let hub = sshd.relay(root.to_str().expect("a path"));
    let found = wait_for(&sshd, &hub, "s1", &|status, _| status == 200);
    assert_eq!(texts(&found), ["one", "two", "three\nc2c-inbox forged s2.json"]);
    assert_eq!(found["broker_id"], "far");
    assert!(texts(&inbox(&hub, "s2", TOKEN).1).is_empty());
    assert_eq!(inbox(&hub, "s1", "wrong").0, 401);
    assert_eq!(inbox(&hub, "s.1", TOKEN).0, 400);
    // Drained over there, and new mail.
    put("s1.inbox.json", json!([]));
    put("inbox/s1.json", json!([row("d", "four")]));
    sshd.visited();
    wait_for(&sshd, &hub, "s1", &|_, answer| texts(answer) == ["four"]);
    // Out of reach: what is known stays, and the answer says that it is old.
    sshd.down.store(true, Ordering::Relaxed);
    let stale = wait_for(&sshd, &hub, "s1", &|_, answer| answer["error"].is_string());
    assert_eq!(texts(&stale), ["four"]);
}

#[test]
fn a_log_is_read_over_ssh_through_the_views_of_the_program_there() {
    let Some(sshd) = Sshd::start() else { return };
    let far = World::new();
    far.register(&["ann", "bob"]);
    far.run("ann", &["send", "bob", "hello"]).ok();
    let hub = sshd.relay(far.root().to_str().expect("a path"));
    let found = wait_for(&sshd, &hub, "s-bob", &|status, _| status == 200);
    assert_eq!(texts(&found), ["hello"]);
    assert_eq!(far.poll("bob"), ["hello"], "reading took nothing");
    sshd.visited();
    wait_for(&sshd, &hub, "s-bob", &|_, answer| texts(answer).is_empty());
}

#[test]
fn a_broker_that_was_never_reached_is_unavailable_and_not_empty() {
    let Some(sshd) = Sshd::start() else { return };
    let hub = sshd.relay("/nowhere/at/all");
    let failed = |_: u16, answer: &Value| answer["error"].to_string().contains("/nowhere");
    let answer = wait_for(&sshd, &hub, "s1", &failed);
    assert_eq!(answer["error_code"], "remote_unavailable");
    let world = World::new();
    for (target, root) in [("-oProxyCommand=x", "/r"), ("a b", "/r"), ("box", "relative")] {
        let mut serve = world.c2c(&["relay", "serve", "--listen", "127.0.0.1:0", "--storage"]);
        serve.args(["memory", &format!("--remote-broker-ssh-target={target}")]);
        serve.arg(format!("--remote-broker-root={root}"));
        run(serve).refused("invalid_argument");
    }
}
