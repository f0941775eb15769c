//! A pseudo-terminal around a program, which passes input and output through and types nudges.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::NOTICE;
use super::nudge::ECHO;
use crate::error::Failure;
use crate::platform::terminal::{
    Interest, PseudoTerminal, RawMode, Ready, TerminalSize, output_size,
};
use crate::platform::{clock, signal};

/// Longest time between two checks of the terminal size and of due nudges.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Size of the pseudo-terminal if the user's terminal has none.
const DEFAULT_SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };
const CHUNK_BYTES: usize = 16 * 1024;
/// The bytes that a terminal sends for end of input and for an interrupt.
const END_OF_INPUT: u8 = 4;
const INTERRUPT: u8 = 3;
/// Marks around a paste, for programs that enabled bracketed paste.
const PASTE: &str = "\x1b[200~";
const PASTE_END: &str = "\x1b[201~";

/// A program that runs in a pseudo-terminal.
pub struct Terminal {
    program: String,
    pty: PseudoTerminal,
    size: TerminalSize,
}

impl Terminal {
    /// Starts a program in a new pseudo-terminal.
    pub fn start(program: &str, arguments: &[String]) -> io::Result<Self> {
        let size = output_size().unwrap_or(DEFAULT_SIZE);
        let pty = PseudoTerminal::start(program, arguments, size)?;
        Ok(Self { program: program.to_owned(), pty, size })
    }

    /// Passes input and output through until the program ends or this process receives SIGTERM or
    /// SIGHUP. Types a nudge when `is_due` returns true; asks only after `quiet` without input or
    /// output, and while the user has no unfinished line.
    pub fn run(
        mut self,
        quiet: Duration,
        is_due: &mut dyn FnMut() -> bool,
    ) -> Result<ExitStatus, Failure> {
        let program = self.program.clone();
        let failed = |e| Failure::io("run", &program, e);
        let stop = Arc::new(AtomicBool::new(false));
        signal::set_when_stopped(&stop).map_err(failed)?;
        let _raw_mode = io::stdin().is_terminal().then(RawMode::enable);
        self.pty.set_nonblocking().map_err(failed)?;
        let mut typing = Typing::default();
        let mut last_activity = clock::monotonic();
        let mut buffer = vec![0; CHUNK_BYTES];
        while !stop.load(Ordering::Acquire) {
            let ready = self.wait_ready(&typing).map_err(failed)?;
            if ready.output {
                match self.pty.read(&mut buffer) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    // Reading fails, instead of reaching the end, when the program has ended.
                    Ok(0) | Err(_) => return self.pty.wait().map_err(failed),
                    Ok(length) => {
                        print(&buffer[..length]).map_err(Failure::Output)?;
                        typing.shown(&buffer[..length]);
                        last_activity = clock::monotonic();
                    }
                }
            }
            if ready.input {
                let length = io::stdin().lock().read(&mut buffer).map_err(failed)?;
                typing.typed(&buffer[..length]);
                if length > 0 {
                    last_activity = clock::monotonic();
                }
            }
            if ready.space {
                self.pass_on(&mut typing).map_err(failed)?;
            }
            self.follow_size();
            let is_quiet = !ready.output
                && !ready.input
                && clock::since(last_activity) >= quiet
                && typing.is_free();
            if is_quiet && is_due() {
                typing.nudge();
                last_activity = clock::monotonic();
            }
        }
        self.pty.hang_up();
        self.pty.wait().map_err(failed)
    }

    /// Waits until something can be read or written, at most for the time between two checks.
    fn wait_ready(&self, typing: &Typing) -> io::Result<Ready> {
        let interest = Interest {
            space: !typing.queue.is_empty(),
            // No further input while the program does not read what is queued.
            input: !typing.at_end && typing.queue.len() < CHUNK_BYTES,
        };
        self.pty.wait_ready(interest, CHECK_INTERVAL)
    }

    /// Writes queued input to the program, as much as it takes.
    fn pass_on(&mut self, typing: &mut Typing) -> io::Result<()> {
        let (front, _) = typing.queue.as_slices();
        match self.pty.write(front) {
            Ok(written) => drop(typing.queue.drain(..written)),
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
        }
    }
}

fn print(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Input for the program, and what is known about its screen.
#[derive(Default)]
struct Typing {
    queue: VecDeque<u8>,
    /// The user's input has ended.
    at_end: bool,
    /// The user has typed an unfinished line.
    draft: bool,
    /// The program enabled bracketed paste.
    brackets_paste: bool,
    /// Output since a nudge that the program has not shown yet.
    awaited: Option<Vec<u8>>,
}

impl Typing {
    fn is_free(&self) -> bool {
        !self.draft && self.queue.is_empty()
    }

    /// Queues input of the user; no bytes mean the end of the input.
    fn typed(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.at_end = true;
            self.queue.push_back(END_OF_INPUT);
            return;
        }
        self.draft = !matches!(bytes.last(), Some(&(b'\r' | b'\n' | INTERRUPT)));
        self.queue.extend(bytes);
    }

    /// Queues the text of a nudge. Enter follows when the program shows the text: a dialog would take
    /// Enter for an answer.
    fn nudge(&mut self) {
        self.awaited = Some(Vec::new());
        let (start, end) = if self.brackets_paste { (PASTE, PASTE_END) } else { ("", "") };
        self.queue.extend(start.bytes().chain(NOTICE.bytes()).chain(end.bytes()));
    }

    /// Evaluates output of the program.
    fn shown(&mut self, bytes: &[u8]) {
        for (text, is_on) in [("\x1b[?2004h", true), ("\x1b[?2004l", false)] {
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                self.brackets_paste = is_on;
            }
        }
        let Some(seen) = &mut self.awaited else { return };
        seen.extend_from_slice(bytes);
        if seen.windows(ECHO.len()).any(|part| part == ECHO.as_bytes()) {
            self.awaited = None;
            self.queue.push_back(b'\r');
        } else if seen.len() > 4 * CHUNK_BYTES {
            // The program shows something else. The next nudge tries again.
            self.awaited = None;
        }
    }
}
