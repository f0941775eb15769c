//! A terminal of our own around a program: what its user types and what it shows goes through, and a
//! nudge is typed when both are quiet.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::SENTINEL;

/// How often the size of the user's terminal is looked at, and whether a nudge is due.
const LOOK_MS: u16 = 250;
const CHUNK_BYTES: usize = 16 * 1024;

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

    /// Passes everything on until the program ends. A nudge that `is_due` says is typed once nothing
    /// was shown or typed for `quiet`.
    pub fn run(
        mut self,
        quiet: Duration,
        is_due: &mut dyn FnMut() -> bool,
    ) -> io::Result<ExitStatus> {
        let _raw = io::stdin().is_terminal().then(Raw::begin);
        let (mut last, mut reads_input) = (Instant::now(), true);
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let stdin = io::stdin();
            let mut ready = [
                PollFd::new(self.pty.as_fd(), PollFlags::POLLIN),
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            ];
            let count = if reads_input { 2 } else { 1 };
            match poll(&mut ready[..count], PollTimeout::from(LOOK_MS)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
            let shown = ready[0].any().unwrap_or_default();
            let typed = reads_input && ready[1].any().unwrap_or_default();
            if shown {
                match self.pty.read(&mut buffer) {
                    // A terminal whose program is gone answers with an error, and not with an end.
                    Ok(0) | Err(_) => return self.child.wait(),
                    Ok(read) => {
                        let mut out = io::stdout().lock();
                        out.write_all(&buffer[..read])?;
                        out.flush()?;
                        last = Instant::now();
                    }
                }
            }
            if typed {
                match stdin.lock().read(&mut buffer)? {
                    0 => reads_input = false,
                    read => {
                        self.pty.write_all(&buffer[..read])?;
                        last = Instant::now();
                    }
                }
            }
            if let Some(size) = size_here().filter(|size| *size != self.size) {
                self.size = size;
                let _ = self.pty.resize(Size::new(size.0, size.1));
            }
            if !shown && !typed && last.elapsed() >= quiet && is_due() {
                // As a key press of its own: some programs take a line end that comes with text for
                // a part of it.
                self.pty.write_all(SENTINEL.as_bytes())?;
                self.pty.flush()?;
                self.pty.write_all(b"\r")?;
                last = Instant::now();
            }
        }
    }
}
