//! Sizes of files and functions.

use super::source::{code_without_tests, rust};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Files above the limit and their lines. The list may only shrink.
const LONG_FILES: &[(&str, usize)] = &[];

/// Functions above the limit, as `path name`, and their lines. The list may only shrink.
const LONG_FUNCTIONS: &[(&str, usize)] = &[];

/// Functions of a file and the lines from their `fn` to the closing brace.
pub fn functions(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let starts =
            code[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let rest = &code[at + 3..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(0);
        if !starts || end == 0 {
            continue;
        }
        if let Some(lines) = lines_of_body(rest) {
            found.push((rest[..end].to_owned(), lines));
        }
    }
    found
}

/// Lines up to the end of the block that follows; `None` for a declaration without one.
fn lines_of_body(code: &str) -> Option<usize> {
    let (mut depth, mut brackets) = (0, 0);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            ';' if depth == 0 && brackets == 0 => return None,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(code[..at].matches('\n').count() + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// What is above its limit, or shorter than its list says.
pub fn faults(actual: &[(String, usize)], max: usize, listed: &[(&str, usize)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, lines) in actual.iter().filter(|(_, lines)| *lines > max) {
        match listed.iter().find(|(known, _)| known == name) {
            Some((_, allowed)) if lines <= allowed => {}
            _ => wrong.push(format!("{name} has {lines} lines, more than {max}")),
        }
    }
    for (name, allowed) in listed {
        let lines = actual.iter().filter(|(known, _)| known == name).map(|(_, lines)| *lines).max();
        if lines.is_none_or(|lines| lines < *allowed) {
            wrong.push(format!(
                "{name} is listed with {allowed} lines and has {lines:?}: lower the list"
            ));
        }
    }
    wrong
}

fn no_file_is_longer_than_its_limit() {
    let sources = rust(&["src", "core", "log-format", "tools", "tests", "benches"]);
    let actual: Vec<_> =
        sources.iter().map(|source| (source.path.clone(), source.text.lines().count())).collect();
    let wrong = faults(&actual, FILE_LINES_MAX, LONG_FILES);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn no_function_is_longer_than_its_limit() {
    let mut actual = Vec::new();
    for source in rust(&["src", "core/src", "log-format/src", "tools"]) {
        for (name, lines) in functions(&code_without_tests(&source.text)) {
            actual.push((format!("{} {name}", source.path), lines));
        }
    }
    let wrong = faults(&actual, FUNCTION_LINES_MAX, LONG_FUNCTIONS);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn a_long_function_is_reported_and_a_listed_one_may_not_grow() {
    let code = format!("fn short() {{}}\nfn long(a: [u8; 2]) -> u8 {{{}}}\n", "\n".repeat(80));
    let found = functions(&code);
    assert_eq!(found, [("short".to_owned(), 1), ("long".to_owned(), 81)]);
    assert_eq!(faults(&found, 70, &[]).len(), 1);
    assert!(faults(&found, 70, &[("long", 81)]).is_empty());
    assert_eq!(faults(&found, 70, &[("long", 80)]).len(), 2 - 1);
    assert_eq!(faults(&found, 70, &[("long", 90)]).len(), 1);
}

crate::harness::tests! {
    fast:
        no_file_is_longer_than_its_limit,
        no_function_is_longer_than_its_limit,
        a_long_function_is_reported_and_a_listed_one_may_not_grow;
}
