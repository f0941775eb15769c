//! The content of a message.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The content of a message, stored as a string.
///
/// It is an enum so that content which a broker cannot read gets a variant of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Readable text.
    Plain(String),
}

impl Body {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Plain(text) => text,
        }
    }

    /// Returns the text, without copying it.
    pub fn into_string(self) -> String {
        match self {
            Self::Plain(text) => text,
        }
    }

    /// Returns the size in bytes.
    pub fn len(&self) -> usize {
        self.as_str().len()
    }

    /// Returns whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Plain(text)
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::Plain)
    }
}
