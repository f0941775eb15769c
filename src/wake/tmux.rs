//! Nudges into a pane of tmux.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use c2c_log_format::payload::Process;

use super::attempt::{Attempt, Look, NudgeOutcome, NudgeStep, NudgeText, Reason};
use super::foreground::{Agent, stranger};
use super::nudge::{CHECK_INTERVAL, failed, wait_for};
use super::view::View;
use crate::error::Failure;
use crate::platform::clock;
use crate::platform::process::{Foreground, foreground};
use crate::platform::terminal::ForeignTerminal;

/// A pane is typed into once its clients have sent no key for this long, seconds.
const QUIET_S: u64 = 2;
/// Longest wait for that.
const QUIET_LIMIT: Duration = Duration::from_secs(10);
/// What is asked about a pane. A name of a program comes last, since it may contain any character.
const FORMAT: &str = "#{pane_id}|#{pane_pid}|#{pane_tty}|#{cursor_x}|#{cursor_y}|#{pane_width}|\
    #{pane_dead}|#{pane_synchronized}|#{pane_in_mode}|#{pane_mode}|#{pane_current_command}";
const FIELDS: usize = 11;

/// A pane, and what is known of the agent in it.
#[derive(Debug)]
pub struct TmuxPane {
    target: String,
    agent: Agent,
}

/// One look at a pane.
#[derive(Debug)]
struct PaneLook {
    id: String,
    pid: u32,
    tty: String,
    cursor: (usize, usize),
    is_dead: bool,
    is_synchronized: bool,
    mode: Option<String>,
    command: String,
    view: View,
}

impl PaneLook {
    /// Parses what tmux printed: the fields in one line, then the rows of the pane.
    fn parse(printed: &str) -> Option<Self> {
        let (first, rows) = printed.split_once('\n')?;
        let fields: Vec<&str> = first.splitn(FIELDS, '|').collect();
        let [id, pid, tty, x, y, width, dead, synchronized, in_mode, mode, command] = fields[..]
        else {
            return None;
        };
        let cursor = (x.parse().ok()?, y.parse().ok()?);
        let lines = rows.lines().map(str::to_owned).collect();
        Some(Self {
            id: id.to_owned(),
            pid: pid.parse().unwrap_or(0),
            tty: tty.to_owned(),
            cursor,
            is_dead: dead == "1",
            is_synchronized: synchronized == "1",
            mode: (!matches!(in_mode, "" | "0")).then(|| mode.to_owned()),
            command: command.to_owned(),
            view: View::with_cursor(lines, cursor.1, cursor.0, width.parse().ok()?),
        })
    }

    /// The program that reads the pane, as the system tells, or else as tmux does.
    fn foreground(&self) -> Foreground {
        foreground(self.pid).unwrap_or_else(|| Foreground {
            group: 0,
            name: self.command.clone(),
            arguments: Vec::new(),
        })
    }

    /// Why the pane takes no nudge at all.
    fn stranger(&self, agent: &Agent) -> Option<Reason> {
        if self.is_dead {
            return Some(Reason::PaneGone);
        }
        if self.is_synchronized {
            return Some(Reason::Synchronized);
        }
        if let Some(mode) = &self.mode {
            return Some(Reason::Mode(mode.clone()));
        }
        stranger(agent, self.pid, &self.foreground())
    }
}

impl TmuxPane {
    pub fn new(target: String) -> Self {
        Self { target, agent: Agent::default() }
    }

