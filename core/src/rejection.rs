//! Rejections: why a rule does not allow a command.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use c2c_log_format::id::{self, NameError};

use crate::code::Code;
use crate::ids::Alias;
use crate::state::ReplicationCursor;

/// A command that a rule does not allow. It changes nothing unless its decision states otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Stable error code.
    pub code: Code,
    /// The argument at fault; empty if none is.
    pub field: Cow<'static, str>,
    /// What failed, with the value.
    pub message: String,
    /// What the caller can do about it.
    pub hint: Option<String>,
    /// An alias that is free, close to the one given, or the current one.
    pub suggestion: Option<Alias>,
    /// The alias that no agent of the root has.
    pub unknown_alias: Option<Box<Alias>>,
    /// For a batch that starts at the wrong position: where the next batch has to start.
    pub expected: Option<Box<ReplicationCursor>>,
}

impl Rejection {
    /// A rejection of one argument, without a hint.
    pub fn new(
        code: Code,
        field: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            code,
            field: field.into(),
            message: message.into(),
            hint: None,
            suggestion: None,
            unknown_alias: None,
            expected: None,
        }
    }

    /// Sets the hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A rejection of the name in `field`, which breaks the grammar of its kind.
    fn invalid_name(code: Code, field: &'static str, error: NameError) -> Self {
        Self::new(code, field, format!("{field} {error}"))
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Rejection {}

/// Checks an alias that an agent may take: the common grammar, and not a reserved name.
pub fn check_alias(field: &'static str, alias: &str) -> Result<(), Rejection> {
    id::check_alias(alias)
        .map_err(|error| Rejection::invalid_name(Code::InvalidAlias, field, error))
}

/// Checks the alias part of an address. Reserved names are valid addresses.
pub fn check_addressed_alias(field: &'static str, alias: &str) -> Result<(), Rejection> {
    id::check_name(alias).map_err(|error| Rejection::invalid_name(Code::InvalidAlias, field, error))
}

/// Checks a host part or a node id.
pub fn check_host(host: &str) -> Result<(), Rejection> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if !host.is_empty() && host.len() <= 255 && host.chars().all(is_allowed) {
        return Ok(());
    }
    let message = format!("'{}' is not a valid host", host.escape_default());
    Err(Rejection::new(Code::InvalidAlias, "to_alias", message))
}

/// Checks a session id.
pub fn check_session_id(session_id: &str) -> Result<(), Rejection> {
    id::check_name(session_id)
        .map_err(|error| Rejection::invalid_name(Code::InvalidSessionId, "session_id", error))
}

/// Checks a room id.
pub fn check_room_id(field: &'static str, room_id: &str) -> Result<(), Rejection> {
    id::check_name(room_id)
        .map_err(|error| Rejection::invalid_name(Code::InvalidRoomId, field, error))
}

/// Checks a message id: the id of a message, or of the one it replies to.
pub fn check_message_id(field: &'static str, message_id: &str) -> Result<(), Rejection> {
    id::check_message_id(message_id)
        .map_err(|error| Rejection::invalid_name(Code::InvalidMessageId, field, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_name_is_rejected_with_its_field_and_the_reason() {
        let rejection = check_alias("from_alias", "").expect_err("an empty alias");
        assert_eq!((rejection.code, &*rejection.field), (Code::InvalidAlias, "from_alias"));
        assert_eq!(rejection.message, "from_alias must not be empty");
        let rejection = check_message_id("reply_to", "a b").expect_err("a space");
        assert_eq!((rejection.code, &*rejection.field), (Code::InvalidMessageId, "reply_to"));
    }

    #[test]
    fn a_reserved_name_is_a_valid_address_but_no_agent_can_take_it() {
        assert_eq!(check_addressed_alias("to_alias", "system"), Ok(()));
        assert!(check_alias("alias", "system").is_err());
    }
}
