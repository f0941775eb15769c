//! Does mail reach a model by its client's hook, and is none lost there?

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Done, World, contents};

/// A hook of a client that exports nothing.
fn command(world: &World, args: &[&str]) -> Command {
    let mut command = world.c2c(&[&["hook"], args].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::piped());
    command
}

/// The same below a client of its own: the people of these tests were registered by this process,
/// which would be taken for the client that runs the hook.
pub fn below_a_client(world: &World, args: &[&str]) -> Command {
    let script = "sh -c '\"$@\"; exit $?' sh \"$@\"; exit $?";
    let own = ["-c", script, "sh", env!("CARGO_BIN_EXE_c2c"), "hook"];
    let mut command = world.program("sh", &[&own, args].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::piped());
    command
}

fn told(mut command: Command, input: &str) -> Done {
    let mut child = command.spawn().expect("starts");
    // A hook that is told too much may end before it has heard all of it.
    let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("ends");
    Done {
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        status: output.status.code().unwrap_or(-1),
    }
}

/// What a client says of a session at an event.
fn event(who: &str, name: &str) -> Value {
    json!({"session_id": format!("s-{who}"), "hook_event_name": name, "cwd": "/",
        "tool_name": "Bash", "tool_response": {"stdout": "x"}})
}

fn hook(world: &World, input: &Value) -> Done {
    let done = told(command(world, &[]), &input.to_string()).ok();
    assert!(done.err.is_empty(), "{}", done.err);
    done
}

fn people() -> World {
    let world = World::new();
    world.register(&["ann", "bob"]);
    world
}

fn context(done: &Done) -> String {
    let told = &done.json()["hookSpecificOutput"];
    told["additionalContext"].as_str().expect("a context").to_owned()
}

fn pending(world: &World, who: &str) -> Vec<String> {
    contents(&world.run(who, &["peek-inbox", "--json"]).ok().json())
}

#[test]
fn a_hook_finds_its_session_by_itself_and_tells_mail_once() {
    let world = World::new();
    let here = world.path().join("work");
    fs::create_dir_all(here.join(".git")).expect("a repository");
    let at = |words: &[&str], who: &str| {
        let mut command = world.c2c(words);
        command.env_remove("C2C_MCP_BROKER_ROOT").current_dir(&here);
        command.env("C2C_MCP_SESSION_ID", format!("s-{who}"));
        crate::support::run(command).ok()
    };
    at(&["register", "--alias", "ann"], "ann");
    at(&["register", "--alias", "bob"], "bob");
    at(&["send", "bob", "look at </c2c> & <b>"], "ann");
    // The client runs it somewhere else, and says where it is.
    let mut input = event("bob", "PostToolUse");
    input["cwd"] = json!(here);
    let ask = || {
        let mut hook = command(&world, &[]);
        hook.env_remove("C2C_MCP_BROKER_ROOT");
        told(hook, &input.to_string()).ok()
    };
    let first = ask();
    assert_eq!(first.json()["hookSpecificOutput"]["hookEventName"], "PostToolUse");
    assert_eq!(first.out.lines().count(), 1);
    let text = context(&first);
    assert!(text.contains("from=\"ann\"") && text.contains("not from the user"), "{text}");
    assert_eq!(text.matches("</c2c>").count(), 1, "{text}");
    assert_eq!((ask().out.as_str(), ask().err.as_str()), ("", ""));
}

#[test]
fn each_event_is_answered_in_the_form_that_its_client_reads() {
    let world = people();
    let events = ["UserPromptSubmit", "SessionStart", "AfterTool", "BeforeAgent"];
    for name in events {
        world.run("ann", &["send", "bob", name]).ok();
        let done = hook(&world, &event("bob", name));
        assert_eq!(done.json()["hookSpecificOutput"]["hookEventName"], name);
        assert!(context(&done).contains(&format!(">{name}</c2c>")));
    }
    for (name, decision) in [("Stop", "block"), ("AfterAgent", "deny")] {
        world.run("ann", &["send", "bob", name]).ok();
        let mut again = event("bob", name);
        again["stop_hook_active"] = json!(true);
        assert_eq!(hook(&world, &again).out, "", "who goes on already is not held again");
        let done = hook(&world, &event("bob", name)).json();
        assert_eq!(done["decision"], decision);
        assert!(done["reason"].as_str().expect("a reason").contains(name));
    }
    // Who begins is told who it is, mail or not.
    assert!(context(&hook(&world, &event("bob", "SessionStart"))).contains("'bob'"));
    world.run("ann", &["send", "bob", "kept"]).ok();
    assert_eq!(hook(&world, &event("bob", "SessionEnd")).out, "");
    assert_eq!(pending(&world, "bob"), ["kept"]);
}

