//! What a user's input leaves in the input line of a program: a draft, or nothing.
//!
//! A terminal also sends reports (focus, mouse, answers about the device, the cursor and colours).
//! They are not typing. Some keys end a line within a draft and do not submit it.

use super::escapes::{ControlSequence, Direction, Parser, Token};

/// Characters of a draft that are remembered. A longer draft ends only when it is submitted.
const TEXT_MAX: usize = 16 * 1024;

const INTERRUPT: u8 = 3;
const BACKSPACE: u8 = 8;
const TAB: u8 = 9;
const LINE_FEED: u8 = 10;
const ENTER: u8 = 13;
const KILL_LINE: u8 = 0x15;
const ERASE_WORD: u8 = 0x17;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// Numbers of keys in the sequences of the kitty protocol and of xterm's other keys.
const KEY_PAD_ENTER: usize = 57_414;
const FIRST_FUNCTION_KEY: usize = 57_344;
const LAST_FUNCTION_KEY: usize = 63_743;

/// The keys of a user, and the draft that they leave.
#[derive(Debug)]
pub struct Keys {
    parser: Parser,
    draft: Draft,
    /// Within a paste in brackets.
    is_pasting: bool,
    /// The last key was a backslash, which makes Enter a line end within the draft.
    after_backslash: bool,
    /// The program reads whole lines from its terminal, which end with either line end.
    pub reads_lines: bool,
}

/// The text in the input line, as far as the keys tell.
#[derive(Debug, Default)]
struct Draft {
    text: Vec<char>,
    /// The text may differ from `text`: the cursor was moved, or the program has completed or recalled
    /// a line.
    is_inexact: bool,
}

impl Draft {
    fn push(&mut self, character: char) {
        if self.text.len() < TEXT_MAX {
            self.text.push(character);
        } else {
            self.is_inexact = true;
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn erase_character(&mut self) {
        if !self.is_inexact {
            self.text.pop();
        }
    }

    fn erase_word(&mut self) {
        let is_word = self.text.iter().all(|c| c.is_alphanumeric());
        // Programs differ in what a word is. A draft of one word is gone in all of them.
        if is_word && !self.is_inexact { self.text.clear() } else { self.is_inexact = true }
    }

    fn erase_line(&mut self) {
        if !self.is_inexact {
            let start = self.text.iter().rposition(|c| *c == '\n').map_or(0, |at| at + 1);
            self.text.truncate(start);
        }
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            parser: Parser::new(Direction::Input),
            draft: Draft::default(),
            is_pasting: false,
            after_backslash: false,
            reads_lines: false,
        }
    }
}

impl Keys {
    /// Whether the user may have an unsubmitted text in the input line.
    pub fn has_draft(&self) -> bool {
        !self.draft.text.is_empty() || self.is_pasting || self.is_within_sequence()
    }

    /// Whether a sequence is unfinished, so that no other byte may follow yet.
    pub fn is_within_sequence(&self) -> bool {
        self.parser.is_within()
    }

    /// Whether the cursor can only stand at the end of the draft.
    pub fn is_exact(&self) -> bool {
        !self.draft.is_inexact
    }

    /// Evaluates input. Returns whether it contains a key or a paste, and not only reports.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let mut tokens = Vec::new();
        self.parser.feed(bytes, &mut |token| tokens.push(token));
        let mut has_key = false;
        for token in tokens {
            has_key |= self.take(token);
        }
        has_key
    }

    /// Ends an unfinished sequence, after a pause: it was a key, not the begin of a report.
    pub fn settle(&mut self) {
        if self.parser.is_at_escape() {
            self.parser.reset();
            self.take(Token::Control(ESCAPE));
        } else if self.parser.is_within() {
            self.parser.reset();
            // The user may have typed what was read as part of the sequence.
            self.draft.push(char::REPLACEMENT_CHARACTER);
            self.draft.is_inexact = true;
        }
    }

    /// The input line was seen to be empty.
    pub fn forget_draft(&mut self) {
        self.draft.clear();
    }

