//! One nudge as a state machine: look, type, wait for the token, press Enter, see the line leave.

use std::fmt;
use std::time::Duration;

use super::NOTICE;
use super::view::{Obstacle, View};
use crate::platform::terminal::InputMode;

/// Pause before Enter, since the program has shown the text: many programs take an Enter that follows
/// a paste for a line end, and a busy one reads the paste late.
const ENTER_PAUSE: Duration = Duration::from_millis(600);
/// Longest wait until a program shows what was typed.
const SHOW_LIMIT: Duration = Duration::from_secs(3);
/// Longest wait until a line has left the input.
const LEAVE_LIMIT: Duration = Duration::from_secs(3);
/// Longest wait until a program has erased what was typed.
const ERASE_LIMIT: Duration = Duration::from_secs(1);
/// Bytes of the marks around a paste.
pub const PASTE_MARK_BYTES: usize = 12;
/// Number of looks in a row that must agree that the line has left: a program may draw in parts.
const AGREEING_LOOKS: u32 = 2;

/// The text of one nudge, which ends in a token that no other text has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NudgeText {
    token: String,
    text: String,
}

impl NudgeText {
    /// The text with the token of a number.
    pub fn new(number: u32) -> Self {
        // Without letters that are keys in many menus: y and n, and digits.
        const LETTERS: &[u8; 16] = b"bdfghjkmpqrstvwx";
        let letters = (0..7).map(|at| char::from(LETTERS[(number >> (at * 4)) as usize % 16]));
        let token = format!("[{}]", letters.collect::<String>());
        let text = format!("{NOTICE} {token}");
        Self { token, text }
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}

/// What is seen of a terminal at one time.
#[derive(Debug, Clone, Default)]
pub struct Look {
    pub view: View,
    /// `None` if the terminal cannot be examined.
    pub input: Option<InputMode>,
    /// The program that reads the terminal must not be typed into.
    pub stranger: Option<Reason>,
    /// A person types, or has typed since the nudge began.
    pub is_person_typing: bool,
}

/// The reason why a session was not woken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The foreground program is a shell.
    Shell(String),
    /// The foreground program is not the agent.
    OtherProgram(String),
    /// The process that registered the alias has ended.
    Ended,
    /// A person is typing.
    PersonTyping,
    /// The pane is in a mode that cannot be left, for example a list of windows.
    Mode(String),
    /// The pane copies its input to other panes.
    Synchronized,
    /// The pane does not exist any more, or its program has ended.
    PaneGone,
    /// The program shows a dialog.
    Dialog,
    /// The input line is not empty.
    Draft,
    /// The prompt is one of a shell.
    ShellPrompt,
    /// The terminal does not show what is typed.
    Hidden,
    /// The text did not appear at the cursor.
    NotShown,
    /// The text appeared and was changed before Enter.
    Changed,
    /// The line stayed in the input after Enter.
    NotSubmitted,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Shell(name) => {
                return write!(f, "the foreground program is a shell ({})", name.escape_default());
            }
            Self::OtherProgram(name) => {
                let name = name.escape_default();
                return write!(f, "the foreground program is not the agent ({name})");
            }
            Self::Mode(name) => return write!(f, "the pane is in {}", name.escape_default()),
            Self::Ended => "the process that registered the alias has ended",
            Self::PersonTyping => "a person is typing",
            Self::Synchronized => "the pane copies its input to other panes",
            Self::PaneGone => "the program in the pane has ended",
            Self::Dialog => "the program shows a dialog",
            Self::Draft => "the input line is not empty",
            Self::ShellPrompt => "the program shows the prompt of a shell",
            Self::Hidden => "the terminal does not show what is typed",
            Self::NotShown => "the program does not show the typed text at its cursor",
            Self::Changed => "the typed text was changed before Enter",
            Self::NotSubmitted => "the line stayed in the input after Enter",
        };
        f.write_str(text)
    }
}

/// The end of a nudge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NudgeOutcome {
    /// The line was seen to leave the input.
    Woke,
    NotWoken(Reason),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NudgeStep {
    /// Look again soon.
    Wait,
    /// Type or paste the text, without Enter.
    Type,
    PressEnter,
    /// Remove this number of characters before the cursor.
    Erase(usize),
    /// Drop the input that the program has not read.
    Discard,
    End(NudgeOutcome),
}

#[derive(Debug, Clone)]
enum Stage {
    Before,
    Typed,
    Entered { at: Duration, agreeing: u32 },
    Erasing { at: Duration, reason: Reason },
    Over(NudgeOutcome),
}

/// One nudge. Times are those of any steady clock.
#[derive(Debug, Clone)]
pub struct Attempt {
    text: NudgeText,
    stage: Stage,
    typed_at: Duration,
    /// When the token was first seen at the cursor.
    shown_at: Option<Duration>,
}

impl Attempt {
    pub fn new(text: NudgeText) -> Self {
        Self { text, stage: Stage::Before, typed_at: Duration::ZERO, shown_at: None }
    }

    pub fn text(&self) -> &NudgeText {
        &self.text
    }

    /// Whether the text was typed and Enter was not pressed.
    pub fn is_waiting_for_enter(&self) -> bool {
        matches!(self.stage, Stage::Typed)
    }

