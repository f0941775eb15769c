//! What a screen shows around its cursor, and whether that is an input line with nothing in it.

use super::dialog;
use super::row::{MARKERS, bare, is_frame, is_marked, within_frame};

/// Cells of the screen's right edge that a frame and its padding may take.
const EDGE_CELLS: usize = 6;
/// Rows above and below the cursor that a dialog is looked for in.
const DIALOG_ROWS: usize = 12;
/// Rows above the cursor that a draft of several lines is looked for in.
const DRAFT_ROWS_MAX: usize = 30;
/// Signs that end the prompt of a shell.
const SHELL_SIGNS: [char; 3] = ['$', '#', '%'];

/// The reason why a screen does not take a nudge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// A list of choices, or the cursor stands outside of an input line.
    Dialog,
    /// The input line is not empty.
    Draft,
    /// The prompt is one of a shell.
    ShellPrompt,
}

/// A screen and its cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    pub lines: Vec<String>,
    pub row: usize,
    /// The text before the cursor in its row.
    pub before: String,
    columns: usize,
}

/// Number of cells of a character. Only roughly the table of Unicode: an error moves the text before
/// the cursor by a cell, and the nudge is then not recognised.
pub fn width(character: char) -> usize {
    match u32::from(character) {
        0x300..=0x36f | 0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f => 0,
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xac00..=0xd7a3 => 2,
        0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 => 2,
        0x231a..=0x231b | 0x23e9..=0x23ec | 0x26a1 | 0x2705 | 0x2728 | 0x274c | 0x2753..=0x2755 => {
            2
        }
        0x1f300..=0x1f64f | 0x1f680..=0x1f6ff | 0x1f900..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// The number of a row in a list of numbered choices, and whether the row is marked.
fn choice(row: &str) -> Option<(u32, bool)> {
    let row = within_frame(row);
    let text = row.trim_start_matches(|c: char| MARKERS.contains(c) || c == '*');
    let is_marked = text.len() < row.len();
    let (number, rest) = text.trim_start().split_once(['.', ')'])?;
    let number = number.trim_start_matches(['(', '[']).parse().ok()?;
    rest.starts_with(|c: char| c.is_whitespace() || c == ']').then_some((number, is_marked))
}

impl View {
    /// A screen of these rows; `before` is the text before the cursor in its row.
    pub fn new(lines: Vec<String>, row: usize, before: String, columns: usize) -> Self {
        Self { lines, row, before, columns }
    }

    /// A screen of these rows, with the cursor in a cell of a row.
    pub fn with_cursor(lines: Vec<String>, row: usize, column: usize, columns: usize) -> Self {
        let line = lines.get(row).map(String::as_str).unwrap_or_default();
        let mut cells = 0;
        let before = line.chars().take_while(|c| {
            let is_before = cells < column;
            cells += width(*c);
            is_before
        });
        let before = before.collect();
        Self { lines, row, before, columns }
    }

    fn line(&self) -> &str {
        self.lines.get(self.row).map(String::as_str).unwrap_or_default()
    }

    fn behind(&self) -> &str {
        self.line().strip_prefix(self.before.as_str()).unwrap_or_default()
    }

    fn above(&self) -> impl Iterator<Item = &str> {
        self.lines[..self.row.min(self.lines.len())].iter().rev().map(String::as_str)
    }

    /// Why nothing may be typed; `None` if the cursor stands in an input line with nothing in it.
    pub fn obstacle(&self) -> Option<Obstacle> {
        let rule = |text: &str| {
            let frames = text.chars().filter(|c| is_frame(*c)).count();
            frames > 2 && within_frame(text).is_empty()
        };
        let is_choice = choice(self.line()).is_some_and(|(_, is_marked)| is_marked);
        if rule(&self.before) || is_choice || dialog::asks(self.near()) {
            return Some(Obstacle::Dialog);
        }
        let mut words = within_frame(&self.before).split_whitespace();
        match (words.next(), words.next()) {
            (None, _) if self.has_choices() => Some(Obstacle::Dialog),
            (None, _) if self.continues_a_draft() => Some(Obstacle::Draft),
            (None, _) => None,
            (Some(word), None) if word.ends_with(SHELL_SIGNS) => Some(Obstacle::ShellPrompt),
            (Some(word), None) if is_name(word) && self.follows_a_list() => Some(Obstacle::Dialog),
            (Some(word), None) if is_prompt(word) => None,
            _ => Some(Obstacle::Draft),
        }
    }

    /// Whether the cursor stands directly behind the prompt of an input line.
    pub fn is_at_prompt(&self) -> bool {
        !within_frame(&self.before).is_empty() && self.obstacle().is_none()
    }

    /// Whether nothing is shown behind the cursor and in the row below it.
    pub fn is_blank_behind(&self) -> bool {
        let below = self.lines.get(self.row + 1).map(String::as_str).unwrap_or_default();
        within_frame(self.behind()).is_empty() && within_frame(below).is_empty()
    }

    /// The rows around the cursor.
    fn near(&self) -> &[String] {
        let end = self.lines.len().min(self.row + DIALOG_ROWS + 1);
        &self.lines[self.row.saturating_sub(DIALOG_ROWS).min(end)..end]
    }

    /// Whether a list with a selected row stands directly above the cursor.
    fn follows_a_list(&self) -> bool {
        self.above().take_while(|row| !bare(row).is_empty()).any(is_marked)
    }

    /// Whether rows show a list of numbered choices, one of them selected.
    fn has_choices(&self) -> bool {
        let choices: Vec<_> = self.lines.iter().map(|line| choice(line)).collect();
        let near =
            |at: usize| choices[at.saturating_sub(3)..choices.len().min(at + 4)].iter().flatten();
        choices.iter().enumerate().any(|(at, row)| {
            let Some((number, true)) = row else { return false };
            near(at).any(|(other, _)| other.abs_diff(*number) == 1)
        })
    }

    /// Whether the next rows of text above the cursor begin with a marked one. A draft may end in empty
    /// lines; the frame of an input ends the search.
    fn continues_a_draft(&self) -> bool {
        let rows = self.above().take(DRAFT_ROWS_MAX);
        let is_edge = |row: &&str| within_frame(row).is_empty() && row.contains(is_frame);
        let mut within = rows
            .take_while(|row| !is_edge(row) || row.chars().filter(|c| is_frame(*c)).count() <= 2);
        let has_text = |row: &&str| !bare(row).is_empty();
        let first = within.by_ref().find(has_text);
        first.into_iter().chain(within.take_while(has_text)).any(is_marked)
    }

    /// Whether a token stands directly before the cursor, and nothing behind it.
    pub fn has_at_cursor(&self, token: &str) -> bool {
        let before = bare(&self.before);
        if !within_frame(self.behind()).is_empty() {
            return false;
        }
        if before.ends_with(token) {
            return true;
        }
        // A narrow screen continues the token in the next row.
        let above = self.above().next().unwrap_or_default();
        let reaches_edge = || {
            let cells = |text: &str| text.chars().map(width).sum::<usize>();
            cells(within_frame(above)) + cells(above) - cells(above.trim_start()) + EDGE_CELLS
                >= self.columns
        };
        token.ends_with(&before) && (bare(above) + &before).ends_with(token) && reaches_edge()
    }

    /// Whether a token is still in the input: in the row of the cursor, or in the row above one that
    /// shows no prompt, where a line end within the input has moved it.
    pub fn has_in_input(&self, token: &str) -> bool {
        let before = bare(&self.before);
        let above = bare(self.above().next().unwrap_or_default());
        let has_prompt = within_frame(self.line()).split_whitespace().next().is_some_and(is_prompt);
        bare(self.line()).contains(token)
            || (!has_prompt && above.ends_with(token))
            || (above + &before).ends_with(token)
    }

    /// Whether a line end follows the token in the input.
    pub fn has_line_end_behind(&self, token: &str) -> bool {
        bare(self.line()).is_empty()
            && bare(self.above().next().unwrap_or_default()).ends_with(token)
    }
}

/// Whether a prompt is a name, as of a filter.
fn is_name(word: &str) -> bool {
    word.chars().any(char::is_alphanumeric)
}

/// Whether a word is a prompt: signs, or a name that ends in a sign.
fn is_prompt(word: &str) -> bool {
    let is_sign = |c: char| MARKERS.contains(c) || c == ':';
    // A question, or a pager.
    if word.chars().all(|c| c == ':' || c == '?') {
        return false;
    }
    // What is typed there is not shown.
    if word.to_lowercase().contains("pass") {
        return false;
    }
    word.ends_with(is_sign)
        || (word.chars().count() <= 3 && !word.chars().any(char::is_alphanumeric))
}
