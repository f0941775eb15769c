//! How does an event look on a terminal, as JSON, as bytes?

use std::io::{self, Write};

use crate::clock;
use crate::envelope::{for_terminal, json_for_terminal};
use c2c_log_format::payload::kind_name;
use serde_json::{Value, json};

use super::Trouble;
use super::files::Row;

/// Writes; a reader that went away ends the command without failure. What JSON leaves as it is but
/// a terminal would obey is escaped here; other text has been made safe before.
pub fn out(text: &str) -> Result<(), Trouble> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(json_for_terminal(text).as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Trouble::OutputClosed),
        Err(e) => Err(Trouble::Unreadable(format!("cannot write: {e}"))),
    }
}

/// Name of the kind, or its number.
pub fn kind(row: &Row) -> String {
    kind_name(row.head.kind).map_or_else(|| format!("kind {}", row.head.kind), str::to_owned)
}

/// The payload, its body hidden unless asked for.
pub fn payload(row: &Row, bodies: bool) -> Value {
    let mut value: Value = serde_json::from_slice(&row.payload).unwrap_or(Value::Null);
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

/// One line for people.
pub fn text(row: &Row, bodies: bool, utc: bool) -> String {
    let payload = payload(row, bodies);
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
    let time = clock::human(row.time_us, utc);
    format!("{:>10}  {time}  {:22}{details}\n", row.head.sequence, kind(row))
}

/// One JSON object.
pub fn object(row: &Row, bodies: bool) -> Value {
    json!({
        "sequence": row.head.sequence,
        "ts": clock::rfc3339(row.time_us),
        "time_us": row.time_us,
        "kind": kind(row),
        "kind_number": row.head.kind,
        "segment": row.segment,
        "offset": row.offset,
        "durable": row.durable,
        "payload": payload(row, bodies),
    })
}

/// Head and payload as bytes.
pub fn hex(row: &Row) -> String {
    let mut bytes = Vec::new();
    row.head.encode(&row.payload, &mut bytes);
    let mut out = format!("{} segment {} offset {}\n", row.head.sequence, row.segment, row.offset);
    for (at, line) in bytes.chunks(16).enumerate() {
        let hex: String = line.iter().map(|byte| format!("{byte:02x} ")).collect();
        let plain = |byte: &u8| if byte.is_ascii_graphic() { *byte as char } else { '.' };
        let text: String = line.iter().map(plain).collect();
        out.push_str(&format!("  {:06x}  {hex:48}  {text}\n", at * 16));
    }
    out
}
