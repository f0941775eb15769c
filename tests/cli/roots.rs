//! Resolution of the broker root: repositories, pins, session pointers and removed directories.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::root_layouts::{REMOTE, origin, repository, worktree};
use crate::support::{Outcome, World, contents, run, run_or_kill};

/// `c2c` in a directory, with the root that c2c finds by itself.
fn c2c_in(world: &World, directory: &Path, args: &[&str]) -> Command {
    let mut command = world.c2c(args);
    command.env_remove("C2C_MCP_BROKER_ROOT").current_dir(directory);
    command
}

/// Runs `c2c` in a directory as a session.
fn as_session(world: &World, directory: &Path, session: &str, args: &[&str]) -> Outcome {
    let mut command = c2c_in(world, directory, args);
    command.env("C2C_MCP_SESSION_ID", session);
    run(command)
}

/// The root for a directory.
pub fn root_of(world: &World, directory: &Path) -> String {
    let health = run(c2c_in(world, directory, &["health", "--json"])).ok().json();
    health["broker_root"].as_str().expect("a root").to_owned()
}

/// A change of a repository after its root was used: what happens to it, and where it is then.
type Change = fn(&Path) -> PathBuf;

const CHANGES: &[(&str, &str, Change)] = &[
    ("remote added", "", |top| {
        repository(top, &origin(REMOTE));
        top.to_owned()
    }),
    ("remote changed", REMOTE, |top| {
        repository(top, &origin("git@elsewhere:x/y.git"));
        top.to_owned()
    }),
    ("remote renamed", REMOTE, |top| {
        repository(top, &origin(REMOTE).replace("origin", "upstream"));
        top.to_owned()
    }),
    ("remote renamed and another added", REMOTE, |top| {
        let fork = origin("git@github.com:fork/repo.git");
        repository(top, &format!("{}{fork}", origin(REMOTE).replace("origin", "upstream")));
        top.to_owned()
    }),
    ("remote removed", REMOTE, |top| {
        repository(top, "");
        top.to_owned()
    }),
    ("configuration damaged", REMOTE, |top| {
        repository(top, "[remote \"origin\nurl");
        top.to_owned()
    }),
    ("moved, with a remote", REMOTE, |top| {
        let to = top.with_file_name("moved");
        fs::rename(top, &to).expect("move");
        to
    }),
    ("moved, without a remote", "", |top| {
        let to = top.with_file_name("moved");
        fs::rename(top, &to).expect("move");
        to
    }),
    ("cloned again, with another spelling", REMOTE, |top| {
        let to = top.with_file_name("again");
        repository(&to, &origin("https://token@github.com/owner/repo"));
        to
    }),
    ("worktree of a repository that was removed", "", |top| {
        let work = top.with_file_name("work");
        worktree(&work, &top.join(".git"), "work");
        fs::remove_dir_all(top).expect("remove");
        work
    }),
];

fn a_root_that_was_used_stays_the_root_of_its_repository() {
    for (name, url, change) in CHANGES {
        let world = World::new();
        let top = world.path().join("repository");
        repository(&top, &if url.is_empty() { String::new() } else { origin(url) });
        // A session of an ended process has no pointer that counts, so only the pin decides.
        let before = root_of(&world, &top);
        as_session(&world, &top, "s-ann", &["register", "--alias", "ann"]).ok();
        let now = change(&top);
        assert_eq!(root_of(&world, &now), before, "{name}");
        let peers = run(c2c_in(&world, &now, &["list", "--json"])).ok().json();
        assert_eq!(peers[0]["alias"], "ann", "{name}");
    }
}

fn a_remote_that_was_added_leads_a_second_clone_to_the_same_root() {
    let world = World::new();
    let (first, second) = (world.path().join("first"), world.path().join("second"));
    repository(&first, "");
    as_session(&world, &first, "s-ann", &["register", "--alias", "ann"]).ok();
    let root = root_of(&world, &first);
    repository(&first, &origin(REMOTE));
    as_session(&world, &first, "s-bob", &["register", "--alias", "bob"]).ok();
    repository(&second, &origin("https://github.com/owner/repo"));
    assert_eq!(root_of(&world, &second), root);
}

