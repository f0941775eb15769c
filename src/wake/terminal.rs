//! A terminal of our own around a program: what its user types and what it shows goes through, and a
//! nudge is typed when both are quiet.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::flag;

use super::SENTINEL;
use super::nudge::ECHO;

/// How often the size of the user's terminal is looked at, and whether a nudge is due.
const LOOK_MS: u16 = 250;
const CHUNK_BYTES: usize = 16 * 1024;
/// What a terminal sends for the end of the input, and to break off a line.
const END_OF_INPUT: u8 = 4;
const INTERRUPT: u8 = 3;
/// Around a paste, for programs that asked for it.
const PASTE: &str = "\x1b[200~";
const PASTE_END: &str = "\x1b[201~";

/// A program in a terminal of its own.
pub struct Terminal {
    pty: Pty,
    child: Child,
    size: (u16, u16),
}

/// The user's terminal passes every key on while this is there.
struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    fn begin() -> Option<Self> {
        let terminal = io::stdin().as_fd().try_clone_to_owned().ok()?;
        let before = tcgetattr(&terminal).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

fn size_here() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

impl Terminal {
    /// Starts a program.
    pub fn start(program: &str, words: &[String]) -> io::Result<Self> {
        let (pty, pts) = open().map_err(io::Error::other)?;
        let size = size_here().unwrap_or((24, 80));
        pty.resize(Size::new(size.0, size.1)).map_err(io::Error::other)?;
        let child = Command::new(program).args(words).spawn(pts).map_err(io::Error::other)?;
        Ok(Self { pty, child, size })
    }

    /// Passes everything on until the program ends, or this process is told to. A nudge that `is_due`
    /// says is typed once nothing was shown or typed for `quiet`, and not into a line that the user
    /// has begun.
    pub fn run(
        mut self,
        quiet: Duration,
        is_due: &mut dyn FnMut() -> bool,
    ) -> io::Result<ExitStatus> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGHUP] {
            flag::register(signal, Arc::clone(&stop))?;
        }
        let _raw = io::stdin().is_terminal().then(Raw::begin);
        let flags = fcntl_getfl(&self.pty)?;
        fcntl_setfl(&self.pty, flags | OFlags::NONBLOCK)?;
        let mut typing = Typing::default();
        let (mut last, mut reads_input) = (Instant::now(), true);
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            if stop.load(Ordering::Acquire) {
                // As a terminal that goes away does.
                let _ = rustix::process::kill_process(self.pid(), rustix::process::Signal::HUP);
                return self.child.wait();
            }
            let stdin = io::stdin();
            let mut wanted = PollFlags::POLLIN;
            wanted.set(PollFlags::POLLOUT, !typing.queue.is_empty());
            let mut ready = [
                PollFd::new(self.pty.as_fd(), wanted),
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            ];
            // What the program does not take is not read either.
            let reads = reads_input && typing.queue.len() < CHUNK_BYTES;
            match poll(&mut ready[..if reads { 2 } else { 1 }], PollTimeout::from(LOOK_MS)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
            let pty = ready[0].revents().unwrap_or(PollFlags::empty());
            let typed = reads && ready[1].any().unwrap_or_default();
            let shown = pty.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR);
            if shown {
                match self.pty.read(&mut buffer) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    // A terminal whose program is gone answers with an error, and not with an end.
                    Ok(0) | Err(_) => return self.child.wait(),
                    Ok(read) => {
                        let mut out = io::stdout().lock();
                        out.write_all(&buffer[..read])?;
                        out.flush()?;
                        typing.shown(&buffer[..read]);
                        last = Instant::now();
                    }
                }
            }
            if typed {
                match stdin.lock().read(&mut buffer)? {
                    0 => {
                        reads_input = false;
                        typing.queue.push_back(END_OF_INPUT);
                    }
                    read => {
                        typing.typed(&buffer[..read]);
                        last = Instant::now();
                    }
                }
            }
            if pty.contains(PollFlags::POLLOUT) {
                let (front, _) = typing.queue.as_slices();
                match self.pty.write(front) {
                    Ok(written) => drop(typing.queue.drain(..written)),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(e) => return Err(e),
                }
            }
            if let Some(size) = size_here().filter(|size| *size != self.size) {
                self.size = size;
                let _ = self.pty.resize(Size::new(size.0, size.1));
            }
            let is_quiet = !shown && !typed && last.elapsed() >= quiet && typing.is_free();
            if is_quiet && is_due() {
                typing.nudge();
                last = Instant::now();
            }
        }
    }

    fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }
}

/// What is on its way to the program.
#[derive(Default)]
struct Typing {
    queue: VecDeque<u8>,
    /// The user has begun a line.
    draft: bool,
    /// The program takes a paste as one.
    takes_paste: bool,
    /// The end of what was shown since a nudge that has not appeared yet.
    awaited: Option<Vec<u8>>,
}

impl Typing {
    fn is_free(&self) -> bool {
        !self.draft && self.queue.is_empty()
    }

    fn typed(&mut self, bytes: &[u8]) {
        self.draft = !matches!(bytes.last(), Some(&(b'\r' | b'\n' | INTERRUPT)));
        self.queue.extend(bytes);
    }

    /// The text alone. The line end follows when the program shows the text: a dialog that asks for a
    /// key would take it for an answer.
    fn nudge(&mut self) {
        self.awaited = Some(Vec::new());
        let (begin, end) = if self.takes_paste { (PASTE, PASTE_END) } else { ("", "") };
        self.queue.extend(begin.bytes().chain(SENTINEL.bytes()).chain(end.bytes()));
    }

    fn shown(&mut self, bytes: &[u8]) {
        for (text, takes) in [("\x1b[?2004h", true), ("\x1b[?2004l", false)] {
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                self.takes_paste = takes;
            }
        }
        let Some(seen) = &mut self.awaited else { return };
        seen.extend_from_slice(bytes);
        if seen.windows(ECHO.len()).any(|part| part == ECHO.as_bytes()) {
            self.awaited = None;
            self.queue.push_back(b'\r');
        } else if seen.len() > 4 * CHUNK_BYTES {
            // It shows something else: the next nudge tries again.
            self.awaited = None;
        }
    }
}
