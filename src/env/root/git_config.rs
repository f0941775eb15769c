//! The grammar of git's configuration files.

/// One variable of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Name of the section, in lower case.
    pub section: String,
    /// Name of the subsection; empty if there is none.
    pub subsection: String,
    /// Name of the variable, in lower case.
    pub key: String,
    /// Its value; a variable without one is true.
    pub value: String,
}

/// The variables of a file, in order. Git rejects a file with an error in it; here the variables
/// before the error count.
pub fn parse(text: &str) -> Vec<ConfigEntry> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut parser = Parser { rest: text.chars().peekable(), entries: Vec::new() };
    let _ = parser.file();
    parser.entries
}

struct Parser<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    entries: Vec<ConfigEntry>,
}

impl Parser<'_> {
    /// Reads to the end of the text; `None` at an error.
    fn file(&mut self) -> Option<()> {
        let (mut section, mut subsection) = (String::new(), String::new());
        while let Some(c) = self.rest.next() {
            match c {
                c if c.is_ascii_whitespace() => {}
                '#' | ';' => self.skip_line(),
                '[' => (section, subsection) = self.header()?,
                c if c.is_ascii_alphabetic() => {
                    let key = self.key(c);
                    let value = self.assignment()?;
                    let (section, subsection) = (section.clone(), subsection.clone());
                    self.entries.push(ConfigEntry { section, subsection, key, value });
                }
                _ => return None,
            }
        }
        Some(())
    }

    fn skip_line(&mut self) {
        self.rest.by_ref().find(|c| *c == '\n');
    }

    fn next_is(&mut self, wanted: impl Fn(char) -> bool) -> Option<char> {
        self.rest.next_if(|c| wanted(*c))
    }

    /// The names in a header: `[section]`, `[section "Sub"]` or the older `[section.sub]`.
    fn header(&mut self) -> Option<(String, String)> {
        let mut name = String::new();
        loop {
            match self.rest.next()? {
                ']' => {
                    let (section, subsection) = name.split_once('.').unwrap_or((&name, ""));
                    return Some((section.to_owned(), subsection.to_owned()));
                }
                c if c.is_ascii_alphanumeric() || c == '-' || c == '.' => {
                    name.push(c.to_ascii_lowercase());
                }
                ' ' | '\t' => break,
                _ => return None,
            }
        }
        while self.next_is(|c| c == ' ' || c == '\t').is_some() {}
        self.next_is(|c| c == '"')?;
        let mut subsection = String::new();
        loop {
            match self.rest.next()? {
                '\n' => return None,
                '"' => break,
                '\\' => subsection.push(self.next_is(|c| c != '\n')?),
                c => subsection.push(c),
            }
        }
        self.next_is(|c| c == ']')?;
        Some((name, subsection))
    }

    fn key(&mut self, first: char) -> String {
        let mut key = String::from(first.to_ascii_lowercase());
        while let Some(c) = self.next_is(|c| c.is_ascii_alphanumeric() || c == '-') {
            key.push(c.to_ascii_lowercase());
        }
        key
    }

    fn assignment(&mut self) -> Option<String> {
        while self.next_is(|c| c == ' ' || c == '\t').is_some() {}
        match self.rest.next() {
            None | Some('\n') => Some(String::from("true")),
            Some('=') => self.value(),
            Some(_) => None,
        }
    }

    /// The value behind the equals sign, which may continue on further lines.
    fn value(&mut self) -> Option<String> {
        let (mut value, mut is_quoted) = (String::new(), false);
        // Length without the white space at the end.
        let mut length = 0;
        loop {
            match self.rest.next() {
                None | Some('\n') if is_quoted => return None,
                None | Some('\n') => break,
                Some('#' | ';') if !is_quoted => {
                    self.skip_line();
                    break;
                }
                Some(c) if c.is_ascii_whitespace() && !is_quoted => {
                    if length > 0 {
                        value.push(c);
                    }
                    continue;
                }
                Some('"') => is_quoted = !is_quoted,
                Some('\\') => match self.rest.next()? {
                    '\n' => continue,
                    'n' => value.push('\n'),
                    't' => value.push('\t'),
                    'b' => value.push('\u{8}'),
                    c @ ('"' | '\\') => value.push(c),
                    _ => return None,
                },
                Some(c) => value.push(c),
            }
            length = value.len();
        }
        value.truncate(length);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of `remote.origin.url`.
    fn urls(text: &str) -> Vec<String> {
        let is_url = |entry: &ConfigEntry| {
            (&*entry.section, &*entry.subsection, &*entry.key) == ("remote", "origin", "url")
        };
        parse(text).into_iter().filter(is_url).map(|entry| entry.value).collect()
    }

    #[test]
    fn every_valid_spelling_of_a_variable_is_read() {
        for text in [
            "[remote \"origin\"]\n\turl = u\n",
            "[remote \"origin\"]\r\n\turl = u\r\n",
            "\u{feff}[remote \"origin\"]\nurl=u",
            "[remote \"origin\"] # a comment\nurl = u # another\n",
            "[remote \"origin\"] ; a comment\nurl = u ; another\n",
            "[remote \"origin\"] url = u",
            "[REMOTE \"origin\"]\nURL = u\n",
            "[remote.origin]\nurl = u\n",
            "[Remote.Origin]\nurl = u\n",
            "[remote   \"origin\"]\nurl = \"u\"\n",
            "[remote \"ori\\gin\"]\nurl = u\n",
            "[remote \"origin\"]\nurl = \\\n  u\n",
            "[core]\nbare\n[remote \"origin\"]\nfetch\nurl = u\n",
            "# [remote \"origin\"]\n; url = x\n[remote \"origin\"]\nurl = u",
        ] {
            assert_eq!(urls(text), ["u"], "{text:?}");
        }
    }

    #[test]
    fn quotes_and_escapes_keep_what_would_otherwise_be_a_comment_or_white_space() {
        let text = "[remote \"origin\"]\nurl = \" a;b \" # c\nurl = a \\\"b\\\\ \t \nurl = a  b\n";
        assert_eq!(urls(text), [" a;b ", "a \"b\\", "a  b"]);
    }

    #[test]
    fn another_section_or_another_case_of_the_subsection_does_not_count() {
        for text in [
            "[remote \"Origin\"]\nurl = u\n",
            "[remote \"origin2\"]\nurl = u\n",
            "[branch \"origin\"]\nurl = u\n",
            "[remote]\nurl = u\n",
            "[remote \"origin\"]\n#url = u\n",
        ] {
            assert_eq!(urls(text), [""; 0], "{text:?}");
        }
    }

    #[test]
    fn the_variables_before_an_error_count() {
        let good = "[remote \"origin\"]\nurl = u\n";
        for bad in ["[x", "[x \"y\n\"]", "= v", "[a]\nk \"", "[a]\nk = \"v\n", "[a]\nk = \\q\n"] {
            assert_eq!(urls(&format!("{good}{bad}\n{good}")), ["u"], "{bad:?}");
        }
    }
}
