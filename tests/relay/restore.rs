//! Wiped roots and relays, and ones that are restored from an older copy.

use std::path::Path;
use std::process::Command;

use super::{Machine, RelayProcess, pair, settle};

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().expect("cp");
    assert!(copied.success());
}

fn send(machine: &Machine, who: &str, to: &str, texts: &[&str]) {
    for text in texts {
        machine.run(who, &["send", to, text]).ok();
    }
}

fn a_wiped_root_sends_and_receives_again() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    send(&a, "ann", "bob@machine-b", &["one", "two"]);
    settle(&[&a, &b]);
    std::fs::remove_dir_all(a.world.root()).expect("wiped");
    a.world.register(&["ann"]);
    send(&a, "ann", "bob@machine-b", &["three"]);
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["one", "two", "three"]);
    send(&b, "bob", "ann@machine-a", &["back"]);
    settle(&[&b, &a]);
    assert_eq!(a.world.poll("ann"), ["back"]);
}

/// Restores a root from an older copy. With `over` the files of the copy overwrite the present ones.
fn a_restored_root_continues(over: bool) {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    send(&a, "ann", "bob@machine-b", &["one"]);
    settle(&[&a, &b]);
    let backup = a.world.path().join("backup");
    copy(&a.world.root(), &backup);
    send(&a, "ann", "bob@machine-b", &["two", "three"]);
    send(&b, "bob", "ann@machine-a", &["for ann"]);
    settle(&[&a, &b]);
    if over {
        let log = a.world.root().join("log");
        for file in std::fs::read_dir(backup.join("log")).expect("a copy").flatten() {
            let bytes = std::fs::read(file.path()).expect("a file");
            std::fs::write(log.join(file.file_name()), bytes).expect("written over");
        }
    } else {
        std::fs::remove_dir_all(a.world.root()).expect("gone");
        copy(&backup, &a.world.root());
    }
    send(&a, "ann", "bob@machine-b", &["four", "five", "six"]);
    settle(&[&a, &b]);
    send(&a, "ann", "bob@machine-b", &["seven"]);
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["one", "two", "three", "four", "five", "six", "seven"]);
    // Mail that the copy had not received yet arrives again.
    assert_eq!(a.world.poll("ann"), ["for ann"]);
}

fn a_root_restored_from_an_older_copy_continues() {
    a_restored_root_continues(false);
}

fn a_root_overwritten_with_older_files_continues() {
    a_restored_root_continues(true);
}

fn a_relay_restored_from_an_older_copy_loses_and_duplicates_nothing() {
    for storage in ["log", "sqlite"] {
        let mut relay = RelayProcess::start(storage);
        let (a, b) = pair(&relay);
        send(&a, "ann", "bob@machine-b", &["one"]);
        settle(&[&a, &b]);
        relay.kill();
        relay.back_up();
        relay.restart();
        send(&a, "ann", "bob@machine-b", &["two", "three"]);
        send(&b, "bob", "ann@machine-a", &["back one"]);
        settle(&[&a, &b]);
        // The relay has accepted this message, no machine has fetched it, and the restore discards it.
        send(&a, "ann", "bob@machine-b", &["four"]);
        a.once();
        relay.kill();
        relay.restore_backup();
        relay.restart();
        // The log grows beyond the cursors of the connectors.
        let c = Machine::new(&relay, "machine-c");
        c.world.register(&["cyd", "dee", "eve"]);
        settle(&[&c]);
        for _ in 0..10 {
            send(&c, "cyd", "dee@machine-c", &["noise"]);
            send(&c, "cyd", "ann@relay", &["noise"]);
            settle(&[&c]);
        }
        settle(&[&a, &b]);
        send(&a, "ann", "bob@machine-b", &["five"]);
        settle(&[&a, &b]);
        assert_eq!(b.world.poll("bob"), ["one", "two", "three", "four", "five"], "{storage}");
        let mut received = a.world.poll("ann");
        received.retain(|text| text != "noise");
        assert_eq!(received, ["back one"], "{storage}");
    }
}

crate::harness::tests! {
    fast:
        a_wiped_root_sends_and_receives_again,
        a_root_restored_from_an_older_copy_continues;
    slow:
        a_relay_restored_from_an_older_copy_loses_and_duplicates_nothing,
        a_root_overwritten_with_older_files_continues;
}
