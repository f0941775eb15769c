//! Copies of logs at a relay, and roots restored from them.

use std::fs;

use super::{Machine, RelayProcess, TOKEN, pair, settle};
use crate::support::{Outcome, World, run};

/// Runs a round that copies the log; returns the number of bytes.
fn mirror(machine: &Machine) -> u64 {
    let done = run(machine.connect(&["--once", "--json", "--mirror"])).ok().json();
    done["mirrored_bytes"].as_u64().expect("bytes")
}

/// Restores the node of a machine into another world that has its key.
fn restore(
    machine: &Machine,
    relay: &RelayProcess,
    into: &World,
    node: &str,
    more: &[&str],
) -> Outcome {
    let key = machine.world.path().join("home/.config/c2c/identity.json");
    let key = key.to_str().expect("a path").to_owned();
    let url = relay.url();
    let words = ["relay", "restore", "--json", "--relay-url", &url, "--node-id", node];
    let args = [&words[..], &["--identity-path", &key, "--token", TOKEN], more].concat();
    run(into.c2c(&args))
}

fn a_lost_root_is_restored_from_the_relay_and_continues() {
    for storage in ["log", "sqlite"] {
        let relay = RelayProcess::start(storage);
        let (a, b) = pair(&relay);
        a.world.register(&["amy"]);
        a.run("amy", &["send", "ann", "local and unread"]).ok();
        assert!(mirror(&a) > 0);
        assert!(mirror(&a) < 4096, "{storage}: almost nothing is new");
        b.run("bob", &["send", "ann@machine-a", "from the other machine"]).ok();
        settle(&[&b, &a]);
        assert!(mirror(&a) > 0, "{storage}: the tail");
        let at_relay = relay.world.path().join("relay/mirrors/machine-a");
        assert_eq!(at_relay.exists(), storage == "log");
        let fresh = World::new();
        let done = restore(&a, &relay, &fresh, "machine-a", &["--alias", "ann"]).ok().json();
        assert_eq!((&done["ok"], &done["damaged_ranges"]), (&true.into(), &0.into()));
        assert_ne!(done["log"], done["new_log"]);
        assert_eq!(fresh.poll("ann"), ["local and unread", "from the other machine"]);
        restore(&a, &relay, &fresh, "machine-a", &["--alias", "ann"]).fails_with("bad_root");
        // The machine continues with the restored root.
        drop(fs::remove_dir_all(a.world.root()));
        fs::rename(fresh.root(), a.world.root()).expect("in its place");
        a.run("ann", &["send", "bob@machine-b", "I am back"]).ok();
        settle(&[&a, &b]);
        assert_eq!(b.world.poll("bob"), ["I am back"]);
        assert!(mirror(&a) > 0, "{storage}: under its new log id");
    }
}

fn many_segments_are_copied_in_parts_and_only_once() {
    let relay = RelayProcess::start("log");
    let (a, _b) = pair(&relay);
    let text = a.world.path().join("text");
    fs::write(&text, "x".repeat(3 * 1024 * 1024)).expect("a text");
    for _ in 0..8 {
        a.world.register(&["amy"]);
        let mut send = a.world.c2c(&["send", "amy", "-", "-s", "s-ann"]);
        send.stdin(fs::File::open(&text).expect("the text"));
        run(send).ok();
    }
    let copied = mirror(&a);
    assert!(copied > 24 * 1024 * 1024, "{copied}");
    a.run("ann", &["send", "amy", "small"]).ok();
    assert!(mirror(&a) < 64 * 1024, "a copied segment is not sent again");
    let fresh = World::new();
    let done = restore(&a, &relay, &fresh, "machine-a", &["--alias", "ann"]).ok().json();
    assert!(done["segments"].as_u64() > Some(1), "{done}");
    assert_eq!(fresh.poll("amy").len(), 9);
}

