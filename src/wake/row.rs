//! Rows of a screen: frames around them, and marks before them.

/// Signs that programs show before a draft, and before the selected row of a list.
pub const MARKERS: &str =
    ">\u{276f}\u{203a}\u{bb}\u{25b6}\u{25cf}\u{25c9}\u{276d}\u{2192}\u{279c}\u{25b8}";

/// Whether a character belongs to a frame or a bar.
pub fn is_frame(c: char) -> bool {
    ('\u{2500}'..='\u{259f}').contains(&c)
}

/// A text without frames and white space.
pub fn bare(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && !is_frame(*c)).collect()
}

/// A text without the frame and the white space around it.
pub fn within_frame(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || is_frame(c))
}

/// Whether a row begins with a sign that marks a draft or a selection, followed by text.
pub fn is_marked(row: &str) -> bool {
    let mut rest = within_frame(row).chars();
    rest.next().is_some_and(|c| MARKERS.contains(c)) && rest.any(|c| !c.is_whitespace())
}
