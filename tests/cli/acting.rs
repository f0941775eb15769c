//! The identity that a command acts under, and the root that it names.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::{Owner, as_session};
use crate::support::{Outcome, World, contents, run};

/// Runs `c2c` inside of the shell of a client that sets its own variables.
fn in_client(world: &World, args: &[&str]) -> Outcome {
    let mut command = world.c2c(args);
    command.env("CLAUDE_CODE_SESSION_ID", "9d2c-conversation").env("CODEX_THREAD_ID", "thread-7");
    run(command)
}

fn without_identity(world: &World, args: &[&str]) -> Outcome {
    run(world.c2c(args))
}

/// The commands that read the mail of the caller.
const READING: [&[&str]; 7] = [
    &["poll-inbox"],
    &["poll-inbox", "--wait", "5"],
    &["peek-inbox"],
    &["history"],
    &["listen", "--timeout", "5"],
    &["listen", "--take", "--timeout", "5"],
    &["dnd"],
];

fn a_reading_command_without_an_identity_is_rejected() {
    let world = World::new();
    world.register(&["bob"]);
    for args in READING.iter().chain(&[&["dnd", "on"][..]]) {
        for done in [
            without_identity(&world, args),
            in_client(&world, args),
            as_session(&world, "s-unknown", args),
        ] {
            let done = done.fails_with("not_registered");
            assert_eq!((done.status, &*done.out), (1, ""), "{args:?}");
            let root = world.root().display().to_string();
            assert!(done.err.contains(&root), "{args:?}: {}", done.err);
        }
    }
    let peers = world.run("bob", &["list", "--json"]).ok().json();
    assert_eq!(peers.as_array().expect("rows").len(), 1, "{peers}");
    // Once the user is registered, the same commands act as the user.
    without_identity(&world, &["send", "bob", "hi"]).ok();
    world.run("bob", &["send", "cli-tester", "hello"]).ok();
    let rows = without_identity(&world, &["peek-inbox", "--json"]).ok().json();
    assert_eq!(contents(&rows), ["hello"]);
    let seen = in_client(&world, &["poll-inbox", "--json"]).ok();
    assert_eq!(contents(&seen.json()), ["hello"]);
    assert!(seen.err.contains("acting as 'cli-tester'"), "{}", seen.err);
}

fn the_first_use_of_the_users_alias_is_reported() {
    let world = World::new();
    world.register(&["bob"]);
    let first = without_identity(&world, &["send", "bob", "one"]).ok();
    assert!(first.err.contains("registered 'cli-tester'"), "{}", first.err);
    let second = without_identity(&world, &["send", "bob", "two"]).ok();
    assert_eq!(second.err, "");
    assert_eq!(world.poll("bob"), ["one", "two"]);
}

fn an_id_that_only_the_client_supplied_counts_as_nothing_named() {
    let world = World::new();
    world.register(&["bob"]);
    for text in ["one", "two"] {
        let sent = in_client(&world, &["send", "bob", text, "--json"]).ok();
        assert_eq!(sent.json()["from_alias"], "cli-tester");
        assert!(sent.err.contains("9d2c-conversation"), "{}", sent.err);
    }
    // Another shell of the user is the same user.
    let mut other = world.c2c(&["send", "bob", "three", "--json"]);
    other.env("CODEX_THREAD_ID", "thread-8");
    assert_eq!(run(other).ok().json()["from_alias"], "cli-tester");
    assert_eq!(world.poll("bob"), ["one", "two", "three"]);
    // A registration names the conversation.
    in_client(&world, &["register", "--alias", "ann"]).ok();
    let sent = in_client(&world, &["send", "bob", "four", "--json"]).ok();
    assert_eq!((&sent.json()["from_alias"], &*sent.err), (&json!("ann"), ""));
}

fn an_id_of_a_client_whose_process_is_another_is_rejected_with_its_holder() {
    let world = World::new();
    let mut owner = world.program("sh", &[]);
    owner.args(["-c", "\"$0\" register --alias ann >&2; echo ready; read x"]);
    owner.arg(env!("CARGO_BIN_EXE_c2c")).env("CLAUDE_CODE_SESSION_ID", "9d2c-conversation");
    owner.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut owner = owner.spawn().expect("a shell");
    let mut line = String::new();
    let mut out = std::io::BufReader::new(owner.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut out, &mut line).expect("a line");
    for args in [&["send", "ann", "x"][..], &["poll-inbox"]] {
        let refused = in_client(&world, args).fails_with("not_registered");
        assert!(refused.err.contains(&format!("process {}", owner.id())), "{}", refused.err);
    }
    drop(owner.stdin.take());
    owner.wait().expect("its end");
}

