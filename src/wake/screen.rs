//! The screen of a program in a terminal: its characters and its cursor.
//!
//! Colours and fonts are left out: the screen only has to show where typed text stands.

use super::escapes::{ControlSequence, Direction, Parser, Token};
use super::view::{View, width};

/// Largest screen that is kept, in rows and columns.
const SIDE_MAX: usize = 1000;
const TAB_COLUMNS: usize = 8;
/// Final byte of the sequence that inserts cells.
const INSERT_CELLS: u8 = 0x40;
/// Fills the second cell of a wide character.
const CONTINUED: char = '\0';

type Row = Vec<char>;

#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    row: usize,
    column: usize,
    /// The last column was written: the next character begins a new row.
    is_past_end: bool,
}

/// A screen that follows the output of a program.
#[derive(Debug)]
pub struct Screen {
    parser: Parser,
    grid: Grid,
}

#[derive(Debug)]
struct Grid {
    rows: Vec<Row>,
    columns: usize,
    cursor: Cursor,
    saved: Cursor,
    /// The screen and the cursor behind a second screen.
    behind: Option<(Vec<Row>, Cursor)>,
    /// First and last row that scroll.
    region: (usize, usize),
    brackets_paste: bool,
}

impl Screen {
    pub fn new(rows: u16, columns: u16) -> Self {
        let (rows, columns) = (side(rows), side(columns));
        let grid = Grid {
            rows: vec![vec![' '; columns]; rows],
            columns,
            cursor: Cursor::default(),
            saved: Cursor::default(),
            behind: None,
            region: (0, rows - 1),
            brackets_paste: false,
        };
        Self { parser: Parser::new(Direction::Output), grid }
    }

    /// Follows output of the program.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Self { parser, grid } = self;
        parser.feed(bytes, &mut |token| grid.take(&token));
    }

    /// Whether the program has enabled marks around a paste.
    pub fn brackets_paste(&self) -> bool {
        self.grid.brackets_paste
    }

    /// Changes the size. Programs then draw again what they show.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        let grid = &mut self.grid;
        let (count, columns) = (side(rows), side(columns));
        // A terminal keeps the rows around the cursor.
        let above = (grid.cursor.row + 1).saturating_sub(count);
        grid.rows.drain(..above.min(grid.rows.len()));
        grid.rows.resize(count, Vec::new());
        grid.rows.iter_mut().for_each(|row| row.resize(columns, ' '));
        grid.columns = columns;
        grid.region = (0, count - 1);
        grid.cursor.row = grid.cursor.row.saturating_sub(above);
        grid.move_to(grid.cursor.row, grid.cursor.column);
        if let Some((behind, _)) = &mut grid.behind {
            behind.resize(count, Vec::new());
            behind.iter_mut().for_each(|row| row.resize(columns, ' '));
        }
    }

    /// What the screen shows around the cursor.
    pub fn view(&self) -> View {
        let Grid { rows, columns, cursor, .. } = &self.grid;
        let text = |cells: &[char]| cells.iter().filter(|c| **c != CONTINUED).collect::<String>();
        // The cursor stays on the last character until the next one is written.
        let at = cursor.column + usize::from(cursor.is_past_end);
        let lines = rows.iter().map(|row| text(row)).collect();
        let before = text(&rows[cursor.row][..at]);
        View::new(lines, cursor.row, before, *columns)
    }
}

fn side(length: u16) -> usize {
    usize::from(length).clamp(1, SIDE_MAX)
}

impl Grid {
    fn take(&mut self, token: &Token) {
        match token {
            Token::Text(character) => self.write(*character),
            Token::Control(byte) => self.control(*byte),
            Token::Escape(byte) => self.escape(*byte),
            Token::Sequence(sequence) if sequence.has_intermediate() => {}
            Token::Sequence(sequence) => self.sequence(sequence),
            Token::FunctionKey(_) | Token::Mouse | Token::String => {}
        }
    }

    fn move_to(&mut self, row: usize, column: usize) {
        let row = row.min(self.rows.len() - 1);
        self.cursor = Cursor { row, column: column.min(self.columns - 1), is_past_end: false };
    }

    fn write(&mut self, character: char) {
        let cells = width(character).min(self.columns);
        if cells == 0 {
            return;
        }
        if self.cursor.is_past_end || self.cursor.column + cells > self.columns {
            self.line_feed();
            self.cursor.column = 0;
        }
        let Cursor { row, column, .. } = self.cursor;
        self.rows[row][column] = character;
        self.rows[row][column + 1..column + cells].fill(CONTINUED);
        let next = column + cells;
        self.cursor.is_past_end = next == self.columns;
        self.cursor.column = next.min(self.columns - 1);
    }

