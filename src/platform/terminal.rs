//! The user's terminal, and programs in their own terminals.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::signal;

/// Raw mode of the terminal on standard input, until this is dropped.
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Passes on every byte that the user types; `None` if standard input is not a terminal.
    pub fn enable() -> Option<Self> {
        let terminal = io::stdin().as_fd().try_clone_to_owned().ok()?;
        let before = tcgetattr(&terminal).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

/// Size of the terminal on standard output; `None` if it is not a terminal or its size is unknown.
pub fn output_size() -> Option<TerminalSize> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    let size = TerminalSize { rows: size.ws_row, columns: size.ws_col };
    (size.rows > 0 && size.columns > 0).then_some(size)
}

/// A program in a pseudo-terminal.
pub struct PseudoTerminal {
    pty: Pty,
    child: Child,
}

/// What to wait for, besides output of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// The program takes input.
    pub space: bool,
    /// Standard input of this process can be read.
    pub input: bool,
}

/// What can be done without blocking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The program has written something, or has ended.
    pub output: bool,
    /// Standard input of this process can be read, or has ended.
    pub input: bool,
    /// The program takes input.
    pub space: bool,
}

impl PseudoTerminal {
    /// Starts a program in a new pseudo-terminal of this size.
    pub fn start(program: &str, arguments: &[String], size: TerminalSize) -> io::Result<Self> {
        let (pty, pts) = open().map_err(io::Error::other)?;
        pty.resize(Size::new(size.rows, size.columns)).map_err(io::Error::other)?;
        let child = Command::new(program).args(arguments).spawn(pts).map_err(io::Error::other)?;
        Ok(Self { pty, child })
    }

    /// Makes reads and writes return [`io::ErrorKind::WouldBlock`] instead of waiting.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(&self.pty, FcntlArg::F_GETFL)?);
        fcntl(&self.pty, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(())
    }

    /// Sets the size that the program sees. An error leaves the old size.
    pub fn resize(&self, size: TerminalSize) {
        let _ = self.pty.resize(Size::new(size.rows, size.columns));
    }

    /// Reads output of the program. Fails, instead of reaching the end, when the program has ended.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pty.read(buffer)
    }

    /// Writes input for the program, as much as it takes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pty.write(bytes)
    }

    /// Waits for output of the program or one of the other events, at most until the timeout.
    pub fn wait_ready(&self, interest: Interest, timeout: Duration) -> io::Result<Ready> {
        let stdin = io::stdin();
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, interest.space);
        let mut ready =
            [PollFd::new(self.pty.as_fd(), events), PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        let polled = if interest.input { &mut ready[..] } else { &mut ready[..1] };
        let timeout = PollTimeout::try_from(timeout).map_err(io::Error::other)?;
        match poll(polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let pty = ready[0].revents().unwrap_or(PollFlags::empty());
        Ok(Ready {
            output: pty.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR),
            input: interest.input && ready[1].any().unwrap_or_default(),
            space: pty.contains(PollFlags::POLLOUT),
        })
    }

    /// Sends the program the signal that a terminal sends when it is closed.
    pub fn hang_up(&self) {
        signal::hang_up(self.child.id());
    }

    /// Waits until the program has ended.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: TerminalSize = TerminalSize { rows: 7, columns: 33 };

    /// Reads output until the program ends.
    fn output(terminal: &mut PseudoTerminal) -> String {
        let mut text = Vec::new();
        let mut buffer = [0; 256];
        let interest = Interest { space: false, input: false };
        loop {
            let ready = terminal.wait_ready(interest, Duration::from_secs(60)).unwrap();
            assert!(ready.output && !ready.input && !ready.space);
            match terminal.read(&mut buffer) {
                Ok(0) | Err(_) => return String::from_utf8(text).unwrap(),
                Ok(length) => text.extend_from_slice(&buffer[..length]),
            }
        }
    }

    #[test]
    fn a_program_sees_a_terminal_of_the_given_size() {
        let mut terminal = PseudoTerminal::start("stty", &["size".into()], SIZE).unwrap();
        assert_eq!(output(&mut terminal).trim(), "7 33");
        assert!(terminal.wait().unwrap().success());
    }

    #[test]
    fn a_read_without_output_does_not_block() {
        let mut terminal = PseudoTerminal::start("cat", &[], SIZE).unwrap();
        terminal.set_nonblocking().unwrap();
        let error = terminal.read(&mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let interest = Interest { space: true, input: false };
        assert!(terminal.wait_ready(interest, Duration::from_secs(60)).unwrap().space);
        assert_eq!(terminal.write(b"text\n").unwrap(), 5);
        terminal.hang_up();
        assert!(!terminal.wait().unwrap().success());
    }
}
