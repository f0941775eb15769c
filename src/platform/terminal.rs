//! The user's terminal, and programs in their own terminals.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};
use rustix::io::ioctl_fionread;
use rustix::pty::ptsname;
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcgetwinsize,
    tcsetattr,
};

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

/// A terminal that another process reads, by its path.
#[derive(Debug, Clone)]
pub struct ForeignTerminal {
    path: PathBuf,
}

/// The input of a terminal that no program has read yet, and how the terminal handles it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputMode {
    /// The program receives whole lines; otherwise each key.
    pub is_line_wise: bool,
    /// The terminal shows what is typed.
    pub echoes: bool,
    /// Bytes that wait for the program. In line mode only those of finished lines.
    pub unread: usize,
}

impl ForeignTerminal {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn open(&self) -> io::Result<File> {
        // Without a wait, and without making it the terminal of this process.
        let flags = OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        File::options().read(true).custom_flags(flags.bits()).open(&self.path)
    }

    /// The state of its input. Fails if the terminal cannot be opened.
    pub fn input_mode(&self) -> io::Result<InputMode> {
        let terminal = self.open()?;
        let modes = tcgetattr(&terminal)?.local_modes;
        Ok(InputMode {
            is_line_wise: modes.contains(LocalModes::ICANON),
            echoes: modes.contains(LocalModes::ECHO),
            unread: ioctl_fionread(&terminal)?.try_into().unwrap_or(usize::MAX),
        })
    }

    /// Drops the input that no program has read.
    pub fn discard_input(&self) -> io::Result<()> {
        Ok(tcflush(self.open()?, QueueSelector::IFlush)?)
    }
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

    /// Pid of the program.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The terminal as the program sees it.
    pub fn inner(&self) -> io::Result<ForeignTerminal> {
        let path = ptsname(&self.pty, Vec::new())?;
        Ok(ForeignTerminal::new(OsString::from_vec(path.into_bytes())))
    }

    /// Closes the terminal, with the signal that the program then receives, and waits for its end.
    pub fn hang_up(mut self) -> io::Result<ExitStatus> {
        signal::hang_up(self.child.id());
        // A program that ignores the signal reads the end of its input.
        drop(self.pty);
        self.child.wait()
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
    fn input_that_no_program_has_read_is_counted_and_discarded() {
        let mut terminal = PseudoTerminal::start("sleep", &["60".into()], SIZE).unwrap();
        let inner = terminal.inner().unwrap();
        let mode = |unread| InputMode { is_line_wise: true, echoes: true, unread };
        assert_eq!(inner.input_mode().unwrap(), mode(0));
        assert_eq!(terminal.write(b"text\nhalf").unwrap(), 9);
        // The kernel passes the text on in a thread of its own.
        let deadline = crate::platform::clock::monotonic() + Duration::from_secs(60);
        while inner.input_mode().unwrap() != mode(5) {
            assert!(crate::platform::clock::monotonic() < deadline, "{:?}", inner.input_mode());
            std::thread::yield_now();
        }
        inner.discard_input().unwrap();
        assert_eq!(inner.input_mode().unwrap(), mode(0));
        let foreground = crate::platform::process::foreground(terminal.pid()).unwrap();
        assert_eq!(foreground.group, terminal.pid());
        assert!(!terminal.hang_up().unwrap().success());
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
        assert!(!terminal.hang_up().unwrap().success());
    }
}
