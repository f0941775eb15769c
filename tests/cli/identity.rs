//! Sessions, aliases and identities.

use serde_json::json;

use super::{Owner, as_session, assert_private, tree};
use crate::support::{World, contents, run};

fn a_restarted_session_receives_exactly_its_pending_mail() {
    let world = World::new();
    let owner = Owner::of(&world, "s1", "alice");
    world.register(&["bob"]);
    for text in ["one", "two", "three"] {
        world.run("bob", &["send", "alice", text]).ok();
    }
    owner.end();
    as_session(&world, "s2", &["register", "--alias", "alice"]).ok();
    let rows = as_session(&world, "s2", &["poll-inbox", "--json"]).ok().json();
    assert_eq!(contents(&rows), ["one", "two", "three"]);
    assert!(rows.as_array().unwrap().iter().all(|row| row.get("redelivered").is_none()));
    let again = as_session(&world, "s2", &["poll-inbox", "--json"]).ok().json();
    assert_eq!(again, json!([]));
}

fn a_superseded_session_receives_no_mail() {
    let world = World::new();
    Owner::of(&world, "s1", "alice").end();
    world.register(&["bob"]);
    as_session(&world, "s2", &["register", "--alias", "alice"]).ok();
    world.run("bob", &["send", "alice", "for the new one"]).ok();
    let commands: [&[&str]; 9] = [
        &["poll-inbox"],
        &["peek-inbox"],
        &["history"],
        &["whoami"],
        &["listen", "--once"],
        &["listen", "--once", "--take"],
        &["send", "bob", "as whom?"],
        &["rooms", "join", "den"],
        &["rename", "other"],
    ];
    for args in commands {
        let done = as_session(&world, "s1", args).fails_with("session_superseded");
        assert_eq!(done.out, "", "{args:?}");
    }
    assert_eq!(world.poll("bob"), [""; 0]);
    let rows = as_session(&world, "s2", &["poll-inbox", "--json"]).ok().json();
    assert_eq!(contents(&rows), ["for the new one"]);
    // After it registers another alias, the session can act again.
    as_session(&world, "s1", &["register", "--alias", "alice-the-first"]).ok();
    world.run("bob", &["send", "alice-the-first", "hello again"]).ok();
    let rows = as_session(&world, "s1", &["poll-inbox", "--json"]).ok().json();
    assert_eq!(contents(&rows), ["hello again"]);
}

fn a_rename_keeps_the_mailbox_and_suggests_the_new_alias() {
    let world = World::new();
    world.register(&["alice", "bob"]);
    world.run("bob", &["send", "alice", "before"]).ok();
    let renamed = world.run("alice", &["rename", "zoe", "--json"]).ok().json();
    assert_eq!(renamed["alias"], "zoe");
    world.run("bob", &["send", "zoe", "after"]).ok();
    let refused = world.run("bob", &["send", "alice", "old", "--json"]).fails_with("unknown_alias");
    assert_eq!(refused.json()["suggested_alias"], "zoe");
    let me = world.run("alice", &["whoami", "--json"]).ok().json();
    assert_eq!((&me["alias"], &me["former_aliases"]), (&json!("zoe"), &json!(["alice"])));
    assert_eq!(world.poll("alice"), ["before", "after"]);
    world.run("bob", &["rename", "ZOE"]).fails_with("alias_conflict");
}

fn an_alias_is_case_insensitive() {
    let world = World::new();
    let _owner = Owner::of(&world, "s1", "Bob");
    world.register(&["alice"]);
    world.run("other", &["register", "--alias", "bob"]).fails_with("alias_conflict");
    let sent = world.run("alice", &["send", "BOB", "hi", "--json"]).ok().json();
    assert_eq!(sent["to_alias"], "Bob");
    let rows = as_session(&world, "s1", &["poll-inbox", "--session-id", "s1", "--json"]).ok();
    assert_eq!(contents(&rows.json()), ["hi"]);
    assert_eq!(world.run("alice", &["list", "--json"]).ok().json().as_array().unwrap().len(), 2);
}

fn the_alias_of_a_live_session_is_rejected_with_a_suggestion() {
    let world = World::new();
    let _owner = Owner::of(&world, "s1", "alice");
    let taken = world.run("eve", &["register", "--alias", "alice", "--json"]);
    let taken = taken.fails_with("alias_conflict").json();
    assert_eq!(taken["error_code"], "alias_conflict");
    assert_eq!(taken["suggested_alias"], "alice-2");
    world.register(&["carol"]);
    world.run("carol", &["send", "alice", "hi"]).ok();
    world.run("eve", &["poll-inbox"]).fails_with("not_registered");
    let rows = as_session(&world, "x", &["poll-inbox", "--session-id", "s1", "--json"]).ok();
    assert_eq!(contents(&rows.json()), ["hi"]);
}