fn a_copy_of_a_repository_without_a_remote_has_its_own_root() {
    let world = World::new();
    let (first, copy) = (world.path().join("first"), world.path().join("copy"));
    repository(&first, "");
    as_session(&world, &first, "s-ann", &["register", "--alias", "ann"]).ok();
    repository(&copy, "");
    assert_ne!(root_of(&world, &copy), root_of(&world, &first));
    // A copy of one with a remote is another clone.
    let (first, copy) = (world.path().join("first2"), world.path().join("copy2"));
    repository(&first, &origin(REMOTE));
    as_session(&world, &first, "s-bob", &["register", "--alias", "bob"]).ok();
    repository(&copy, &origin(REMOTE));
    assert_eq!(root_of(&world, &copy), root_of(&world, &first));
}

fn a_root_of_an_earlier_version_is_found_again() {
    for (name, config) in [("by its URL", origin(REMOTE)), ("by its directory", String::new())] {
        let world = World::new();
        let top = world.path().join("repository");
        repository(&top, &config);
        let key = match config.is_empty() {
            true => fs::canonicalize(top.join(".git")).expect("path").display().to_string(),
            false => REMOTE.to_owned(),
        };
        let older = older_root(&world, &key);
        fs::create_dir_all(&older).expect("root");
        assert_eq!(root_of(&world, &top), older.display().to_string(), "{name}");
        as_session(&world, &top, "s-ann", &["register", "--alias", "ann"]).ok();
        repository(&top, &origin("git@elsewhere:x/y.git"));
        assert_eq!(root_of(&world, &top), older.display().to_string(), "{name}");
    }
}

/// The root of a URL or a path in earlier versions.
fn older_root(world: &World, key: &str) -> PathBuf {
    let digest = c2c_log_format::checksum::sha256(key.as_bytes());
    let fingerprint = c2c_log_format::id::hex(&digest[..6]);
    world.path().join("home/.c2c/repos").join(fingerprint).join("broker")
}

fn records_are_private_and_outside_of_the_repository() {
    let world = World::new();
    let top = world.path().join("repository");
    repository(&top, &origin(REMOTE));
    as_session(&world, &top, "s-ann", &["register", "--alias", "ann"]).ok();
    let mut files = 0;
    for name in ["pins", "sessions"] {
        let directory = world.path().join("home/.c2c").join(name);
        assert_eq!(
            fs::metadata(&directory).expect("directory").permissions().mode() & 0o777,
            0o700
        );
        for file in fs::read_dir(&directory).expect("records").flatten() {
            let mode = file.metadata().expect("metadata").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{:?}", file.path());
            files += 1;
        }
    }
    assert!(files >= 3, "{files}");
    let mut names: Vec<String> = fs::read_dir(top.join(".git"))
        .expect("entries")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["HEAD", "config", "objects", "refs"]);
}

/// Spoils a pin.
type Spoil = fn(&Path);

fn a_planted_or_foreign_pin_is_ignored() {
    let plant: [(&str, Spoil); 6] = [
        ("link", |pin| {
            fs::rename(pin, pin.with_extension("old")).expect("rename");
            symlink(pin.with_extension("old"), pin).expect("link");
        }),
        ("writable by others", |pin| {
            fs::set_permissions(pin, fs::Permissions::from_mode(0o666)).expect("mode");
        }),
        ("directory", |pin| {
            fs::remove_file(pin).expect("remove");
            fs::create_dir(pin).expect("directory");
        }),
        ("truncated", |pin| {
            let text = fs::read(pin).expect("pin");
            fs::write(pin, &text[..text.len() - 1]).expect("pin");
        }),
        ("relative root", |pin| fs::write(pin, "c2c pin 1\nroot\n/x\n").expect("pin")),
        ("foreign", |pin| {
            // Only root can give a file away.
            let _ = std::os::unix::fs::chown(pin, Some(12345), None);
            if fs::metadata(pin).is_ok_and(|file| std::os::unix::fs::MetadataExt::uid(&file) == 0) {
                fs::remove_file(pin).expect("remove");
            }
        }),
    ];
    for (name, spoil) in plant {
        let world = World::new();
        let top = world.path().join("repository");
        repository(&top, "");
        let named = world.path().join("elsewhere/repos/0123456789ab/broker");
        as_session(&world, &top, "s-ann", &["register", "--alias", "ann"]).ok();
        let own = root_of(&world, &top);
        for pin in fs::read_dir(world.path().join("home/.c2c/pins")).expect("pins").flatten() {
            let text = fs::read_to_string(pin.path()).expect("pin");
            fs::write(pin.path(), text.replace(&own, &named.display().to_string())).expect("pin");
            spoil(&pin.path());
        }
        assert_eq!(root_of(&world, &top), own, "{name}");
        as_session(&world, &top, "s-bob", &["register", "--alias", "bob"]).ok();
        assert_eq!(root_of(&world, &top), own, "{name}");
    }
}

