//! Does everything go on when a root or a relay is wiped, or put back from an older copy?

use std::path::Path;
use std::process::Command;

use super::{Hub, Machine, pair, settle};

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().expect("cp");
    assert!(copied.success());
}

fn send(machine: &Machine, who: &str, to: &str, texts: &[&str]) {
    for text in texts {
        machine.run(who, &["send", to, text]).ok();
    }
}

#[test]
fn a_wiped_root_sends_and_receives_again() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
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

/// A root put back from an older copy; `over` puts the files into the directory that is there.
fn restored(over: bool) {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    send(&a, "ann", "bob@machine-b", &["one"]);
    settle(&[&a, &b]);
    let kept = a.world.path().join("kept");
    copy(&a.world.root(), &kept);
    send(&a, "ann", "bob@machine-b", &["two", "three"]);
    send(&b, "bob", "ann@machine-a", &["for ann"]);
    settle(&[&a, &b]);
    if over {
        let log = a.world.root().join("log");
        for file in std::fs::read_dir(kept.join("log")).expect("a copy").flatten() {
            let bytes = std::fs::read(file.path()).expect("a file");
            std::fs::write(log.join(file.file_name()), bytes).expect("written over");
        }
    } else {
        std::fs::remove_dir_all(a.world.root()).expect("gone");
        copy(&kept, &a.world.root());
    }
    send(&a, "ann", "bob@machine-b", &["four", "five", "six"]);
    settle(&[&a, &b]);
    send(&a, "ann", "bob@machine-b", &["seven"]);
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["one", "two", "three", "four", "five", "six", "seven"]);
    // What the copy had not received yet comes again.
    assert_eq!(a.world.poll("ann"), ["for ann"]);
}

#[test]
fn a_root_put_back_from_an_older_copy_goes_on() {
    restored(false);
}

#[test]
fn a_root_whose_files_were_written_over_with_older_ones_goes_on() {
    restored(true);
}

#[test]
fn a_relay_put_back_from_an_older_copy_that_has_grown_since_skips_and_doubles_nothing() {
    for storage in ["log", "sqlite"] {
        let mut hub = Hub::start(storage);
        let (a, b) = pair(&hub);
        send(&a, "ann", "bob@machine-b", &["one"]);
        settle(&[&a, &b]);
        hub.kill();
        hub.keep();
        hub.go_on();
        send(&a, "ann", "bob@machine-b", &["two", "three"]);
        send(&b, "bob", "ann@machine-a", &["back one"]);
        settle(&[&a, &b]);
        // Taken by the relay, not yet fetched: it goes with the restore.
        send(&a, "ann", "bob@machine-b", &["four"]);
        a.once();
        hub.kill();
        hub.put_back();
        hub.go_on();
        // The log grows past the cursors that the connectors have.
        let c = Machine::new(&hub, "machine-c");
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
        let mut came = a.world.poll("ann");
        came.retain(|text| text != "noise");
        assert_eq!(came, ["back one"], "{storage}");
    }
}
