//! Diagnostics for users and operators, on standard error.

use std::io::{self, Write};

use crate::present::envelope::for_terminal;

/// Writes one line to standard error, with terminal control characters escaped. A write error is
/// ignored: a diagnostic must not fail the operation that it reports on.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", for_terminal(text));
}
