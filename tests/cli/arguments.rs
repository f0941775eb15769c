//! Arguments, help and output formats of the command line.

use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{World, run};

fn help(world: &World, args: &[&str]) -> String {
    run(world.c2c(&[args, &["--help"]].concat())).ok().out
}

fn the_help_of_a_command_begins_with_its_line_in_the_list() {
    let world = World::new();
    let listed = help(&world, &[]);
    let commands = listed.lines().skip_while(|line| *line != "Commands:").skip(1);
    let mut count = 0;
    for line in commands.take_while(|line| !line.is_empty()) {
        let (name, about) = line.trim().split_once("  ").expect("a name and a description");
        let about = about.trim().split(" [alias").next().expect("text");
        if ["help", "log"].contains(&name) {
            continue;
        }
        let own = help(&world, &[name]);
        assert_eq!(own.lines().next(), Some(about), "{name}");
        count += 1;
    }
    assert!(count > 20, "{listed}");
    assert_eq!(run(world.c2c(&[])).ok().out, listed);
}

fn global_options_may_precede_the_command() {
    let world = World::new();
    let root = world.path().join("elsewhere").display().to_string();
    let at = |args: &[&str]| run(world.c2c(args));
    at(&["--broker-root", &root, "-s", "s1", "register", "--alias", "ann"]).ok();
    at(&["--root", &root, "--session-id=s1", "rooms", "create", "den"]).ok();
    let rooms = at(&["-s", "s1", "--json", "--broker-root", &root, "my-rooms"]).ok().json();
    assert_eq!(rooms[0]["room_id"], "den");
    let sent = at(&["-s", "s1", "--root", &root, "rooms", "send", "den", "--json", "hi"]).ok();
    assert_eq!(sent.json()["from_alias"], "ann");
    let members = at(&["rooms", "-s", "s1", "--root", &root, "members", "den"]).ok().out;
    assert!(members.starts_with("  ann "), "{members}");
    let set = ["rooms", "-s", "s1", "--root", &root, "visibility", "den", "-s", "local"];
    assert_eq!(at(&set).ok().out, "den: local\n");
    assert!(!world.root().exists());
    for wrong in [&["--json"][..], &["--broker-root"], &["-s", "s1"], &["--bogus", "list"]] {
        assert_eq!(at(wrong).status, 2, "{wrong:?}");
    }
}

fn an_invalid_argument_is_rejected_with_the_valid_values() {
    let world = World::new();
    world.register(&["ann", "bob"]);
    let cases: [(&[&str], i32, &str); 16] = [
        (&["sned", "bob", "x"], 2, "send"),
        (&["send"], 2, "<TO>"),
        (&["send", "bob", "x", "--ttl", "soon"], 2, "--ttl"),
        (&["send", "bob", "x", "--timeout", "-1"], 2, "0 or more"),
        (&["send", "bob", "x", "--timeout", "nan"], 2, "0 or more"),
        (&["send", "bob", "x", "--wait-for", "read"], 2, "acked"),
        (&["send", "bob", "x", "--tag", "oops"], 1, "fail, blocking, urgent"),
        (&["send", "bob", "x", "--message-id", "a b"], 1, "printable ASCII"),
        (&["send", "bob", "x", "--message-id", &"m".repeat(129)], 1, "128 bytes"),
        (&["poll-inbox", "--wait", "nan"], 2, "0 or more"),
        (&["listen", "--timeout", "nan"], 2, "0 or more"),
        (&["monitor", "--timeout", "-1"], 2, "0 or more"),
        (&["dnd", "maybe"], 2, "on, off, status"),
        (&["rooms", "create", "den", "--visibility", "some"], 1, "public, invite_only or local"),
        (&["--broker-root", "/etc/passwd", "list"], 1, "is not a directory [bad_root]"),
        (&["completion", "tcsh"], 2, "zsh"),
    ];
    for (args, status, expected) in cases {
        let done = world.run("ann", args);
        assert_eq!((done.status, done.out.as_str()), (status, ""), "{args:?} {}", done.err);
        assert!(done.err.contains(expected), "{args:?} {}", done.err);
    }
    assert_eq!(world.poll("bob"), [""; 0]);
    let mut bytes = world.c2c(&[]);
    bytes.arg(std::ffi::OsStr::from_bytes(b"\xff"));
    assert_eq!(run(bytes).status, 2);
}

fn a_closed_output_pipe_ends_a_command_silently() {
    let world = World::new();
    world.register(&["ann"]);
    for args in [&["list"][..], &["health"], &["list", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = world.c2c(args);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(1), 0), "{args:?}");
    }
}

fn json_output_is_json_and_text_output_is_in_columns() {
    let world = World::new();
    world.register(&["ann", "bob"]);
    world.run("ann", &["rooms", "create", "den"]).ok();
    world.run("ann", &["rooms", "send", "den", "hi"]).ok();
    let tail = world.run("ann", &["rooms", "tail", "den", "-n", "--json"]).ok().json();
    assert_eq!(tail["content"], "hi");
    let mirror = world.run("ann", &["mirror", "views", "--json"]).ok().json();
    assert_eq!(mirror["directory"], "views");
    let sent = world.run("ann", &["send-all", "x", "-x", "bob"]).ok().out;
    assert_eq!(sent, "No recipients.\n");
    let renamed = world.run("bob", &["rename", "robert"]).ok().out;
    assert_eq!(renamed, "renamed to robert (session s-bob)\n");
    let seen = world.run("ann", &["monitor", "--from-seq", "0", "--timeout", "0"]).ok().out;
    let first = seen.lines().next().expect("an event");
    assert_eq!(first, "       1  peer.alive  ann", "{seen}");
    let rows: Value = world.run("ann", &["list", "--json"]).ok().json();
    let listed = world.run("ann", &["list"]).ok().out;
    let columns = listed.lines().map(|line| line.find("alive"));
    assert_eq!(columns.collect::<Vec<_>>(), [Some(24); 2], "{listed} {rows}");
}

crate::harness::tests! {
    fast:
        the_help_of_a_command_begins_with_its_line_in_the_list,
        global_options_may_precede_the_command,
        an_invalid_argument_is_rejected_with_the_valid_values,
        a_closed_output_pipe_ends_a_command_silently,
        json_output_is_json_and_text_output_is_in_columns;
}
