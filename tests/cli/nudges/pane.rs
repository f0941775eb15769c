//! Nudges into a pane of tmux.

use std::fs;
use std::io::Write;
use std::ops::Deref;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::{NOTICE, Scene, eventually};
use crate::cli::wake::{end, line};
use crate::support::tmux::TmuxPane;
use crate::support::{Outcome, run};

/// Pause between two keys of a person.
const KEY_PAUSE: Duration = Duration::from_millis(300);

/// A pane in a scene.
struct Pane<'a> {
    scene: &'a Scene,
    tmux: TmuxPane<'a>,
}

impl<'a> Pane<'a> {
    fn new(scene: &'a Scene, program: &str) -> Self {
        let world = &scene.world;
        let tmux = TmuxPane::new(world.path(), |name, args| world.program(name, args));
        tmux.start((90, 30), program, [("PS1".as_ref(), "$ ".as_ref())]);
        Self { scene, tmux }
    }

    /// A pane with the program, once it shows its screen.
    fn with(scene: &'a Scene, kind: &str, window: &str) -> Self {
        let pane = Self::new(scene, &scene.program(kind, window).join(" "));
        pane.shows("poll_inbox");
        pane
    }

    /// Nudges once.
    fn nudge(&self) -> Outcome {
        self.scene.send();
        self.tmux.nudge("ann")
    }

    /// Nudges once, and asserts that the agent was not woken for this reason.
    fn is_not_woken(&self, reason: &str) {
        let nudge = self.nudge();
        assert!(nudge.err.contains(&format!("not_woken ann: {reason}")), "{}", nudge.err);
        nudge.fails_with("not_woken");
    }
}

impl<'a> Deref for Pane<'a> {
    type Target = TmuxPane<'a>;

    fn deref(&self) -> &Self::Target {
        &self.tmux
    }
}

fn a_submitted_nudge_is_reported_and_recorded() {
    let scene = Scene::new();
    let pane = Pane::with(&scene, "input", "0");
    assert!(scene.record().is_null(), "no nudge yet");
    assert_eq!(pane.nudge().ok().err.trim(), "woke ann");
    eventually("submitted", || scene.log().starts_with(NOTICE));
    let record = scene.record();
    assert_eq!(record["woken_by"], "tmux", "{record}");
    assert!(record["woken_at"].is_string() && record["reason"].is_null(), "{record}");
    for command in ["list", "status"] {
        let shown = scene.world.run("x", &[command]).ok().out;
        let row = shown.lines().find(|row| row.trim_start().starts_with("ann "));
        assert!(
            row.is_some_and(|row| row.contains("woken 2") && row.ends_with("by tmux")),
            "{shown}"
        );
    }
    let status = scene.world.run("x", &["status", "--json"]).ok().json();
    assert!(status["alive_peers"].to_string().contains("woken_at"), "{status}");
}

fn copy_mode_is_left_before_a_pane_is_typed_into() {
    let scene = Scene::new();
    let pane = Pane::with(&scene, "input", "0");
    pane.tmux(&["copy-mode", "-t", "agent"]);
    pane.nudge().ok();
    eventually("submitted", || scene.log().starts_with(NOTICE));
    assert_eq!(pane.tmux(&["display-message", "-p", "-t", "agent", "#{pane_in_mode}"]).trim(), "0");
}

fn another_mode_of_a_pane_is_reported_and_takes_no_key() {
    let scene = Scene::new();
    let pane = Pane::with(&scene, "input", "0");
    pane.tmux(&["clock-mode", "-t", "agent"]);
    let nudge = pane.nudge();
    // Newer versions of tmux leave this mode as well.
    match nudge.status {
        0 => eventually("submitted", || scene.log().starts_with(NOTICE)),
        _ => {
            assert!(nudge.err.contains("not_woken ann: the pane is in"), "{}", nudge.err);
            assert_eq!(scene.log(), "");
        }
    }
}

fn a_dialog_below_an_earlier_mention_of_the_tool_is_not_answered() {
    let scene = Scene::new();
    let pane = Pane::with(&scene, "dialog", "0");
    pane.is_not_woken("the program shows a dialog");
    assert_eq!(scene.log(), "");
    let record = scene.record();
    assert_eq!(record["reason"], "the program shows a dialog");
    assert!(record["woken_at"].is_null() && record["not_woken_at"].is_string(), "{record}");
}

fn a_dialog_that_takes_single_keys_gets_none() {
    let scene = Scene::new();
    let pane = Pane::with(&scene, "keys", "0");
    pane.is_not_woken("the program shows a dialog");
    assert_eq!(scene.log(), "");
}

