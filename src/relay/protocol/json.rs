//! JSON primitives of request and response bodies: parsing, timestamps, required strings.

use serde::de::{self, DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use c2c_core::time;

/// A body that cannot be read as the expected request or response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BodyError {
    /// Path of the offending key; empty if the error concerns the whole body.
    pub field: String,
    /// Description of the error, prefixed with the field if there is one.
    pub message: String,
}

impl BodyError {
    fn whole_body(message: &str) -> Self {
        Self { field: String::new(), message: message.into() }
    }
}

/// Parses a JSON object. An empty body counts as `{}`: a GET request may have either.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyError> {
    let body = body.trim_ascii();
    let body = if body.is_empty() { b"{}" } else { body };
    // serde would also accept an array, as the fields of the struct in order.
    if body.first() != Some(&b'{') {
        return Err(BodyError::whole_body("the body must be a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let message = error.inner().to_string();
        // The path of a missing key ends at its parent; only the message names the key.
        let missing =
            message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        let path = missing.map_or_else(|| error.path().to_string(), str::to_owned);
        let field = if path == "." { String::new() } else { path };
        let message = if field.is_empty() { message } else { format!("{field}: {message}") };
        BodyError { field, message }
    })?;
    let end = deserializer.end();
    end.map_err(|_| BodyError::whole_body("the body contains more than one JSON value"))?;
    Ok(parsed)
}

/// A timestamp in a body: written as fractional seconds since 1970, read in that form or RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seconds {
    /// Microseconds since 1970 UTC.
    pub us: u64,
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time::to_seconds(self.us))
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let us = match Value::deserialize(deserializer)? {
            Value::Number(number) => number.as_f64().and_then(time::from_seconds),
            Value::String(text) => time::parse(&text),
            _ => None,
        };
        let us =
            us.ok_or_else(|| de::Error::custom("expected seconds since 1970 or an RFC 3339 time"))?;
        Ok(Self { us })
    }
}

/// A timestamp in a response, serialised twice: `ts` in seconds and `ts_iso` in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "StampInput", into = "StampOutput")]
pub struct Stamp {
    /// Microseconds since 1970 UTC.
    pub us: u64,
}

#[derive(Deserialize)]
struct StampInput {
    #[serde(default)]
    ts: Seconds,
}

#[derive(Serialize)]
struct StampOutput {
    ts: Seconds,
    ts_iso: String,
}

impl From<StampInput> for Stamp {
    fn from(input: StampInput) -> Self {
        Self { us: input.ts.us }
    }
}

impl From<Stamp> for StampOutput {
    fn from(stamp: Stamp) -> Self {
        Self { ts: Seconds { us: stamp.us }, ts_iso: time::rfc3339(stamp.us) }
    }
}

/// Deserialises a string that must not be empty.
pub(super) fn non_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Err(de::Error::custom("must not be empty")) } else { Ok(text) }
}
