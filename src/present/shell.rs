//! Quoting of text for POSIX shells.

/// Text as one word of a shell command. Plain text stays as it is; other text is put into single
/// quotes.
pub fn quote(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        single_quote(text)
    }
}

/// Text in single quotes.
pub fn single_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_for_a_shell_only_if_it_must_be() {
        assert_eq!(quote("/opt/c2c-1.0/c2c"), "/opt/c2c-1.0/c2c");
        assert_eq!(quote("/a b/it's"), r"'/a b/it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
