//! Wake-up of idle sessions: nudges and doorbells.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;

use crate::cli::hook::below_a_client;
use crate::support::tmux::TmuxPane;
use crate::support::{World, run};

pub fn two_agents() -> World {
    let world = World::new();
    world.register(&["ann", "bob"]);
    world
}

/// Starts `c2c wake` for ann; returns the process and its standard error.
pub fn waker(world: &World, args: &[&str]) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut command = world.c2c(&[&["wake", "--alias", "ann"], args].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let diagnostics = BufReader::new(child.stderr.take().expect("piped"));
    (child, diagnostics)
}

pub fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    line.trim().to_owned()
}

pub fn end(mut child: Child) {
    child.kill().expect("killed");
    child.wait().expect("gone");
}

fn one_nudge_covers_all_waiting_mail_until_it_is_read() {
    let world = two_agents();
    let nudges = world.path().join("nudges");
    let command = format!(
        "echo \"$C2C_WAKE_ALIAS $C2C_WAKE_SESSION $C2C_WAKE_TEXT\" >> {}",
        nudges.display()
    );
    let (child, mut diagnostics) = waker(&world, &["--command", &command]);
    world.run("bob", &["send", "ann", "the secret word"]).ok();
    assert_eq!(line(&mut diagnostics), "woke ann");
    for body in ["two", "three"] {
        world.run("bob", &["send", "ann", body]).ok();
    }
    assert_eq!(world.poll("ann").len(), 3, "a nudge claims no mail");
    world.run("bob", &["send", "ann", "four"]).ok();
    assert_eq!(line(&mut diagnostics), "woke ann");
    end(child);
    let nudges = fs::read_to_string(nudges).expect("nudges");
    assert_eq!(nudges.lines().count(), 2, "{nudges}");
    assert!(nudges.contains("ann s-ann c2c: mail from other agents waits"), "{nudges}");
    assert!(!nudges.contains("secret"), "{nudges}");
}

fn do_not_disturb_and_deferrable_mail_cause_no_nudge() {
    let world = two_agents();
    world.run("bob", &["send", "ann", "--deferrable", "when you have time"]).ok();
    let quiet = world.run("x", &["wake", "--alias", "ann", "--command", "false", "--timeout", "0"]);
    assert_eq!(quiet.ok().err, "");
    world.run("ann", &["dnd", "on"]).ok();
    world.run("bob", &["send", "ann", "now"]).ok();
    let quiet = world.run("x", &["wake", "--alias", "ann", "--command", "false", "--timeout", "0"]);
    assert_eq!(quiet.ok().err, "");
    world.run("ann", &["dnd", "off"]).ok();
    // A failed nudge is reported, and with `--once` it is the result.
    let failed = world.run("x", &["wake", "--alias", "ann", "--command", "exit 3", "--once"]);
    assert!(failed.err.contains("exit status: 3"), "{}", failed.err);
    failed.fails_with("invalid_argument");
}

fn invalid_wake_arguments_are_rejected() {
    let world = two_agents();
    assert_eq!(world.run("ann", &["wake"]).status, 2);
    world.run("nobody", &["wake", "--command", "true"]).fails_with("not_registered");
    world
        .run("x", &["wake", "--alias", "no/body", "--command", "true"])
        .fails_with("invalid_alias");
    world.run("ann", &["wake", "--", "/no/such/program"]).fails_with("invalid_argument");
    assert_eq!(world.run("ann", &["wake", "--codex", "--tmux", "1"]).status, 2);
}

