//! Log lines of the relay server and of the connector on standard error.
//!
//! Nothing is logged unless `C2C_LOG` or `--log-format` is set. The crate `tracing-subscriber` would
//! add 190 KB to the program for what this file does; see `docs/dependencies.md`.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use clap::{Args, ValueEnum};
use serde_json::{Map, Number, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber, span};

use crate::cli::output::json_line;
use crate::env::C2C_LOG;
use crate::error::Failure;
use crate::platform::clock;
use crate::present::envelope::for_terminal;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// The filter if `--log-format` is given and `C2C_LOG` is not set.
const DEFAULT_FILTER: &str = "info";
/// The module that a level without a module applies to. Other crates never log: what they would
/// write is outside of our control.
const CRATE: &str = "c2c";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LineFormat {
    /// Time, level, module, message and fields
    Text,
    /// One JSON object per line
    Json,
}

impl LineFormat {
    /// The value of `--log-format`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Options of the commands that log.
#[derive(Debug, Clone, Args)]
pub struct LogOptions {
    /// Write log lines to standard error [default: text if C2C_LOG is set, else no log]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub log_format: Option<LineFormat>,
}

impl LogOptions {
    /// Starts logging, if the user asked for it. Later calls in the same process have no effect.
    pub fn start_logging(&self) -> Result<(), Failure> {
        let filter = C2C_LOG.text();
        if filter.is_none() && self.log_format.is_none() {
            return Ok(());
        }
        let filter = LogFilter::parse(filter.as_deref().unwrap_or(DEFAULT_FILTER))?;
        let format = self.log_format.unwrap_or(LineFormat::Text);
        let _ = tracing::subscriber::set_global_default(LineLog { filter, format, write });
        Ok(())
    }
}

/// Writes one line with one call, so that lines of several threads do not mix. A write error is
/// ignored: a log must not fail the operation that it reports on.
fn write(line: &str) {
    let _ = io::stderr().write_all(line.as_bytes());
}

/// The most verbose level of each module.
#[derive(Debug, PartialEq, Eq)]
struct LogFilter(Vec<(String, LevelFilter)>);

impl LogFilter {
    /// Parses a level, or a list of `MODULE=LEVEL` and levels.
    fn parse(text: &str) -> Result<Self, Rejection> {
        let levels = text.split(',').map(|part| Self::parse_part(part.trim()));
        levels.collect::<Option<_>>().map(Self).ok_or_else(|| {
            let name = C2C_LOG.name;
            let text = text.escape_default();
            let message = format!("{name} is not a level or a list of MODULE=LEVEL: '{text}'");
            Rejection::new(Code::Usage, name, message).hint(format!(
                "for example {name}=info or {name}=c2c::relay=debug; the levels are off, error, \
                 warn, info, debug and trace"
            ))
        })
    }

    fn parse_part(part: &str) -> Option<(String, LevelFilter)> {
        let (module, level) = part.split_once('=').unwrap_or((CRATE, part));
        // `LevelFilter` reads an empty text as a level.
        let is_valid = is_within(module, CRATE) && !level.is_empty();
        is_valid.then_some(())?;
        Some((module.to_owned(), level.parse().ok()?))
    }

    /// The level of a module: that of the longest path that contains it.
    fn level_of(&self, module: &str) -> LevelFilter {
        let matching = self.0.iter().filter(|(path, _)| is_within(module, path));
        matching.max_by_key(|(path, _)| path.len()).map_or(LevelFilter::OFF, |(_, level)| *level)
    }
}

/// Whether a module is another one or inside of it.
fn is_within(module: &str, outer: &str) -> bool {
    module.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Writes each event of `tracing` that passes the filter as one line. Spans are ignored.
struct LineLog<W> {
    filter: LogFilter,
    format: LineFormat,
    /// Receives each line with its line end.
    write: W,
}

impl<W: Fn(&str) + 'static> Subscriber for LineLog<W> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.filter.level_of(metadata.target())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.filter.0.iter().map(|(_, level)| *level).max()
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = EventFields::default();
        event.record(&mut fields);
        let line = match self.format {
            LineFormat::Text => text_line(event.metadata(), &fields),
            LineFormat::Json => json_object_line(event.metadata(), fields),
        };
        (self.write)(&line);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The message and the fields of one event.
#[derive(Default)]
struct EventFields {
    message: String,
    /// In the order of the event.
    values: Map<String, Value>,
}

impl EventFields {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.values.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for EventFields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, Number::from_f64(value).map_or(Value::Null, Value::Number));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            _ => self.set(field, text),
        }
    }
}

