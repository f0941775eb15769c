//! Events as text, JSON and hexadecimal bytes.

use std::io::{self, Write};

use c2c_log_format::payload::kind_name;
use serde_json::{Value, json};

use super::exit::ToolError;
use super::files::EventRecord;
use crate::platform::clock;
use crate::present::envelope::{for_terminal, json_for_terminal};

/// Writes to standard output.
///
/// Escapes the characters that JSON allows but a terminal would interpret; other text is already
/// escaped.
pub fn out(text: &str) -> Result<(), ToolError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(json_for_terminal(text).as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(ToolError::OutputClosed),
        Err(e) => Err(ToolError::Failed(format!("cannot write the output: {e}"))),
    }
}

/// Name of an event's kind; the number if it is unknown.
pub fn kind(event: &EventRecord) -> String {
    let number = event.head.kind;
    kind_name(number).map_or_else(|| format!("kind {number}"), str::to_owned)
}

/// The payload as JSON; without `bodies`, the length replaces a message body.
pub fn payload(event: &EventRecord, bodies: bool) -> Value {
    let mut value: Value = serde_json::from_slice(&event.payload).unwrap_or(Value::Null);
    if let Some(body) = value.get("body").and_then(Value::as_str)
        && !bodies
    {
        value["body_bytes"] = json!(body.len());
        if let Some(map) = value.as_object_mut() {
            map.remove("body");
        }
    }
    value
}

/// The event as one line of text.
pub fn text(event: &EventRecord, bodies: bool, utc: bool) -> String {
    let payload = payload(event, bodies);
    let mut details = String::new();
    if let Value::Object(map) = &payload {
        for (key, value) in map {
            let shown = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            if !shown.is_empty() {
                details.push_str(&format!("  {key}={}", for_terminal(&shown).replace('\n', "\\n")));
            }
        }
    }
    let time = clock::human(event.time_us, utc);
    format!("{:>10}  {time}  {:22}{details}\n", event.head.sequence, kind(event))
}

/// The event as one JSON object.
pub fn object(event: &EventRecord, bodies: bool) -> Value {
    json!({
        "sequence": event.head.sequence,
        "ts": clock::rfc3339(event.time_us),
        "time_us": event.time_us,
        "kind": kind(event),
        "kind_number": event.head.kind,
        "segment": event.segment,
        "offset": event.offset,
        "durable": event.durable,
        "payload": payload(event, bodies),
    })
}

/// Head and payload as a hexadecimal dump.
pub fn hex(event: &EventRecord) -> String {
    let mut bytes = Vec::new();
    event.head.encode(&event.payload, &mut bytes);
    let mut out =
        format!("{} segment {} offset {}\n", event.head.sequence, event.segment, event.offset);
    for (at, line) in bytes.chunks(16).enumerate() {
        let hex: String = line.iter().map(|byte| format!("{byte:02x} ")).collect();
        let printable = |byte: &u8| if byte.is_ascii_graphic() { *byte as char } else { '.' };
        let text: String = line.iter().map(printable).collect();
        out.push_str(&format!("  {:06x}  {hex:48}  {text}\n", at * 16));
    }
    out
}