fn a_wrapped_program_reads_the_nudge_from_its_terminal() {
    let world = two_agents();
    // It prints whether it has a terminal, then waits for a line as a client waits for a prompt.
    let program = "test -t 0 && echo ready; read line; echo \"read: $line\"; exit 7";
    let (mut child, _diagnostics) = waker(&world, &["--quiet", "0", "--", "sh", "-c", program]);
    let mut shown = BufReader::new(child.stdout.take().expect("piped"));
    assert_eq!(line(&mut shown), "ready");
    world.run("bob", &["send", "ann", "the secret word"]).ok();
    let mut rest = String::new();
    shown.read_to_string(&mut rest).expect("text");
    assert!(rest.contains("read: c2c: mail from other agents waits for you."), "{rest}");
    assert!(!rest.contains("secret"), "{rest}");
    assert_eq!(child.wait().expect("ended").code(), Some(7), "the exit status is passed on");
    assert_eq!(world.poll("ann"), ["the secret word"]);
}

fn typed_input_reaches_the_program() {
    let world = two_agents();
    let (mut child, _diagnostics) =
        waker(&world, &["--", "sh", "-c", "read line; echo \"read: $line\""]);
    child.stdin.take().expect("piped").write_all(b"hello\n").expect("typed");
    let mut rest = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut rest).expect("text");
    assert!(rest.contains("read: hello"), "{rest}");
    assert!(child.wait().expect("ended").success());
}

fn the_nudge_is_typed_into_a_tmux_pane() {
    let world = two_agents();
    let pane = TmuxPane::new(world.path(), |name, args| world.program(name, args));
    let typed = world.path().join("typed");
    Command::new("mkfifo").arg(&typed).status().expect("a pipe");
    let program = format!("read line; echo \"$line\" > {}", typed.display());
    pane.start((200, 50), &program, []);
    world.run("bob", &["send", "ann", "the secret word"]).ok();
    pane.nudge("ann").ok();
    let typed = fs::read_to_string(typed).expect("a line");
    assert!(typed.starts_with("c2c: mail from other agents waits"), "{typed}");
}

fn a_wrapped_program_sees_the_end_of_its_input() {
    let world = two_agents();
    let (mut child, _diagnostics) = waker(&world, &["--", "cat"]);
    child.stdin.take().expect("piped").write_all(b"hello\n").expect("typed");
    let mut rest = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut rest).expect("text");
    assert!(rest.contains("hello"), "{rest}");
    assert!(child.wait().expect("ended").success());
}

fn large_input_to_a_program_that_writes_first_does_not_block() {
    let world = two_agents();
    let program = "stty raw -echo; echo ready; seq 60000; head -c 300000 >/dev/null; echo read";
    let (mut child, _diagnostics) = waker(&world, &["--", "sh", "-c", program]);
    let mut stdin = child.stdin.take().expect("piped");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    // Before that the terminal buffers only one line.
    assert_eq!(line(&mut out), "ready");
    let typing = std::thread::spawn(move || stdin.write_all(&[b'x'; 300_000]));
    let mut shown = Vec::new();
    out.read_to_end(&mut shown).expect("bytes");
    assert!(String::from_utf8_lossy(&shown).trim_end().ends_with("read"));
    assert!(child.wait().expect("ended").success());
    let _ = typing.join();
}

fn a_nudge_neither_answers_a_dialog_nor_submits_a_partial_line() {
    let world = two_agents();
    // It reads single keys without echo, as a menu does.
    let menu = "stty -echo -icanon; echo ready; dd bs=1 count=1 >/dev/null 2>&1; echo typed; \
        read -r line; echo \"chosen: $line\"";
    let (mut child, _diagnostics) = waker(&world, &["--quiet", "0", "--", "sh", "-c", menu]);
    let mut shown = BufReader::new(child.stdout.take().expect("piped"));
    assert_eq!(line(&mut shown), "ready");
    world.run("bob", &["send", "ann", "hello"]).ok();
    assert_eq!(line(&mut shown), "typed");
    // The user ends the line: the nudge was typed into it, without a line end.
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"own\n").expect("typed");
    let chosen = line(&mut shown);
    assert!(chosen.starts_with("chosen: 2c: mail") && chosen.ends_with("own"), "{chosen}");
    child.wait().expect("ended");
}

