//! How is something printed, for people and for programs?

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde_json::Value;

use crate::broker::Message;
use crate::code::Code;
use crate::decide::Refusal;
pub use crate::diagnosis::note;
use crate::envelope::{for_terminal, json_for_terminal};
use crate::failure::Failure;

/// Writes to standard output and makes sure that it got there.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The same, as the end of a command.
pub fn say(text: &str) -> Result<(), Failure> {
    print(text).map_err(Failure::Output)
}

/// One JSON value, over several lines.
pub fn json_block(value: &Value) -> String {
    format!("{}\n", json_for_terminal(&format!("{value:#}")))
}

/// One JSON value on a line of its own.
pub fn json_line(value: &Value) -> String {
    format!("{}\n", json_for_terminal(&value.to_string()))
}

/// One JSON value, as the end of a command.
pub fn say_json(value: &Value) -> Result<(), Failure> {
    say(&json_block(value))
}

/// Whether standard output is a terminal that wants colour.
pub fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Bold on a terminal.
pub fn strong(text: &str) -> String {
    if colour() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// A length of time on the command line, at most a year.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
    let seconds = seconds.ok_or("not a number of seconds, 0 or more")?;
    Ok(Duration::from_secs_f64(seconds.min(365.0 * 86_400.0)))
}

/// Ends a command that failed.
pub fn failed(failure: &Failure, as_json: bool) -> u8 {
    if let Failure::Output(cause) = failure
        && cause.kind() == io::ErrorKind::BrokenPipe
    {
        // The reader has seen enough; there is nobody to tell.
        return failure.code().exit();
    }
    let code = failure.code();
    if as_json && !matches!(failure, Failure::Told(_)) {
        let _ = print(&json_block(&failure.to_json()));
    }
    let mut text = format!("error: {} [{}]", for_terminal(&failure.message()), code.name());
    if let Failure::Refused(Refusal { field, .. }) | Failure::Told(Refusal { field, .. }) = failure
        && !field.is_empty()
    {
        text.push_str(&format!("\n  field: {field}"));
    }
    if let Some(hint) = failure.hint() {
        text.push_str(&format!("\n  hint: {}", for_terminal(&hint)));
    }
    note(&text);
    code.exit()
}

/// A wrong command line that the parser could not see.
pub fn usage(message: &str) -> Failure {
    Refusal::new(Code::Usage, "", message).into()
}

/// One message as people see it.
pub fn message_line(message: &Message) -> String {
    let sent = &message.sent;
    let place = message.room_id.as_ref().map_or_else(String::new, |room| format!("#{room} "));
    let tag = sent
        .tag
        .as_ref()
        .map_or_else(String::new, |tag| format!("{}: ", for_terminal(&tag.to_uppercase())));
    let again = if message.redelivered { "(shown before) " } else { "" };
    let head = strong(&format!("[{place}{}]", for_terminal(&sent.from)));
    format!("{head} {again}{tag}{}\n", for_terminal(&sent.body))
}

/// `alive`, `dead`, or `???` when there is no evidence.
pub fn liveness_word(liveness: crate::decide::Liveness) -> &'static str {
    match liveness {
        crate::decide::Liveness::Alive => "alive",
        crate::decide::Liveness::Dead => "dead",
        crate::decide::Liveness::Unknown => "???",
    }
}
