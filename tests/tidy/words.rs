//! Wording: banned phrases, module headers and names of types.

use std::collections::BTreeMap;

use super::source::{Source, code_without_tests, files, prose, rust};

/// Phrases that do not belong in plain technical English, and what to write instead. A `*` at the
/// end matches any ending of the word.
const BANNED: &[(&str, &str)] = &[
    ("whoever", "name the actor"),
    ("anew", "again, from scratch"),
    ("goes on", "continues"),
    ("go on", "continue, resume"),
    ("going on", "continuing"),
    ("went on", "continued"),
    ("is no more", "no longer exists"),
    ("for who ", "for the agent that"),
    ("of who ", "of the agent that"),
    ("what is so", "the facts"),
    ("so many", "the number"),
    ("as it is,", "unchanged,"),
    ("nobody else", "no other agent"),
    ("said by", "reported by"),
    ("is told", "is informed, receives"),
    ("are told", "are informed, receive"),
    ("was told", "was informed, received"),
    ("came back", "returned"),
    ("comes back", "returns"),
    ("came in", "arrived"),
    ("comes in", "arrives"),
    ("in vain", "without success"),
    ("the house", "the code base"),
    ("a room of code", "a module"),
    ("of its own accord", "by itself"),
    ("give back", "release, return"),
    ("gives back", "releases, returns"),
    ("is there already", "already exists"),
    ("that is there", "that exists"),
    ("there is no", "X does not exist, X has no Y, without X"),
    ("there are no", "X do not exist, X has no Y, without X"),
    ("there was no", "X did not exist, X had no Y, without X"),
    ("there were no", "X did not exist, X had no Y, without X"),
    ("is no news", "is not new"),
    ("who is there", "which agents are registered"),
];

/// `, too` closes a sentence that was translated.
const TRAILING: &[&str] = &[", too.", ", too\n", ", too;", ", too:", ", too,", ", too)"];

/// Files that quote the banned phrases: this list, and the glossary of old and new terms.
const QUOTING: &[&str] =
    &["tests/tidy/words.rs", "docs/glossary.md", "docs/style-review.md", "docs/test-names.md"];

/// Sentences that contain a banned phrase, as `path:line: phrase (replacement)`.
pub fn banned_in(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let folded = text.to_lowercase();
    let mut report = |at: usize, phrase: &str, instead: &str| {
        let line = folded[..at].matches('\n').count() + 1;
        wrong.push(format!("{path}:{line}: \"{phrase}\" (write: {instead})"));
    };
    for (phrase, instead) in BANNED {
        for (at, _) in folded.match_indices(phrase) {
            let is_letter = |c: char| c.is_alphanumeric() || c == '_';
            let before = folded[..at].chars().next_back().is_some_and(is_letter);
            let after = folded[at + phrase.len()..].chars().next().is_some_and(is_letter);
            let open_end = phrase.ends_with([' ', ',']);
            if !before && (open_end || !after) {
                report(at, phrase, instead);
            }
        }
    }
    for phrase in TRAILING {
        for (at, _) in folded.match_indices(phrase) {
            report(at, ", too", "also, or nothing");
        }
    }
    wrong
}

fn nothing_that_a_person_reads_has_a_banned_phrase() {
    let mut wrong = Vec::new();
    for source in rust(&["src", "core", "log-format", "tools", "tests", "benches", "build.rs"]) {
        wrong.extend(banned_in(&source.path, &prose(&source.text)));
    }
    let pages = ["docs", "README.md", "SPEC.md", "CONTRIBUTING.md"];
    for source in files(&pages, "md") {
        wrong.extend(banned_in(&source.path, &source.text));
    }
    wrong.retain(|line| !QUOTING.iter().any(|path| line.starts_with(path)));
    assert!(wrong.is_empty(), "{} phrases: {wrong:#?}", wrong.len());
}

