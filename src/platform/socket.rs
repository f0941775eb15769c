//! Unread output on a pipe or socket.

use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{getsockopt, sockopt};

/// What the peer of an output descriptor has done with the bytes written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputStatus {
    /// Whether the peer has read every byte; `None` if the kernel does not say.
    pub is_drained: Option<bool>,
    /// Whether the socket reports an error since the last call: the peer closed it with unread bytes.
    pub was_reset: bool,
}

/// Reads the status of an output descriptor. Clears a pending socket error.
#[expect(unsafe_code, reason = "no safe interface has these requests")]
pub fn output_status<F: AsFd + AsRawFd>(output: &F) -> OutputStatus {
    let is_socket = getsockopt(output, sockopt::SockType).is_ok();
    // FIONREAD counts the bytes in a pipe; TIOCOUTQ the bytes sent that the peer has not received.
    let request = if is_socket { nix::libc::TIOCOUTQ } else { nix::libc::FIONREAD };
    let mut unread: nix::libc::c_int = 0;
    // SAFETY: both requests write one int through the pointer, which outlives the call.
    let status = unsafe { nix::libc::ioctl(output.as_raw_fd(), request, &mut unread) };
    // Closing a socket with unread bytes empties it as well, but leaves one error to read.
    let was_reset = is_socket && getsockopt(output, sockopt::SocketError) != Ok(0);
    OutputStatus { is_drained: (status == 0).then_some(unread == 0), was_reset }
}
