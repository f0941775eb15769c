//! Files of root in a user's broker root, and roots that cannot be written.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::skip;
use crate::support::{World, contents, run};

const USER: u32 = 61_234;

fn require_root() {
    if !nix::unistd::geteuid().is_root() {
        skip("changing the user needs root");
    }
}

/// A world of another user, who can reach the program in it.
fn world_of_user() -> (World, PathBuf) {
    require_root();
    let world = World::new();
    for path in [world.path(), &world.path().join("home")] {
        chown(path, Some(USER), Some(USER)).expect("a new owner");
    }
    let program = world.path().join("c2c");
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_c2c")).arg(&program).status();
    assert!(copied.is_ok_and(|status| status.success()));
    (world, program)
}

fn as_user(world: &World, program: &Path, who: &str, args: &[&str]) -> Command {
    let mut command = world.program(program.to_str().expect("text"), args);
    command.uid(USER).gid(USER).env("C2C_MCP_SESSION_ID", format!("s-{who}"));
    command
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => found.extend(files_below(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

fn what_root_writes_into_a_users_root_stays_usable_for_the_user() {
    let (world, program) = world_of_user();
    run(as_user(&world, &program, "ann", &["register", "--alias", "ann"])).ok();
    world.register(&["bob"]);
    // Enough for several segments and checkpoints.
    let body = "x".repeat(900_000);
    for _ in 0..20 {
        let mut send = world.c2c(&["send", "ann", "-s", "s-bob"]);
        send.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = send.spawn().expect("starts");
        child.stdin.take().expect("input").write_all(body.as_bytes()).expect("read");
        assert!(child.wait().is_ok_and(|status| status.success()));
    }
    for path in files_below(&world.root()) {
        let owner = fs::symlink_metadata(&path).map(|file| file.uid()).expect("it");
        assert_eq!(owner, USER, "{}", path.display());
    }
    let poll = ["poll-inbox", "--json"];
    let rows = contents(&run(as_user(&world, &program, "ann", &poll)).ok().json());
    assert!(!rows.is_empty());
    run(as_user(&world, &program, "ann", &["send", "bob", "thanks"])).ok();
}

fn a_file_of_another_user_is_named_with_its_owner() {
    let (world, program) = world_of_user();
    run(as_user(&world, &program, "ann", &["register", "--alias", "ann"])).ok();
    let segment = files_below(&world.root())
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "seg"))
        .expect("a segment");
    chown(&segment, Some(0), Some(0)).expect("given to root");
    let done = run(as_user(&world, &program, "ann", &["send", "ann", "x"]));
    let hint = done.err.lines().find(|line| line.contains("hint:")).expect("a hint").to_owned();
    assert!(hint.contains(&format!("{} belongs to user 0", segment.display())), "{hint}");
    let report = run(as_user(&world, &program, "ann", &["doctor", "--json"])).out;
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let rows = report["findings"].as_array().expect("rows").clone();
    let row = rows.iter().find(|row| row["kind"] == "root_file_owner").expect("the finding");
    assert!(row["what"].as_str().is_some_and(|what| what.contains(".seg")), "{row}");
}

fn doctor_reports_a_root_and_a_home_that_cannot_be_written() {
    require_root();
    let world = World::new();
    world.register(&["ann"]);
    let script = "mount --bind \"$2\" \"$2\" || exit 77
        mount -o remount,ro,bind \"$2\" || exit 77
        exec \"$1\" doctor --json";
    let place = world.path().to_str().expect("text");
    let program = env!("CARGO_BIN_EXE_c2c");
    let arguments = ["-m", "--propagation", "private", "sh", "-c", script, "sh", program, place];
    let done = run(world.program("unshare", &arguments));
    if done.status == 77 || done.err.contains("unshare") {
        skip("mounts are not permitted");
    }
    let report: Value = serde_json::from_str(&done.out).expect("JSON");
    for kind in ["root_not_writable", "home_not_writable"] {
        let rows = report["findings"].as_array().expect("rows");
        assert!(rows.iter().any(|row| row["kind"] == kind), "{kind}: {report}");
    }
}

crate::harness::tests! {
    fast:
        a_file_of_another_user_is_named_with_its_owner,
        doctor_reports_a_root_and_a_home_that_cannot_be_written;
    slow:
        what_root_writes_into_a_users_root_stays_usable_for_the_user;
}
