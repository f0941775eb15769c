//! Arguments of a tool call.

use rmcp::model::JsonObject;
use serde_json::{Value, json};

use crate::error::Failure;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// The arguments of a call. A missing argument, `null` and `""` are equivalent.
pub struct Arguments(pub JsonObject);

impl Arguments {
    /// The first of these arguments that has a value.
    fn value(&self, names: &[&str]) -> Option<&Value> {
        names
            .iter()
            .filter_map(|name| self.0.get(*name))
            .find(|value| !value.is_null() && value.as_str() != Some(""))
    }

    /// The error for an argument of the wrong type.
    pub fn wrong(name: &'static str, expected: &str, value: &Value) -> Failure {
        let message = format!("argument '{name}' must be {expected}, not {value}");
        Rejection::new(Code::InvalidArgument, name, message).into()
    }

    /// A string, under its name or one of its synonyms.
    pub fn text(&self, name: &'static str, synonyms: &[&str]) -> Result<Option<String>, Failure> {
        let names: Vec<&str> = std::iter::once(name).chain(synonyms.iter().copied()).collect();
        match self.value(&names) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(Self::wrong(name, "a string", other)),
        }
    }

    /// Like [`Self::text`], but the argument is required.
    pub fn required_text(&self, name: &'static str, synonyms: &[&str]) -> Result<String, Failure> {
        self.text(name, synonyms)?.ok_or_else(|| {
            let also = match synonyms {
                [] => String::new(),
                names => format!(" (also accepted: {})", names.join(", ")),
            };
            let message = format!("missing required string argument '{name}'{also}");
            Rejection::new(Code::InvalidArgument, name, message).into()
        })
    }

    /// A number; a string that contains one is accepted.
    pub fn number(&self, name: &'static str) -> Result<Option<f64>, Failure> {
        match self.value(&[name]) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(number.as_f64()),
            Some(Value::String(text)) => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Self::wrong(name, "a number", &json!(text))),
            },
            Some(other) => Err(Self::wrong(name, "a number", other)),
        }
    }

    /// A count; a negative number counts as 0.
    pub fn count(&self, name: &'static str, default: usize) -> Result<usize, Failure> {
        Ok(self.number(name)?.map_or(default, |number| number.max(0.0) as usize))
    }

    /// A boolean; a number or a string that denotes one is accepted.
    pub fn flag(&self, name: &'static str) -> Result<Option<bool>, Failure> {
        match self.value(&[name]) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::Number(number)) => Ok(Some(number.as_f64() != Some(0.0))),
            Some(Value::String(text)) if text == "true" || text == "1" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" || text == "0" => Ok(Some(false)),
            Some(other) => Err(Self::wrong(name, "a boolean", other)),
        }
    }

    /// A list of strings; one string with commas is accepted.
    pub fn list(&self, name: &'static str) -> Result<Vec<String>, Failure> {
        match self.value(&[name]) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(text.split(',').map(|s| s.trim().to_owned()).collect()),
            Some(Value::Array(rows)) => rows
                .iter()
                .map(|row| match row.as_str() {
                    Some(text) => Ok(text.to_owned()),
                    None => Err(Self::wrong(name, "an array of strings", row)),
                })
                .collect(),
            Some(other) => Err(Self::wrong(name, "an array of strings", other)),
        }
    }
}
