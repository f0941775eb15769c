//! Hints of errors outside of the broker root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::support::{World, run};

/// The user that runs a command which must not be able to write everything.
const NOBODY: u32 = 65_534;

/// A command in a world that belongs to another user than root, who ignores the mode of a file.
fn as_other_user(world: &World, args: &[&str]) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return world.c2c(args);
    }
    for path in [world.path(), &world.path().join("home")] {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("a new owner");
    }
    // A copy that this user can reach, written by another process: a file that this process has open
    // for writing cannot be executed.
    let program = world.path().join("c2c");
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_c2c")).arg(&program).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let mut command = world.program(program.to_str().expect("text"), args);
    command.uid(NOBODY).gid(NOBODY);
    command
}

fn setup_on_a_file_that_cannot_be_written_names_that_file_in_its_hint() {
    let world = World::new();
    let file = world.path().join("home/.claude.json");
    fs::write(&file, "{}\n").expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).expect("read-only");
    let command = as_other_user(&world, &["setup", "claude-code"]);
    let done = run(command);
    let hint = done.err.lines().find(|line| line.contains("hint:")).expect("a hint").to_owned();
    assert!(hint.contains(&file.display().to_string()), "{hint}");
    assert!(hint.contains("owner") && hint.contains("mode"), "{hint}");
    assert!(!done.err.contains("broker root"), "{}", done.err);
    done.fails_with("storage_failed");
    assert_eq!(fs::read_to_string(&file).expect("the file"), "{}\n");
}

fn setup_below_a_file_in_place_of_a_directory_gives_no_hint_about_the_root() {
    let world = World::new();
    fs::write(world.path().join("home/.claude"), "not a directory").expect("written");
    let done = run(world.c2c(&["setup", "claude-code"]));
    assert!(done.err.contains(".claude/settings.json"), "{}", done.err);
    assert!(!done.err.contains("hint:"), "{}", done.err);
    done.fails_with("storage_failed");
}

fn setup_in_a_removed_directory_says_to_change_directory() {
    let world = World::new();
    let removed = world.path().join("removed");
    fs::create_dir(&removed).expect("a directory");
    let script = "rmdir \"$PWD\" && exec \"$0\" setup claude-code";
    let mut command = world.program("sh", &["-c", script, env!("CARGO_BIN_EXE_c2c")]);
    command.current_dir(&removed);
    let done = run(command);
    assert_eq!(done.status, 1, "{}", done.out);
    assert!(done.err.contains("the working directory"), "{}", done.err);
    assert!(done.err.contains("hint: it was removed: change to an existing"), "{}", done.err);
    assert!(!done.err.contains("pending") && !done.err.contains("output"), "{}", done.err);
    assert!(!world.path().join("home/.claude.json").exists());
}

crate::harness::tests! {
    fast:
        setup_on_a_file_that_cannot_be_written_names_that_file_in_its_hint,
        setup_below_a_file_in_place_of_a_directory_gives_no_hint_about_the_root,
        setup_in_a_removed_directory_says_to_change_directory;
}
