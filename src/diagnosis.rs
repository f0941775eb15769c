//! Where do words for whoever runs a process go?

use std::io::{self, Write};

use crate::envelope::for_terminal;

/// One line on standard error, harmless to a terminal. Nobody may hear it: then the work goes on.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", for_terminal(text));
}