fn a_damaged_or_truncated_copy_is_not_restored() {
    let relay = RelayProcess::start("log");
    let (a, _b) = pair(&relay);
    a.world.register(&["amy"]);
    for at in 0..50 {
        a.run("ann", &["send", "amy", &format!("m{at}")]).ok();
    }
    mirror(&a);
    let segment = relay.mirrored();
    let whole = fs::read(&segment).expect("the copy");
    let middle = whole.len() / 2;
    let mut flipped = whole.clone();
    flipped[middle] ^= 1;
    for bytes in [flipped, whole[..middle].to_vec(), Vec::new()] {
        fs::write(&segment, &bytes).expect("a damaged copy");
        let mut fresh = World::new();
        fresh.may_be_damaged = true;
        let done = restore(&a, &relay, &fresh, "machine-a", &["--alias", "ann"]);
        assert_eq!(done.status, 1, "{} of {} bytes: {}", bytes.len(), whole.len(), done.out);
    }
    fs::write(&segment, &whole).expect("the copy");
    let fresh = World::new();
    restore(&a, &relay, &fresh, "machine-a", &["--alias", "ann"]).ok();
}

fn only_its_own_key_reads_or_writes_the_copy_of_a_node() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    mirror(&a);
    let fresh = World::new();
    restore(&b, &relay, &fresh, "machine-a", &["--alias", "bob"]).fails_with("foreign_sender");
    restore(&a, &relay, &fresh, "..", &["--alias", "ann"]).fails_with("bad_request");
    restore(&b, &relay, &fresh, "machine-b", &["--alias", "bob"]).fails_with("not_found");
    assert!(!fresh.root().join("log").exists());
    // Another key that takes the name of the node later cannot read the copy.
    let url = relay.url();
    let unbind = ["relay", "unbind", "ann@machine-a", "--relay-url", &url, "--token", TOKEN];
    run(a.world.c2c(&unbind)).ok();
    let c = Machine::new(&relay, "machine-a");
    c.world.register(&["eve"]);
    assert_eq!(errors_of_copy(&c), ["foreign_sender"]);
    restore(&c, &relay, &fresh, "machine-a", &["--alias", "eve"]).fails_with("foreign_sender");
}

/// Error codes of a round with a copy.
fn errors_of_copy(machine: &Machine) -> Vec<String> {
    let done = run(machine.connect(&["--once", "--json", "--mirror"])).ok().json();
    let errors = done["errors"].as_array().expect("errors");
    errors.iter().map(|error| error["error_code"].as_str().expect("a code").to_owned()).collect()
}

fn mail_is_delivered_even_if_no_copy_can_be_stored() {
    let none = RelayProcess::with("log", &["--token", TOKEN, "--mirror-limit", "0"]);
    for relay in [none, RelayProcess::start("memory")] {
        let (a, b) = pair(&relay);
        a.run("ann", &["send", "bob@machine-b", "hello"]).ok();
        assert_eq!(errors_of_copy(&a), ["not_found"]);
        settle(&[&b]);
        assert_eq!(b.world.poll("bob"), ["hello"]);
    }
}

fn a_rotated_key_can_restore_the_copy() {
    let relay = RelayProcess::start("log");
    let (a, _b) = pair(&relay);
    mirror(&a);
    run(a.world.c2c(&["relay", "identity", "rotate"])).ok();
    a.once();
    mirror(&a);
    let fresh = World::new();
    restore(&a, &relay, &fresh, "machine-a", &["--alias", "ann"]).ok();
}

crate::harness::tests! {
    fast:
        a_lost_root_is_restored_from_the_relay_and_continues,
        only_its_own_key_reads_or_writes_the_copy_of_a_node,
        mail_is_delivered_even_if_no_copy_can_be_stored,
        a_rotated_key_can_restore_the_copy;
    slow:
        many_segments_are_copied_in_parts_and_only_once,
        a_damaged_or_truncated_copy_is_not_restored;
}
