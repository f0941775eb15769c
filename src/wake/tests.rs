//! Properties of nudges over generated keys, screens and terminals.

use std::time::Duration;

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::attempt::{Attempt, Look, NudgeOutcome, NudgeStep, NudgeText, Reason};
use super::keys::Keys;
use super::screen::Screen;
use super::view::{Obstacle, View};

/// Reports that a terminal sends without a key of the user.
const REPORTS: &[&str] = &[
    "\x1b[I",
    "\x1b[O",
    "\x1b[?62;4c",
    "\x1b[>41;389;0c",
    "\x1b[24;80R",
    "\x1b[?1;2R",
    "\x1b[0n",
    "\x1b]11;rgb:1e1e/1e1e/2e2e\x07",
    "\x1b]10;rgb:ffff/ffff/ffff\x1b\\",
    "\x1bP>|XTerm(390)\x1b\\",
    "\x1b_Gi=31;OK\x1b\\",
    "\x1b[<64;10;5M",
    "\x1b[<0;10;5m",
    "\x1b[M !!",
    "\x1b[?2026;2$y",
    "\x1b[8;24;80t",
    "\x1b[?1u",
    "\x1b[?997;1n",
    "\x1b[97;1:3u",
    "\x1b[57441;2u",
];

/// An action of a user, or a report of the terminal.
#[derive(Debug, Clone, Copy)]
enum Action {
    Character(char),
    Paste(&'static str),
    Backspace,
    KillLine,
    ControlJ,
    AltEnter,
    ShiftEnter,
    BackslashEnter,
    Enter,
    KeypadEnter,
    Interrupt,
    Report(&'static str),
}

impl Arbitrary for Action {
    fn arbitrary(g: &mut Gen) -> Self {
        let characters = ['a', 'z', '2', ' ', '~', '[', '\u{e9}', '\u{4f60}', '\u{2728}'];
        let actions = [
            Self::Character(*g.choose(&characters).unwrap()),
            Self::Character(*g.choose(&characters).unwrap()),
            Self::Paste(g.choose(&["one", "one\ntwo", "", "end\n", "\r"]).unwrap()),
            Self::Backspace,
            Self::KillLine,
            Self::ControlJ,
            Self::AltEnter,
            Self::ShiftEnter,
            Self::BackslashEnter,
            *g.choose(&[Self::Enter, Self::KeypadEnter]).unwrap(),
            Self::Interrupt,
            Self::Report(g.choose(REPORTS).unwrap()),
            Self::Report(g.choose(REPORTS).unwrap()),
        ];
        *g.choose(&actions).unwrap()
    }
}

impl Action {
    /// The bytes that a terminal sends.
    fn bytes(self) -> String {
        match self {
            Self::Character(c) => c.to_string(),
            Self::Paste(text) => format!("\x1b[200~{text}\x1b[201~"),
            Self::Backspace => "\x7f".into(),
            Self::KillLine => "\x15".into(),
            Self::ControlJ => "\n".into(),
            Self::AltEnter => "\x1b\r".into(),
            Self::ShiftEnter => "\x1b[13;2u".into(),
            Self::BackslashEnter => "\\\r".into(),
            Self::Enter => "\r".into(),
            Self::KeypadEnter => "\x1bOM".into(),
            Self::Interrupt => "\x03".into(),
            Self::Report(report) => report.into(),
        }
    }

    /// What an editor with several lines does.
    fn edit(self, text: &mut String) {
        match self {
            Self::Character(c) => text.push(c),
            Self::Paste(pasted) => text.push_str(&pasted.replace('\r', "\n")),
            Self::Backspace => drop(text.pop()),
            Self::KillLine => text.truncate(text.rfind('\n').map_or(0, |at| at + 1)),
            Self::ControlJ | Self::AltEnter | Self::ShiftEnter => text.push('\n'),
            Self::BackslashEnter => text.push_str("\\\n"),
            Self::Enter | Self::KeypadEnter | Self::Interrupt => text.clear(),
            Self::Report(_) => {}
        }
    }
}

quickcheck! {
    fn a_draft_is_known_exactly_while_the_user_only_appends_and_erases(
        actions: Vec<Action>,
        chunk: u8
    ) -> bool {
        let mut keys = Keys::default();
        let mut text = String::new();
        for action in actions {
            let bytes = action.bytes();
            let mut has_key = false;
            for part in bytes.as_bytes().chunks(usize::from(chunk % 5) + 1) {
                has_key |= keys.feed(part);
            }
            action.edit(&mut text);
            let is_report = matches!(action, Action::Report(_));
            if keys.has_draft() == text.is_empty() || has_key == is_report {
                return false;
            }
        }
        true
    }

    fn no_key_stream_loses_a_draft_or_fails(before: Vec<u8>, reports: Vec<u8>) -> bool {
        let mut keys = Keys::default();
        keys.feed(&before);
        keys.settle();
        keys.feed(b"\x1b[201~\r\x03draft");
        let reports = reports.iter().map(|at| REPORTS[usize::from(*at) % REPORTS.len()]);
        reports.for_each(|report| assert!(!keys.feed(report.as_bytes())));
        keys.has_draft()
    }
}

#[test]
fn keys_that_leave_no_text_leave_no_draft() {
    for stream in [
        "\x1b[A",
        "\x1b[B",
        "\x1bOA",
        "\x1b",
        "ab\x7f\x7f",
        "ab\x08\x08",
        "abc\x15",
        "word\x17",
        "a\r",
        "a\x03",
        "a\x1b[13u",
        "a\x1b[27;1;13~",
        "a\x1b[99;5u",
        "\x0c",
        "\t",
        "\x1b[Z",
        "\x1b[200~\x1b[201~",
    ] {
        let mut keys = Keys::default();
        // A lone escape character may still begin a report.
        assert!(keys.feed(stream.as_bytes()) || stream == "\x1b", "{stream:?}");
        keys.settle();
        assert!(!keys.has_draft(), "{stream:?}");
    }
}

#[test]
fn line_ends_within_a_draft_keep_it() {
    for stream in [
        "line\n",
        "line\x1b\r",
        "line\x1b\n",
        "line\\\r",
        "line\x1b[13;2u",
        "line\x1b[27;2;13~",
        "\n",
        "a\x1b[106;5u",
        "\x1b[200~one\r",
        "a\x1b[D\x7f",
        "two words\x17",
        "a\x1b[13;1:3u",
        // A recalled line, of which the user erases a part.
        "\x1b[Aab\x7f\x7f",
        "\x1b]typed after alt and bracket",
        "\x1b[200~\x1b[A\x1b[201~\x7f",
    ] {
        let mut keys = Keys::default();
        keys.feed(stream.as_bytes());
        keys.settle();
        assert!(keys.has_draft(), "{stream:?}");
    }
    let mut keys = Keys::default();
    keys.reads_lines = true;
    keys.feed(b"line\n");
    assert!(!keys.has_draft(), "a program that reads lines has received it");
}

/// A screen with the cursor behind the mark `|`.
fn screen(rows: &[&str]) -> View {
    let row = rows.iter().position(|row| row.contains('|')).expect("a cursor");
    let before = rows[row].split('|').next().unwrap_or_default().to_owned();
    View::new(rows.iter().map(|row| row.replacen('|', "", 1)).collect(), row, before, 60)
}

#[test]
fn an_input_line_is_told_from_dialogs_and_drafts() {
    let frame = "\u{2500}".repeat(58);
    let (top, end) = (format!("\u{256d}{frame}\u{256e}"), format!("\u{2570}{frame}\u{256f}"));
    let (top, end) = (top.as_str(), end.as_str());
    for free in [
        &["done", "> |"][..],
        &[top, "\u{2502} > |Type your message               \u{2502}", end],
        &["ready", "|", ""],
        &["> 1. a prompt of before", "  2. its second line", "", "> |"],
        &["gem> |"],
        &["\u{276f} |"],
        &[">>> |"],
        &["You: |"],
    ] {
        assert_eq!(screen(free).obstacle(), None, "{free:?}");
    }
    for dialog in [
        &["* c2c - poll_inbox (MCP)", "", "Allow: rm -rf build ?", " > 1. Yes", "   2. No", "|"][..],
        &[
            "\u{2502} Allow execution?      \u{2502}",
            "\u{2502} \u{25cf} 1. Allow once \u{2502}",
            "\u{2502}   2. No               \u{2502}",
            end,
            "|",
        ],
        &["\u{276f} Trust this folder", "", "  Exit", &format!("{frame}|")],
        &["Allow?", "\u{276f} Yes", "  No", "|"],
        &["Pick", "|\u{276f} 1. Yes", "  2. No"],
        &["Proceed? [y/N] |"],
        &["  \u{25b6} 1. Approve once", "    2. Reject", "footer   context: 1% (98/195k)|"],
    ] {
        assert!(screen(dialog).obstacle().is_some(), "{dialog:?}");
    }
    for draft in [
        &["> half a prompt|"][..],
        &["> x|"],
        &["\u{2502} > first     \u{2502}", "\u{2502}   |   \u{2502}"],
        &["> first", "  second", "  |"],
        &["hello|"],
    ] {
        assert_eq!(screen(draft).obstacle(), Some(Obstacle::Draft), "{draft:?}");
    }
    assert_eq!(screen(&["Password: |"]).obstacle(), Some(Obstacle::Draft));
    for shell in ["ann@host:~$ |", "# |", "host% |"] {
        assert_eq!(screen(&[shell]).obstacle(), Some(Obstacle::ShellPrompt), "{shell}");
    }
}

#[test]
fn a_token_counts_only_at_the_cursor() {
    let text = NudgeText::new(0x1234_5678);
    let token = text.token();
    let row = |before: &str, behind: &str| screen(&[&format!("{before}{token}{behind}")]);
    assert!(row("> c2c: mail ", "|").has_at_cursor(token));
    assert!(row("> c2c: mail ", "|    \u{2502}").has_at_cursor(token));
    assert!(!row("> c2c: mail ", " x|").has_at_cursor(token));
    assert!(!row("> c2c: mail ", "| behind").has_at_cursor(token));
    assert!(!screen(&[&format!("unknown key: {token}"), "|"]).has_at_cursor(token));
    let (first, second) = token.split_at(4);
    let full = format!("{:>60}", format!("to read it. {first}"));
    assert!(screen(&[&full, &format!("{second}|")]).has_at_cursor(token));
    assert!(screen(&[&format!("{token:>60}"), "|"]).has_at_cursor(token));
}

/// What a program does with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    /// An input line.
    Input,
    /// An input line in which Enter is a line end until this long after a paste, milliseconds.
    LateInput(u64),
    /// A dialog that draws itself again at other keys.
    Dialog,
    /// A dialog that shows the keys that it does not know.
    Echoing,
    /// Shows nothing.
    Blind,
}

impl Arbitrary for Program {
    fn arbitrary(g: &mut Gen) -> Self {
        let late = Self::LateInput(u64::from(u16::arbitrary(g)) % 2000);
        *g.choose(&[Self::Input, late, Self::Dialog, Self::Echoing, Self::Blind]).unwrap()
    }
}

/// A terminal whose program may change at any time.
struct World {
    program: Program,
    input: String,
    shown: String,
    pasted_ms: u64,
    /// Enter was pressed while something else than the text of the nudge alone would take it.
    is_wrong: bool,
    submitted: bool,
}

impl World {
    fn view(&self) -> View {
        let mut screen = Screen::new(12, 80);
        screen.feed(b"* c2c - poll_inbox (MCP) mail from other agents\r\n\r\n");
        match self.program {
            Program::Input | Program::LateInput(_) => {
                screen.feed(format!("> {}", self.input.replace('\n', "\r\n  ")).as_bytes());
            }
            Program::Dialog => screen.feed(b"Allow?\r\n > 1. Yes\r\n   2. No\r\n"),
            Program::Echoing => {
                screen.feed(b"Allow?\r\n > Yes\r\n   No\r\n\r\n");
                screen.feed(format!("unknown: {}\r\n", self.shown).as_bytes());
            }
            Program::Blind => {}
        }
        screen.view()
    }