    fn control(&mut self, byte: u8) {
        let Cursor { row, column, .. } = self.cursor;
        match byte {
            8 => self.move_to(row, column.saturating_sub(1)),
            9 => self.move_to(row, (column / TAB_COLUMNS + 1) * TAB_COLUMNS),
            10..=12 => self.line_feed(),
            13 => self.move_to(row, 0),
            _ => {}
        }
    }

    fn line_feed(&mut self) {
        self.cursor.is_past_end = false;
        if self.cursor.row == self.region.1 {
            self.scroll_up(self.region.0, 1);
        } else {
            self.cursor.row = (self.cursor.row + 1).min(self.rows.len() - 1);
        }
    }

    /// Removes rows at `from` and adds empty ones at the end of the region.
    fn scroll_up(&mut self, from: usize, count: usize) {
        let (_, end) = self.region;
        if from <= end {
            let count = count.min(end + 1 - from);
            self.rows[from..=end].rotate_left(count);
            self.rows[end + 1 - count..=end].iter_mut().for_each(|row| row.fill(' '));
        }
    }

    /// Adds empty rows at `from` and removes those at the end of the region.
    fn scroll_down(&mut self, from: usize, count: usize) {
        let (_, end) = self.region;
        if from <= end {
            let count = count.min(end + 1 - from);
            self.rows[from..=end].rotate_right(count);
            self.rows[from..from + count].iter_mut().for_each(|row| row.fill(' '));
        }
    }

    fn escape(&mut self, byte: u8) {
        match byte {
            b'7' => self.saved = self.cursor,
            b'8' => self.cursor = self.saved_cursor(),
            b'D' => self.line_feed(),
            b'E' => {
                self.line_feed();
                self.cursor.column = 0;
            }
            b'M' if self.cursor.row == self.region.0 => self.scroll_down(self.region.0, 1),
            b'M' => self.move_to(self.cursor.row.saturating_sub(1), self.cursor.column),
            b'c' => {
                self.rows.iter_mut().for_each(|row| row.fill(' '));
                self.region = (0, self.rows.len() - 1);
                self.move_to(0, 0);
                self.brackets_paste = false;
            }
            _ => {}
        }
    }

    /// The saved cursor, within the present size.
    fn saved_cursor(&self) -> Cursor {
        let Cursor { row, column, .. } = self.saved;
        let is_past_end = self.saved.is_past_end && column + 1 == self.columns;
        Cursor {
            row: row.min(self.rows.len() - 1),
            column: column.min(self.columns - 1),
            is_past_end,
        }
    }

    fn sequence(&mut self, sequence: &ControlSequence) {
        if sequence.private() == Some(b'?') {
            match sequence.last {
                b'h' => sequence.numbers().for_each(|mode| self.set_mode(mode, true)),
                b'l' => sequence.numbers().for_each(|mode| self.set_mode(mode, false)),
                _ => {}
            }
            return;
        }
        if sequence.private().is_some() {
            return;
        }
        let Cursor { row, column, .. } = self.cursor;
        let count = sequence.count(0);
        match sequence.last {
            b'A' => self.move_to(row.saturating_sub(count), column),
            b'B' | b'e' => self.move_to(row.saturating_add(count), column),
            b'C' | b'a' => self.move_to(row, column.saturating_add(count)),
            b'D' => self.move_to(row, column.saturating_sub(count)),
            b'E' => self.move_to(row.saturating_add(count), 0),
            b'F' => self.move_to(row.saturating_sub(count), 0),
            b'G' | b'`' => self.move_to(row, count - 1),
            b'd' => self.move_to(count - 1, column),
            b'H' | b'f' => self.move_to(count - 1, sequence.count(1) - 1),
            b'I' => self.move_to(row, (column / TAB_COLUMNS).saturating_add(count) * TAB_COLUMNS),
            b's' => self.saved = self.cursor,
            b'u' => self.cursor = self.saved_cursor(),
            b'r' => {
                let last = sequence.number(1, 0).filter(|last| *last > 0);
                let last = last.unwrap_or(self.rows.len()).min(self.rows.len());
                if count < last {
                    self.region = (count - 1, last - 1);
                    self.move_to(0, 0);
                }
            }
            _ => self.edit(sequence.last, sequence.number(0, 0), count),
        }
    }