fn a_nudge_with_a_background_process_still_ends() {
    let world = two_agents();
    world.run("bob", &["send", "ann", "hello"]).ok();
    let held = world.path().join("held");
    Command::new("mkfifo").arg(&held).status().expect("a pipe");
    let command = format!("cat {} 2>/dev/null &", held.display());
    world.run("x", &["wake", "--alias", "ann", "--once", "--command", &command]).ok();
    fs::write(&held, "").expect("it ends");
}

/// The input that Claude Code passes to its hooks.
fn event(name: &str) -> String {
    let mut input = json!({"session_id": "claude-1", "cwd": "/", "hook_event_name": name});
    if name == "FileChanged" {
        input["event"] = json!("change");
    }
    input.to_string()
}

fn deferrable_mail_does_not_keep_the_doorbell_from_ringing() {
    let world = two_agents();
    hook(&world, &[], &event("SessionStart"));
    run(world.c2c(&["register", "--alias", "cat", "-s", "claude-1"])).ok();
    world.run("bob", &["send", "cat", "one"]).ok();
    hook(&world, &[], &event("UserPromptSubmit"));
    world.run("bob", &["send", "cat", "--deferrable", "later"]).ok();
    let before = fs::metadata(doorbell(&world)).expect("it").modified().expect("a time");
    world.run("bob", &["send", "cat", "two"]).ok();
    assert!(fs::metadata(doorbell(&world)).expect("it").modified().expect("a time") > before);
}

fn hook(world: &World, args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = below_a_client(world, args);
    command.env("CLAUDE_CODE_SESSION_ID", "claude-1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("told");
    let out = child.wait_with_output().expect("ended");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (out.status.code(), text(out.stdout), text(out.stderr))
}

fn doorbell(world: &World) -> PathBuf {
    world.root().join("doorbells/claude-1")
}

/// Whether `act` rings the doorbell.
fn rings(world: &World, act: impl FnOnce()) -> bool {
    let file = fs::File::options().append(true).open(doorbell(world)).expect("a doorbell");
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1)).expect("set");
    act();
    fs::metadata(doorbell(world)).expect("it").modified().expect("a time")
        > UNIX_EPOCH + Duration::from_secs(1)
}

fn the_doorbell_rings_for_the_first_mail_and_the_wake_hook_reveals_no_content() {
    let world = two_agents();
    // The session starts before its server has registered it.
    let (status, out, _) = hook(&world, &[], &event("SessionStart"));
    let output: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let watched = &output["hookSpecificOutput"]["watchPaths"];
    assert_eq!((status, watched), (Some(0), &json!([doorbell(&world)])));
    let modes = [doorbell(&world), world.root().join("doorbells")]
        .map(|path| fs::metadata(path).expect("it").permissions().mode() & 0o777);
    assert_eq!(modes, [0o600, 0o700]);
    run(world.c2c(&["register", "--alias", "cat", "-s", "claude-1"])).ok();
    assert_eq!(hook(&world, &["--wake"], &event("FileChanged")), (Some(0), "".into(), "".into()));

    assert!(rings(&world, || drop(world.run("bob", &["send", "cat", "the secret word"]).ok())));
    assert_eq!(fs::metadata(doorbell(&world)).expect("it").len(), 0, "the doorbell has no content");
    let (status, out, err) = hook(&world, &["--wake"], &event("FileChanged"));
    assert_eq!((status, out.as_str()), (Some(2), ""));
    assert!(err.starts_with("c2c: mail from other agents waits") && !err.contains("secret"));

    // More mail does not ring while the first is unread, unless the last ring was long ago.
    world.run("bob", &["send", "cat", "two"]).ok();
    let before = fs::metadata(doorbell(&world)).expect("it").modified().expect("a time");
    world.run("bob", &["send", "cat", "three"]).ok();
    assert_eq!(fs::metadata(doorbell(&world)).expect("it").modified().expect("a time"), before);
    assert!(rings(&world, || drop(world.run("bob", &["send", "cat", "four"]).ok())));

    let (_, out, _) = hook(&world, &[], &event("UserPromptSubmit"));
    assert!(out.contains("the secret word") && out.contains("four"), "{out}");
    assert!(rings(&world, || drop(world.run("bob", &["send-all", "all of you"]).ok())));
    assert!(!rings(&world, || {
        world.run("bob", &["send", "ann", "for another"]).ok();
        world.run("bob", &["send", "cat", "--deferrable", "later"]).ok();
    }));
    run(world.c2c(&["-s", "claude-1", "rooms", "join", "lobby"])).ok();
    world.run("bob", &["rooms", "join", "lobby"]).ok();
    hook(&world, &[], &event("UserPromptSubmit"));
    assert!(rings(&world, || drop(world.run("bob", &["rooms", "send", "lobby", "hey"]).ok())));
}