fn a_program_that_does_not_show_the_text_gets_no_enter() {
    let scene = Scene::new();
    let pane = Pane::with(&scene, "mute", "0");
    pane.is_not_woken("the program does not show the typed text at its cursor");
    assert_eq!(scene.log(), "");
}

fn enter_follows_a_paste_after_a_pause() {
    let scene = Scene::new();
    let pane = Pane::with(&scene, "input", "0.5");
    pane.nudge().ok();
    eventually("submitted", || scene.log().starts_with(NOTICE));
}

fn a_line_that_stays_in_the_input_is_erased_and_reported() {
    let scene = Scene::new();
    let pane = Pane::with(&scene, "input", "60");
    pane.is_not_woken("the line stayed in the input after Enter");
    eventually("erased", || !pane.screen().contains("mail from other agents"));
    assert_eq!(scene.log(), "");
}

fn a_draft_in_a_pane_is_not_submitted() {
    let scene = Scene::new();
    let pane = Pane::with(&scene, "input", "0");
    pane.keys(&["-l", "half a prompt"]);
    pane.shows("half a prompt");
    pane.is_not_woken("the input line is not empty");
    for _ in 0..2 {
        pane.keys(&["C-j"]);
        pane.is_not_woken("the input line is not empty");
    }
    assert_eq!(scene.log(), "");
    assert!(!pane.screen().contains("mail from other agents"), "{}", pane.screen());
}

fn a_shell_in_a_pane_is_not_typed_into() {
    let scene = Scene::new();
    let pane = Pane::new(&scene, "exec /bin/sh -i");
    pane.shows("$");
    pane.keys(&["-l", "touch made; "]);
    pane.shows("touch made;");
    pane.is_not_woken("the foreground program is a shell (");
    assert!(!scene.world.path().join("made").exists());
    assert!(!pane.screen().contains("mail from other agents"), "{}", pane.screen());
}

fn a_pane_that_runs_another_program_than_the_agent_is_not_typed_into() {
    let scene = Scene::without_ann();
    // The registered process has ended, and another program has its pane.
    let [first, second] = ["registers", "input"].map(|kind| scene.program(kind, "0").join(" "));
    let pane = Pane::new(&scene, &format!("{first}; {second}"));
    pane.shows("poll_inbox");
    pane.is_not_woken("the process that registered the alias has ended");
    assert_eq!(scene.log(), "");
}

fn a_program_that_takes_the_pane_from_a_living_agent_is_not_typed_into() {
    let scene = Scene::without_ann();
    let pane = Pane::new(&scene, "exec /bin/sh -i");
    pane.shows("$");
    let type_line = |line: &str| {
        pane.keys(&["-l", line]);
        // The stopped program may leave a terminal that does not make a line end of Enter.
        pane.keys(&["C-j"]);
    };
    type_line(&scene.program("agent", "0").join(" "));
    pane.shows("poll_inbox");
    // The user stops the agent and starts another program.
    let agent = pane.tmux(&["display-message", "-p", "-t", "agent", "#{pane_pid}"]);
    let children = || {
        let pid = agent.trim();
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default()
    };
    let child = children().trim().to_owned();
    run(pane.command("kill", &["-STOP", &child])).ok();
    pane.shows("Stopped");
    type_line(&scene.program("input", "0").join(" "));
    eventually("a second program", || children().split_whitespace().count() == 2);
    pane.shows("* c2c - poll_inbox");
    pane.is_not_woken("the foreground program is not the agent (");
    run(pane.command("kill", &["-KILL", &child])).ok();
    assert_eq!(scene.log(), "");
}

fn a_respawned_pane_with_another_program_is_not_typed_into() {
    let scene = Scene::new();
    let pane = Pane::with(&scene, "input", "0");
    let mut wake =
        pane.command(env!("CARGO_BIN_EXE_c2c"), &["wake", "--alias", "ann", "--tmux", "agent"]);
    wake.stderr(std::process::Stdio::piped());
    let mut wake = wake.spawn().expect("starts");
    let mut diagnostics = std::io::BufReader::new(wake.stderr.take().expect("piped"));
    scene.send();
    assert_eq!(line(&mut diagnostics), "woke ann");
    scene.world.poll("ann");
    let other = scene.program("input", "0.01").join(" ");
    pane.tmux(&["respawn-pane", "-k", "-t", "agent", &other]);
    pane.shows("poll_inbox");
    eventually("submitted", || scene.log().lines().count() == 1);
    scene.send();
    let said = line(&mut diagnostics);
    assert!(said.starts_with("not_woken ann: the foreground program is not the agent"), "{said}");
    end(wake);
    assert_eq!(scene.log().lines().count(), 1, "{}", scene.log());
    // A failure keeps the last proven wake.
    let record = scene.record();
    assert!(record["woken_at"].is_string() && record["not_woken_at"].is_string(), "{record}");
}