    /// Erases, inserts and removes cells and rows.
    fn edit(&mut self, last: u8, number: Option<usize>, count: usize) {
        let Cursor { row, column, .. } = self.cursor;
        let cells = count.min(self.columns - column);
        let line = &mut self.rows[row];
        match last {
            INSERT_CELLS => {
                line[column..].rotate_right(cells);
                line[column..column + cells].fill(' ');
            }
            b'P' => {
                line[column..].rotate_left(cells);
                let end = line.len() - cells;
                line[end..].fill(' ');
            }
            b'X' => line[column..column + cells].fill(' '),
            b'K' => match number.unwrap_or(0) {
                0 => line[column..].fill(' '),
                1 => line[..=column].fill(' '),
                _ => line.fill(' '),
            },
            b'J' => {
                let blank = |rows: &mut [Row]| rows.iter_mut().for_each(|row| row.fill(' '));
                match number.unwrap_or(0) {
                    0 => {
                        line[column..].fill(' ');
                        blank(&mut self.rows[row + 1..]);
                    }
                    1 => {
                        line[..=column].fill(' ');
                        blank(&mut self.rows[..row]);
                    }
                    2 => blank(&mut self.rows),
                    _ => {}
                }
            }
            b'L' if (self.region.0..=self.region.1).contains(&row) => self.scroll_down(row, count),
            b'M' if (self.region.0..=self.region.1).contains(&row) => self.scroll_up(row, count),
            b'S' => self.scroll_up(self.region.0, count),
            b'T' => self.scroll_down(self.region.0, count),
            _ => {}
        }
    }

    fn set_mode(&mut self, mode: usize, is_on: bool) {
        match (mode, is_on) {
            (2004, _) => self.brackets_paste = is_on,
            (47 | 1047 | 1049, true) if self.behind.is_none() => {
                let empty = vec![vec![' '; self.columns]; self.rows.len()];
                self.behind = Some((std::mem::replace(&mut self.rows, empty), self.cursor));
            }
            (47 | 1047 | 1049, false) => {
                if let Some((rows, cursor)) = self.behind.take() {
                    self.rows = rows;
                    self.region = (0, self.rows.len() - 1);
                    self.move_to(cursor.row, cursor.column);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn shown(rows: u16, columns: u16, output: &[u8]) -> (Vec<String>, usize, String) {
        let mut screen = Screen::new(rows, columns);
        screen.feed(output);
        let view = screen.view();
        let lines = view.lines.iter().map(|line| line.trim_end().to_owned()).collect();
        (lines, view.row, view.before.clone())
    }

    #[test]
    fn text_wraps_scrolls_and_is_redrawn_in_place() {
        let (lines, row, before) = shown(3, 5, b"abcdefg\r\nh\r\nij");
        assert_eq!(
            (lines, row, before.as_str()),
            (vec!["fg".into(), "h".into(), "ij".into()], 2, "ij")
        );
        // A program that draws its frame again, as Ink does: up, to the first column, erase.
        let (lines, row, before) = shown(4, 20, b"one\r\n> \r\n---\x1b[1A\x1b[2K\x1b[G> two\x1b[K");
        assert_eq!((lines[1].as_str(), row, before.as_str()), ("> two", 1, "> two"));
        assert_eq!(lines[2], "---");
        let (lines, ..) = shown(3, 10, b"\x1b[1;2r1\r\n2\r\n3\x1b[1;1H\x1b[Lx");
        assert_eq!(lines, ["x", "2", ""]);
        let (lines, _, before) = shown(2, 10, b"old\x1b[?1049h\x1b[Hnew\x1b[?1049l");
        assert_eq!((lines[0].as_str(), before.as_str()), ("old", "old"));
    }

    #[test]
    fn wide_characters_take_two_cells_and_accents_none() {
        let (lines, _, before) = shown(2, 6, "\u{2728}e\u{301}\u{4f60}x\u{597d}".as_bytes());
        assert_eq!(
            (lines, before.as_str()),
            (vec!["\u{2728}e\u{4f60}x".into(), "\u{597d}".into()], "\u{597d}")
        );
    }

    quickcheck! {
        fn no_output_and_no_size_makes_the_screen_fail(output: Vec<u8>, sizes: Vec<(u16, u16)>) -> bool {
            const PARTS: &[&[u8]] = &[
                b"\x1b[", b"\x1b]0;", b"\x1b", b";", b"?1049h", b"?1049l", b"99999999999999999999", b"H",
                b"r", b"L", b"M", b"P", b"\x40", b"X", b"J", b"K", b"1J", b"2;2r", b"\xe4\xbd\xa0", b"\r\n",
                b"\x1b7", b"\x1b8", b"\x1bM", b"S", b"T", b"A", b"B", b"C", b"D", b"I", b"\t", b"text",
            ];
            let mut screen = Screen::new(3, 4);
            for (at, byte) in output.iter().enumerate() {
                let part = PARTS.get(usize::from(*byte)).copied().unwrap_or(std::slice::from_ref(byte));
                screen.feed(part);
                if at % 5 == 0 && let Some((rows, columns)) = sizes.get(at / 5) {
                    screen.resize(rows % 7, columns % 9);
                }
                screen.view();
            }
            true
        }
    }
}