fn a_swept_session_that_returns_is_itself_again() {
    let world = World::new();
    for (args, expected) in
        [(&["send", "bob", "back", "--json"][..], "from_alias"), (&["whoami", "--json"], "alias")]
    {
        Owner::of(&world, "s-ann", "ann").end();
        world.register(&["bob"]);
        world.run("bob", &["send", "ann", "before the sweep"]).ok();
        world.run("bob", &["sweep"]).ok();
        let done = as_session(&world, "s-ann", args).ok();
        assert_eq!(done.json()[expected], "ann", "{args:?}");
        let rows = as_session(&world, "s-ann", &["poll-inbox", "--json"]).ok().json();
        assert_eq!(contents(&rows), ["before the sweep"], "{args:?}");
        world.run("bob", &["sweep"]).ok();
    }
    // The alias has another holder by now.
    Owner::of(&world, "s-cat", "cat").end();
    world.run("bob", &["sweep"]).ok();
    as_session(&world, "s-new", &["register", "--alias", "cat"]).ok();
    as_session(&world, "s-cat", &["poll-inbox"]).fails_with("not_registered");
}

fn commands_in(world: &World, directory: &Path, args: &[&str]) -> Outcome {
    let mut command = world.c2c(args);
    command.env_remove("C2C_MCP_BROKER_ROOT").current_dir(directory);
    run(command)
}

