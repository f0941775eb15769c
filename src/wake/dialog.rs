//! Dialogs that take single keys, recognised by the words that they show.

use super::row::{MARKERS, within_frame};

/// Texts that programs show beside the keys of a dialog, in lower case.
const PHRASES: [&str; 10] = [
    "press enter",
    "press return",
    "press any key",
    "enter to confirm",
    "enter to select",
    "enter to continue",
    "enter to submit answer",
    "y/n",
    "(y)es",
    "[y]es",
];
/// Words of an answer to choose; a longer text is prose.
const ANSWER_WORDS_MAX: usize = 6;

/// Whether rows ask for a choice or a key. A false answer leaves a session asleep and is reported; a
/// missed dialog would take the nudge for an answer.
pub fn asks(rows: &[String]) -> bool {
    let lower: Vec<String> = rows.iter().map(|row| within_frame(row).to_lowercase()).collect();
    let has_phrase = |row: &String| PHRASES.iter().any(|phrase| row.contains(phrase));
    lower.iter().any(has_phrase)
        || rows.iter().any(|row| has_buttons(within_frame(row)))
        || offers_yes_and_no(&lower)
        || offers_keys(&lower)
}

/// Whether a row is a row of buttons: `[Allow] [Deny]`.
fn has_buttons(row: &str) -> bool {
    let parts: Vec<&str> = row.split(']').map(str::trim).collect();
    let (Some(last), buttons) = (parts.last(), &parts[..parts.len() - 1]) else { return false };
    let is_button = |part: &&str| {
        part.strip_prefix('[').is_some_and(|name| name.starts_with(char::is_alphabetic))
    };
    last.is_empty() && buttons.len() > 1 && buttons.iter().all(is_button)
}

/// Whether one row, or rows that follow each other closely, offer both yes and no.
fn offers_yes_and_no(rows: &[String]) -> bool {
    let offers = |row: &String, answer: &str| answers(row).any(|offered| offered == answer);
    rows.iter().enumerate().any(|(at, row)| {
        let near = &rows[at..rows.len().min(at + 4)];
        offers(row, "yes") && near.iter().any(|row| offers(row, "no"))
    })
}

/// The first words of the answers that a row offers, without marks and keys: `❯ y yes / n no`.
fn answers(row: &str) -> impl Iterator<Item = &str> {
    row.split(['/', '|', '\u{b7}']).flat_map(|part| part.split("  ")).filter_map(|answer| {
        let mut words = answer
            .split_whitespace()
            .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric() || MARKERS.contains(c)));
        let count = words.clone().count();
        let is_key = |word: &&str| word.chars().count() <= 1;
        let first = words.find(|word| !is_key(word))?;
        (count <= ANSWER_WORDS_MAX).then_some(first)
    })
}

/// Whether rows name at least two keys in brackets: `(a) always`, `[d] deny`.
fn offers_keys(rows: &[String]) -> bool {
    let mut keys: Vec<char> = rows.iter().flat_map(|row| bracketed_keys(row)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.len() > 1
}

/// The single letters in brackets that a word follows.
fn bracketed_keys(row: &str) -> impl Iterator<Item = char> {
    row.split(['(', '[']).skip(1).filter_map(|rest| {
        let mut chars = rest.chars();
        let key = chars.next().filter(|c| c.is_alphabetic())?;
        let is_closed = matches!(chars.next(), Some(')' | ']'));
        let is_named = chars.as_str().trim_start().starts_with(char::is_alphabetic);
        (is_closed && is_named).then_some(key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn each_layout_of_a_dialog_is_recognised() {
        for text in [
            "Allow rm -rf build?\n (y) yes  (a) always  (n) no",
            "Allow rm -rf build?\n y yes / a always / n no",
            "Allow rm -rf build?\n Yes    No ",
            "\u{2502} [Allow] [Allow for Session] [Deny] \u{2502}",
            "Trust this folder?\n (\u{25cf}) Yes, trust\n ( ) No",
            "\u{276f} Yes\n  No",
            "Apply edit? (Y)es/(N)o\n> ",
            "Run it?\n  [y] yes  [n] no\n",
            "Run it?\n  [a] Allow\n  [s] Session\n  [d] Deny\n",
            "Delete everything. Press Enter to continue",
            "Overwrite the file? [Y/n]",
            "Yes, allow once\nYes, always\nNo, suggest changes (esc)",
        ] {
            assert!(asks(&rows(text)), "{text}");
        }
    }

    #[test]
    fn text_of_a_conversation_is_not_a_dialog() {
        for text in [
            "",
            "> fix the tests\n\n  The tests pass now. No test covered this case.\n\n> ",
            "Yes, the parser is right and nothing else in this package calls it, no macro either.",
            "1. Read the file\n2. Write (a) test\n",
            "see [docs] and [link](https://example.com)",
            "? for shortcuts   esc to interrupt",
        ] {
            assert!(!asks(&rows(text)), "{text}");
        }
    }
}
