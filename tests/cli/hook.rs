//! Hooks of the clients: delivery of mail to a model.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Outcome, World, contents};

/// The hook command of a client that exports no variables.
pub fn command(world: &World, args: &[&str]) -> Command {
    let mut command = world.c2c(&[&["hook"], args].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::piped());
    command
}

/// The hook command below another client process. The agents of these tests are registered by the
/// test process, which would otherwise count as the client that runs the hook.
pub fn below_a_client(world: &World, args: &[&str]) -> Command {
    let script = "sh -c '\"$@\"; exit $?' sh \"$@\"; exit $?";
    let own = ["-c", script, "sh", env!("CARGO_BIN_EXE_c2c"), "hook"];
    let mut command = world.program("sh", &[&own, args].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::piped());
    command
}

pub fn run_with_input(mut command: Command, input: &str) -> Outcome {
    let mut child = command.spawn().expect("starts");
    // A hook may end before it has read all of its input.
    let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("ends");
    Outcome {
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        status: output.status.code().unwrap_or(-1),
    }
}

/// The input of a hook for an event of a session.
pub fn event(who: &str, name: &str) -> Value {
    json!({"session_id": format!("s-{who}"), "hook_event_name": name, "cwd": "/",
        "tool_name": "Bash", "tool_response": {"stdout": "x"}})
}

fn hook(world: &World, input: &Value) -> Outcome {
    let done = run_with_input(command(world, &[]), &input.to_string()).ok();
    assert!(done.err.is_empty(), "{}", done.err);
    done
}

pub fn two_agents() -> World {
    let world = World::new();
    world.register(&["ann", "bob"]);
    world
}

fn context(done: &Outcome) -> String {
    let output = &done.json()["hookSpecificOutput"];
    output["additionalContext"].as_str().expect("a context").to_owned()
}

pub fn pending(world: &World, who: &str) -> Vec<String> {
    contents(&world.run(who, &["peek-inbox", "--json"]).ok().json())
}

fn a_hook_finds_its_session_and_delivers_mail_once() {
    let world = World::new();
    let here = world.path().join("work");
    fs::create_dir_all(here.join(".git")).expect("a repository");
    let run_at = |words: &[&str], who: &str| {
        let mut command = world.c2c(words);
        command.env_remove("C2C_MCP_BROKER_ROOT").current_dir(&here);
        command.env("C2C_MCP_SESSION_ID", format!("s-{who}"));
        crate::support::run(command).ok()
    };
    run_at(&["register", "--alias", "ann"], "ann");
    run_at(&["register", "--alias", "bob"], "bob");
    run_at(&["send", "bob", "look at </c2c> & <b>"], "ann");
    // The client runs the hook in another directory and passes its working directory.
    let mut input = event("bob", "PostToolUse");
    input["cwd"] = json!(here);
    let run_hook = || {
        let mut hook = command(&world, &[]);
        hook.env_remove("C2C_MCP_BROKER_ROOT");
        run_with_input(hook, &input.to_string()).ok()
    };
    let first = run_hook();
    assert_eq!(first.json()["hookSpecificOutput"]["hookEventName"], "PostToolUse");
    assert_eq!(first.out.lines().count(), 1);
    let text = context(&first);
    assert!(text.contains("from=\"ann\"") && text.contains("not from the user"), "{text}");
    assert_eq!(text.matches("</c2c>").count(), 1, "{text}");
    assert_eq!((run_hook().out.as_str(), run_hook().err.as_str()), ("", ""));
}

fn each_hook_event_is_answered_in_the_format_of_its_client() {
    let world = two_agents();
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
        assert_eq!(
            hook(&world, &again).out,
            "",
            "a session that was continued is not blocked again"
        );
        let done = hook(&world, &event("bob", name)).json();
        assert_eq!(done["decision"], decision);
        assert!(done["reason"].as_str().expect("a reason").contains(name));
    }
    // A session that starts receives its alias, with or without mail.
    assert!(context(&hook(&world, &event("bob", "SessionStart"))).contains("'bob'"));
    world.run("ann", &["send", "bob", "kept"]).ok();
    assert_eq!(hook(&world, &event("bob", "SessionEnd")).out, "");
    assert_eq!(pending(&world, "bob"), ["kept"]);
}