fn a_pin_to_a_removed_root_creates_it_again() {
    let world = World::new();
    let top = world.path().join("repository");
    repository(&top, "");
    as_session(&world, &top, "s-ann", &["register", "--alias", "ann"]).ok();
    let root = root_of(&world, &top);
    fs::remove_dir_all(&root).expect("remove");
    repository(&top, &origin(REMOTE));
    assert_eq!(root_of(&world, &top), root);
    as_session(&world, &top, "s-ann", &["register", "--alias", "ann"]).ok();
    assert_eq!(root_of(&world, &top), root);
}

fn a_removed_working_directory_is_an_error_and_never_another_root() {
    let world = World::new();
    let in_removed = |args: &[&str], session: Option<&str>| {
        let removed = world.path().join("removed");
        fs::create_dir_all(&removed).expect("directory");
        let script = "rmdir \"$PWD\" && exec \"$0\" \"$@\"";
        let all = [&["-c", script, env!("CARGO_BIN_EXE_c2c")], args].concat();
        let mut command = world.program("sh", &all);
        command.env_remove("C2C_MCP_BROKER_ROOT").current_dir(&removed);
        if let Some(session) = session {
            command.env("C2C_MCP_SESSION_ID", session);
        }
        run(command)
    };
    for args in [&["list"][..], &["send", "ann", "x"], &["poll-inbox"], &["health"], &["mcp"]] {
        let done = in_removed(args, None).fails_with("bad_directory");
        assert_eq!((done.status, &*done.out), (1, ""), "{args:?}");
    }
    in_removed(&["list", "--broker-root", "relative"], None).fails_with("bad_directory");
    assert!(!world.path().join("home/.c2c").exists());
    // A root that the directory does not determine is used.
    let root = world.root().display().to_string();
    fs::create_dir(&root).expect("a root");
    in_removed(&["health", "--broker-root", &root], None).ok();
    let top = world.path().join("repository");
    repository(&top, "");
    as_session(&world, &top, "s-ann", &["register", "--alias", "ann"]).ok();
    let me = in_removed(&["whoami", "--json"], Some("s-ann")).ok().json();
    assert_eq!(me["alias"], "ann");
}

fn a_session_finds_its_root_from_every_directory() {
    let world = World::new();
    let (top, other) = (world.path().join("a"), world.path().join("a/sub"));
    repository(&top, "");
    repository(&other, &origin(REMOTE));
    as_session(&world, &top, "s-ann", &["register", "--alias", "ann"]).ok();
    as_session(&world, &top, "s-bob", &["register", "--alias", "bob"]).ok();
    as_session(&world, &other, "s-bob", &["send", "ann", "one"]).ok();
    let rows = as_session(&world, &other, "s-ann", &["poll-inbox", "--json"]).ok().json();
    assert_eq!(contents(&rows), ["one"]);
    let by_flag = run(c2c_in(&world, &other, &["whoami", "--json", "-s", "s-ann"])).ok().json();
    assert_eq!(by_flag["alias"], "ann");
    // An id that a client made for one conversation counts without its process.
    let mut register = c2c_in(&world, &top, &["register", "--alias", "cat"]);
    register.env("CLAUDE_CODE_SESSION_ID", "conversation-1");
    run(register).ok();
    let mut whoami = c2c_in(&world, &other, &["whoami", "--json"]);
    whoami.env("CLAUDE_CODE_SESSION_ID", "conversation-1");
    assert_eq!(run(whoami).ok().json()["alias"], "cat");
    assert!(!root_of(&world, &other).contains(&root_of(&world, &top)));
}