fn a_taken_alias_from_the_environment_gets_the_first_free_number() {
    let world = World::new();
    let _first = Owner::of(&world, "s1", "alice");
    let _second = Owner::of(&world, "s2", "alice-2");
    let as_third = |args: &[&str]| {
        let mut command = world.c2c(args);
        command.env("C2C_MCP_SESSION_ID", "s3").env("C2C_MCP_AUTO_REGISTER_ALIAS", "alice");
        run(command)
    };
    let row = as_third(&["register", "--json"]).ok().json();
    assert_eq!((&row["alias"], &row["asked"]), (&json!("alice-3"), &json!("alice")));
    assert_eq!(as_third(&["whoami", "--json"]).ok().json()["alias"], "alice-3");
    let again = as_third(&["register", "--json"]).ok().json();
    assert_eq!(again["alias"], "alice-3");
    assert!(as_third(&["register"]).ok().out.starts_with("registered alice-3 "));
}

fn an_inherited_environment_does_not_grant_the_identity_of_another_agent() {
    let world = World::new();
    let _owner = Owner::of(&world, "s-alice", "alice");
    world.register(&["bob"]);
    world.run("bob", &["send", "alice", "secret"]).ok();
    // The environment of alice, in a process that does not descend from her process.
    let commands: [&[&str]; 9] = [
        &["send", "bob", "who am I"],
        &["send", "bob", "x", "--from", "alice"],
        &["rooms", "join", "den"],
        &["poll-inbox"],
        &["peek-inbox"],
        &["history"],
        &["listen", "--once"],
        &["dnd", "on"],
        &["whoami"],
    ];
    for args in commands {
        let refused = world.run("alice", args).fails_with("not_registered");
        let names = ["belongs to process", "--session-id s-alice"];
        assert!(names.iter().all(|name| refused.err.contains(name)), "{args:?} {}", refused.err);
    }
    assert_eq!(world.poll("bob"), [""; 0]);
    // A session named by a flag is used.
    let rows = as_session(&world, "x", &["peek-inbox", "-s", "s-alice", "--json"]).ok().json();
    assert_eq!(contents(&rows), ["secret"]);
}

fn a_nested_agent_with_an_inherited_alias_gets_an_alias_of_its_own() {
    let world = World::new();
    let _owner = Owner::of(&world, "s-alice", "alice");
    world.register(&["bob"]);
    let nested = |args: &[&str]| {
        let mut command = world.c2c(args);
        command.env("C2C_MCP_SESSION_ID", "s-alice").env("C2C_MCP_AUTO_REGISTER_ALIAS", "alice");
        run(command)
    };
    let sent = nested(&["send", "bob", "hello", "--json"]).ok().json();
    assert_eq!(sent["from_alias"], "alice-2");
    world.run("bob", &["send", "alice-2", "reply"]).ok();
    assert_eq!(nested(&["whoami", "--json"]).ok().json()["alias"], "alice-2");
    assert_eq!(contents(&nested(&["peek-inbox", "--json"]).ok().json()), ["reply"]);
    assert_eq!(contents(&nested(&["poll-inbox", "--json"]).ok().json()), ["reply"]);
    let again = nested(&["send", "bob", "again", "--json"]).ok().json();
    assert_eq!(again["from_alias"], "alice-2");
}

fn a_command_without_an_identity_acts_as_the_user_and_receives_replies() {
    let world = World::new();
    world.register(&["alice"]);
    let without_identity = |args: &[&str]| run(world.c2c(args));
    without_identity(&["whoami"]).fails_with("not_registered");
    let sent = without_identity(&["send", "alice", "hello", "--json"]).ok().json();
    assert_eq!(sent["from_alias"], "cli-tester");
    world.run("alice", &["send", "cli-tester", "hello yourself"]).ok();
    let rows = without_identity(&["poll-inbox", "--json"]).ok().json();
    assert_eq!(contents(&rows), ["hello yourself"]);
    assert_eq!(without_identity(&["whoami", "--json"]).ok().json()["alias"], "cli-tester");
    assert_eq!(world.poll("alice"), ["hello"]);
}

fn an_invalid_alias_is_rejected_and_creates_nothing() {
    let world = World::new();
    let long = "a".repeat(65);
    let bad = [
        "../x",
        "a/b",
        ".x",
        "..",
        &long,
        "a\u{1}b",
        "a\nb",
        "a b",
        "é",
        "\u{202e}a",
        "c2c",
        "C2C",
        "admin",
        "system",
        "",
    ];
    for alias in bad {
        let alias = format!("--alias={alias}");
        for session in [Some("s-1"), None] {
            let mut command = world.c2c(&["register", &alias, "--json"]);
            if let Some(session) = session {
                command.env("C2C_MCP_SESSION_ID", session);
            }
            let done = run(command).fails_with("invalid_alias");
            assert_eq!(done.status, 1, "{alias:?}");
            assert_eq!(done.json()["error_code"], "invalid_alias", "{alias:?}");
        }
    }
    assert!(!world.root().exists());
    let longest = "a".repeat(64);
    world.run("1", &["register", "--alias", &longest]).ok();
    world.run("1", &["rename", "../x"]).fails_with("invalid_alias");
    world.run("1", &["rename", "admin"]).fails_with("invalid_alias");
    assert_eq!(world.run("1", &["whoami", "--json"]).ok().json()["alias"], longest.as_str());
}

