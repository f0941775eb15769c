//! Parser of the byte streams between a terminal and a program: text, controls, escape sequences.

/// Bytes of parameters that are kept of one control sequence; a longer sequence is still skipped.
const PARAMETERS_MAX: usize = 64;

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
const CANCEL: u8 = 0x18;
const SUBSTITUTE: u8 = 0x1a;

/// Direction of a stream: some sequences have another form from the keyboard than to the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the terminal to the program.
    Input,
    /// From the program to the terminal.
    Output,
}

/// One element of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    Text(char),
    /// A control character, also a lone escape character.
    Control(u8),
    /// An escape character and one more byte.
    Escape(u8),
    /// A control sequence.
    Sequence(ControlSequence),
    /// A function key in its short form. Only in input.
    FunctionKey(u8),
    /// A mouse report in its oldest form. Only in input.
    Mouse,
    /// A command or an answer with a string.
    String,
}

/// A control sequence: parameters and a final byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSequence {
    parameters: Vec<u8>,
    pub last: u8,
}

impl ControlSequence {
    /// The first byte, if it marks a private sequence.
    pub fn private(&self) -> Option<u8> {
        self.parameters.first().copied().filter(|byte| matches!(byte, b'<'..=b'?'))
    }

    /// Whether a byte other than a parameter stands before the final byte.
    pub fn has_intermediate(&self) -> bool {
        self.parameters.iter().any(|byte| (0x20..0x30).contains(byte))
    }

    /// A number by its position, and its position in that parameter; `None` if it is missing.
    pub fn number(&self, at: usize, within: usize) -> Option<usize> {
        let start = usize::from(self.private().is_some());
        let parameter = self.parameters.get(start..)?.split(|byte| *byte == b';').nth(at)?;
        let digits = parameter.split(|byte| *byte == b':').nth(within)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The first number of a parameter, at least 1.
    pub fn count(&self, at: usize) -> usize {
        self.number(at, 0).unwrap_or(1).max(1)
    }

    /// The first numbers of all parameters; a missing one is 0.
    pub fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        let all = self.parameters.split(|byte| *byte == b';').count();
        (0..all).map(|at| self.number(at, 0).unwrap_or(0))
    }
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    /// Bytes of an escape sequence with an intermediate byte, for example a character set.
    Intermediate,
    Sequence(Vec<u8>),
    FunctionKey,
    /// Number of bytes of a mouse report that are missing.
    Mouse(u8),
    /// Within a string; whether its last byte is an escape character.
    String(bool),
}

/// The parser, which keeps an unfinished sequence between two calls.
#[derive(Debug)]
pub struct Parser {
    direction: Direction,
    state: State,
    /// Bytes of an unfinished character, and the number of bytes that it has in all.
    character: ([u8; 4], usize, usize),
}

impl Parser {
    pub fn new(direction: Direction) -> Self {
        Self { direction, state: State::Ground, character: ([0; 4], 0, 0) }
    }

    /// Whether a sequence is unfinished.
    pub fn is_within(&self) -> bool {
        !matches!(self.state, State::Ground) || self.character.1 > 0
    }

    /// Whether a lone escape character was read.
    pub fn is_at_escape(&self) -> bool {
        matches!(self.state, State::Escape)
    }

    /// Forgets an unfinished sequence.
    pub fn reset(&mut self) {
        *self = Self::new(self.direction);
    }

    /// Parses bytes and passes on each element.
    pub fn feed(&mut self, bytes: &[u8], token: &mut dyn FnMut(Token)) {
        for byte in bytes {
            self.take(*byte, token);
        }
    }

    fn take(&mut self, byte: u8, token: &mut dyn FnMut(Token)) {
        match std::mem::take(&mut self.state) {
            State::Ground => self.ground(byte, token),
            State::Escape => self.escape(byte, token),
            State::Intermediate => match byte {
                0x20..0x30 => self.state = State::Intermediate,
                ESC => self.state = State::Escape,
                _ => {}
            },
            State::Sequence(parameters) => self.sequence(parameters, byte, token),
            State::FunctionKey => token(Token::FunctionKey(byte)),
            State::Mouse(1) => token(Token::Mouse),
            State::Mouse(missing) => self.state = State::Mouse(missing - 1),
            State::String(_) if matches!(byte, BEL | CANCEL | SUBSTITUTE) => token(Token::String),
            State::String(_) if byte == ESC => self.state = State::String(true),
            State::String(true) => {
                token(Token::String);
                if byte != b'\\' {
                    self.escape(byte, token);
                }
            }
            State::String(false) => self.state = State::String(false),
        }
    }