fn a_pointer_of_a_session_whose_process_ended_or_of_an_alias_does_not_count() {
    let world = World::new();
    let (top, other) = (world.path().join("a"), world.path().join("b"));
    repository(&top, "");
    repository(&other, "");
    let mut register = world
        .program("sh", &["-c", "\"$0\" register --alias ann; true", env!("CARGO_BIN_EXE_c2c")]);
    register.env_remove("C2C_MCP_BROKER_ROOT").env("C2C_MCP_SESSION_ID", "s-1").current_dir(&top);
    run(register).ok();
    // The same id in another repository, by another client.
    as_session(&world, &other, "s-1", &["register", "--alias", "bob"]).ok();
    assert_eq!(as_session(&world, &other, "s-1", &["whoami", "--json"]).json()["alias"], "bob");
    let peers = run(c2c_in(&world, &top, &["list", "--json"])).ok().json();
    assert_eq!(peers[0]["alias"], "ann");
    let mut by_alias = c2c_in(&world, &top, &["register"]);
    by_alias.env("C2C_MCP_AUTO_REGISTER_ALIAS", "dan");
    run(by_alias).ok();
    let mut elsewhere = c2c_in(&world, &other, &["whoami"]);
    elsewhere.env("C2C_MCP_AUTO_REGISTER_ALIAS", "dan");
    run(elsewhere).fails_with("not_registered");
}

/// The output of a hook in a directory, without any variable of a session.
fn hook(world: &World, directory: &Path, session: &str, event: &str) -> String {
    let input = json!({"hook_event_name": event, "session_id": session, "cwd": directory});
    let script = "printf '%s' \"$1\" | \"$0\" hook";
    let args = ["-c", script, env!("CARGO_BIN_EXE_c2c"), &input.to_string()];
    let mut command = world.program("sh", &args);
    command.env_remove("C2C_MCP_BROKER_ROOT");
    run(command).ok().out
}

fn a_hook_finds_the_root_of_its_session_from_every_directory() {
    let world = World::new();
    let (top, other) = (world.path().join("a"), world.path().join("b"));
    let gone = world.path().join("gone");
    repository(&top, "");
    repository(&other, &origin(REMOTE));
    as_session(&world, &top, "s-ann", &["register", "--alias", "ann"]).ok();
    as_session(&world, &top, "s-bob", &["register", "--alias", "bob"]).ok();
    for (directory, text) in [(&other, "one"), (&gone, "two"), (&top, "three")] {
        as_session(&world, &top, "s-bob", &["send", "ann", text]).ok();
        assert!(hook(&world, directory, "s-ann", "Stop").contains(text), "{text}");
    }
    // The client names its conversation only in the hook: the first hook records its root.
    as_session(&world, &top, "s-ann", &["send", "bob", "four"]).ok();
    assert_eq!(hook(&world, &other, "conversation-9", "Stop"), "");
    assert!(hook(&world, &top, "conversation-9", "Stop").contains("four"));
    as_session(&world, &top, "s-ann", &["send", "bob", "five"]).ok();
    assert!(hook(&world, &other, "conversation-9", "Stop").contains("five"));
}

/// Calls a tool of a server that a script of the client starts, for a thread of Codex, and returns the
/// answer.
fn call_as_thread_with(
    mut client: Command,
    start: &str,
    thread: &str,
    tool: &str,
    arguments: &Value,
) -> String {
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"}}});
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": tool, "arguments": arguments, "_meta": {"threadId": thread}}});
    // The server is a child of the client, which waits for it.
    let script = format!("{start}; exit $?");
    client.args(["-c", &script]).env("C2C", env!("CARGO_BIN_EXE_c2c"));
    let mut child =
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the client");
    let mut input = child.stdin.take().expect("its input");
    for message in [initialize, ready, call] {
        writeln!(input, "{message}").expect("the server reads");
    }
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let mut lines = output.lines().map_while(Result::ok);
    let answer = lines.find(|line| line.contains("\"id\":2")).unwrap_or_default();
    drop(input);
    let _ = child.wait();
    answer
}

