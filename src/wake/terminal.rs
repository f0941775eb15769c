//! A pseudo-terminal around a program, which passes input and output through and types nudges.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use c2c_log_format::payload::Process;

use super::attempt::{Attempt, Look, NudgeOutcome, NudgeStep, NudgeText};
use super::foreground::{Agent, stranger};
use super::keys::Keys;
use super::nudge;
use super::screen::Screen;
use crate::error::Failure;
use crate::platform::process::{Foreground, foreground};
use crate::platform::terminal::{
    ForeignTerminal, Interest, PseudoTerminal, RawMode, Ready, TerminalSize, output_size,
};
use crate::platform::{clock, signal};

/// Longest time between two checks of the terminal size and of due nudges.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// An unfinished sequence of the user's input ends after this pause: it was a key.
const SEQUENCE_PAUSE: Duration = Duration::from_millis(100);
/// Size of the pseudo-terminal if the user's terminal has none.
const DEFAULT_SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };
const CHUNK_BYTES: usize = 16 * 1024;
/// The byte that a terminal sends for end of input.
const END_OF_INPUT: u8 = 4;
const ENTER: u8 = b'\r';
const BACKSPACE: u8 = 0x7f;
/// Marks around a paste, for programs that enabled bracketed paste.
const PASTE: &str = "\x1b[200~";
const PASTE_END: &str = "\x1b[201~";

/// The mail of the agent in the terminal.
pub trait MailSource {
    /// Whether a nudge is due now; a due nudge counts as sent.
    fn is_due(&mut self) -> bool;
    /// The process that registered the alias.
    fn registered(&self) -> Option<Process>;
    /// Receives the end of each nudge.
    fn report(&mut self, outcome: &NudgeOutcome);
}

/// A program that runs in a pseudo-terminal.
pub struct Terminal {
    program: String,
    pty: PseudoTerminal,
    inner: ForeignTerminal,
    size: TerminalSize,
    screen: Screen,
    keys: Keys,
    /// Input for the program.
    queue: VecDeque<u8>,
    /// The user's input has ended.
    is_at_end: bool,
    last_input: Instant,
    /// The last output of the program, or key of the user.
    last_activity: Instant,
    nudge: Option<Nudge>,
}

/// A nudge that has begun.
struct Nudge {
    attempt: Attempt,
    start: Instant,
    last_look: Option<Instant>,
    agent: Agent,
}

impl Terminal {
    /// Starts a program in a new pseudo-terminal.
    pub fn start(program: &str, arguments: &[String]) -> io::Result<Self> {
        let size = output_size().unwrap_or(DEFAULT_SIZE);
        let pty = PseudoTerminal::start(program, arguments, size)?;
        let now = clock::monotonic();
        Ok(Self {
            program: program.to_owned(),
            inner: pty.inner()?,
            pty,
            size,
            screen: Screen::new(size.rows, size.columns),
            keys: Keys::default(),
            queue: VecDeque::new(),
            is_at_end: false,
            last_input: now,
            last_activity: now,
            nudge: None,
        })
    }

