//! Rows of the legacy files.

use c2c_log_format::checksum::name_hash;
use c2c_log_format::id::{check_alias, fold};
use c2c_log_format::payload::{Process, RoomVisibility};
use serde_json::Value;

use super::EXPORTED_KEY;
use super::files::{INBOX_SUFFIX, Kind, LegacyFile};
use crate::platform::clock;
use c2c_core::decide::{
    ForeignDeadLetter, ForeignDelivery, ForeignMember, ForeignMessage, ForeignRoom, ForeignRows,
    ForeignSession,
};
use c2c_core::limits::BODY_BYTES_MAX;

/// Largest text of an older message, bytes. Older programs had no limit; a larger one fits into no
/// batch.
const LEGACY_BODY_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;

/// One row of a legacy file.
pub enum Row {
    Session(ForeignSession),
    Room(ForeignRoom),
    Member(ForeignMember),
    Message(ForeignMessage),
    DeadLetter(ForeignDeadLetter),
    Delivery(ForeignDelivery),
}

impl Row {
    /// Size of the text, bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Message(row) => row.body.len(),
            Self::DeadLetter(row) => row.message.body.len(),
            Self::Delivery(row) => row.message.body.len(),
            Self::Session(_) | Self::Room(_) | Self::Member(_) => 0,
        }
    }
}

/// Parses the rows of one file, in order.
pub struct RowParser<'a> {
    pub origin: &'a str,
    pub file: &'a LegacyFile,
    /// Whether c2c has written the whole file, although its rows do not say so.
    pub is_export: bool,
    /// Hashes of the rows so far, with their number: equal rows in one file are several messages.
    pub seen: std::collections::HashMap<u64, usize>,
    /// Time of the last row, for rows without one.
    pub last_us: Option<u64>,
}

/// A row that is not imported.
#[derive(Debug, PartialEq, Eq)]
pub enum NoRow {
    /// c2c wrote it itself.
    Exported,
    /// It lacks what every row of its kind has.
    Invalid,
}

impl RowParser<'_> {
    /// Parses one row.
    pub fn row(&mut self, row: &Value) -> Result<Row, NoRow> {
        let is_export = self.is_export || row.get(EXPORTED_KEY).is_some();
        // The description of a room that c2c has written says which room further rows belong to.
        if is_export && !(self.file.kind == Kind::Room && self.origin.is_empty()) {
            return Err(NoRow::Exported);
        }
        let parsed = match self.file.kind {
            Kind::Registry => self.session(row).map(Row::Session),
            Kind::Room => Some(Row::Room(self.room(row, is_export))),
            Kind::Members => self.member(row).map(Row::Member),
            Kind::RoomHistory => self.line(row).map(Row::Message),
            Kind::Archive => self.delivery(row).map(Row::Delivery),
            Kind::Inbox | Kind::Outbox => self.mail(row).map(Row::Message),
            Kind::DeadLetters => self.dead_letter(row).map(Row::DeadLetter),
        };
        parsed.filter(|row| row.len() <= LEGACY_BODY_BYTES_MAX).ok_or(NoRow::Invalid)
    }

    /// A key for a row without an id: the file and the row, and the number of equal rows before it.
    fn key(&mut self, row: &Value) -> (String, usize) {
        let hash = name_hash(&row.to_string());
        let count = self.seen.entry(hash).or_default();
        *count += 1;
        (format!("{}{} {hash:016x}", self.origin, self.file.name), *count - 1)
    }

    fn numbered_key(&mut self, row: &Value) -> String {
        let (key, ordinal) = self.key(row);
        format!("{key} {ordinal}")
    }

    fn session(&mut self, row: &Value) -> Option<ForeignSession> {
        let process = row.get("pid").and_then(Value::as_u64).map(|pid| Process {
            pid: pid as u32,
            start: row.get("pid_start_time").and_then(Value::as_u64).unwrap_or(0),
            boot: String::new(),
            ns: 0,
        });
        Some(ForeignSession {
            key: self.numbered_key(row),
            session_id: text_field(row, "session_id")?.into(),
            alias: text_field(row, "alias")?.into(),
            process,
            client_type: text_field(row, "client_type"),
            role: text_field(row, "role"),
            cwd: text_field(row, "cwd"),
            registered_us: time_field(row, "registered_at"),
        })
    }

    fn room(&self, row: &Value, is_export: bool) -> ForeignRoom {
        let invited = row.get("invited_members").and_then(Value::as_array);
        let invited = invited.into_iter().flatten().filter_map(Value::as_str);
        let visibility = match row.get("visibility").and_then(Value::as_str) {
            Some("invite_only" | "invite-only" | "invite" | "private") => {
                RoomVisibility::InviteOnly
            }
            _ => RoomVisibility::Public,
        };
        ForeignRoom {
            room_id: self.file.owner.as_str().into(),
            visibility,
            created_by: text_field(row, "created_by").unwrap_or_default(),
            invited: invited
                .filter(|alias| check_alias(alias).is_ok())
                .map(str::to_owned)
                .collect(),
            is_export,
        }
    }

    fn member(&mut self, row: &Value) -> Option<ForeignMember> {
        Some(ForeignMember {
            key: self.numbered_key(row),
            alias: text_field(row, "alias")?.into(),
            session_id: text_field(row, "session_id").map(Into::into),
            joined_us: time_field(row, "joined_at"),
        })
    }

    fn mail(&mut self, row: &Value) -> Option<ForeignMessage> {
        let (key, ordinal) = self.key(row);
        let is_inbox = self.file.kind == Kind::Inbox;
        let session_id = is_inbox.then(|| self.file.owner.clone());
        self.message(row, session_id, key, ordinal).filter(|message| !message.body.is_empty())
    }

    /// A line of a room's history; one without a time has that of the line before.
    fn line(&mut self, row: &Value) -> Option<ForeignMessage> {
        let mut message = message(row, None, self.file.owner.clone())?;
        self.last_us = message.sent_us.or(self.last_us);
        message.sent_us = self.last_us;
        Some(message)
    }

    fn delivery(&mut self, row: &Value) -> Option<ForeignDelivery> {
        let session_id = text_field(row, "session_id").unwrap_or_else(|| self.file.owner.clone());
        let drained_us = time_field(row, "drained_at").or(self.last_us);
        self.last_us = drained_us;
        Some(ForeignDelivery {
            message: self.message(row, Some(session_id), String::new(), 0)?,
            drained_us,
            surface: text_field(row, "drained_by").unwrap_or_default(),
        })
    }

    /// A dead letter of a broker, which contains the message, or of a relay or the outbox, which has
    /// its fields.
    fn dead_letter(&mut self, row: &Value) -> Option<ForeignDeadLetter> {
        let (key, ordinal) = self.key(row);
        let inner = row.get("message").filter(|message| message.is_object()).unwrap_or(row);
        let session_id = text_field(row, "from_session_id");
        let inbox = session_id.as_deref().unwrap_or_default();
        let hash = name_hash(&inner.to_string());
        let reason = ["reason", "dlq_reason"].into_iter().find_map(|key| text_field(row, key));
        let at_us = ["deleted_at", "ts"].into_iter().find_map(|key| time_field(row, key));
        Some(ForeignDeadLetter {
            inbox_key: format!("{}{inbox}{INBOX_SUFFIX} {hash:016x}", self.origin),
            message: self.message(inner, session_id, key, ordinal)?,
            reason: reason.or_else(|| text_field(row, "last_error")),
            at_us,
        })
    }

    /// A message with its keys.
    fn message(
        &self,
        row: &Value,
        session_id: Option<String>,
        key: String,
        ordinal: usize,
    ) -> Option<ForeignMessage> {
        let to = text_field(row, "to_alias").or_else(|| session_id.clone())?;
        let mut message = message(row, session_id, to)?;
        // A message to several recipients has one id: it is imported once for each recipient.
        message.key = match &message.message_id {
            Some(id) => format!("id {} {}", id.as_str(), fold(&message.to)),
            None => key,
        };
        message.ordinal = ordinal;
        let text = format!("{}\0{}\0{}", message.from, fold(&message.to), message.body);
        let hash = name_hash(&text);
        let session = message.session_id.as_deref().filter(|_| message.message_id.is_none());
        message.text_key = session.map(|id| format!("{}{id} {hash:016x}", self.origin));
        Some(message)
    }
}

