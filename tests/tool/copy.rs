//! Copied logs get a new id, and moved logs keep theirs.

use std::path::Path;
use std::process::Command;

use crate::support::{World, run};

fn command(program: &str, from: &Path, to: &Path) {
    let mut command = Command::new(program);
    if program == "cp" {
        command.arg("-a");
    }
    assert!(command.arg(from).arg(to).status().expect("starts").success());
}

fn id(world: &World, root: &Path) -> String {
    let mut health = world.c2c(&["health", "--json", "--broker-root"]);
    health.arg(root);
    let id = run(health).ok().json()["broker_id"].as_str().expect("an id").to_owned();
    assert_eq!(id.len(), 32);
    id
}

fn send(world: &World, root: &Path, text: &str) {
    let mut send = world.c2c(&["send", "bob", text, "--session-id", "s-ada", "--broker-root"]);
    send.arg(root);
    run(send).ok();
}

fn poll(world: &World, root: &Path) -> Vec<String> {
    let mut poll = world.c2c(&["poll-inbox", "--json", "--session-id", "s-bob", "--broker-root"]);
    poll.arg(root);
    crate::support::contents(&run(poll).ok().json())
}

fn verify(world: &World, root: &Path) {
    let mut verify = world.log_tool(&["verify"]);
    verify.arg(root);
    let done = run(verify);
    assert_eq!(done.status, 0, "{} {}", done.out, done.err);
}

fn filled() -> World {
    let world = World::new();
    world.register(&["ada", "bob"]);
    for number in 0..300 {
        world.run("ada", &["send", "bob", &format!("old {number}")]).ok();
    }
    assert_eq!(world.poll("bob").len(), 300);
    send(&world, &world.root(), "before");
    world
}

fn a_copy_gets_a_new_id_with_its_first_write_and_both_stay_usable() {
    let world = filled();
    let (original, copy) = (world.root(), world.path().join("copy"));
    let old = id(&world, &original);
    command("cp", &original, &copy);
    send(&world, &copy, "in the copy");
    let new = id(&world, &copy);
    assert_ne!(new, old);
    send(&world, &copy, "again in the copy");
    send(&world, &original, "in the original");
    assert_eq!(id(&world, &copy), new, "the id changes once");
    assert_eq!(id(&world, &original), old);
    assert_eq!(poll(&world, &copy), ["before", "in the copy", "again in the copy"]);
    assert_eq!(poll(&world, &original), ["before", "in the original"]);
    verify(&world, &copy);
}

fn a_root_wiped_and_restored_from_a_copy_gets_a_new_id() {
    let world = filled();
    let (original, copy) = (world.root(), world.path().join("copy"));
    let old = id(&world, &original);
    command("cp", &original, &copy);
    send(&world, &original, "after the backup");
    std::fs::remove_dir_all(&original).expect("wiped");
    command("cp", &copy, &original);
    send(&world, &original, "after the restore");
    assert_ne!(id(&world, &original), old);
    assert_eq!(poll(&world, &original), ["before", "after the restore"]);
}

fn a_moved_root_keeps_its_id() {
    let world = filled();
    let moved = world.path().join("moved");
    let old = id(&world, &world.root());
    command("mv", &world.root(), &moved);
    // As after a boot: the tail is not known to be durable.
    std::fs::remove_file(moved.join("log/control")).expect("removed");
    send(&world, &moved, "moved");
    assert_eq!(id(&world, &moved), old);
    assert_eq!(poll(&world, &moved), ["before", "moved"]);
    verify(&world, &moved);
}

fn a_root_moved_by_migrate_names_its_new_path_and_rejects_writes() {
    let world = filled();
    let moved = world.path().join("elsewhere");
    let to = moved.display().to_string();
    let old = id(&world, &world.root());
    let migrate = |args: &[&str]| world.run("ada", &[&["migrate"], args].concat());
    assert!(migrate(&["--to", &to, "--dry-run"]).ok().out.contains("Would move"));
    migrate(&["--to", &to]).ok();
    let refused = world.run("ada", &["send", "bob", "late"]).fails_with("broker_moved");
    assert!(refused.err.contains(&to), "{}", refused.err);
    world.run("bob", &["poll-inbox"]).fails_with("broker_moved");
    assert_eq!(world.run("bob", &["peek-inbox", "--json"]).ok().json()[0]["content"], "before");
    send(&world, &moved, "after the move");
    assert_eq!(id(&world, &moved), old, "it is the same log");
    assert_eq!(poll(&world, &moved), ["before", "after the move"]);
    verify(&world, &moved);
    let peek = world.run("bob", &["peek-inbox"]).ok();
    assert!(peek.err.contains(&to), "a reader prints the new path: {}", peek.err);
    let health = world.run("bob", &["health", "--json"]).ok().json();
    assert_eq!(health["moved_to"], to.as_str());
    // An existing root is not overwritten.
    migrate(&["--from", &to, "--to", &world.root().display().to_string()]).fails_with("bad_root");
}

fn an_interrupted_move_is_finished_by_the_same_command() {
    let world = filled();
    let moved = world.path().join("elsewhere");
    let to = moved.display().to_string();
    let old = id(&world, &world.root());
    let migrate = || world.run("ada", &["migrate", "--to", &to]);
    migrate().ok();
    // Interrupted during the copy: the log does not have its name yet, and one file is truncated.
    std::fs::rename(moved.join("log"), moved.join("log.part")).expect("renamed");
    let segment = moved.join("log.part").join(c2c_log_format::segment::file_name(1));
    std::fs::write(&segment, "c2c").expect("written");
    // No process has opened the copy.
    for name in ["control", "place", "lock", "sync.lock"] {
        std::fs::remove_file(moved.join("log.part").join(name)).expect("removed");
    }
    migrate().ok();
    // Interrupted before the copy was opened.
    std::fs::remove_dir_all(moved.join("log")).expect("removed");
    std::fs::create_dir(moved.join("log")).expect("made");
    for entry in std::fs::read_dir(world.root().join("log")).expect("listed").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".seg") || name.starts_with("checkpoint-0") {
            std::fs::copy(entry.path(), moved.join("log").join(name)).expect("copied");
        }
    }
    migrate().ok();
    assert_eq!(id(&world, &moved), old);
    send(&world, &moved, "after the move");
    assert_eq!(poll(&world, &moved), ["before", "after the move"]);
    verify(&world, &moved);
    migrate().fails_with("bad_root");
}

crate::harness::tests! {
    fast:
        a_copy_gets_a_new_id_with_its_first_write_and_both_stay_usable;
    slow:
        an_interrupted_move_is_finished_by_the_same_command,
        a_root_wiped_and_restored_from_a_copy_gets_a_new_id,
        a_root_moved_by_migrate_names_its_new_path_and_rejects_writes,
        a_moved_root_keeps_its_id;
}