fn an_unknown_alias_is_reported_with_the_root_and_the_root_that_has_it() {
    let world = World::new();
    let (first, second) = (world.path().join("first"), world.path().join("second dir"));
    for directory in [&first, &second] {
        fs::create_dir_all(directory.join(".git")).expect("a repository");
    }
    commands_in(&world, &first, &["register", "--alias", "ann"]).ok();
    commands_in(&world, &second, &["register", "--alias", "bob"]).ok();
    let health = commands_in(&world, &first, &["health", "--json"]).ok().json();
    let first_root = health["broker_root"].as_str().expect("a root").to_owned();
    let health = commands_in(&world, &second, &["health", "--json"]).ok().json();
    let second_root = health["broker_root"].as_str().expect("a root").to_owned();
    let refused = commands_in(&world, &second, &["send", "ann", "x"]).fails_with("unknown_alias");
    let own = format!("'ann' in the broker root {second_root}");
    assert!(refused.err.contains(&own), "{}", refused.err);
    let hint = format!("--broker-root {first_root}");
    assert!(refused.err.contains(&hint), "{}", refused.err);
    commands_in(&world, &second, &["send", "ann", "x", "--broker-root", &first_root]).ok();
    let nobody = commands_in(&world, &second, &["send", "zoe-x", "x"]).fails_with("unknown_alias");
    assert!(!nobody.err.contains("--broker-root"), "{}", nobody.err);
    // All roots, each with its repository.
    let text = commands_in(&world, &first, &["list", "--everywhere"]).ok().out;
    for expected in [&*first_root, &*second_root, "ann", "bob", "second dir"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let rows = commands_in(&world, &first, &["list", "--everywhere", "--json"]).ok().json();
    let bob = rows.as_array().expect("rows").iter().find(|row| row["alias"] == "bob");
    assert_eq!(bob.expect("bob")["broker_root"], json!(second_root));
    // An empty root says which it is.
    let third = world.path().join("third");
    fs::create_dir_all(third.join(".git")).expect("a repository");
    let empty = commands_in(&world, &third, &["list"]).ok();
    assert_eq!(empty.out, "No registered peers.\n");
    assert!(empty.err.contains("--everywhere"), "{}", empty.err);
}

fn a_query_in_a_root_that_does_not_exist_is_rejected() {
    let world = World::new();
    let missing = world.path().join("no/such/root").display().to_string();
    let queries: [&[&str]; 8] = [
        &["list"],
        &["status"],
        &["health"],
        &["whoami"],
        &["poll-inbox"],
        &["history"],
        &["rooms", "list"],
        &["trace", "x"],
    ];
    for args in queries {
        let args = [args, &["--broker-root", &missing]].concat();
        let refused = without_identity(&world, &args).fails_with("bad_root");
        assert!(refused.err.contains(&missing), "{args:?}: {}", refused.err);
        assert_eq!(refused.out, "", "{args:?}");
    }
    // A command that writes creates the root.
    let register = ["register", "--alias", "ann", "--broker-root", &missing];
    without_identity(&world, &register).ok();
    without_identity(&world, &["list", "--broker-root", &missing]).ok();
}

/// An MCP server with its pipes.
struct Server {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    last: u64,
}

impl Server {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a server");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut server = Self { child, lines, last: 0 };
        let parameters = json!({"protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"}});
        server.request("initialize", &parameters);
        server.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        server
    }

    fn write(&mut self, message: &Value) {
        let input = self.child.stdin.as_mut().expect("its input");
        writeln!(input, "{message}").expect("the server reads");
    }

    fn request(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let id = self.last;
        self.write(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": parameters}));
        let texts = self.lines.by_ref().map_while(Result::ok);
        let mut answers = texts.filter_map(|text| serde_json::from_str::<Value>(&text).ok());
        answers.find(|answer| answer["id"] == id).expect("an answer")["result"].clone()
    }

    /// The structured result of a tool.
    fn tool(&mut self, name: &str, arguments: &Value) -> Value {
        let parameters = json!({"name": name, "arguments": arguments});
        self.request("tools/call", &parameters)["structuredContent"].clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn a_server_whose_root_was_removed_registers_its_session_again() {
    let world = World::new();
    let mut command = world.c2c(&["mcp"]);
    command.env("C2C_MCP_AUTO_REGISTER_ALIAS", "ann");
    let mut ann = Server::start(command);
    let mut command = world.c2c(&["mcp"]);
    command.env("C2C_MCP_SESSION_ID", "s-late");
    let mut late = Server::start(command);
    for tool in ["poll_inbox", "peek_inbox", "history"] {
        assert_eq!(late.tool(tool, &json!({}))["error_code"], "not_registered", "{tool}");
    }
    late.tool("register", &json!({"alias": "late"}));
    fs::remove_dir_all(world.root()).expect("remove");
    assert_eq!(ann.tool("poll_inbox", &json!({}))["messages"], json!([]));
    assert_eq!(late.tool("peek_inbox", &json!({}))["messages"], json!([]));
    let me = ann.tool("whoami", &json!({}));
    assert_eq!((&me["alias"], &me["registered"]), (&json!("ann"), &json!(true)));
    assert_eq!(late.tool("send", &json!({"to_alias": "ann", "content": "hi"}))["queued"], true);
    let mail = ann.tool("poll_inbox", &json!({"wait_s": 5}));
    assert_eq!(contents(&mail["messages"]), ["hi"]);
    // The alias has another holder by the time the server notices.
    fs::remove_dir_all(world.root()).expect("remove");
    let _owner = Owner::of(&world, "s-other", "late");
    assert_eq!(late.tool("poll_inbox", &json!({}))["error_code"], "not_registered");
}

/// Runs `c2c` for a conversation of the client whose process is this test.
fn in_conversation(world: &World, id: &str, args: &[&str]) -> Outcome {
    let mut command = world.c2c(args);
    command.env("CLAUDE_CODE_SESSION_ID", id);
    run(command)
}

/// A hook of the client whose process is this test.
fn hook(world: &World, input: &Value) {
    let mut command = world.c2c(&["hook"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().expect("a hook");
    child.stdin.take().expect("its input").write_all(input.to_string().as_bytes()).expect("read");
    assert!(child.wait().expect("its end").success());
}

fn conversations_of_one_process_do_not_take_each_others_alias() {
    let world = World::new();
    in_conversation(&world, "first", &["register", "--alias", "ann"]).ok();
    let taken = in_conversation(&world, "second", &["register", "--alias", "ann"]);
    taken.fails_with("alias_conflict");
    in_conversation(&world, "second", &["register", "--alias", "bob"]).ok();
    in_conversation(&world, "second", &["send", "ann", "kept"]).ok();
    // Which of the two is replaced is not known.
    let start = json!({"hook_event_name": "SessionStart", "session_id": "third",
        "source": "clear", "cwd": world.path()});
    hook(&world, &start);
    in_conversation(&world, "third", &["register", "--alias", "ann"]).fails_with("alias_conflict");
    // The client reports the end of one.
    let end = json!({"hook_event_name": "SessionEnd", "session_id": "first", "reason": "clear",
        "cwd": world.path()});
    hook(&world, &end);
    in_conversation(&world, "third", &["register", "--alias", "ann"]).ok();
    let rows = in_conversation(&world, "third", &["poll-inbox", "--json"]).ok().json();
    assert_eq!(contents(&rows), ["kept"]);
    in_conversation(&world, "first", &["poll-inbox"]).fails_with("not_registered");
}

fn a_conversation_that_replaces_the_only_one_of_its_client_takes_its_alias() {
    for source in ["clear", "resume"] {
        let world = World::new();
        in_conversation(&world, "first", &["register", "--alias", "ann"]).ok();
        let start = json!({"hook_event_name": "SessionStart", "session_id": "second",
            "source": source, "cwd": world.path()});
        hook(&world, &start);
        in_conversation(&world, "second", &["register", "--alias", "ann"]).ok();
        // A start that replaces nothing changes nothing.
        let start = json!({"hook_event_name": "SessionStart", "session_id": "other",
            "source": "startup", "cwd": world.path()});
        hook(&world, &start);
        let taken = in_conversation(&world, "other", &["register", "--alias", "ann"]);
        taken.fails_with("alias_conflict");
    }
}

crate::harness::tests! {
    fast:
        a_reading_command_without_an_identity_is_rejected,
        the_first_use_of_the_users_alias_is_reported,
        an_id_that_only_the_client_supplied_counts_as_nothing_named,
        an_id_of_a_client_whose_process_is_another_is_rejected_with_its_holder,
        a_swept_session_that_returns_is_itself_again,
        an_unknown_alias_is_reported_with_the_root_and_the_root_that_has_it,
        a_query_in_a_root_that_does_not_exist_is_rejected,
        a_server_whose_root_was_removed_registers_its_session_again,
        conversations_of_one_process_do_not_take_each_others_alias,
        a_conversation_that_replaces_the_only_one_of_its_client_takes_its_alias;
}