    fn ground(&mut self, byte: u8, token: &mut dyn FnMut(Token)) {
        let (bytes, have, length) = &mut self.character;
        if *have > 0 {
            if matches!(byte, 0x80..0xc0) {
                bytes[*have] = byte;
                *have += 1;
                if have < length {
                    return;
                }
                let text = std::str::from_utf8(&bytes[..*have]).ok();
                let character = text.and_then(|text| text.chars().next());
                *have = 0;
                token(Token::Text(character.unwrap_or(char::REPLACEMENT_CHARACTER)));
                return;
            }
            *have = 0;
            token(Token::Text(char::REPLACEMENT_CHARACTER));
        }
        match byte {
            ESC => self.state = State::Escape,
            0..0x20 | 0x7f => token(Token::Control(byte)),
            0x20..0x7f => token(Token::Text(char::from(byte))),
            0x80..0xc0 | 0xf8.. => token(Token::Text(char::REPLACEMENT_CHARACTER)),
            _ => {
                let length = match byte {
                    0xc0..0xe0 => 2,
                    0xe0..0xf0 => 3,
                    _ => 4,
                };
                self.character = ([byte, 0, 0, 0], 1, length);
            }
        }
    }

    fn escape(&mut self, byte: u8, token: &mut dyn FnMut(Token)) {
        match byte {
            b'[' => self.state = State::Sequence(Vec::new()),
            b'O' if self.direction == Direction::Input => self.state = State::FunctionKey,
            b']' | b'P' | b'_' | b'^' | b'X' => self.state = State::String(false),
            ESC => {
                self.state = State::Escape;
                token(Token::Control(ESC));
            }
            0x20..0x30 if self.direction == Direction::Output => self.state = State::Intermediate,
            0..0x20 if self.direction == Direction::Output => token(Token::Control(byte)),
            _ => token(Token::Escape(byte)),
        }
    }

    fn sequence(&mut self, mut parameters: Vec<u8>, byte: u8, token: &mut dyn FnMut(Token)) {
        match byte {
            0x20..0x40 => {
                if parameters.len() < PARAMETERS_MAX {
                    parameters.push(byte);
                }
                self.state = State::Sequence(parameters);
            }
            b'M' if parameters.is_empty() && self.direction == Direction::Input => {
                self.state = State::Mouse(3);
            }
            0x40..0x7f => token(Token::Sequence(ControlSequence { parameters, last: byte })),
            ESC => self.state = State::Escape,
            // A control character within a sequence takes effect, and the sequence continues.
            0..0x20 if self.direction == Direction::Output => {
                token(Token::Control(byte));
                self.state = State::Sequence(parameters);
            }
            _ => self.ground(byte, token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(direction: Direction, bytes: &[u8]) -> Vec<Token> {
        let mut all = Vec::new();
        Parser::new(direction).feed(bytes, &mut |token| all.push(token));
        all
    }

    #[test]
    fn a_stream_is_parsed_alike_however_it_is_split() {
        let bytes =
            "a\u{e9}\u{2728}\x1b[<64;10;5Mb\x1b]11;rgb:0/0/0\x1b\\c\x1b[M !!d\x1bOMe\x1b\r\n";
        let whole = tokens(Direction::Input, bytes.as_bytes());
        let text: String = whole
            .iter()
            .filter_map(|token| match token {
                Token::Text(c) => Some(*c),
                _ => None,
            })
            .collect();
        assert_eq!(text, "a\u{e9}\u{2728}bcde");
        for at in 0..bytes.len() {
            let mut split = Vec::new();
            let mut parser = Parser::new(Direction::Input);
            parser.feed(&bytes.as_bytes()[..at], &mut |token| split.push(token));
            parser.feed(&bytes.as_bytes()[at..], &mut |token| split.push(token));
            assert_eq!(split, whole, "{at}");
        }
    }

    #[test]
    fn the_numbers_of_a_sequence_are_found_by_position() {
        let [Token::Sequence(key)] = &tokens(Direction::Input, b"\x1b[13:1;5:3u")[..] else {
            panic!("one sequence");
        };
        assert_eq!(
            (key.number(0, 0), key.number(1, 0), key.number(1, 1)),
            (Some(13), Some(5), Some(3))
        );
        assert_eq!((key.number(0, 2), key.number(2, 0), key.private()), (None, None, None));
    }
}
