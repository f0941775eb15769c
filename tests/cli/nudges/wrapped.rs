//! Nudges into a program that runs in the terminal of `c2c wake`.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{NOTICE, Scene, eventually};
use crate::cli::wake::{line, waker};
use crate::support::holds_within;

/// `c2c wake` around the program. Its input is what a user types.
struct Wrapped {
    child: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
    diagnostics: std::io::BufReader<std::process::ChildStderr>,
}

impl Wrapped {
    fn new(scene: &Scene, kind: &str, window: &str) -> Self {
        let program = scene.program(kind, window);
        let program: Vec<&str> = program.iter().map(String::as_str).collect();
        let (mut child, diagnostics) =
            waker(&scene.world, &[&["--quiet", "0.4", "--"], &program[..]].concat());
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let mut out = child.stdout.take().expect("piped");
        let seen = Arc::clone(&shown);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = out.read(&mut buffer) {
                seen.lock().expect("a lock").extend_from_slice(&buffer[..length]);
            }
        });
        let wrapped = Self { keys: child.stdin.take().expect("piped"), child, shown, diagnostics };
        wrapped.shows("poll_inbox");
        wrapped
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("a lock")).into_owned()
    }

    fn shows(&self, text: &str) {
        eventually(text, || self.screen().contains(text));
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("typed");
    }
}

impl Drop for Wrapped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn a_dialog_in_a_wrapped_program_is_not_answered() {
    let scene = Scene::new();
    let mut wrapped = Wrapped::new(&scene, "dialog", "0");
    scene.send();
    assert_eq!(line(&mut wrapped.diagnostics), "not_woken ann: the program shows a dialog");
    assert_eq!(scene.log(), "");
    assert_eq!(scene.record()["not_woken_by"], "terminal");
}

fn a_wrapped_program_receives_the_nudge_after_a_pause() {
    let scene = Scene::new();
    let mut wrapped = Wrapped::new(&scene, "input", "0.5");
    scene.send();
    assert_eq!(line(&mut wrapped.diagnostics), "woke ann");
    assert!(scene.log().starts_with(NOTICE), "{}", scene.log());
    assert_eq!(scene.record()["woken_by"], "terminal");
}

fn reports_of_the_terminal_do_not_prevent_a_nudge() {
    let scene = Scene::new();
    let mut wrapped = Wrapped::new(&scene, "input", "0");
    let reports = [
        "\x1b[I",
        "\x1b[O",
        "\x1b[?62;4c",
        "\x1b[24;80R",
        "\x1b]11;rgb:1e/1e/2e\x1b\\",
        "\x1b[<64;10;5M",
        "\x1b[A",
    ];
    for (count, report) in reports.into_iter().enumerate() {
        wrapped.types(report);
        scene.send();
        assert_eq!(line(&mut wrapped.diagnostics), "woke ann", "{report:?}");
        assert_eq!(scene.log().lines().count(), count + 1, "{report:?}");
        scene.world.poll("ann");
    }
}

fn a_key_that_answered_a_dialog_is_not_a_draft() {
    let scene = Scene::new();
    let mut wrapped = Wrapped::new(&scene, "choice", "0");
    wrapped.types("1");
    wrapped.shows("> Type your message");
    scene.send();
    assert_eq!(line(&mut wrapped.diagnostics), "woke ann");
    assert!(scene.log().starts_with(NOTICE), "{}", scene.log());
}

fn a_draft_in_a_wrapped_program_is_submitted_only_by_its_user() {
    for line_end in ["", "\n", "\x1b\r"] {
        let scene = Scene::new();
        let mut wrapped = Wrapped::new(&scene, "input", "0");
        wrapped.types("half");
        wrapped.shows("> half");
        wrapped.types(line_end);
        scene.send();
        // Several times the quiet time. A nudge would begin within it.
        let is_nudged = || wrapped.screen().contains("mail from other agents");
        assert!(!holds_within(Duration::from_secs(2), is_nudged), "{line_end:?}");
        wrapped.types(" done\r");
        assert_eq!(line(&mut wrapped.diagnostics), "woke ann");
        let log = scene.log();
        let mut lines = log.lines();
        let own = lines.next().unwrap_or_default();
        assert!(own.starts_with("SUBMIT half") && own.ends_with(" done"), "{log}");
        assert!(lines.next().is_some_and(|line| line.starts_with(NOTICE)), "{log}");
    }
}

fn a_key_of_the_user_takes_a_typed_nudge_back() {
    let scene = Scene::new();
    let mut wrapped = Wrapped::new(&scene, "input", "0");
    scene.send();
    wrapped.shows("from the user. [");
    wrapped.types("mine");
    assert_eq!(line(&mut wrapped.diagnostics), "not_woken ann: a person is typing");
    wrapped.types("\r");
    eventually("submitted", || scene.log().contains("SUBMIT"));
    assert_eq!(scene.log(), "SUBMIT mine\n");
}

crate::harness::tests! {
    fast:
        a_dialog_in_a_wrapped_program_is_not_answered,
        a_wrapped_program_receives_the_nudge_after_a_pause,
        a_key_that_answered_a_dialog_is_not_a_draft,
        a_key_of_the_user_takes_a_typed_nudge_back;
    slow:
        reports_of_the_terminal_do_not_prevent_a_nudge,
        a_draft_in_a_wrapped_program_is_submitted_only_by_its_user;
}
