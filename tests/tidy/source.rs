//! Source files as text: where they are, and their code without comments, strings and tests.

use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file of the workspace.
pub struct Source {
    /// Path from the root of the workspace, with `/`.
    pub path: String,
    pub text: String,
}

pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below some directories whose names end in one of these extensions.
pub fn files(directories: &[&str], extension: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for directory in directories {
        collect(&workspace().join(directory), extension, &mut sources);
    }
    assert!(!sources.is_empty(), "no {extension} files below {directories:?}");
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

pub fn rust(directories: &[&str]) -> Vec<Source> {
    files(directories, "rs")
}

fn collect(path: &Path, extension: &str, sources: &mut Vec<Source>) {
    if path.is_dir() {
        let name = path.file_name().unwrap_or_default();
        if name == "target" || name == "node_modules" || name == "fixtures" {
            return;
        }
        for entry in fs::read_dir(path).expect("a directory").flatten() {
            collect(&entry.path(), extension, sources);
        }
    } else if path.extension().is_some_and(|end| end == extension) {
        let shown = path.strip_prefix(workspace()).expect("below the workspace");
        let text = fs::read_to_string(path).expect("a text file");
        sources.push(Source { path: shown.display().to_string(), text });
    }
}

/// The code of a file: comments and the content of strings are blanked, line breaks stay.
pub fn code(text: &str) -> String {
    split(text).0
}

/// What a person reads in a Rust file: its comments and strings, on the lines where they stand.
pub fn prose(text: &str) -> String {
    split(text).1
}

/// Code and prose of a file, each with the other part blanked.
fn split(text: &str) -> (String, String) {
    let mut scanner =
        Scanner { chars: text.chars().collect(), at: 0, code: String::new(), prose: String::new() };
    scanner.run();
    (scanner.code, scanner.prose)
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    code: String,
    prose: String,
}

impl Scanner {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    /// Moves one character to the code or to the prose and blanks it in the other.
    fn take(&mut self, is_code: bool) {
        let c = self.chars[self.at];
        let blank = if c == '\n' { '\n' } else { ' ' };
        self.code.push(if is_code { c } else { blank });
        self.prose.push(if is_code { blank } else { c });
        self.at += 1;
    }

    fn run(&mut self) {
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '/') => {
                    while self.at < self.chars.len() && self.peek(0) != '\n' {
                        self.take(false);
                    }
                }
                ('/', '*') => self.block_comment(),
                ('r', '"' | '#') if !self.follows_name() => self.raw_string(),
                ('"', _) => self.string(),
                ('\'', _) => self.quote(),
                _ => self.take(true),
            }
        }
    }

    fn follows_name(&self) -> bool {
        let before = self.at.checked_sub(1).map_or(' ', |at| self.chars[at]);
        before.is_alphanumeric() || before == '_'
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                ('\0', _) if self.at >= self.chars.len() => return,
                _ => {
                    self.take(false);
                    continue;
                }
            }
            self.take(false);
            self.take(false);
            if depth == 0 {
                return;
            }
        }
    }

    fn raw_string(&mut self) {
        let hashes = (1..).take_while(|ahead| self.peek(*ahead) == '#').count();
        if self.peek(1 + hashes) != '"' {
            self.take(true);
            return;
        }
        for _ in 0..hashes + 2 {
            self.take(true);
        }
        let closes = |scanner: &Self| {
            scanner.peek(0) == '"' && (1..=hashes).all(|ahead| scanner.peek(ahead) == '#')
        };
        while self.at < self.chars.len() && !closes(self) {
            self.take(false);
        }
        for _ in 0..(hashes + 1).min(self.chars.len() - self.at) {
            self.take(true);
        }
    }

    fn string(&mut self) {
        self.take(true);
        while self.at < self.chars.len() && self.peek(0) != '"' {
            if self.peek(0) == '\\' {
                self.take(false);
            }
            if self.at < self.chars.len() {
                self.take(false);
            }
        }
        if self.at < self.chars.len() {
            self.take(true);
        }
    }

    /// A character or a lifetime.
    fn quote(&mut self) {
        let is_char = self.peek(1) == '\\' || self.peek(2) == '\'';
        self.take(true);
        if !is_char {
            return;
        }
        if self.peek(0) == '\\' {
            self.take(false);
        }
        self.take(false);
        while self.at < self.chars.len() && self.peek(0) != '\'' {
            self.take(false);
        }
        if self.at < self.chars.len() {
            self.take(true);
        }
    }
}

/// The code of a file without its unit tests: what follows `#[cfg(test)]` up to the end of that item.
pub fn code_without_tests(text: &str) -> String {
    let code = code(text);
    let mut kept = String::new();
    let mut rest = code.as_str();
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        rest = &item[end_of_item(item)..];
    }
    kept.push_str(rest);
    kept
}

/// Where the item at the start of `code` ends: after its `;`, or after its block.
fn end_of_item(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

fn code_and_prose_are_told_apart() {
    let text =
        "let a = \"x // y\"; // note \"quoted\"\nlet b = 'c'; fn f<'a>() {} /* c */ r#\"raw\"#";
    let (code, prose) = (code(text), prose(text));
    assert!(code.contains("let a =") && code.contains("fn f<'a>() {}"), "{code}");
    assert!(!code.contains("note") && !code.contains("x //") && !code.contains("raw"), "{code}");
    assert!(prose.contains("x // y") && prose.contains("note \"quoted\""), "{prose}");
    assert!(prose.contains("raw") && !prose.contains("let"), "{prose}");
}

fn unit_tests_are_not_part_of_the_code() {
    let text = "use a::b;\n#[cfg(test)]\nmod tests { use c::d; fn f() {} }\nuse e::f;\n";
    let code = code_without_tests(text);
    assert!(code.contains("a::b") && code.contains("e::f") && !code.contains("c::d"), "{code}");
}

crate::harness::tests! {
    fast:
        code_and_prose_are_told_apart,
        unit_tests_are_not_part_of_the_code;
}