#[test]
fn another_clients_environment_is_not_believed() {
    let world = people();
    world.run("ann", &["send", "bob", "for bob"]).ok();
    world.run("bob", &["send", "ann", "for ann"]).ok();
    let mut nested = command(&world, &[]);
    nested.env("C2C_MCP_SESSION_ID", "s-ann").env("CLAUDE_CODE_SESSION_ID", "s-ann");
    let done = told(nested, &event("bob", "PostToolUse").to_string()).ok();
    assert!(context(&done).contains("for bob") && !done.out.contains("for ann"));
    // A session that nobody knows falls back to the one that was exported on purpose.
    let mut exported = command(&world, &[]);
    exported.env("C2C_MCP_SESSION_ID", "s-ann");
    let done = told(exported, &event("unknown", "PostToolUse").to_string()).ok();
    assert!(context(&done).contains("for ann"));
    assert_eq!(hook(&world, &event("unknown", "PostToolUse")).out, "");
    // A client that another client runs inherits its environment, and has a session of its own.
    world.run("bob", &["send", "ann", "not for the inner one"]).ok();
    let script = format!("sh -c \"sh -c '{} hook; true'; true\"; true", env!("CARGO_BIN_EXE_c2c"));
    let mut inner = world.program("sh", &["-c", &script]);
    inner.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::piped());
    inner.env("C2C_MCP_SESSION_ID", "s-ann");
    assert_eq!(told(inner, &event("inner", "PostToolUse").to_string()).ok().out, "");
    assert_eq!(pending(&world, "ann"), ["not for the inner one"]);
}

#[test]
fn whatever_is_wrong_a_client_is_never_stopped() {
    let world = people();
    world.run("ann", &["send", "bob", "kept"]).ok();
    for input in ["", "{", "[]", "null", "{\"session_id\": 5}", "{\"session_id\": \"s-bob\"", "\0"]
    {
        let done = told(below_a_client(&world, &[]), input);
        assert_eq!((done.status, done.out.as_str()), (0, ""), "{input:?}: {}", done.err);
    }
    for args in [&["--nonsense"][..], &["--event"], &["--broker-root", "/dev/null"]] {
        let done = told(command(&world, args), &event("bob", "PostToolUse").to_string());
        assert_eq!((done.status, done.out.as_str()), (0, ""), "{args:?}: {}", done.err);
    }
    // Nobody says anything, and nobody closes the input.
    let mut silent = command(&world, &[]);
    silent.env("C2C_MCP_SESSION_ID", "s-bob");
    let mut child = silent.spawn().expect("starts");
    let _open = child.stdin.take();
    let output = child.wait_with_output().expect("ends");
    assert!(String::from_utf8_lossy(&output.stdout).contains("kept"));
}

#[test]
fn a_full_disk_and_a_reader_that_does_not_read_lose_nothing() {
    let world = people();
    world.run("ann", &["send", "bob", "kept"]).ok();
    let mut full = command(&world, &[]);
    full.stdout(fs::OpenOptions::new().write(true).open("/dev/full").expect("a full device"));
    assert_eq!(told(full, &event("bob", "PostToolUse").to_string()).status, 0);
    assert_eq!(pending(&world, "bob"), ["kept"]);
    // A pipe that is full: the hook is over at its deadline, in the middle of its write.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut fill = Command::new("sh");
    fill.args(["-c", "dd if=/dev/zero bs=4096 count=16 status=none"])
        .stdout(writer.try_clone().expect("it"));
    assert!(fill.status().expect("dd").success());
    let mut stuck = command(&world, &[]);
    stuck.stdout(writer);
    assert_eq!(told(stuck, &event("bob", "PostToolUse").to_string()).status, 0);
    drop(reader);
    let done = hook(&world, &event("bob", "PostToolUse"));
    assert!(context(&done).contains("redelivered=\"true\"") && context(&done).contains("kept"));
    assert_eq!(hook(&world, &event("bob", "PostToolUse")).out, "");
}

#[test]
fn much_mail_comes_in_pieces_that_no_client_cuts_off() {
    let world = people();
    for number in 0..14 {
        let text = format!("{number} {}", "<&>\"".repeat(200));
        world.run("ann", &["send", "bob", &text]).ok();
    }
    world.run("ann", &["send", "bob", &"long ".repeat(4000)]).ok();
    let (mut rounds, mut envelopes) = (0, 0);
    loop {
        let done = hook(&world, &event("bob", "PostToolUse"));
        if done.out.is_empty() {
            break;
        }
        let text = context(&done);
        assert!(text.len() <= 8 * 1024, "{}", text.len());
        (rounds, envelopes) = (rounds + 1, envelopes + text.matches("</c2c>").count());
        let left = pending(&world, "bob").len();
        assert_eq!(text.contains(&format!("and {left} more")), left > 0, "{text}");
        if left == 0 {
            assert!(text.contains("cut off"), "{text}");
        }
    }
    assert_eq!(envelopes, 15);
    assert!(rounds >= 3);
}

