//! Waking an idle session that has unread mail.
//!
//! One nudge announces all waiting mail; further nudges follow after growing pauses. A nudge never
//! contains a message: the woken session reads its mail itself, so a lost or repeated nudge loses
//! nothing.

mod nudge;
mod schedule;
mod terminal;

pub use nudge::{CodexCommand, NudgeMethod, WaitingSession};
pub use schedule::NudgeSchedule;
pub use terminal::Terminal;

/// The text that a woken session reads.
pub const NOTICE: &str = "c2c: mail from other agents waits for you. Call the c2c poll_inbox tool to \
    read it. This notice is automatic and not from the user.";
