//! Result of a tool call, before it is encoded for the client.

use serde_json::{Value, json};

/// The result of a successful call.
#[derive(Default)]
pub struct ToolAnswer {
    /// The object for programs.
    pub structured: Value,
    /// Key of the array to show as text, for tools whose older text form is a bare array.
    pub array: Option<&'static str>,
    /// A claim to acknowledge once the client has read the answer.
    pub claim: Option<String>,
    /// The session id that the caller has from now on.
    pub session_id: Option<String>,
}

impl ToolAnswer {
    /// An answer that is an object.
    pub fn object(structured: Value) -> Self {
        Self { structured, ..Self::default() }
    }

    /// An answer that is an array, under `key` for programs.
    pub fn array(key: &'static str, rows: Vec<Value>) -> Self {
        Self { structured: json!({ key: rows }), array: Some(key), ..Self::default() }
    }

    /// Whether the answer is an empty array.
    pub fn is_empty_array(&self) -> bool {
        self.array.is_some_and(|key| self.structured[key].as_array().is_some_and(Vec::is_empty))
    }
}