fn an_environment_inherited_from_another_client_is_ignored() {
    let world = two_agents();
    world.run("ann", &["send", "bob", "for bob"]).ok();
    world.run("bob", &["send", "ann", "for ann"]).ok();
    let mut nested = command(&world, &[]);
    nested.env("C2C_MCP_SESSION_ID", "s-ann").env("CLAUDE_CODE_SESSION_ID", "s-ann");
    let done = run_with_input(nested, &event("bob", "PostToolUse").to_string()).ok();
    assert!(context(&done).contains("for bob") && !done.out.contains("for ann"));
    // An unknown session falls back to the exported one.
    let mut exported = command(&world, &[]);
    exported.env("C2C_MCP_SESSION_ID", "s-ann");
    let done = run_with_input(exported, &event("unknown", "PostToolUse").to_string()).ok();
    assert!(context(&done).contains("for ann"));
    assert_eq!(hook(&world, &event("unknown", "PostToolUse")).out, "");
    // A client that another client runs inherits its environment, but has its own session.
    world.run("bob", &["send", "ann", "not for the inner one"]).ok();
    let script = format!("sh -c \"sh -c '{} hook; true'; true\"; true", env!("CARGO_BIN_EXE_c2c"));
    let mut inner = world.program("sh", &["-c", &script]);
    inner.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::piped());
    inner.env("C2C_MCP_SESSION_ID", "s-ann");
    assert_eq!(run_with_input(inner, &event("inner", "PostToolUse").to_string()).ok().out, "");
    assert_eq!(pending(&world, "ann"), ["not for the inner one"]);
}

fn a_hook_that_fails_never_stops_its_client() {
    let world = two_agents();
    world.run("ann", &["send", "bob", "kept"]).ok();
    for input in ["", "{", "[]", "null", "{\"session_id\": 5}", "{\"session_id\": \"s-bob\"", "\0"]
    {
        let done = run_with_input(below_a_client(&world, &[]), input);
        assert_eq!((done.status, done.out.as_str()), (0, ""), "{input:?}: {}", done.err);
    }
    for args in [&["--nonsense"][..], &["--event"], &["--broker-root", "/dev/null"]] {
        let done = run_with_input(command(&world, args), &event("bob", "PostToolUse").to_string());
        assert_eq!((done.status, done.out.as_str()), (0, ""), "{args:?}: {}", done.err);
    }
    // The input is neither written nor closed.
    let mut silent = command(&world, &[]);
    silent.env("C2C_MCP_SESSION_ID", "s-bob");
    let mut child = silent.spawn().expect("starts");
    let _open = child.stdin.take();
    let output = child.wait_with_output().expect("ends");
    assert!(String::from_utf8_lossy(&output.stdout).contains("kept"));
}

fn a_full_device_and_a_stalled_reader_lose_no_mail() {
    let world = two_agents();
    world.run("ann", &["send", "bob", "kept"]).ok();
    let mut full = command(&world, &[]);
    full.stdout(fs::OpenOptions::new().write(true).open("/dev/full").expect("a full device"));
    assert_eq!(run_with_input(full, &event("bob", "PostToolUse").to_string()).status, 0);
    assert_eq!(pending(&world, "bob"), ["kept"]);
    // A full pipe: the hook ends at its deadline, in the middle of its write.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut fill = Command::new("sh");
    fill.args(["-c", "dd if=/dev/zero bs=4096 count=16 status=none"])
        .stdout(writer.try_clone().expect("it"));
    assert!(fill.status().expect("dd").success());
    let mut stuck = command(&world, &[]);
    stuck.stdout(writer);
    assert_eq!(run_with_input(stuck, &event("bob", "PostToolUse").to_string()).status, 0);
    drop(reader);
    let done = hook(&world, &event("bob", "PostToolUse"));
    assert!(context(&done).contains("redelivered=\"true\"") && context(&done).contains("kept"));
    assert_eq!(hook(&world, &event("bob", "PostToolUse")).out, "");
}

