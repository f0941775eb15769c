//! Grammar and comparison of names and message ids.
//!
//! Aliases, session ids and room ids become parts of paths and envelopes, so all three share one
//! narrow grammar: 1 to 64 characters of `A-Z a-z 0-9 . _ -`, not starting with a dot.

use alloc::string::String;
use core::fmt;

use crate::limits::{MESSAGE_ID_BYTES_MAX, NAME_CHARS_MAX};

/// Aliases reserved for the system, which no agent may take.
pub const RESERVED_ALIASES: [&str; 6] =
    ["admin", "broker", "c2c", "c2c-nudge", "c2c-system", "system"];

/// The reason why a name or message id is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// The name is empty.
    Empty,
    /// The name has more than 64 characters.
    TooLong,
    /// The name starts with a dot.
    LeadingDot,
    /// The name contains a character outside the grammar.
    Character(char),
    /// The message id has more than 128 bytes.
    LongMessageId,
    /// The message id contains a character that is not printable ASCII.
    MessageIdCharacter(char),
    /// The alias is reserved for the system.
    Reserved,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("must not be empty"),
            Self::TooLong => write!(f, "must have at most {NAME_CHARS_MAX} characters"),
            Self::LeadingDot => f.write_str("must not start with a dot"),
            Self::Character(c) => {
                write!(f, "must not contain {:?} (allowed: A-Z a-z 0-9 . _ -)", c)
            }
            Self::LongMessageId => write!(f, "must have at most {MESSAGE_ID_BYTES_MAX} bytes"),
            Self::MessageIdCharacter(c) => {
                write!(f, "must not contain {:?} (allowed: printable ASCII, no spaces)", c)
            }
            Self::Reserved => f.write_str("is reserved for the system"),
        }
    }
}

/// Checks the common grammar of aliases, session ids and room ids.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.chars().count() > NAME_CHARS_MAX {
        return Err(NameError::TooLong);
    }
    if name.starts_with('.') {
        return Err(NameError::LeadingDot);
    }
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name.chars().find(|c| !allowed(c)) {
        Some(c) => Err(NameError::Character(c)),
        None => Ok(()),
    }
}

/// Checks an alias: the common grammar, without the reserved names.
pub fn check_alias(alias: &str) -> Result<(), NameError> {
    check_name(alias)?;
    if RESERVED_ALIASES.contains(&fold(alias).as_str()) {
        return Err(NameError::Reserved);
    }
    Ok(())
}

/// Checks a caller's message id: printable ASCII without spaces, 1 to 128 bytes.
pub fn check_message_id(id: &str) -> Result<(), NameError> {
    if id.is_empty() {
        return Err(NameError::Empty);
    }
    if id.len() > MESSAGE_ID_BYTES_MAX {
        return Err(NameError::LongMessageId);
    }
    match id.chars().find(|c| !c.is_ascii_graphic()) {
        Some(c) => Err(NameError::MessageIdCharacter(c)),
        None => Ok(()),
    }
}

/// Returns a name in ASCII lower case, the form in which names are compared.
pub fn fold(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// Encodes bytes as lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}