    /// Enter was not pressed after all, because the screen has changed.
    pub fn enter_was_not_pressed(&mut self) {
        self.stage = Stage::Typed;
    }

    /// Decides the next step from what is seen now.
    pub fn step(&mut self, look: &Look, now: Duration) -> NudgeStep {
        let step = match self.stage.clone() {
            Stage::Before => self.before(look, now),
            Stage::Typed => self.typed(look, now),
            Stage::Entered { at, agreeing } => self.entered(look, now, at, agreeing),
            Stage::Erasing { at, reason } => self.erasing(look, now, at, reason),
            Stage::Over(outcome) => NudgeStep::End(outcome),
        };
        if let NudgeStep::End(outcome) = &step {
            self.stage = Stage::Over(outcome.clone());
        }
        step
    }

    fn before(&mut self, look: &Look, now: Duration) -> NudgeStep {
        if let Some(reason) = obstacle(look) {
            return NudgeStep::End(NudgeOutcome::NotWoken(reason));
        }
        self.stage = Stage::Typed;
        self.typed_at = now;
        NudgeStep::Type
    }

    fn typed(&mut self, look: &Look, now: Duration) -> NudgeStep {
        let token = self.text.token();
        if look.is_person_typing {
            return self.withdraw(look, now, Reason::PersonTyping);
        }
        if let Some(reason) = &look.stranger {
            return self.withdraw(look, now, reason.clone());
        }
        let is_at_cursor = look.view.has_at_cursor(token);
        if is_at_cursor {
            let shown_at = *self.shown_at.get_or_insert(now);
            if now.saturating_sub(shown_at) >= ENTER_PAUSE {
                self.stage = Stage::Entered { at: now, agreeing: 0 };
                return NudgeStep::PressEnter;
            }
        } else if now.saturating_sub(self.typed_at) >= SHOW_LIMIT {
            let reason = if self.shown_at.is_some() { Reason::Changed } else { Reason::NotShown };
            return self.withdraw(look, now, reason);
        }
        NudgeStep::Wait
    }

    fn entered(&mut self, look: &Look, now: Duration, at: Duration, agreeing: u32) -> NudgeStep {
        if has_left(look, self.text.token()) {
            if agreeing + 1 >= AGREEING_LOOKS {
                return NudgeStep::End(NudgeOutcome::Woke);
            }
            self.stage = Stage::Entered { at, agreeing: agreeing + 1 };
            return NudgeStep::Wait;
        }
        self.stage = Stage::Entered { at, agreeing: 0 };
        if now.saturating_sub(at) < LEAVE_LIMIT {
            return NudgeStep::Wait;
        }
        self.withdraw(look, now, Reason::NotSubmitted)
    }

    fn erasing(&mut self, look: &Look, now: Duration, at: Duration, reason: Reason) -> NudgeStep {
        let is_gone = !look.view.has_in_input(self.text.token());
        if is_gone || now.saturating_sub(at) >= ERASE_LIMIT {
            return NudgeStep::End(NudgeOutcome::NotWoken(reason));
        }
        NudgeStep::Wait
    }

    /// Takes back what was typed, where it is certain that nothing else goes with it.
    fn withdraw(&mut self, look: &Look, now: Duration, reason: Reason) -> NudgeStep {
        let token = self.text.token();
        let enter = usize::from(matches!(self.stage, Stage::Entered { .. }));
        let unread = look.input.map_or(0, |mode| mode.unread);
        let stage = Stage::Erasing { at: now, reason: reason.clone() };
        let typed = self.text.text.len() + enter;
        if unread == typed || unread == typed + PASTE_MARK_BYTES {
            self.stage = stage;
            return NudgeStep::Discard;
        }
        // A line that the terminal has taken cannot be edited.
        let is_taken = enter == 1 && look.input.is_some_and(|mode| mode.is_line_wise);
        let has_line_end = enter == 1 && look.view.has_line_end_behind(token);
        if !is_taken && look.stranger.is_none() && (look.view.has_at_cursor(token) || has_line_end)
        {
            self.stage = stage;
            return NudgeStep::Erase(self.text.text.chars().count() + usize::from(has_line_end));
        }
        NudgeStep::End(NudgeOutcome::NotWoken(reason))
    }
}

/// Why nothing may be typed.
fn obstacle(look: &Look) -> Option<Reason> {
    if let Some(stranger) = &look.stranger {
        return Some(stranger.clone());
    }
    if look.is_person_typing {
        return Some(Reason::PersonTyping);
    }
    if look.input.is_some_and(|mode| mode.is_line_wise && !mode.echoes) {
        return Some(Reason::Hidden);
    }
    look.view.obstacle().map(|obstacle| match obstacle {
        Obstacle::Dialog => Reason::Dialog,
        Obstacle::Draft => Reason::Draft,
        Obstacle::ShellPrompt => Reason::ShellPrompt,
    })
}

/// Whether the line has left the input.
fn has_left(look: &Look, token: &str) -> bool {
    match look.input {
        // The terminal hands over a whole line: it has left once the program has read it.
        Some(mode) if mode.is_line_wise => mode.unread == 0,
        // A dialog hides the input line.
        _ => !look.view.has_in_input(token) && look.view.obstacle() != Some(Obstacle::Dialog),
    }
}