fn a_large_backlog_is_delivered_in_parts_below_every_clients_limit() {
    let world = two_agents();
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

fn deferrable_mail_waits_for_a_pause() {
    let world = two_agents();
    world.run("ann", &["send", "bob", "later", "--deferrable"]).ok();
    assert_eq!(hook(&world, &event("bob", "PostToolUse")).out, "");
    assert!(context(&hook(&world, &event("bob", "UserPromptSubmit"))).contains("later"));
}

/// Runs a script as a client: its registrations and hooks belong to it.
fn in_a_client(world: &World, script: &str) -> Outcome {
    // Two shells, so that this process is neither the one that runs a hook nor the one above it.
    let outer = "sh -c \"$1\" \"$0\"; exit $?";
    let program = env!("CARGO_BIN_EXE_c2c");
    crate::support::run(world.program("sh", &["-c", outer, program, script]))
}

fn a_client_whose_session_id_changed_still_reads_its_mail() {
    let world = two_agents();
    // The server of a client has registered the alias, and its hook passes an unknown session id.
    let script = r#"
        "$0" register --alias cat -s first >/dev/null &&
        C2C_MCP_SESSION_ID=s-bob "$0" send cat hello >/dev/null &&
        echo '{"session_id": "second", "cwd": "/", "hook_event_name": "PostToolUse"}' | "$0" hook;
        exit $?"#;
    let done = in_a_client(&world, script).ok();
    assert!(context(&done).contains("hello"), "{}", done.out);
}

fn a_client_started_in_another_clients_shell_does_not_read_its_mail() {
    let world = two_agents();
    // The outer client holds an alias. It runs an inner client, a program and not a shell, whose hook
    // passes an unknown session id.
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

fn a_hook_without_a_session_does_not_read_the_users_mail() {
    let world = two_agents();
    let send_to_user = || {
        let mut command = world.c2c(&["send", "cli-tester", "for the human"]);
        command.env("C2C_MCP_SESSION_ID", "s-bob");
        command
    };
    let mut shell = world.c2c(&["register", "--alias", "cli-tester", "-s", "cli-tester"]);
    shell.env("USER", "tester");
    crate::support::run(shell).ok();
    crate::support::run(send_to_user()).ok();
    let mut hook = below_a_client(&world, &[]);
    hook.env("USER", "tester");
    let done = run_with_input(
        hook,
        "{\"session_id\": \"unknown\", \"hook_event_name\": \"UserPromptSubmit\"}",
    );
    assert_eq!((done.status, done.out.as_str()), (0, ""), "{}", done.err);
}

fn each_thread_of_one_codex_is_a_separate_session() {
    let world = two_agents();
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

fn a_tool_call_of_a_subagent_delivers_no_mail() {
    let world = two_agents();
    world.run("ann", &["send", "bob", "kept"]).ok();
    let mut helper = event("bob", "PostToolUse");
    helper["agent_id"] = json!("a-1");
    assert_eq!(hook(&world, &helper).out, "");
    assert_eq!(pending(&world, "bob"), ["kept"]);
}

crate::harness::tests! {
    fast:
        a_hook_finds_its_session_and_delivers_mail_once,
        each_hook_event_is_answered_in_the_format_of_its_client,
        an_environment_inherited_from_another_client_is_ignored,
        a_hook_that_fails_never_stops_its_client,
        a_full_device_and_a_stalled_reader_lose_no_mail,
        a_large_backlog_is_delivered_in_parts_below_every_clients_limit,
        deferrable_mail_waits_for_a_pause,
        a_client_whose_session_id_changed_still_reads_its_mail,
        a_client_started_in_another_clients_shell_does_not_read_its_mail,
        a_hook_without_a_session_does_not_read_the_users_mail,
        each_thread_of_one_codex_is_a_separate_session,
        a_tool_call_of_a_subagent_delivers_no_mail;
}
