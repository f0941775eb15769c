//! What happens with many processes at once, with processes that are killed, and with disks and
//! users that do not cooperate?

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::Value;

use super::{feed, tree};
use crate::support::{Done, World, contents, run};

const SENDERS: usize = 16;
const SENDS: usize = 250;
const SENDS_WITH_KILLS: usize = 100;
const DRAINERS: usize = 4;

fn started(world: &World, who: &str, args: &[&str]) -> Child {
    let mut command = world.c2c(args);
    command.env("C2C_MCP_SESSION_ID", format!("s-{who}"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("c2c starts")
}

/// What one drain showed: text, and whether it was shown before.
type Shown = Vec<(String, bool)>;

fn shown(rows: &Value) -> Shown {
    let rows = rows.as_array().expect("an array");
    let again = |row: &Value| row["redelivered"] == true;
    rows.iter().map(|row| (row["content"].as_str().unwrap().to_owned(), again(row))).collect()
}

/// Registers the senders and the one whose mail is drained.
fn crowd() -> World {
    let world = World::new();
    world.register(&["inbox"]);
    for sender in 0..SENDERS {
        world.register(&[&format!("a{sender}")]);
    }
    world
}

/// The place of a message among those of its sender.
fn number(text: &str) -> (usize, usize) {
    let (sender, n) = text.split_once(' ').expect("sender and number");
    (sender.parse().unwrap(), n.parse().unwrap())
}

fn assert_order(texts: &[String]) {
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    for text in texts {
        let (sender, n) = number(text);
        let before = last.insert(sender, n);
        assert!(before.is_none_or(|before| before < n), "{text} came after {before:?}");
    }
}

#[test]
fn many_senders_and_drainers_share_one_inbox_without_loss_or_repetition() {
    let world = crowd();
    let sending = AtomicBool::new(true);
    let drained: Vec<Vec<Shown>> = thread::scope(|scope| {
        let drain = || {
            let mut mine = Vec::new();
            while sending.load(Ordering::Acquire) {
                let rows = world.run("inbox", &["poll-inbox", "--json"]).ok().json();
                mine.push(shown(&rows));
            }
            mine
        };
        let drainers: Vec<_> = (0..DRAINERS).map(|_| scope.spawn(drain)).collect();
        let send = |sender: usize| {
            for n in 0..SENDS {
                let text = format!("{sender} {n}");
                world.run(&format!("a{sender}"), &["send", "inbox", &text]).ok();
            }
        };
        let senders: Vec<_> = (0..SENDERS).map(|a| scope.spawn(move || send(a))).collect();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        sending.store(false, Ordering::Release);
        drainers.into_iter().map(|drainer| drainer.join().unwrap()).collect()
    });
    let rest = shown(&world.run("inbox", &["poll-inbox", "--json"]).ok().json());
    let batches = drained.iter().flatten().chain([&rest]);
    for batch in batches.clone() {
        assert_order(&batch.iter().map(|(text, _)| text.clone()).collect::<Vec<_>>());
    }
    for drainer in &drained {
        assert_order(&drainer.iter().flatten().map(|(text, _)| text.clone()).collect::<Vec<_>>());
    }
    let all: Vec<_> = batches.flatten().collect();
    assert!(all.iter().all(|(_, again)| !again), "shown before, though nobody was killed");
    let union: BTreeSet<_> = all.iter().map(|(text, _)| number(text)).collect();
    assert_eq!(all.len(), union.len(), "some came twice");
    assert_eq!(union.len(), SENDERS * SENDS, "some never came");
    let took_part = drained.iter().filter(|mine| mine.iter().any(|batch| !batch.is_empty()));
    assert!(took_part.count() > 1, "one drainer got everything: nothing was shared");
}

/// Pseudo-random numbers, the same in each run.
struct Random(AtomicU64);

impl Random {
    /// How long a process may run: every third one ends early however busy the machine is.
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

/// Lets a process run for a while, then kills it; `Some` with its output if it was done before.
fn run_or_kill(mut child: Child, spins: u64) -> Option<Vec<u8>> {
    for _ in 0..spins {
        // A unit of time that is no sleep: one system call.
        if child.try_wait().expect("wait").is_some() {
            break;
        }
        thread::yield_now();
    }
    let _ = child.kill();
    let output = child.wait_with_output().expect("output");
    output.status.success().then_some(output.stdout)
}

#[test]
fn what_was_reported_as_sent_survives_killed_senders_and_drainers() {
    let world = crowd();
    let random = Random(AtomicU64::new(1));
    let sending = AtomicBool::new(true);
    let killed = AtomicU64::new(0);
    let (reported, drained): (Vec<Vec<String>>, Vec<Shown>) = thread::scope(|scope| {
        let drain = || {
            let mut mine = Shown::new();
            while sending.load(Ordering::Acquire) {
                let child = started(&world, "inbox", &["poll-inbox", "--json"]);
                match run_or_kill(child, random.life()) {
                    Some(out) => mine.extend(shown(&serde_json::from_slice(&out).unwrap())),
                    None => drop(killed.fetch_add(1, Ordering::Relaxed)),
                }
            }
            mine
        };
        let drainers: Vec<_> = (0..DRAINERS).map(|_| scope.spawn(drain)).collect();
        let send = |sender: usize| {
            let (who, mut sent) = (format!("a{sender}"), Vec::new());
            for n in 0..SENDS_WITH_KILLS {
                let text = format!("{sender} {n}");
                let args = ["send", "inbox", &text, "--message-id", &format!("m-{sender}-{n}")];
                if run_or_kill(started(&world, &who, &args), random.life()).is_none() {
                    killed.fetch_add(1, Ordering::Relaxed);
                    // Whether it was accepted is not known: some try again with the same id.
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
        (sent, drainers.into_iter().map(|drainer| drainer.join().unwrap()).collect())
    });
    let reported: Vec<String> = reported.concat();
    let rest = shown(&world.run("inbox", &["poll-inbox", "--json"]).ok().json());
    let all: Vec<(String, bool)> = drained.into_iter().flatten().chain(rest).collect();
    let seen: BTreeSet<&str> = all.iter().map(|(text, _)| text.as_str()).collect();
    // A drainer that was killed after its ack took its output with it: that was shown.
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
        assert!(*again || fresh.insert(text), "{text} came twice without its mark");
    }
    let repeated = all.iter().filter(|(_, again)| *again).count();
    let killed = killed.into_inner();
    println!("{killed} killed, {} reported as sent, {repeated} shown again", reported.len());
    assert!(killed > 20 && reported.len() > 20, "{killed} killed, {} sent", reported.len());
}

/// A mount that ends with its value; `None`, with the reason printed, without the right to it.
struct Mount(std::path::PathBuf);

impl Mount {
    fn new(args: &[&str], at: &std::path::Path) -> Option<Self> {
        let output = Command::new("mount").args(args).arg(at).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            Ok(output) => {
                crate::support::skipped(&format!("{}", String::from_utf8_lossy(&output.stderr)));
                None
            }
            Err(e) => {
                crate::support::skipped(&format!("mount: {e}"));
                None
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn send_large(world: &World, text: &[u8]) -> Done {
    let mut command = world.c2c(&["send", "bob"]);
    command.env("C2C_MCP_SESSION_ID", "s-alice");
    feed(command, text)
}

#[test]
fn on_a_full_disk_sending_says_so_and_reading_goes_on() {
    let mut world = World::new();
    std::fs::create_dir(world.root()).unwrap();
    let Some(mount) = Mount::new(&["-t", "tmpfs", "-o", "size=1m,mode=700", "none"], &world.root())
    else {
        return;
    };
    world.register(&["alice", "bob"]);
    let mut accepted = Vec::new();
    let refused = loop {
        assert!(accepted.len() < 100, "a disk of 1 MiB holds more than that");
        let text = format!("{} {}", accepted.len(), "x".repeat(20_000));
        let done = send_large(&world, text.as_bytes());
        if done.status != 0 {
            break done;
        }
        accepted.push(text);
    };
    let refused = refused.refused("disk_full");
    assert!(refused.err.contains("polls and acks still work"), "{:?}", refused.err);
    assert!(accepted.len() > 5, "only {} fit", accepted.len());
    send_large(&world, "x".repeat(20_000).as_bytes()).refused("disk_full");
    // Everything that was accepted can be read, in pieces, and acked.
    let first = world.run("bob", &["poll-inbox", "--json", "-l", "2"]).ok().json();
    assert!(contents(&first) == accepted[..2]);
    let manual = world.run("bob", &["poll-inbox", "--json", "-l", "1", "--manual"]).ok();
    assert!(contents(&manual.json()) == accepted[2..3]);
    let claim = manual.err.split(' ').nth(1).expect("a claim").to_owned();
    world.run("bob", &["ack", &claim]).ok();
    assert!(world.poll("bob") == accepted[3..]);
    assert_eq!(world.poll("bob"), [""; 0]);
    // With space, sending works again.
    let more = Command::new("mount").args(["-o", "remount,size=8m"]).arg(world.root()).status();
    assert!(more.unwrap().success());
    send_large(&world, b"space again").ok();
    assert_eq!(world.poll("bob"), ["space again"]);
    let verified = run(world.log_tool(&["verify"]));
    assert_eq!(verified.status, 0, "verify: {} {}", verified.out, verified.err);
    world.may_be_damaged = true; // the mount ends before the world does
    drop(mount);
}

#[test]
fn a_root_that_may_only_be_read_is_read() {
    let world = World::new();
    world.register(&["alice", "bob"]);
    world.run("alice", &["send", "bob", "hi"]).ok();
    let root = world.root();
    let Some(_bind) = Mount::new(&["--bind", root.to_str().unwrap()], &root) else { return };
    let Some(_read_only) = Mount::new(&["-o", "remount,bind,ro"], &root) else { return };
    let before = tree(&root);
    assert_eq!(contents(&world.run("bob", &["peek-inbox", "--json"]).ok().json()), ["hi"]);
    for read in [&["list"][..], &["whoami"], &["status"], &["health"], &["history"]] {
        world.run("bob", read).ok();
    }
    assert_eq!(world.poll("alice"), [""; 0]);
    for write in [&["send", "bob", "x"][..], &["register"], &["rooms", "join", "r"]] {
        let done = world.run("alice", write).refused("storage_failed");
        assert!(done.err.contains("cannot be written"), "{:?}", done.err);
    }
    world.run("bob", &["poll-inbox"]).refused("storage_failed");
    assert!(tree(&root) == before);
}

#[test]
fn the_root_of_another_user_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        crate::support::skipped("changing the user needs root");
        return;
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
    // The directory is open to all: what is in it is not.
    std::fs::set_permissions(world.root(), open(0o777)).unwrap();
    for args in [&["list"][..], &["send", "owner", "x"], &["register", "--alias", "eve"]] {
        let done = as_user(61_002, args);
        assert_eq!(done.status, 1, "{args:?}: {:?}", done.out);
        let refused = ["[bad_root]", "[storage_failed]"].iter().any(|code| done.err.contains(code));
        assert!(refused, "{args:?}: {:?}", done.err);
        assert!(!done.out.contains("owner"), "{args:?}: {:?}", done.out);
    }
    std::fs::set_permissions(world.root(), open(0o700)).unwrap();
    as_user(61_002, &["list"]).refused("storage_failed");
    as_user(61_002, &["register", "--alias", "eve"]).refused("storage_failed");
    assert!(tree(&world.root()) == before);
    assert!(as_user(61_001, &["list"]).ok().out.contains("owner"));
    // An empty directory of somebody else, open to all, becomes no root.
    let empty = world.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::set_permissions(&empty, open(0o777)).unwrap();
    let args = ["register", "--alias", "eve", "--broker-root", empty.to_str().unwrap()];
    as_user(61_002, &args).refused("bad_root");
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
}