    /// Nudges once. `registered` is the process that registered the alias. Fails if tmux fails.
    pub fn nudge(&mut self, registered: Option<Process>) -> Result<NudgeOutcome, Failure> {
        self.agent.registered = registered;
        // From now on the pane has its id: names and positions may change.
        let mut look = self.look(&self.target)?;
        if look.mode.is_some() && !self.is_person_typing(&look.id, QUIET_LIMIT)? {
            // Some modes have no such command, and are reported below.
            let _ = tmux(&["send-keys", "-t", &look.id, "-X", "cancel"]);
            look = self.look(&look.id)?;
        }
        if look.stranger(&self.agent).is_none() && self.is_person_typing(&look.id, QUIET_LIMIT)? {
            return Ok(NudgeOutcome::NotWoken(Reason::PersonTyping));
        }
        let pane = look.id;
        let activity = last_activity(&pane)?;
        let mut attempt = Attempt::new(NudgeText::new(super::nudge::token_number()));
        let start = clock::monotonic();
        loop {
            let seen = self.look(&pane)?;
            let look = Look {
                input: ForeignTerminal::new(&seen.tty).input_mode().ok(),
                stranger: seen.stranger(&self.agent),
                is_person_typing: last_activity(&pane)? != activity,
                view: seen.view.clone(),
            };
            match attempt.step(&look, clock::since(start)) {
                NudgeStep::Wait => {}
                NudgeStep::Type => {
                    self.agent.first_seen.get_or_insert_with(|| seen.foreground());
                    paste(&pane, attempt.text())?;
                }
                NudgeStep::PressEnter => {
                    if !press_enter(&seen)? {
                        attempt.enter_was_not_pressed();
                    }
                }
                NudgeStep::Erase(count) => {
                    tmux(&["send-keys", "-t", &pane, "-N", &count.to_string(), "BSpace"])?;
                }
                NudgeStep::Discard => drop(ForeignTerminal::new(&seen.tty).discard_input()),
                NudgeStep::End(outcome) => return Ok(outcome),
            }
            thread::sleep(CHECK_INTERVAL);
        }
    }

    fn look(&self, pane: &str) -> Result<PaneLook, Failure> {
        let show = ["display-message", "-p", "-t", pane, FORMAT];
        let capture = [";", "capture-pane", "-p", "-t", pane];
        let printed = tmux(&[&show[..], &capture[..]].concat())?;
        PaneLook::parse(&printed).ok_or_else(|| failed("tmux", "unexpected output"))
    }

    /// Waits until the clients that show the pane send no key; returns whether one still does.
    fn is_person_typing(&self, pane: &str, limit: Duration) -> Result<bool, Failure> {
        let deadline = clock::monotonic() + limit;
        loop {
            let now_s = clock::now_us() / 1_000_000;
            if last_activity(pane)?.is_none_or(|at_s| at_s + QUIET_S < now_s) {
                return Ok(false);
            }
            if clock::until(deadline).is_zero() {
                return Ok(true);
            }
            thread::sleep(CHECK_INTERVAL);
        }
    }
}

/// Time of the last key of the clients that show a pane, seconds since 1970; `None` if none shows it.
fn last_activity(pane: &str) -> Result<Option<u64>, Failure> {
    let clients = tmux(&["list-clients", "-F", "#{pane_id} #{client_activity}"])?;
    let of_pane = |line: &str| line.strip_prefix(pane)?.strip_prefix(' ')?.parse().ok();
    Ok(clients.lines().filter_map(of_pane).max())
}

fn paste(pane: &str, text: &NudgeText) -> Result<(), Failure> {
    // Each nudge has its own buffer, so that two of them do not paste each other's text.
    let buffer = format!("c2c-{}", text.token().trim_matches(['[', ']']));
    tmux(&["set-buffer", "-b", &buffer, "--", text.text()])?;
    tmux(&["paste-buffer", "-p", "-d", "-b", &buffer, "-t", pane]).map(drop)
}

/// Presses Enter if the cursor and the program are still those of the last look. Only the server can
/// check that without a gap. Returns whether it did.
fn press_enter(seen: &PaneLook) -> Result<bool, Failure> {
    let PaneLook { id, pid, cursor: (x, y), .. } = seen;
    let same = format!(
        "#{{==:#{{cursor_x}}|#{{cursor_y}}|#{{pane_pid}}|#{{pane_in_mode}},{x}|{y}|{pid}|0}}"
    );
    let press = format!("send-keys -t {id} Enter ; display-message -p pressed");
    Ok(tmux(&["if-shell", "-F", "-t", id, &same, &press])?.contains("pressed"))
}

/// Runs tmux to its end and returns what it printed.
fn tmux(arguments: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new("tmux");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| failed("tmux", &e.to_string()))?;
    let read = |mut stream: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut printed = Vec::new();
            let _ = stream.read_to_end(&mut printed);
            String::from_utf8_lossy(&printed).into_owned()
        })
    };
    let printed = child.stdout.take().map(|stream| read(Box::new(stream)));
    let error = child.stderr.take().map(|stream| read(Box::new(stream)));
    let status = wait_for(&mut child, "tmux")?;
    let text = |thread: Option<thread::JoinHandle<String>>| {
        thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
    };
    let (printed, error) = (text(printed), text(error));
    match status.success() {
        true => Ok(printed),
        false if error.trim().is_empty() => Err(failed("tmux", &status.to_string())),
        false => Err(failed("tmux", &error.trim().escape_default().to_string())),
    }
}