    /// Passes input and output through until the program ends or this process receives SIGTERM or
    /// SIGHUP. Types a nudge when one is due; asks only after `quiet` without keys or output, and while
    /// the user has no draft.
    pub fn run(
        mut self,
        quiet: Duration,
        mail: &mut dyn MailSource,
    ) -> Result<ExitStatus, Failure> {
        let program = self.program.clone();
        let failed = |e| Failure::io("run", &program, e);
        let stop = Arc::new(AtomicBool::new(false));
        signal::set_when_stopped(&stop).map_err(failed)?;
        let _raw_mode = io::stdin().is_terminal().then(RawMode::enable);
        self.pty.set_nonblocking().map_err(failed)?;
        let mut buffer = vec![0; CHUNK_BYTES];
        while !stop.load(Ordering::Acquire) {
            let ready = self.wait_ready().map_err(failed)?;
            if ready.output {
                match self.pty.read(&mut buffer) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    // Reading fails, instead of reaching the end, when the program has ended.
                    Ok(0) | Err(_) => return self.pty.wait().map_err(failed),
                    Ok(length) => {
                        print(&buffer[..length]).map_err(Failure::Output)?;
                        self.screen.feed(&buffer[..length]);
                        self.last_activity = clock::monotonic();
                    }
                }
            }
            if ready.input {
                let length = io::stdin().lock().read(&mut buffer).map_err(failed)?;
                self.typed(&buffer[..length], mail);
            } else if clock::since(self.last_input) >= SEQUENCE_PAUSE {
                self.keys.settle();
            }
            if ready.space {
                self.pass_on().map_err(failed)?;
            }
            self.follow_size();
            let is_quiet = !ready.output
                && !ready.input
                && self.nudge.is_none()
                && clock::since(self.last_activity) >= quiet
                && self.is_free();
            if is_quiet && mail.is_due() {
                self.begin_nudge(mail.registered());
            }
            self.continue_nudge(mail, false);
        }
        self.pty.hang_up().map_err(failed)
    }

    /// Waits until something can be read or written, at most for the time between two checks.
    fn wait_ready(&self) -> io::Result<Ready> {
        let interest = Interest {
            space: !self.queue.is_empty(),
            // No further input while the program does not read what is queued.
            input: !self.is_at_end && self.queue.len() < CHUNK_BYTES,
        };
        let limit = match self.nudge.is_some() || self.keys.is_within_sequence() {
            true => nudge::CHECK_INTERVAL,
            false => CHECK_INTERVAL,
        };
        self.pty.wait_ready(interest, limit)
    }

    /// Queues input of the user; no bytes mean the end of the input.
    fn typed(&mut self, bytes: &[u8], mail: &mut dyn MailSource) {
        if bytes.is_empty() {
            self.is_at_end = true;
            self.queue.push_back(END_OF_INPUT);
            return;
        }
        if bytes.contains(&b'\n') {
            let mode = self.inner.input_mode();
            self.keys.reads_lines = mode.is_ok_and(|mode| mode.is_line_wise);
        }
        self.last_input = clock::monotonic();
        if self.keys.feed(bytes) {
            self.last_activity = self.last_input;
            // What the nudge has typed is erased before the user's keys follow.
            self.continue_nudge(mail, true);
        }
        self.queue.extend(bytes);
    }

    /// Whether the user has typed nothing that waits in the input line or in the queue.
    fn is_free(&mut self) -> bool {
        if self.keys.has_draft() && !self.keys.is_within_sequence() {
            let view = self.screen.view();
            // The keys answered a dialog, or the program has emptied the line in its own way. Text
            // behind the cursor is a placeholder, unless the user may have moved the cursor.
            if view.is_at_prompt() && (self.keys.is_exact() || view.is_blank_behind()) {
                self.keys.forget_draft();
            }
        }
        !self.keys.has_draft() && self.queue.is_empty()
    }

    fn begin_nudge(&mut self, registered: Option<Process>) {
        let attempt = Attempt::new(NudgeText::new(nudge::token_number()));
        let agent = Agent { registered, first_seen: Some(Foreground::of_group(self.pty.pid())) };
        self.nudge = Some(Nudge { attempt, start: clock::monotonic(), last_look: None, agent });
    }

    /// Takes the next step of a nudge that has begun, if it is time for a look.
    fn continue_nudge(&mut self, mail: &mut dyn MailSource, is_person_typing: bool) {
        let Some(nudge) = &mut self.nudge else { return };
        let is_early = nudge.last_look.is_some_and(|at| clock::since(at) < nudge::CHECK_INTERVAL);
        let is_interrupted = is_person_typing && nudge.attempt.is_waiting_for_enter();
        if is_early && !is_interrupted {
            return;
        }
        nudge.last_look = Some(clock::monotonic());
        let look = Look {
            view: self.screen.view(),
            input: self.inner.input_mode().ok(),
            stranger: foreground(self.pty.pid())
                .and_then(|program| stranger(&nudge.agent, self.pty.pid(), &program)),
            is_person_typing,
        };
        match nudge.attempt.step(&look, clock::since(nudge.start)) {
            NudgeStep::Wait => {}
            NudgeStep::Type => {
                let marks =
                    if self.screen.brackets_paste() { (PASTE, PASTE_END) } else { ("", "") };
                let text = nudge.attempt.text().text();
                self.queue.extend([marks.0, text, marks.1].concat().bytes());
            }
            NudgeStep::PressEnter => self.queue.push_back(ENTER),
            NudgeStep::Erase(count) => self.queue.extend(std::iter::repeat_n(BACKSPACE, count)),
            NudgeStep::Discard => drop(self.inner.discard_input()),
            NudgeStep::End(outcome) => {
                self.nudge = None;
                self.last_activity = clock::monotonic();
                mail.report(&outcome);
            }
        }
    }

    /// Writes queued input to the program, as much as it takes.
    fn pass_on(&mut self) -> io::Result<()> {
        let (front, _) = self.queue.as_slices();
        match self.pty.write(front) {
            Ok(written) => drop(self.queue.drain(..written)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Gives the pseudo-terminal the size of the user's terminal.
    fn follow_size(&mut self) {
        if let Some(size) = output_size().filter(|size| *size != self.size) {
            self.size = size;
            self.pty.resize(size);
            self.screen.resize(size.rows, size.columns);
        }
    }
}

fn print(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}
