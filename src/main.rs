//! Where does `c2c` start?
//!
//! Here, and not in the standard library: its set-up of the main thread reads `/proc/self/maps` and
//! costs a tenth of an empty process, and a hook runs after every tool call. What it does for
//! safety is done here instead.
#![no_main]

use std::fs::OpenOptions;
use std::os::fd::{BorrowedFd, IntoRawFd};

use nix::sys::signal::{SigHandler, Signal, signal};

/// The entry that the C runtime calls; the arguments are read through `std::env`.
// SAFETY: no other symbol of this program is called `main`.
#[unsafe(no_mangle)]
pub extern "C" fn main() -> i32 {
    occupy_standard_streams();
    // SAFETY: ignoring a signal installs no handler. A closed pipe is then an error like any other.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    i32::from(c2c::cli::main())
}

/// A closed standard stream would give its number to the next file opened, and what is printed
/// would end up in there.
fn occupy_standard_streams() {
    for number in 0..3 {
        // SAFETY: only asked about; an answer of "not open" is what this is for.
        let stream = unsafe { BorrowedFd::borrow_raw(number) };
        if nix::fcntl::fcntl(stream, nix::fcntl::FcntlArg::F_GETFD).is_err()
            && let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null")
        {
            let _ = null.into_raw_fd();
        }
    }
}
