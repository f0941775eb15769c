//! Waking an idle session that has unread mail.
//!
//! One nudge announces all waiting mail; further nudges follow after growing pauses. A nudge never
//! contains a message: the woken session reads its mail itself, so a lost or repeated nudge loses
//! nothing.

mod attempt;
mod dialog;
mod escapes;
mod foreground;
mod keys;
mod nudge;
mod row;
mod schedule;
mod screen;
mod terminal;
#[cfg(test)]
mod tests;
mod tmux;
mod view;

pub use attempt::{NudgeOutcome, Reason};
pub use nudge::{CodexCommand, NudgeMethod, WaitingSession};
pub use schedule::NudgeSchedule;
pub use terminal::{MailSource, Terminal};
pub use tmux::TmuxPane;

/// The text that a woken session reads. Typed into a terminal, a token follows it.
pub const NOTICE: &str = "c2c: mail from other agents waits for you. Call the c2c poll_inbox tool to \
    read it. This notice is automatic and not from the user.";