fn a_banned_phrase_is_reported_with_its_line_and_replacement() {
    let text = "One line.\nThe loop goes on, too.\n";
    let wrong = banned_in("a.rs", text);
    assert_eq!(
        wrong,
        ["a.rs:2: \"goes on\" (write: continues)", "a.rs:2: \", too\" (write: also, or nothing)"]
    );
    assert!(banned_in("a.rs", "gongoes online").is_empty());
}

/// What is wrong with the header of a file: its first line states what the file is.
pub fn header_fault(text: &str) -> Option<&'static str> {
    let first = text.lines().next().unwrap_or_default();
    let Some(header) = first.strip_prefix("//!") else { return Some("has no module header") };
    if header.contains('?') {
        return Some("asks a question in its header");
    }
    let paragraph: Vec<&str> = text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .take_while(|line| !line.trim().is_empty())
        .collect();
    let summary = paragraph.join(" ");
    (!summary.trim_end().ends_with(['.', ':', '`'])).then_some("has a header without a full stop")
}

fn every_file_begins_with_a_statement_of_what_it_is() {
    let mut wrong = Vec::new();
    for source in rust(&["src", "core", "log-format", "tools", "tests", "benches", "build.rs"]) {
        if let Some(fault) = header_fault(&source.text) {
            wrong.push(format!("{} {fault}", source.path));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn a_header_that_asks_is_reported() {
    assert_eq!(header_fault("//! Group commit across processes.\n"), None);
    assert!(header_fault("//! How is a command done?\n").is_some());
    assert!(header_fault("use std::fs;\n").is_some());
}

/// Public types that share a name, each with the reason.
const SHARED_NAMES: &[(&str, &str)] = &[];

/// Names of the public types that a file defines.
fn public_types(source: &Source) -> Vec<String> {
    let code = code_without_tests(&source.text);
    let mut names = Vec::new();
    for line in code.lines() {
        let line = line.trim_start();
        for kind in ["pub struct ", "pub enum ", "pub trait ", "pub type ", "pub union "] {
            if let Some(rest) = line.strip_prefix(kind) {
                let end =
                    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                // The name of a type that a macro defines is a parameter there.
                if end > 0 {
                    names.push(rest[..end].to_owned());
                }
            }
        }
    }
    names
}

/// Names that more than one file defines as a public type, with the files.
pub fn repeated_types(sources: &[Source]) -> Vec<(String, Vec<String>)> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources {
        for name in public_types(source) {
            places.entry(name).or_default().push(source.path.clone());
        }
    }
    places.into_iter().filter(|(_, paths)| paths.len() > 1).collect()
}

fn no_two_public_types_share_a_name() {
    let sources = rust(&["src", "core/src", "log-format/src"]);
    let mut repeated = repeated_types(&sources);
    repeated.retain(|(name, _)| !SHARED_NAMES.iter().any(|(shared, _)| shared == name));
    assert!(repeated.is_empty(), "{repeated:#?}");
    for (name, _) in SHARED_NAMES {
        let count = sources.iter().flat_map(public_types).filter(|found| found == name).count();
        assert!(count > 1, "{name} is no longer shared: remove it from the list");
    }
}

fn a_type_name_with_two_meanings_is_reported() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let sources = [
        source("a.rs", "pub struct Item;\npub enum Other {}"),
        source("b.rs", "pub struct Item<'a>(&'a u8);\nstruct Other;"),
    ];
    let repeated = repeated_types(&sources);
    assert_eq!(repeated.len(), 1);
    assert_eq!(repeated[0].0, "Item");
}

crate::harness::tests! {
    fast:
        nothing_that_a_person_reads_has_a_banned_phrase,
        a_banned_phrase_is_reported_with_its_line_and_replacement,
        every_file_begins_with_a_statement_of_what_it_is,
        a_header_that_asks_is_reported,
        no_two_public_types_share_a_name,
        a_type_name_with_two_meanings_is_reported;
}