    fn take(&mut self, token: Token) -> bool {
        if self.is_pasting {
            match token {
                Token::Sequence(sequence) if is_paste(&sequence, 201) => self.is_pasting = false,
                Token::Text(character) => self.draft.push(character),
                Token::Control(ENTER | LINE_FEED) => self.draft.push('\n'),
                // Programs differ in what they keep of it.
                _ => {
                    self.draft.push(char::REPLACEMENT_CHARACTER);
                    self.draft.is_inexact = true;
                }
            }
            return true;
        }
        let is_backslash = token == Token::Text('\\');
        let has_key = match token {
            Token::Text(character) => {
                self.draft.push(character);
                true
            }
            Token::Control(byte) => {
                self.control(byte);
                true
            }
            Token::Escape(byte) => {
                self.alt(byte);
                true
            }
            Token::FunctionKey(b'M') => {
                self.enter();
                true
            }
            Token::FunctionKey(byte) => {
                match byte {
                    b'j'..=b'y' => self.draft.push(char::from(byte - 0x40)),
                    _ => self.moved(),
                }
                true
            }
            Token::Sequence(sequence) => self.sequence(&sequence),
            Token::Mouse | Token::String => false,
        };
        if has_key {
            self.after_backslash = is_backslash;
        }
        has_key
    }

    fn control(&mut self, byte: u8) {
        match byte {
            ENTER => self.enter(),
            LINE_FEED if self.reads_lines => self.enter(),
            LINE_FEED => self.draft.push('\n'),
            INTERRUPT => self.draft.clear(),
            BACKSPACE | DELETE => self.draft.erase_character(),
            KILL_LINE => self.draft.erase_line(),
            ERASE_WORD => self.draft.erase_word(),
            // Neither changes the text.
            0 | 0x0c | ESCAPE => {}
            _ => self.moved(),
        }
    }

    fn enter(&mut self) {
        if self.after_backslash {
            self.draft.push('\n');
        } else {
            self.draft.clear();
        }
    }

    fn alt(&mut self, byte: u8) {
        match byte {
            ENTER | LINE_FEED => self.draft.push('\n'),
            _ => self.moved(),
        }
    }

    /// A key that moves the cursor, or recalls or completes a text. The screen shows the result.
    fn moved(&mut self) {
        self.draft.is_inexact = true;
    }

    /// Evaluates a sequence; returns whether it is a key.
    fn sequence(&mut self, sequence: &ControlSequence) -> bool {
        if sequence.private().is_some() || sequence.has_intermediate() {
            return false;
        }
        match sequence.last {
            _ if is_paste(sequence, 200) => self.is_pasting = true,
            b'u' => return self.coded_key(sequence, 0, 1),
            b'~' if sequence.number(0, 0) == Some(27) => return self.coded_key(sequence, 2, 1),
            b'A'..=b'F' | b'H' | b'P' | b'Q' | b'S' | b'Z' | b'~' => self.moved(),
            // Focus, answers about the device, the cursor and the window, and the mouse. F3 with a
            // modifier looks like a position of the cursor.
            _ => return false,
        }
        true
    }

    /// A key by its number and its modifiers, at these positions of the sequence.
    fn coded_key(
        &mut self,
        sequence: &ControlSequence,
        code_at: usize,
        modifiers_at: usize,
    ) -> bool {
        const RELEASE: usize = 3;
        const CONTROL: usize = 4;
        let Some(code) = sequence.number(code_at, 0) else { return false };
        if sequence.number(modifiers_at, 1) == Some(RELEASE) {
            return false;
        }
        // Caps lock and num lock do not modify a key.
        let modifiers = sequence.number(modifiers_at, 0).unwrap_or(1).saturating_sub(1) & 0x3f;
        match (code, modifiers) {
            (13 | KEY_PAD_ENTER, 0) => self.enter(),
            (13 | KEY_PAD_ENTER, _) => self.draft.push('\n'),
            (127 | 8 | 9 | 27, 0) => self.control(code as u8),
            (0x61..=0x7a, CONTROL) => match code as u8 & 0x1f {
                LINE_FEED => self.draft.push('\n'),
                // The same letter as Tab and Enter, and another key.
                TAB | ENTER => self.moved(),
                control => self.control(control),
            },
            (FIRST_FUNCTION_KEY..=LAST_FUNCTION_KEY, _) => return false,
            (_, 0 | 1) => {
                self.draft.push(code.try_into().ok().and_then(char::from_u32).unwrap_or(' '));
            }
            _ => self.moved(),
        }
        true
    }
}

fn is_paste(sequence: &ControlSequence, number: usize) -> bool {
    sequence.last == b'~' && sequence.number(0, 0) == Some(number)
}
