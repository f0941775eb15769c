//! The members of a JSON object that is too large to keep.

use serde_json::Value;

/// Bytes of a name or a value that are kept; longer ones are of no use.
const KEPT_BYTES: usize = 16 * 1024;

/// Finds the members of the outermost object whose values are strings or words. The text arrives in
/// parts, and only these members are kept.
#[derive(Debug, Default)]
pub struct MemberScanner {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    /// Whether a value follows, not a name.
    after_colon: bool,
    /// The raw text of the string or word at hand, in the outermost object.
    text: Vec<u8>,
    name: Option<String>,
    found: Vec<(String, Value)>,
}

impl MemberScanner {
    /// Reads the next part.
    pub fn feed(&mut self, part: &[u8]) {
        let mut rest = part;
        while let Some((&byte, after)) = rest.split_first() {
            if !self.in_string {
                self.outside(byte);
                rest = after;
                continue;
            }
            if self.is_escaped {
                self.is_escaped = false;
                self.keep(&rest[..1]);
                rest = after;
                continue;
            }
            let end = first_mark(rest);
            let (inner, tail) = rest.split_at(end.unwrap_or(rest.len()));
            self.keep(inner);
            let Some((&mark, tail)) = tail.split_first() else { return };
            self.keep(&[mark]);
            self.is_escaped = mark == b'\\';
            self.in_string = mark != b'"';
            if !self.in_string {
                self.end_of_string();
            }
            rest = tail;
        }
    }

    /// The members found so far, as an object.
    pub fn into_value(self) -> Value {
        Value::Object(self.found.into_iter().collect())
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.depth == 1 && self.text.len() <= KEPT_BYTES {
            self.text.extend_from_slice(bytes);
        }
    }

    fn outside(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.in_string = true;
                self.text.clear();
                self.keep(b"\"");
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.end_of_word();
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if self.depth == 1 => {
                self.after_colon = true;
                self.text.clear();
            }
            b',' if self.depth == 1 => {
                self.end_of_word();
                self.after_colon = false;
            }
            byte if byte.is_ascii_alphanumeric() => self.keep(&[byte]),
            _ => {}
        }
    }

    fn end_of_string(&mut self) {
        if self.depth != 1 {
            return;
        }
        let text = serde_json::from_slice::<String>(&self.text).ok();
        self.text.clear();
        if !self.after_colon {
            self.name = text;
        } else if let (Some(name), Some(text)) = (self.name.take(), text) {
            self.found.push((name, Value::String(text)));
        }
    }

    /// Ends `true`, `false` or `null`.
    fn end_of_word(&mut self) {
        if self.depth == 1
            && self.after_colon
            && let Some(name) = self.name.take()
            && let Ok(word) = serde_json::from_slice(&self.text)
        {
            self.found.push((name, word));
        }
        self.text.clear();
    }
}

/// Position of the first quote or backslash.
fn first_mark(text: &[u8]) -> Option<usize> {
    const BLOCK: usize = 4096;
    // The search for one byte is faster than that for either of two.
    let has_mark = |block: &[u8]| block.contains(&b'"') || block.contains(&b'\\');
    let (number, block) = text.chunks(BLOCK).enumerate().find(|(_, block)| has_mark(block))?;
    let within = block.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    Some(number * BLOCK + within)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_found_however_the_text_is_split() {
        let text = r#"{"a": "x\"y", "deep": {"a": "no", "b": ["{", "}"]}, "yes": true, "n":null,
            "list": [{"a": 1}], "z\u0061": "last"}"#;
        let expected = json!({"a": "x\"y", "yes": true, "n": null, "za": "last"});
        for size in 1..text.len() {
            let mut scanner = MemberScanner::default();
            text.as_bytes().chunks(size).for_each(|part| scanner.feed(part));
            assert_eq!(scanner.into_value(), expected, "{size}");
        }
    }

    #[test]
    fn a_cut_text_yields_the_members_before_the_cut() {
        let mut scanner = MemberScanner::default();
        scanner.feed(br#"{"a": "x", "b": "y"#);
        assert_eq!(scanner.into_value(), json!({"a": "x"}));
        let mut scanner = MemberScanner::default();
        scanner.feed(br#"]]}{"a": "x"}"#);
        assert_eq!(scanner.into_value(), json!({"a": "x"}));
    }
}
