//! JSON as older programs wrote it.

use serde_json::Value;

/// Parses JSON. Bytes that are not UTF-8, and halves of a character in an escape sequence, which
/// Python writes for text that it could not decode, become replacement characters.
pub fn parse(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok().or_else(|| {
        let text = String::from_utf8_lossy(bytes);
        serde_json::from_str(&without_halves(&text)).ok()
    })
}

/// Replaces escape sequences of single surrogates.
fn without_halves(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let len = match (surrogate(escape), surrogate(escape.get(6..).unwrap_or_default())) {
            (Some(true), Some(false)) => 12,
            (Some(_), _) => {
                out.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
            _ => escape.char_indices().nth(2).map_or(escape.len(), |(end, _)| end),
        };
        out.push_str(&escape[..len]);
        rest = &escape[len..];
    }
    out.push_str(rest);
    out
}

/// Whether a text starts with the escape sequence of a surrogate: true for the first of a pair.
fn surrogate(text: &str) -> Option<bool> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..=0xdbff => Some(true),
        0xdc00..=0xdfff => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_no_program_can_decode_is_replaced() {
        let text = |json: &[u8]| parse(json).and_then(|value| Some(value.as_str()?.to_owned()));
        assert_eq!(text(br#""\ud83d\ude00 \\ud83d""#).as_deref(), Some("\u{1f600} \\ud83d"));
        assert_eq!(
            text(br#""a\ud83d \udc00\u00e9\n""#).as_deref(),
            Some("a\u{fffd} \u{fffd}\u{e9}\n")
        );
        assert_eq!(text(b"\"\xff\"").as_deref(), Some("\u{fffd}"));
        assert_eq!(text(br#""\ud83d"#), None);
    }
}