/// A message without keys.
fn message(row: &Value, session_id: Option<String>, to: String) -> Option<ForeignMessage> {
    Some(ForeignMessage {
        key: String::new(),
        ordinal: 0,
        text_key: None,
        session_id: session_id.map(Into::into),
        message_id: text_field(row, "message_id").map(Into::into),
        from: text_field(row, "from_alias").unwrap_or_else(|| String::from("unknown")),
        to,
        body: row.get("content")?.as_str()?.to_owned(),
        sent_us: ["ts", "enqueued_at"].into_iter().find_map(|key| time_field(row, key)),
        deferrable: row.get("deferrable") == Some(&Value::Bool(true)),
    })
}

/// The rows of one file, or of a part of it.
pub fn collect(file: &LegacyFile, rows: Vec<Row>) -> ForeignRows {
    let room_id = file.owner.as_str().into();
    macro_rules! all {
        ($variant:ident) => {
            rows.into_iter()
                .filter_map(|row| match row {
                    Row::$variant(row) => Some(row),
                    _ => None,
                })
                .collect()
        };
    }
    match file.kind {
        Kind::Registry => ForeignRows::Registry(all!(Session)),
        Kind::Room => match rows.into_iter().next() {
            Some(Row::Room(room)) => ForeignRows::Room(room),
            _ => ForeignRows::Registry(Vec::new()),
        },
        Kind::Members => ForeignRows::Members { room_id, members: all!(Member) },
        Kind::RoomHistory => ForeignRows::RoomHistory { room_id, lines: all!(Message) },
        Kind::Archive => ForeignRows::Delivered(all!(Delivery)),
        Kind::Inbox | Kind::Outbox => ForeignRows::Mail(all!(Message)),
        Kind::DeadLetters => ForeignRows::DeadLetters(all!(DeadLetter)),
    }
}

fn text_field(row: &Value, key: &str) -> Option<String> {
    row.get(key)?.as_str().map(str::to_owned).filter(|text| !text.is_empty())
}

/// A time in seconds since 1970 or in the form of RFC 3339, as microseconds.
fn time_field(row: &Value, key: &str) -> Option<u64> {
    match row.get(key)? {
        Value::Number(seconds) => seconds.as_f64().map(|s| (s * 1e6).round() as u64),
        Value::String(text) => clock::parse(text),
        _ => None,
    }
    .filter(|us| *us > 0)
}