#[test]
fn what_may_wait_waits_for_a_pause() {
    let world = people();
    world.run("ann", &["send", "bob", "later", "--deferrable"]).ok();
    assert_eq!(hook(&world, &event("bob", "PostToolUse")).out, "");
    assert!(context(&hook(&world, &event("bob", "UserPromptSubmit"))).contains("later"));
}

/// Runs a script in the place of a client: what it registers and the hooks that it runs are its own.
fn in_a_client(world: &World, script: &str) -> Done {
    // Two shells, so that this process is neither the one that runs a hook nor the one above it.
    let outer = "sh -c \"$1\" \"$0\"; exit $?";
    let program = env!("CARGO_BIN_EXE_c2c");
    crate::support::run(world.program("sh", &["-c", outer, program, script]))
}

#[test]
fn a_client_whose_session_has_another_name_now_still_reads_its_mail() {
    let world = people();
    // Registered by the server of a client, whose hook says an id that nobody knows.
    let script = r#"
        "$0" register --alias cat -s first >/dev/null &&
        C2C_MCP_SESSION_ID=s-bob "$0" send cat hello >/dev/null &&
        echo '{"session_id": "second", "cwd": "/", "hook_event_name": "PostToolUse"}' | "$0" hook;
        exit $?"#;
    let done = in_a_client(&world, script).ok();
    assert!(context(&done).contains("hello"), "{}", done.out);
}

#[test]
fn a_client_in_another_ones_shell_does_not_read_that_ones_mail() {
    let world = people();
    // The outer client holds an alias. It runs an inner one, which is a program and no shell, and whose
    // hook says an id that nobody knows.
    let script = r#"
        "$0" register --alias outer -s first >/dev/null &&
        C2C_MCP_SESSION_ID=s-bob "$0" send outer hello >/dev/null &&
        env -u C2C_MCP_SESSION_ID python3 -c '
import subprocess, sys
said = b"{\"session_id\": \"inner\", \"cwd\": \"/\", \"hook_event_name\": \"PostToolUse\"}"
subprocess.run([sys.argv[1], "hook"], input=said)' "$0"; exit $?"#;
    let done = in_a_client(&world, script).ok();
    assert_eq!(done.out, "", "{}", done.err);
    assert_eq!(
        contents(&world.run("x", &["peek-inbox", "--json", "-s", "first"]).ok().json()),
        ["hello"]
    );
}

#[test]
fn a_hook_without_a_session_does_not_read_a_persons_mail() {
    let world = people();
    let person = || {
        let mut command = world.c2c(&["send", "cli-tester", "for the human"]);
        command.env("C2C_MCP_SESSION_ID", "s-bob");
        command
    };
    let mut shell = world.c2c(&["register", "--alias", "cli-tester", "-s", "cli-tester"]);
    shell.env("USER", "tester");
    crate::support::run(shell).ok();
    crate::support::run(person()).ok();
    let mut hook = below_a_client(&world, &[]);
    hook.env("USER", "tester");
    let done =
        told(hook, "{\"session_id\": \"unknown\", \"hook_event_name\": \"UserPromptSubmit\"}");
    assert_eq!((done.status, done.out.as_str()), (0, ""), "{}", done.err);
}

#[test]
fn threads_of_one_codex_are_sessions_of_their_own() {
    let world = people();
    let script = r#"
        say() { echo "{\"session_id\": \"$1\", \"cwd\": \"/\", \"hook_event_name\": \"$2\"}"; }
        say t-1 SessionStart | "$0" hook --alias codex
        say t-2 SessionStart | "$0" hook --alias codex
        C2C_MCP_SESSION_ID=s-bob "$0" send codex first >/dev/null
        say t-2 UserPromptSubmit | "$0" hook --alias codex
        echo --
        say t-1 UserPromptSubmit | "$0" hook --alias codex; exit $?"#;
    let done = in_a_client(&world, script).ok();
    let (before, after) = done.out.split_once("--\n").expect("both");
    assert!(before.contains("'codex'") && before.contains("'codex-2'"), "{before}");
    assert!(!before.contains("first") && after.contains("first"), "{before} {after}");
}

#[test]
fn what_a_helper_of_the_session_does_takes_no_mail() {
    let world = people();
    world.run("ann", &["send", "bob", "kept"]).ok();
    let mut helper = event("bob", "PostToolUse");
    helper["agent_id"] = json!("a-1");
    assert_eq!(hook(&world, &helper).out, "");
    assert_eq!(pending(&world, "bob"), ["kept"]);
}
