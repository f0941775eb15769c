//! Text output of the relay commands.

use crate::present::envelope::for_terminal;

/// Text of several lines without control characters.
pub fn lines_for_terminal(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", for_terminal(line))).collect()
}