/// Strings are quoted, and control characters in them are escaped: they may come from a client.
fn text_line(metadata: &Metadata<'_>, fields: &EventFields) -> String {
    let time = clock::rfc3339(clock::now_us());
    let (level, module) = (metadata.level(), metadata.target());
    let mut line = format!("{time} {level:5} {module}: {}", fields.message);
    for (name, value) in &fields.values {
        // Writing to a string cannot fail.
        let _ = match value {
            Value::String(text) => write!(line, " {name}={text:?}"),
            value => write!(line, " {name}={value}"),
        };
    }
    for_terminal(&line) + "\n"
}

fn json_object_line(metadata: &Metadata<'_>, fields: EventFields) -> String {
    let mut object = Map::new();
    for (name, value) in [
        ("timestamp", clock::rfc3339(clock::now_us())),
        ("level", metadata.level().as_str().to_owned()),
        ("target", metadata.target().to_owned()),
        ("message", fields.message),
    ] {
        object.insert(name.to_owned(), value.into());
    }
    object.extend(fields.values);
    json_line(&Value::Object(object))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// The lines that an event becomes.
    fn lines_of(filter: &str, format: LineFormat, event: impl Fn()) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&lines);
        let write = move |line: &str| written.lock().expect("lines").push(line.to_owned());
        let filter = LogFilter::parse(filter).expect("a filter");
        tracing::subscriber::with_default(LineLog { filter, format, write }, event);
        let lines = lines.lock().expect("lines");
        lines.clone()
    }

    #[test]
    fn a_filter_is_a_level_or_a_list_of_modules_with_levels() {
        let level = |filter: &str, module: &str| {
            LogFilter::parse(filter).map(|filter| filter.level_of(module)).ok()
        };
        assert_eq!(level("info", "c2c::relay"), Some(LevelFilter::INFO));
        assert_eq!(level("INFO", "c2c"), Some(LevelFilter::INFO));
        assert_eq!(level("info", "hyper_util"), Some(LevelFilter::OFF));
        assert_eq!(level("info", "c2c_core"), Some(LevelFilter::OFF));
        let list = "c2c::relay::server=debug, warn,c2c::relay=off";
        assert_eq!(level(list, "c2c::relay::server::serve"), Some(LevelFilter::DEBUG));
        assert_eq!(level(list, "c2c::relay::servers"), Some(LevelFilter::OFF));
        assert_eq!(level(list, "c2c::broker"), Some(LevelFilter::WARN));
        for invalid in ["", "inof", "info,", "c2c=", "c2c=loud", "hyper=debug", "c2c::relay"] {
            assert_eq!(level(invalid, "c2c"), None, "{invalid}");
        }
    }

    #[test]
    fn a_rejected_filter_names_the_variable_and_cannot_control_a_terminal() {
        let rejection = LogFilter::parse("in\u{1b}fo").expect_err("rejected");
        assert_eq!((rejection.code, &*rejection.field), (Code::Usage, "C2C_LOG"));
        assert!(rejection.message.contains("'in\\u{1b}fo'"), "{}", rejection.message);
    }

    #[test]
    fn no_field_can_control_a_terminal_or_begin_a_line() {
        let hostile = "a\u{1b}[31m\r\nb\u{202e}\"";
        for format in [LineFormat::Text, LineFormat::Json] {
            let lines = lines_of("info", format, || {
                tracing::info!(text = hostile, shown = %hostile, "received");
            });
            let [line] = lines.as_slice() else { panic!("{lines:?}") };
            let text = line.strip_suffix('\n').expect("a line end");
            assert!(!text.contains(['\u{1b}', '\r', '\n', '\u{202e}']), "{text:?}");
        }
    }

    #[test]
    fn a_json_line_has_the_fields_of_its_event_in_order() {
        let event = || {
            let none: Option<u64> = None;
            tracing::info!(name = "ann", count = 3_usize, ms = 0.25, none, ok = true, "done");
            tracing::debug!("not logged");
        };
        let lines = lines_of("info", LineFormat::Json, event);
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        let (_, rest) = line.split_once("\",").expect("a time");
        let expected = "\"level\":\"INFO\",\"target\":\"c2c::cli::relay::logging::tests\",\
             \"message\":\"done\",\"name\":\"ann\",\"count\":3,\"ms\":0.25,\"ok\":true}\n";
        assert_eq!(rest, expected);
        let lines = lines_of("info", LineFormat::Text, event);
        let (_, rest) = lines[0].split_once(" INFO  ").expect("a level");
        let expected =
            "c2c::cli::relay::logging::tests: done name=\"ann\" count=3 ms=0.25 ok=true\n";
        assert_eq!(rest, expected);
    }
}