fn an_invalid_session_id_creates_no_doorbell() {
    let world = two_agents();
    let input = json!({"session_id": "../../x", "cwd": "/", "hook_event_name": "SessionStart"});
    let mut command = below_a_client(&world, &[]);
    command.env("CLAUDE_CODE_SESSION_ID", "../../x");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    child.stdin.take().expect("piped").write_all(input.to_string().as_bytes()).expect("told");
    let out = child.wait_with_output().expect("ended");
    assert_eq!((out.status.code(), out.stdout), (Some(0), Vec::new()));
    assert!(!world.root().join("doorbells").exists());
}

fn crush_and_kimi_hooks_are_answered_in_their_formats() {
    let world = two_agents();
    let input = |name: &str| json!({"session_id": "s-ann", "cwd": "/", "hook_event_name": name});
    let send = || world.run("bob", &["send", "ann", "hello"]).ok();
    send();
    let crush = json!({"event": "PreToolUse", "session_id": "s-ann", "cwd": "/"}).to_string();
    let (status, out, _) = hook(&world, &["--client", "crush"], &crush);
    let output: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert!(output["context"].as_str().is_some_and(|text| text.contains("hello")), "{out}");
    assert_eq!(status, Some(0));
    send();
    let (status, out, _) =
        hook(&world, &["--client", "kimi"], &input("UserPromptSubmit").to_string());
    assert!(out.starts_with("Messages from other agents") && out.contains("hello"), "{out}");
    assert_eq!(status, Some(0));
    send();
    let (status, out, err) = hook(&world, &["--client", "kimi"], &input("Stop").to_string());
    assert_eq!((status, out.as_str()), (Some(2), ""));
    assert!(err.contains("hello"), "{err}");
    assert_eq!(world.poll("ann"), Vec::<String>::new(), "each message was delivered once");
    let (status, out, err) = hook(&world, &["--client", "kimi"], &input("Stop").to_string());
    assert_eq!((status, out.as_str(), err.as_str()), (Some(0), "", ""));
}

crate::harness::tests! {
    fast:
        one_nudge_covers_all_waiting_mail_until_it_is_read,
        do_not_disturb_and_deferrable_mail_cause_no_nudge,
        invalid_wake_arguments_are_rejected,
        a_wrapped_program_reads_the_nudge_from_its_terminal,
        typed_input_reaches_the_program,
        the_nudge_is_typed_into_a_tmux_pane,
        a_wrapped_program_sees_the_end_of_its_input,
        large_input_to_a_program_that_writes_first_does_not_block,
        a_nudge_neither_answers_a_dialog_nor_submits_a_partial_line,
        a_nudge_with_a_background_process_still_ends,
        deferrable_mail_does_not_keep_the_doorbell_from_ringing,
        the_doorbell_rings_for_the_first_mail_and_the_wake_hook_reveals_no_content,
        an_invalid_session_id_creates_no_doorbell,
        crush_and_kimi_hooks_are_answered_in_their_formats;
}