fn an_invalid_session_id_is_rejected_and_creates_nothing() {
    let world = World::new();
    let long = "s".repeat(65);
    for session in ["../x", "a/b", ".x", &long, "a\nb", "a b"] {
        let by_flag = |args: &[&str]| {
            let flag = format!("--session-id={session}");
            run(world.c2c(&[args, &[flag.as_str()]].concat()))
        };
        by_flag(&["register", "--alias", "ok"]).fails_with("invalid_session_id");
        by_flag(&["poll-inbox"]).fails_with("invalid_session_id");
        by_flag(&["send", "somebody", "text"]).fails_with("invalid_session_id");
        as_session(&world, session, &["register", "--alias", "ok"])
            .fails_with("invalid_session_id");
    }
    assert!(!world.root().exists());
    // An empty value counts as missing.
    let mut command = world.c2c(&["register", "--alias", "ok", "--session-id", "", "--json"]);
    command.env("C2C_MCP_SESSION_ID", "").env("C2C_MCP_AUTO_REGISTER_ALIAS", "");
    assert_eq!(run(command).ok().json()["session_id"], "ok");
}

fn reading_commands_append_nothing() {
    let world = World::new();
    let reads: [&[&str]; 9] = [
        &["list"],
        &["whoami"],
        &["status"],
        &["health"],
        &["peek-inbox"],
        &["history"],
        &["sweep", "--dry-run"],
        &["rooms", "list"],
        &["dead-letter"],
    ];
    for read in reads {
        world.run("alice", read);
    }
    assert!(!world.root().exists(), "a reading command created the root");
    Owner::of(&world, "s-gone", "gone").end();
    world.register(&["alice", "bob"]);
    world.run("bob", &["send", "alice", "drained"]).ok();
    assert_eq!(world.poll("alice"), ["drained"]);
    world.run("bob", &["send", "alice", "waiting"]).ok();
    world.run("bob", &["send", "gone", "waiting too"]).ok();
    let before = tree(&world.root());
    for _ in 0..50 {
        for read in reads {
            world.run("alice", read).ok();
        }
        world.run("stranger", &["list"]).ok();
        assert_eq!(world.poll("bob"), [""; 0]);
    }
    assert!(tree(&world.root()) == before, "a reading command changed the root");
    assert_eq!(world.poll("alice"), ["waiting"]);
}

fn a_session_is_alive_only_while_its_process_runs() {
    let world = World::new();
    let mut owner = Owner::of(&world, "s1", "alice");
    let alive = || {
        let rows = world.run("x", &["list", "--json"]).ok().json();
        rows.as_array().unwrap().iter().map(|row| row["alive"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(alive(), [json!(true)]);
    owner.kill();
    // The process no longer runs, although its exit status is unread.
    assert_eq!(alive(), [json!(false)]);
    assert_eq!(world.run("x", &["list", "--alive", "--json"]).ok().json(), json!([]));
    world.run("bob", &["register", "--alias", "alice"]).ok();
    // A pid from the environment is accepted only if it is an ancestor.
    for pid in ["424242424", "1", "0", "-1", "x"] {
        let mut command = world.c2c(&["register", "--alias", "carol"]);
        command.env("C2C_MCP_SESSION_ID", "s-carol").env("C2C_MCP_CLIENT_PID", pid);
        run(command).ok();
        let rows = world.run("x", &["list", "--json"]).ok().json();
        let carol = rows.as_array().unwrap().iter().find(|row| row["alias"] == "carol").unwrap();
        assert!(carol["pid"] != 424_242_424_u64 && carol["pid"] != 0, "{pid}: {carol}");
    }
}

fn all_files_are_private_with_any_umask() {
    let world = World::new();
    let mut command = world.program("sh", &["-c", "umask 000; exec \"$0\" register --alias a"]);
    command.arg(env!("CARGO_BIN_EXE_c2c"));
    run(command).ok();
    assert_private(&world.root());
    let files = tree(&world.root());
    assert!(files.len() > 2);
    files.keys().for_each(|name| assert_private(name.as_ref()));
}

crate::harness::tests! {
    fast:
        a_restarted_session_receives_exactly_its_pending_mail,
        a_superseded_session_receives_no_mail,
        a_rename_keeps_the_mailbox_and_suggests_the_new_alias,
        an_alias_is_case_insensitive,
        the_alias_of_a_live_session_is_rejected_with_a_suggestion,
        a_taken_alias_from_the_environment_gets_the_first_free_number,
        an_inherited_environment_does_not_grant_the_identity_of_another_agent,
        a_nested_agent_with_an_inherited_alias_gets_an_alias_of_its_own,
        a_command_without_an_identity_acts_as_the_user_and_receives_replies,
        an_invalid_alias_is_rejected_and_creates_nothing,
        an_invalid_session_id_is_rejected_and_creates_nothing,
        a_session_is_alive_only_while_its_process_runs,
        all_files_are_private_with_any_umask;
    slow:
        reading_commands_append_nothing;
}
