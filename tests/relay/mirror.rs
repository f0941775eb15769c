//! Does the copy of a log at a relay make a root again?

use std::fs;

use super::{Hub, Machine, TOKEN, pair, settle};
use crate::support::{Done, World, run};

/// A round that copies the log.
fn mirror(machine: &Machine) -> u64 {
    let done = run(machine.connect(&["--once", "--json", "--mirror"])).ok().json();
    done["mirrored_bytes"].as_u64().expect("bytes")
}

/// Restores the node of a machine into another world that has its key.
fn restore(machine: &Machine, hub: &Hub, into: &World, node: &str, more: &[&str]) -> Done {
    let key = machine.world.path().join("home/.config/c2c/identity.json");
    let key = key.to_str().expect("a path").to_owned();
    let url = hub.url();
    let words = ["relay", "restore", "--json", "--relay-url", &url, "--node-id", node];
    let args = [&words[..], &["--identity-path", &key, "--token", TOKEN], more].concat();
    run(into.c2c(&args))
}

#[test]
fn a_lost_root_comes_back_from_the_relay_and_goes_on() {
    for storage in ["log", "sqlite"] {
        let hub = Hub::start(storage);
        let (a, b) = pair(&hub);
        a.world.register(&["amy"]);
        a.run("amy", &["send", "ann", "local and unread"]).ok();
        assert!(mirror(&a) > 0);
        assert!(mirror(&a) < 4096, "{storage}: next to nothing is new");
        b.run("bob", &["send", "ann@machine-a", "from far"]).ok();
        settle(&[&b, &a]);
        assert!(mirror(&a) > 0, "{storage}: the tail");
        let at_relay = hub.world.path().join("relay/mirrors/machine-a");
        assert_eq!(at_relay.exists(), storage == "log");
        let fresh = World::new();
        let done = restore(&a, &hub, &fresh, "machine-a", &["--alias", "ann"]).ok().json();
        assert_eq!((&done["ok"], &done["damaged_ranges"]), (&true.into(), &0.into()));
        assert_ne!(done["log"], done["new_log"]);
        assert_eq!(fresh.poll("ann"), ["local and unread", "from far"]);
        restore(&a, &hub, &fresh, "machine-a", &["--alias", "ann"]).refused("bad_root");
        // The machine goes on with what came back.
        drop(fs::remove_dir_all(a.world.root()));
        fs::rename(fresh.root(), a.world.root()).expect("in its place");
        a.run("ann", &["send", "bob@machine-b", "I am back"]).ok();
        settle(&[&a, &b]);
        assert_eq!(b.world.poll("bob"), ["I am back"]);
        assert!(mirror(&a) > 0, "{storage}: under its new log id");
    }
}

#[test]
fn many_segments_are_copied_piece_by_piece_and_only_once() {
    let hub = Hub::start("log");
    let (a, _b) = pair(&hub);
    let text = a.world.path().join("text");
    fs::write(&text, "x".repeat(3 * 1024 * 1024)).expect("a text");
    for _ in 0..8 {
        a.world.register(&["amy"]);
        let mut send = a.world.c2c(&["send", "amy", "-", "-s", "s-ann"]);
        send.stdin(fs::File::open(&text).expect("the text"));
        run(send).ok();
    }
    let shipped = mirror(&a);
    assert!(shipped > 24 * 1024 * 1024, "{shipped}");
    a.run("ann", &["send", "amy", "small"]).ok();
    assert!(mirror(&a) < 64 * 1024, "what is there is not sent again");
    let fresh = World::new();
    let done = restore(&a, &hub, &fresh, "machine-a", &["--alias", "ann"]).ok().json();
    assert!(done["segments"].as_u64() > Some(1), "{done}");
    assert_eq!(fresh.poll("amy").len(), 9);
}

#[test]
fn a_copy_that_is_damaged_or_cut_does_not_pass_for_whole() {
    let hub = Hub::start("log");
    let (a, _b) = pair(&hub);
    a.world.register(&["amy"]);
    for at in 0..50 {
        a.run("ann", &["send", "amy", &format!("m{at}")]).ok();
    }
    mirror(&a);
    let segment = hub.mirrored();
    let whole = fs::read(&segment).expect("the copy");
    let middle = whole.len() / 2;
    let mut flipped = whole.clone();
    flipped[middle] ^= 1;
    for bytes in [flipped, whole[..middle].to_vec(), Vec::new()] {
        fs::write(&segment, &bytes).expect("a damaged copy");
        let mut fresh = World::new();
        fresh.may_be_damaged = true;
        let done = restore(&a, &hub, &fresh, "machine-a", &["--alias", "ann"]);
        assert_eq!(done.status, 1, "{} of {} bytes: {}", bytes.len(), whole.len(), done.out);
    }
    fs::write(&segment, &whole).expect("the copy");
    let fresh = World::new();
    restore(&a, &hub, &fresh, "machine-a", &["--alias", "ann"]).ok();
}

#[test]
fn nobody_else_reads_or_writes_the_copy_of_a_node() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    mirror(&a);
    let fresh = World::new();
    restore(&b, &hub, &fresh, "machine-a", &["--alias", "bob"]).refused("foreign_sender");
    restore(&a, &hub, &fresh, "..", &["--alias", "ann"]).refused("bad_request");
    restore(&b, &hub, &fresh, "machine-b", &["--alias", "bob"]).refused("not_found");
    assert!(!fresh.root().join("log").exists());
    // Another key that has the node's name later sees nothing of it.
    let url = hub.url();
    let unbind = ["relay", "unbind", "ann@machine-a", "--relay-url", &url, "--token", TOKEN];
    run(a.world.c2c(&unbind)).ok();
    let c = Machine::new(&hub, "machine-a");
    c.world.register(&["eve"]);
    assert_eq!(refused(&c), ["foreign_sender"]);
    restore(&c, &hub, &fresh, "machine-a", &["--alias", "eve"]).refused("foreign_sender");
}

/// What goes wrong with the copy; mail goes all the same.
fn refused(machine: &Machine) -> Vec<String> {
    let done = run(machine.connect(&["--once", "--json", "--mirror"])).ok().json();
    let errors = done["errors"].as_array().expect("errors");
    errors.iter().map(|error| error["error_code"].as_str().expect("a code").to_owned()).collect()
}

#[test]
fn where_no_copy_can_be_kept_mail_goes_all_the_same() {
    let none = Hub::with("log", &["--token", TOKEN, "--mirror-limit", "0"]);
    for hub in [none, Hub::start("memory")] {
        let (a, b) = pair(&hub);
        a.run("ann", &["send", "bob@machine-b", "hello"]).ok();
        assert_eq!(refused(&a), ["not_found"]);
        settle(&[&b]);
        assert_eq!(b.world.poll("bob"), ["hello"]);
    }
}

#[test]
fn a_new_key_of_the_same_machine_keeps_its_copy() {
    let hub = Hub::start("log");
    let (a, _b) = pair(&hub);
    mirror(&a);
    run(a.world.c2c(&["relay", "identity", "rotate"])).ok();
    a.once();
    mirror(&a);
    let fresh = World::new();
    restore(&a, &hub, &fresh, "machine-a", &["--alias", "ann"]).ok();
}