    fn enter(&mut self, now_ms: u64, text: &str) {
        match self.program {
            Program::LateInput(window) if now_ms < self.pasted_ms + window => self.input.push('\n'),
            Program::Input | Program::LateInput(_) => {
                self.is_wrong |= self.input != text;
                self.submitted = true;
                self.input.clear();
            }
            Program::Dialog | Program::Echoing | Program::Blind => self.is_wrong = true,
        }
    }
}

quickcheck! {
    fn enter_is_pressed_only_on_the_text_of_the_nudge(
        programs: Vec<(u8, Program)>,
        drafts: Vec<u8>,
        number: u32
    ) -> bool {
        let text = NudgeText::new(number);
        let mut attempt = Attempt::new(text.clone());
        let mut world = World {
            program: Program::Input,
            input: if drafts.len() % 3 == 1 { "half".into() } else { String::new() },
            shown: String::new(),
            pasted_ms: 0,
            is_wrong: false,
            submitted: false,
        };
        let mut typed_ms = None;
        for look in 0..200_u64 {
            let now_ms = look * 100;
            if let Some((_, program)) = programs.iter().find(|(at, _)| u64::from(at % 64) == look) {
                world.program = *program;
            }
            if drafts.iter().any(|at| u64::from(*at) == look) {
                world.input.push('x');
            }
            let look = Look { view: world.view(), ..Look::default() };
            match attempt.step(&look, Duration::from_millis(now_ms)) {
                NudgeStep::Wait => {}
                NudgeStep::Type => {
                    typed_ms = Some(now_ms);
                    world.pasted_ms = now_ms;
                    match world.program {
                        Program::Input | Program::LateInput(_) => world.input.push_str(text.text()),
                        Program::Echoing => world.shown = text.text().into(),
                        Program::Dialog | Program::Blind => {}
                    }
                }
                NudgeStep::PressEnter => {
                    let is_early = typed_ms.is_none_or(|at| now_ms - at < 400);
                    world.enter(now_ms, text.text());
                    if is_early || world.is_wrong {
                        return false;
                    }
                }
                NudgeStep::Erase(count) => {
                    // A program takes as many as there are.
                    let length = world.input.chars().count().saturating_sub(count);
                    world.input = world.input.chars().take(length).collect();
                }
                NudgeStep::Discard => return false,
                // A program that shows no input line hides also one that still has the text.
                NudgeStep::End(NudgeOutcome::Woke) => {
                    return world.submitted
                        || matches!(world.program, Program::Echoing | Program::Blind);
                }
                NudgeStep::End(NudgeOutcome::NotWoken(_)) => return !world.is_wrong,
            }
        }
        false
    }
}

#[test]
fn a_line_that_stays_in_the_input_is_erased_and_reported() {
    let text = NudgeText::new(7);
    let mut attempt = Attempt::new(text.clone());
    let mut now = Duration::ZERO;
    let mut rows = vec!["> |".to_owned()];
    let mut steps = Vec::new();
    loop {
        let rows_now: Vec<&str> = rows.iter().map(String::as_str).collect();
        let look = Look { view: screen(&rows_now), ..Look::default() };
        match attempt.step(&look, now) {
            NudgeStep::Wait => {}
            NudgeStep::Type => rows = vec![format!("> {}|", text.text())],
            NudgeStep::PressEnter => rows = vec![format!("> {}", text.text()), "  |".into()],
            NudgeStep::Erase(count) => {
                steps.push(count);
                rows = vec!["> |".into()];
            }
            NudgeStep::End(outcome) => {
                assert_eq!(outcome, NudgeOutcome::NotWoken(Reason::NotSubmitted));
                break;
            }
            NudgeStep::Discard => panic!("the program has read the text"),
        }
        now += Duration::from_millis(100);
    }
    // The text and the line end.
    assert_eq!(steps, [text.text().len() + 1]);
}
