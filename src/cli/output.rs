//! Command output: text and JSON on standard output, errors on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::env::NO_COLOR;
use crate::error::Failure;
pub use crate::present::diagnostics::note;
use crate::present::envelope::{for_terminal, json_for_terminal};
use crate::present::json_view;
use c2c_core::code::Code;
use c2c_core::decide::{Liveness, Rejection};
use c2c_core::view::LinkStatus;

/// Writes text to standard output and flushes it.
pub fn write_stdout(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes text to standard output; an error becomes [`Failure::Output`].
pub fn print(text: &str) -> Result<(), Failure> {
    write_stdout(text).map_err(Failure::Output)
}

/// Renders a JSON value over several lines.
pub fn json_block(value: &Value) -> String {
    format!("{}\n", json_for_terminal(&format!("{value:#}")))
}

/// Renders a JSON value on one line.
pub fn json_line(value: &Value) -> String {
    format!("{}\n", json_for_terminal(&value.to_string()))
}

/// Writes a JSON value to standard output; an error becomes [`Failure::Output`].
pub fn print_json(value: &Value) -> Result<(), Failure> {
    print(&json_block(value))
}

/// Writes why mail waits in the outbox to standard error; nothing if it does not wait.
pub fn note_delay(link: &LinkStatus) {
    if let Some(reason) = json_view::delay_reason_with_hint(link) {
        note(&format!("note: {reason}"));
    }
}

/// Whether standard output is a terminal and colours are not disabled.
fn is_coloured() -> bool {
    io::stdout().is_terminal() && !NO_COLOR.is_set()
}

/// Renders text in bold on a terminal, unchanged elsewhere.
pub fn bold(text: &str) -> String {
    if is_coloured() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// Parses a duration in seconds; longer ones are reduced to a year.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
    let seconds = seconds.ok_or("expected a number of seconds, 0 or more")?;
    Ok(Duration::from_secs_f64(seconds.min(365.0 * 86_400.0)))
}

/// Reports the failure of a command, with this hint instead of its own; returns its exit status.
pub fn report_failure(failure: &Failure, hint: Option<String>, as_json: bool) -> u8 {
    if let Failure::Output(source) = failure
        && source.kind() == io::ErrorKind::BrokenPipe
    {
        // The reader closed the pipe because it needs no more output. That is not worth a message.
        return failure.code().exit();
    }
    let code = failure.code();
    if as_json && !matches!(failure, Failure::AlreadyReported(_)) {
        let mut value = failure.to_json();
        if let Some(hint) = &hint {
            value["hint"] = json!(hint);
        }
        let _ = write_stdout(&json_block(&value));
    }
    let mut text = format!("error: {} [{}]", for_terminal(&failure.message()), code.name());
    if let Failure::Rejected(Rejection { field, .. })
    | Failure::AlreadyReported(Rejection { field, .. }) = failure
        && !field.is_empty()
    {
        text.push_str(&format!("\n  field: {}", for_terminal(field)));
    }
    if let Some(hint) = hint {
        text.push_str(&format!("\n  hint: {}", for_terminal(&hint)));
    }
    note(&text);
    code.exit()
}

/// A usage error that the argument parser cannot detect.
pub fn usage_error(message: &str) -> Failure {
    Rejection::new(Code::Usage, "", message).into()
}

/// Label of a liveness: `alive`, `dead`, or `???` without evidence.
pub fn liveness_label(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Alive => "alive",
        Liveness::Dead => "dead",
        Liveness::Unknown => "???",
    }
}