fn a_server_with_a_stripped_environment_uses_the_root_of_its_clients_hooks() {
    let world = World::new();
    let top = world.path().join("a");
    repository(&top, "");
    let state = world.path().join("state");
    let with_state = |args: &[&str], session: &str| {
        let mut command = c2c_in(&world, &top, args);
        command.env("XDG_STATE_HOME", &state).env("C2C_MCP_SESSION_ID", session);
        run(command).ok()
    };
    with_state(&["register", "--alias", "bob"], "s-bob");
    // The client has the variable and starts its server without it.
    let script = "env -u XDG_STATE_HOME \"$C2C\" mcp";
    let mut client = world.program("sh", &[]);
    client.env_remove("C2C_MCP_BROKER_ROOT").env("XDG_STATE_HOME", &state).current_dir(&top);
    client.env("C2C_MCP_CLIENT_TYPE", "codex");
    let arguments = json!({"alias": "cod"});
    let answer = call_as_thread_with(client, script, "thread-1", "register", &arguments);
    assert!(answer.contains("registered"), "{answer}");
    let sent = with_state(&["send", "cod", "hello", "--json"], "s-bob").json();
    assert_eq!(sent["to_alias"], "cod");
    assert!(!world.path().join("home/.c2c").exists());
}

fn a_server_follows_a_thread_that_a_hook_registered_elsewhere() {
    let world = World::new();
    let (top, other) = (world.path().join("a"), world.path().join("b"));
    repository(&top, "");
    repository(&other, "");
    as_session(&world, &top, "s-bob", &["register", "--alias", "bob"]).ok();
    let input = json!({"hook_event_name": "SessionStart", "session_id": "thread-2", "cwd": top});
    // Another client than the one that registered bob.
    let script =
        "sh -c 'printf %s \"$1\" | \"$0\" hook --alias cod; exit $?' \"$0\" \"$1\"; exit $?";
    let args = ["-c", script, env!("CARGO_BIN_EXE_c2c"), &input.to_string()];
    let mut command = world.program("sh", &args);
    command.env_remove("C2C_MCP_BROKER_ROOT").env("C2C_MCP_CLIENT_TYPE", "codex");
    run(command).ok();
    let mut client = world.program("sh", &[]);
    client.env_remove("C2C_MCP_BROKER_ROOT").current_dir(&other);
    client.env("C2C_MCP_CLIENT_TYPE", "codex");
    let arguments = json!({"to_alias": "bob", "content": "from the thread"});
    let answer = call_as_thread_with(client, "\"$C2C\" mcp", "thread-2", "send", &arguments);
    assert!(answer.contains("queued"), "{answer}");
    let rows = as_session(&world, &top, "s-bob", &["poll-inbox", "--json"]).ok().json();
    assert_eq!(contents(&rows), ["from the thread"]);
}

fn a_command_killed_at_any_moment_leaves_whole_records() {
    let world = World::new();
    for round in 0..40 {
        let top = world.path().join(format!("r{round}"));
        repository(&top, &origin(&format!("git@host:r{round}")));
        let before = root_of(&world, &top);
        let mut command = c2c_in(&world, &top, &["register", "--alias", "ann"]);
        command.env("C2C_MCP_SESSION_ID", format!("s-{round}")).stdout(Stdio::null());
        run_or_kill(command.spawn().expect("starts"), 100 * round);
        assert_eq!(root_of(&world, &top), before);
        for name in ["pins", "sessions"] {
            let records = fs::read_dir(world.path().join("home/.c2c").join(name));
            for record in records.into_iter().flatten().flatten() {
                let text = fs::read_to_string(record.path()).unwrap_or_default();
                let is_temporary = record.file_name().to_string_lossy().starts_with('.');
                assert!(is_temporary || text.ends_with('\n'), "{text:?}");
            }
        }
        as_session(&world, &top, &format!("s-{round}"), &["register", "--alias", "ann"]).ok();
        assert_eq!(root_of(&world, &top), before);
    }
}

crate::harness::tests! {
    fast:
        a_root_that_was_used_stays_the_root_of_its_repository,
        a_remote_that_was_added_leads_a_second_clone_to_the_same_root,
        a_copy_of_a_repository_without_a_remote_has_its_own_root,
        a_root_of_an_earlier_version_is_found_again,
        records_are_private_and_outside_of_the_repository,
        a_planted_or_foreign_pin_is_ignored,
        a_pin_to_a_removed_root_creates_it_again,
        a_removed_working_directory_is_an_error_and_never_another_root,
        a_session_finds_its_root_from_every_directory,
        a_pointer_of_a_session_whose_process_ended_or_of_an_alias_does_not_count,
        a_hook_finds_the_root_of_its_session_from_every_directory,
        a_server_with_a_stripped_environment_uses_the_root_of_its_clients_hooks,
        a_server_follows_a_thread_that_a_hook_registered_elsewhere;
    slow:
        a_command_killed_at_any_moment_leaves_whole_records;
}