fn a_pane_whose_input_goes_to_other_panes_is_not_typed_into() {
    let scene = Scene::new();
    let pane = Pane::with(&scene, "input", "0");
    pane.tmux(&["split-window", "-d", "-t", "agent", "cat"]);
    pane.tmux(&["set-option", "-w", "-t", "agent", "synchronize-panes", "on"]);
    pane.is_not_woken("the pane copies its input to other panes");
    assert_eq!(scene.log(), "");
}

fn a_line_that_no_program_reads_is_withdrawn_before_a_shell_reads_it() {
    let scene = Scene::new();
    let pane = Pane::new(&scene, "exec /bin/sh -i");
    pane.shows("$");
    // The program in the foreground reads nothing, and the shell would read the line after it.
    let fifo = scene.world.path().join("fifo");
    Command::new("mkfifo").arg(&fifo).status().expect("a pipe");
    let line = format!("clear; cat {} >/dev/null", fifo.display());
    pane.keys(&["-l", &line]);
    pane.keys(&["Enter"]);
    let running = ["display-message", "-p", "-t", "agent", "#{pane_current_command}"];
    eventually("the program runs", || pane.tmux(&running).trim() == "cat");
    pane.is_not_woken("the line stayed in the input after Enter");
    fs::write(&fifo, "").expect("it ends");
    eventually("the shell has the pane", || pane.tmux(&running).trim() != "cat");
    pane.keys(&["-l", "echo over"]);
    pane.keys(&["Enter"]);
    pane.shows("\nover");
    assert!(!pane.screen().contains("not found"), "{}", pane.screen());
}

fn a_pane_in_which_a_person_types_is_left_alone() {
    let scene = Scene::new();
    let pane = Pane::with(&scene, "input", "0");
    let (mut pty, pts) = pty_process::blocking::open().expect("a terminal");
    pty.resize(pty_process::Size::new(40, 100)).expect("sized");
    let attach = pty_process::blocking::Command::new("tmux").args(["attach", "-t", "agent"]);
    let attach = attach.env("TMUX_TMPDIR", pane.sockets()).env("TERM", "xterm").env_remove("TMUX");
    let mut client = attach.spawn(pts).expect("starts");
    let clients = ["list-clients", "-F", "#{client_tty}"];
    eventually("a client", || !pane.tmux(&clients).trim().is_empty());
    // Keys that change no text, until the sender is dropped.
    let (typist, end_of_typing) = channel::<()>();
    let typing = thread::spawn(move || {
        let is_typing = || end_of_typing.recv_timeout(KEY_PAUSE) == Err(RecvTimeoutError::Timeout);
        while is_typing() {
            pty.write_all(b"\x1b[A").expect("typed");
        }
    });
    pane.is_not_woken("a person is typing");
    assert_eq!(scene.log(), "");
    drop(typist);
    typing.join().expect("ended");
    client.kill().expect("killed");
    client.wait().expect("gone");
    // The mail is still unread.
    pane.nudge().ok();
    eventually("submitted", || scene.log().starts_with(NOTICE));
}

crate::harness::tests! {
    fast:
        a_submitted_nudge_is_reported_and_recorded,
        copy_mode_is_left_before_a_pane_is_typed_into,
        another_mode_of_a_pane_is_reported_and_takes_no_key,
        a_dialog_below_an_earlier_mention_of_the_tool_is_not_answered,
        a_dialog_that_takes_single_keys_gets_none,
        enter_follows_a_paste_after_a_pause,
        a_draft_in_a_pane_is_not_submitted,
        a_shell_in_a_pane_is_not_typed_into,
        a_pane_that_runs_another_program_than_the_agent_is_not_typed_into,
        a_program_that_takes_the_pane_from_a_living_agent_is_not_typed_into,
        a_pane_whose_input_goes_to_other_panes_is_not_typed_into;
    slow:
        a_program_that_does_not_show_the_text_gets_no_enter,
        a_line_that_stays_in_the_input_is_erased_and_reported,
        a_line_that_no_program_reads_is_withdrawn_before_a_shell_reads_it,
        a_pane_in_which_a_person_types_is_left_alone,
        a_respawned_pane_with_another_program_is_not_typed_into;
}
