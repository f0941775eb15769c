//! Start of the program: safety measures before anything else runs.

use std::fs::OpenOptions;
use std::os::fd::{BorrowedFd, IntoRawFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigHandler, Signal, signal};

/// Runs a program that the C runtime has started directly, and returns its exit status.
///
/// The start of the standard library, which this replaces, takes the same two measures.
#[inline]
#[expect(unsafe_code, reason = "the disposition of a signal belongs to the whole process")]
pub fn run(program: fn() -> u8) -> i32 {
    occupy_standard_streams();
    // SAFETY: ignoring a signal installs no handler. Writing to a closed pipe then returns an error.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    i32::from(program())
}

/// Opens `/dev/null` for closed standard streams. Otherwise the next opened file would get the number
/// of a stream, and output would be written to that file.
#[expect(unsafe_code, reason = "tests descriptors by their number")]
fn occupy_standard_streams() {
    for number in 0..3 {
        // SAFETY: the descriptor is only tested, and "not open" is a valid result of the test.
        let stream = unsafe { BorrowedFd::borrow_raw(number) };
        if fcntl(stream, FcntlArg::F_GETFD).is_err()
            && let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null")
        {
            let _ = null.into_raw_fd();
        }
    }
}
