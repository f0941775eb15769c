//! Readiness of the standard streams.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until standard input can be read or has ended; false at the timeout, which may be at most
/// 24 days.
///
/// Does not count the bytes that [`io::Stdin`] has buffered: read with a buffer larger than its own.
#[inline]
pub fn wait_for_input(timeout: Duration) -> bool {
    let Ok(timeout) = PollTimeout::try_from(timeout) else { return false };
    let stdin = io::stdin();
    let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, timeout).is_ok_and(|count| count > 0)
}

/// Whether the other end of standard output is open.
pub fn output_has_reader() -> bool {
    let out = io::stdout();
    let mut end = [PollFd::new(out.as_fd(), PollFlags::empty())];
    !poll(&mut end, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}
