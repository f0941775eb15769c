//! Many processes at once, killed processes, full disks, read-only roots and other users.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::Value;

use super::{feed, tree};
use crate::harness::skip;
use crate::support::random::seed;
use crate::support::{Outcome, World, contents, run, run_or_kill};

const SENDERS: usize = 16;
const SENDS: usize = 250;
const SENDS_WITH_KILLS: usize = 100;
const POLLERS: usize = 4;

fn started(world: &World, who: &str, args: &[&str]) -> Child {
    let mut command = world.c2c(args);
    command.env("C2C_MCP_SESSION_ID", format!("s-{who}"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("c2c starts")
}

/// Messages of one poll: the text, and whether it was shown before.
type Shown = Vec<(String, bool)>;

fn shown(rows: &Value) -> Shown {
    let rows = rows.as_array().expect("an array");
    let again = |row: &Value| row["redelivered"] == true;
    rows.iter().map(|row| (row["content"].as_str().unwrap().to_owned(), again(row))).collect()
}

/// Registers the senders and the recipient.
fn crowd() -> World {
    let world = World::new();
    world.register(&["inbox"]);
    for sender in 0..SENDERS {
        world.register(&[&format!("a{sender}")]);
    }
    world
}

/// The sender of a message, and its number among the messages of that sender.
fn number(text: &str) -> (usize, usize) {
    let (sender, n) = text.split_once(' ').expect("sender and number");
    (sender.parse().unwrap(), n.parse().unwrap())
}

fn assert_order(texts: &[String]) {
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    for text in texts {
        let (sender, n) = number(text);
        let before = last.insert(sender, n);
        assert!(before.is_none_or(|before| before < n), "{text} arrived after {before:?}");
    }
}

fn concurrent_senders_and_pollers_lose_and_duplicate_nothing() {
    let world = crowd();
    let sending = AtomicBool::new(true);
    let drained: Vec<Vec<Shown>> = thread::scope(|scope| {
        let drain = || {
            let mut shown_here = Vec::new();
            while sending.load(Ordering::Acquire) {
                let rows = world.run("inbox", &["poll-inbox", "--json"]).ok().json();
                shown_here.push(shown(&rows));
            }
            shown_here
        };
        let pollers: Vec<_> = (0..POLLERS).map(|_| scope.spawn(drain)).collect();
        let send = |sender: usize| {
            for n in 0..SENDS {
                let text = format!("{sender} {n}");
                world.run(&format!("a{sender}"), &["send", "inbox", &text]).ok();
            }
        };
        let senders: Vec<_> = (0..SENDERS).map(|a| scope.spawn(move || send(a))).collect();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        sending.store(false, Ordering::Release);
        pollers.into_iter().map(|poller| poller.join().unwrap()).collect()
    });
    let rest = shown(&world.run("inbox", &["poll-inbox", "--json"]).ok().json());
    let batches = drained.iter().flatten().chain([&rest]);
    for batch in batches.clone() {
        assert_order(&batch.iter().map(|(text, _)| text.clone()).collect::<Vec<_>>());
    }
    for poller in &drained {
        assert_order(&poller.iter().flatten().map(|(text, _)| text.clone()).collect::<Vec<_>>());
    }
    let all: Vec<_> = batches.flatten().collect();
    assert!(all.iter().all(|(_, again)| !again), "redelivered, although no process was killed");
    let union: BTreeSet<_> = all.iter().map(|(text, _)| number(text)).collect();
    assert_eq!(all.len(), union.len(), "some messages arrived twice");
    assert_eq!(union.len(), SENDERS * SENDS, "some messages never arrived");
    let took_part = drained.iter().filter(|batches| batches.iter().any(|batch| !batch.is_empty()));
    assert!(took_part.count() > 1, "one poller received everything");
}

/// Pseudo-random numbers for several threads.
struct Random(AtomicU64);

impl Random {
    /// Lifetime of a process in spins. Every third process ends early, even on a busy machine.
    fn life(&self) -> u64 {
        let end = if self.below(3) == 0 { 200 } else { 20_000 };
        self.below(end)
    }

    fn below(&self, end: u64) -> u64 {
        let step = |seed: u64| seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let seed = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |s| Some(step(s)));
        (step(seed.unwrap_or_default()) >> 33) % end
    }
}

fn messages_reported_as_sent_survive_killed_senders_and_pollers() {
    let world = crowd();
    let random = Random(AtomicU64::new(seed("cli::limits", 1)));
    let sending = AtomicBool::new(true);
    let killed = AtomicU64::new(0);
    let (reported, drained): (Vec<Vec<String>>, Vec<Shown>) = thread::scope(|scope| {
        let drain = || {
            let mut shown_here = Shown::new();
            while sending.load(Ordering::Acquire) {
                let child = started(&world, "inbox", &["poll-inbox", "--json"]);
                match run_or_kill(child, random.life()) {
                    Some(out) => shown_here.extend(shown(&serde_json::from_slice(&out).unwrap())),
                    None => drop(killed.fetch_add(1, Ordering::Relaxed)),
                }
            }
            shown_here
        };
        let pollers: Vec<_> = (0..POLLERS).map(|_| scope.spawn(drain)).collect();
        let send = |sender: usize| {
            let (who, mut sent) = (format!("a{sender}"), Vec::new());
            for n in 0..SENDS_WITH_KILLS {
                let text = format!("{sender} {n}");
                let args = ["send", "inbox", &text, "--message-id", &format!("m-{sender}-{n}")];
                if run_or_kill(started(&world, &who, &args), random.life()).is_none() {
                    killed.fetch_add(1, Ordering::Relaxed);
                    // Whether the message was accepted is unknown: half of the senders retry.
                    if n % 2 == 0 {
                        continue;
                    }
                    world.run(&who, &args).ok();
                }
                sent.push(text);
            }
            sent
        };
        let senders: Vec<_> = (0..SENDERS).map(|a| scope.spawn(move || send(a))).collect();
        let sent = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
        sending.store(false, Ordering::Release);
        (sent, pollers.into_iter().map(|poller| poller.join().unwrap()).collect())
    });
    let reported: Vec<String> = reported.concat();
    let rest = shown(&world.run("inbox", &["poll-inbox", "--json"]).ok().json());
    let all: Vec<(String, bool)> = drained.into_iter().flatten().chain(rest).collect();
    let seen: BTreeSet<&str> = all.iter().map(|(text, _)| text.as_str()).collect();
    // The output of a poller that was killed after its ack is lost, but counts as shown.
    let history = world.run("inbox", &["history", "--json", "-l", "100000"]).ok().json();
    let history = contents(&history);
    let kept: BTreeSet<&str> = history.iter().map(String::as_str).collect();
    assert_eq!(history.len(), kept.len(), "a message is in the log twice");
    for text in &reported {
        assert!(kept.contains(text.as_str()), "{text} was reported as sent and is lost");
    }
    assert!(seen.iter().all(|text| kept.contains(text)));
    let mut fresh = BTreeSet::new();
    for (text, again) in &all {
        assert!(*again || fresh.insert(text), "{text} was redelivered without a mark");
    }
    let repeated = all.iter().filter(|(_, again)| *again).count();
    let killed = killed.into_inner();
    println!("{killed} killed, {} reported as sent, {repeated} shown again", reported.len());
    assert!(killed > 20 && reported.len() > 20, "{killed} killed, {} sent", reported.len());
}

/// A mount, unmounted when dropped.
struct Mount(std::path::PathBuf);

impl Mount {
    fn new(args: &[&str], at: &std::path::Path) -> Self {
        let output = Command::new("mount").args(args).arg(at).output();
        match output {
            Ok(output) if output.status.success() => Self(at.to_owned()),
            Ok(output) => skip(&String::from_utf8_lossy(&output.stderr)),
            Err(e) => skip(&format!("mount: {e}")),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn send_large(world: &World, text: &[u8]) -> Outcome {
    let mut command = world.c2c(&["send", "bob"]);
    command.env("C2C_MCP_SESSION_ID", "s-alice");
    feed(command, text)
}

fn on_a_full_disk_sends_fail_with_disk_full_and_reads_continue() {
    let mut world = World::new();
    std::fs::create_dir(world.root()).unwrap();
    let mount = Mount::new(&["-t", "tmpfs", "-o", "size=1m,mode=700", "none"], &world.root());
    world.register(&["alice", "bob"]);
    let mut accepted = Vec::new();
    let rejected = loop {
        assert!(accepted.len() < 100, "a disk of 1 MiB holds more than that");
        let text = format!("{} {}", accepted.len(), "x".repeat(20_000));
        let done = send_large(&world, text.as_bytes());
        if done.status != 0 {
            break done;
        }
        accepted.push(text);
    };
    let rejected = rejected.fails_with("disk_full");
    assert!(rejected.err.contains("polls and acks still work"), "{:?}", rejected.err);
    assert!(accepted.len() > 5, "only {} fit", accepted.len());
    send_large(&world, "x".repeat(20_000).as_bytes()).fails_with("disk_full");
    // All accepted messages can be read in parts and acked.
    let first = world.run("bob", &["poll-inbox", "--json", "-l", "2"]).ok().json();
    assert!(contents(&first) == accepted[..2]);
    let manual = world.run("bob", &["poll-inbox", "--json", "-l", "1", "--manual"]).ok();
    assert!(contents(&manual.json()) == accepted[2..3]);
    let claim = manual.err.split(' ').nth(1).expect("a claim").to_owned();
    world.run("bob", &["ack", &claim]).ok();
    assert!(world.poll("bob") == accepted[3..]);
    assert_eq!(world.poll("bob"), [""; 0]);
    // With free space, sending works again.
    let more = Command::new("mount").args(["-o", "remount,size=8m"]).arg(world.root()).status();
    assert!(more.unwrap().success());
    send_large(&world, b"space again").ok();
    assert_eq!(world.poll("bob"), ["space again"]);
    let verified = run(world.log_tool(&["verify"]));
    assert_eq!(verified.status, 0, "verify: {} {}", verified.out, verified.err);
    world.may_be_damaged = true; // the mount is dropped before the world
    drop(mount);
}

fn a_read_only_root_can_be_read() {
    let world = World::new();
    world.register(&["alice", "bob"]);
    world.run("alice", &["send", "bob", "hi"]).ok();
    let root = world.root();
    let _bind = Mount::new(&["--bind", root.to_str().unwrap()], &root);
    let _read_only = Mount::new(&["-o", "remount,bind,ro"], &root);
    let before = tree(&root);
    assert_eq!(contents(&world.run("bob", &["peek-inbox", "--json"]).ok().json()), ["hi"]);
    for read in [&["list"][..], &["whoami"], &["status"], &["health"], &["history"]] {
        world.run("bob", read).ok();
    }
    assert_eq!(world.poll("alice"), [""; 0]);
    for write in [&["send", "bob", "x"][..], &["register"], &["rooms", "join", "r"]] {
        let done = world.run("alice", write).fails_with("storage_failed");
        assert!(done.err.contains("cannot be written"), "{:?}", done.err);
    }
    world.run("bob", &["poll-inbox"]).fails_with("storage_failed");
    assert!(tree(&root) == before);
}

fn the_root_of_another_user_is_rejected() {
    if !nix::unistd::geteuid().is_root() {
        skip("changing the user needs root");
    }
    let world = World::new();
    let open = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(world.path(), open(0o755)).unwrap();
    std::fs::create_dir(world.root()).unwrap();
    std::os::unix::fs::chown(world.root(), Some(61_001), Some(61_001)).unwrap();
    let as_user = |uid: u32, args: &[&str]| {
        let mut command = world.c2c(args);
        command.env("C2C_MCP_SESSION_ID", format!("s-{uid}")).uid(uid).gid(uid);
        run(command)
    };
    as_user(61_001, &["register", "--alias", "owner"]).ok();
    let before = tree(&world.root());
    // The directory is accessible to all users, but its content is not.
    std::fs::set_permissions(world.root(), open(0o777)).unwrap();
    for args in [&["list"][..], &["send", "owner", "x"], &["register", "--alias", "eve"]] {
        let done = as_user(61_002, args);
        assert_eq!(done.status, 1, "{args:?}: {:?}", done.out);
        let is_rejected =
            ["[bad_root]", "[storage_failed]"].iter().any(|code| done.err.contains(code));
        assert!(is_rejected, "{args:?}: {:?}", done.err);
        assert!(!done.out.contains("owner"), "{args:?}: {:?}", done.out);
    }
    std::fs::set_permissions(world.root(), open(0o700)).unwrap();
    as_user(61_002, &["list"]).fails_with("storage_failed");
    as_user(61_002, &["register", "--alias", "eve"]).fails_with("storage_failed");
    assert!(tree(&world.root()) == before);
    assert!(as_user(61_001, &["list"]).ok().out.contains("owner"));
    // An empty directory of another user, accessible to all, cannot become a root.
    let empty = world.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::set_permissions(&empty, open(0o777)).unwrap();
    let args = ["register", "--alias", "eve", "--broker-root", empty.to_str().unwrap()];
    as_user(61_002, &args).fails_with("bad_root");
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
}

crate::harness::tests! {
    fast:
        on_a_full_disk_sends_fail_with_disk_full_and_reads_continue,
        a_read_only_root_can_be_read,
        the_root_of_another_user_is_rejected;
    slow:
        concurrent_senders_and_pollers_lose_and_duplicate_nothing,
        messages_reported_as_sent_survive_killed_senders_and_pollers;
}
