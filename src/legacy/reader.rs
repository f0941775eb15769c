//! Reading of the legacy files of one root in batches, each small enough for one frame of the log.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::PathBuf;

use c2c_log_format::checksum::name_hash;
use c2c_log_format::payload::room_hash;
use serde_json::Value;

use super::EXPORTED_KEY;
use super::files::{Kind, LegacyFile, META, NO_FILE, REGISTRY, ROOMS};
use super::json;
use super::lines::LineFile;
use super::rows::{NoRow, Row, RowParser, collect};
use crate::error::Failure;
use crate::store::StoreError;
use c2c_core::decide::{ForeignFile, ForeignMessage};
use c2c_core::state::State;

/// Number of rows at which a batch is closed.
const BATCH_ROWS: usize = 1_000;
/// Size of the texts at which a batch is closed, bytes. With the largest row, and every byte escaped,
/// a batch still fits into one frame.
const BATCH_BYTES: usize = 1024 * 1024;

/// What an import asks the log that it writes to.
pub trait ImportTarget {
    /// The state, with all batches so far.
    fn state(&self) -> &State;

    /// Number of imported rows with each [`history_hash`]: in the history of the room with this hash,
    /// or without one, among the delivered messages.
    fn imported_history(&mut self, room: Option<u64>) -> Result<HashMap<u64, usize>, Failure>;
}

/// Identifies a message of a history by its time and text, where its file says nothing else.
pub fn history_hash(time_us: u64, body: &str) -> u64 {
    name_hash(&format!("{time_us} {body}"))
}

/// What was read and is not imported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SkippedRows {
    /// Number of rows that lack a required field or are not JSON.
    pub rows: usize,
    /// Files that are not whole at the moment, or cannot be read.
    pub files: Vec<String>,
}

/// The changed files of one root.
pub struct LegacyReader {
    root: PathBuf,
    origin: String,
    queue: VecDeque<LegacyFile>,
    current: Option<OpenFile>,
    /// Rooms whose description is not whole.
    waiting: Vec<String>,
    /// What was not imported so far.
    pub skipped: SkippedRows,
}

/// A file whose rows are being read.
struct OpenFile {
    file: LegacyFile,
    source: Source,
    is_export: bool,
    /// What the log records about the file.
    recorded: String,
    seen: HashMap<u64, usize>,
    last_us: Option<u64>,
    /// Rows that the log has already, if the file was replaced.
    known: HashMap<u64, usize>,
}

enum Source {
    Rows(std::vec::IntoIter<Option<Value>>),
    Lines(Box<LineFile>),
}

impl LegacyReader {
    /// A reader of these files under `root`, whose rows the log knows under `origin`.
    pub fn new(root: PathBuf, origin: String, files: Vec<LegacyFile>) -> Self {
        let (queue, skipped) = (files.into(), SkippedRows::default());
        Self { root, origin, queue, current: None, waiting: Vec::new(), skipped }
    }

    /// Reads the next rows. Returns no files at the end.
    pub fn next_batch(
        &mut self,
        target: &mut dyn ImportTarget,
    ) -> Result<Vec<ForeignFile>, Failure> {
        let mut batch = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        let is_full = |rows: usize, bytes: usize| rows >= BATCH_ROWS || bytes >= BATCH_BYTES;
        while !is_full(rows, bytes) {
            let mut open = match self.current.take() {
                Some(open) => open,
                None => match self.queue.pop_front() {
                    None => return Ok(batch),
                    Some(file) => match self.open(file, target)? {
                        Some(open) => open,
                        None => continue,
                    },
                },
            };
            let shown = self.root.join(&open.file.name).display().to_string();
            let failed = |e| StoreError::io("read", &shown, e);
            let mut part = Vec::new();
            let is_end = loop {
                if is_full(rows, bytes) {
                    break false;
                }
                let Some(row) = open.next(&self.origin, &mut self.skipped).map_err(failed)? else {
                    break true;
                };
                (rows, bytes) = (rows + 1, bytes + row.len());
                part.push(row);
            };
            batch.push(open.part(&self.origin, part, is_end).map_err(failed)?);
            if !is_end {
                self.current = Some(open);
            }
        }
        Ok(batch)
    }

    /// Opens a file; `None` if it cannot be imported now.
    fn open(
        &mut self,
        file: LegacyFile,
        target: &mut dyn ImportTarget,
    ) -> Result<Option<OpenFile>, Failure> {
        if matches!(file.kind, Kind::Members | Kind::RoomHistory)
            && self.waiting.contains(&file.owner)
        {
            return Ok(None);
        }
        let recorded = recorded(target.state(), &self.origin, &file.name);
        let source = match self.source(&file, &recorded) {
            Ok(source) => source,
            // Removed meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => {
                let shown = self.root.join(&file.name).display().to_string();
                return Err(StoreError::io("read", &shown, e).into());
            }
        };
        let Some(source) = source else {
            if file.kind == Kind::Room {
                self.waiting.push(file.owner);
            }
            self.skipped.files.push(file.name);
            return Ok(None);
        };
        let is_replaced = matches!(&source, Source::Lines(lines) if lines.is_replaced);
        let known = match is_replaced || self.has_namesake(&file, &recorded, target.state()) {
            true => target.imported_history(self.room(&file, target.state()))?,
            false => HashMap::new(),
        };
        let (seen, last_us) = (HashMap::new(), None);
        let is_export = self.is_export_of_0_1(&file);
        Ok(Some(OpenFile { file, source, is_export, recorded, seen, last_us, known }))
    }

    /// Whether version 0.1.0 has written the description and the members of a room: that version
    /// marked only the rows of the other files.
    fn is_export_of_0_1(&self, file: &LegacyFile) -> bool {
        let is_of_room = matches!(file.kind, Kind::Room | Kind::Members);
        if !is_of_room || !self.origin.is_empty() {
            return false;
        }
        let read = |name: &str| json::parse(&fs::read(self.root.join(name)).unwrap_or_default());
        let is_marked = |row: &Value| row.get(EXPORTED_KEY).is_some();
        let meta = read(&format!("{ROOMS}/{}/{META}", file.owner));
        let Some(Value::Array(sessions)) = read(REGISTRY) else { return false };
        let is_mirror = !sessions.is_empty() && sessions.iter().all(is_marked);
        is_mirror && !meta.is_some_and(|meta| is_marked(&meta))
    }

    /// The rows of a file; `None` if the file is not whole.
    fn source(&self, file: &LegacyFile, recorded: &str) -> io::Result<Option<Source>> {
        let path = self.root.join(&file.name);
        if file.kind.is_log() {
            let lines = LineFile::open(&path, &file.stamp, recorded)?;
            return Ok(Some(Source::Lines(Box::new(lines))));
        }
        if file.stamp == NO_FILE {
            return Ok(Some(Source::Rows(vec![Some(Value::Null)].into_iter())));
        }
        let rows = match file.kind {
            // Their rows have keys, because older programs also remove lines from them.
            Kind::Outbox | Kind::DeadLetters => {
                let mut lines = LineFile::open(&path, &file.stamp, "")?;
                let mut rows = Vec::new();
                while let Some(line) = lines.next_line()? {
                    rows.push(line);
                }
                rows
            }
            kind => match (kind, json::parse(&fs::read(&path)?)) {
                (Kind::Room, Some(room @ Value::Object(_))) => vec![Some(room)],
                (Kind::Room, _) | (_, None) => return Ok(None),
                (_, Some(Value::Array(rows))) => rows.into_iter().map(Some).collect(),
                _ => return Ok(None),
            },
        };
        Ok(Some(Source::Rows(rows.into_iter())))
    }

    /// Whether a file of lines was not imported, but one of the same name from another root was. It
    /// may be a copy.
    fn has_namesake(&self, file: &LegacyFile, recorded: &str, state: &State) -> bool {
        if !file.kind.is_log() || !recorded.is_empty() {
            return false;
        }
        let (same, end) = (format!("file {}", file.name), format!("/{}", file.name));
        let keys = state.imported.scan("file ").into_iter().map(|(key, _)| key);
        keys.into_iter().any(|key| key == same.as_bytes() || key.ends_with(end.as_bytes()))
    }

    /// The hash of the room that a file belongs to; `None` if it belongs to a session.
    fn room(&self, file: &LegacyFile, state: &State) -> Option<u64> {
        if file.kind != Kind::RoomHistory {
            return None;
        }
        let room_id = state.imported.get(format!("file {}rooms/{}", self.origin, file.owner));
        Some(room_hash(room_id.as_ref().unwrap_or(&file.owner)))
    }
}

/// What the log records about a file; empty if it was never imported.
fn recorded(state: &State, origin: &str, name: &str) -> String {
    state.imported.get(format!("file {origin}{name}")).unwrap_or_default()
}

impl OpenFile {
    /// Parses the next row that can be imported.
    fn next(&mut self, origin: &str, skipped: &mut SkippedRows) -> io::Result<Option<Row>> {
        loop {
            let row = match &mut self.source {
                Source::Rows(rows) => rows.next(),
                Source::Lines(lines) => lines.next_line()?,
            };
            let Some(row) = row else { return Ok(None) };
            let (seen, last_us) = (std::mem::take(&mut self.seen), self.last_us);
            let is_export = self.is_export;
            let mut parser = RowParser { origin, file: &self.file, is_export, seen, last_us };
            let parsed = row.as_ref().ok_or(NoRow::Invalid).and_then(|row| parser.row(row));
            let RowParser { seen, last_us, .. } = parser;
            (self.seen, self.last_us) = (seen, last_us);
            match parsed {
                Ok(row) if self.is_known(&row) => {}
                Ok(row) => return Ok(Some(row)),
                Err(NoRow::Invalid) => skipped.rows += 1,
                Err(NoRow::Exported) => {}
            }
        }
    }

    /// Whether the log has a row of a file that was replaced. Of equal rows, each counts once.
    fn is_known(&mut self, row: &Row) -> bool {
        let hash = |time_us: Option<u64>, message: &ForeignMessage| {
            Some(history_hash(time_us?, &message.body))
        };
        let hash = match row {
            Row::Message(message) => hash(message.sent_us, message),
            Row::Delivery(row) => hash(row.drained_us, &row.message),
            _ => None,
        };
        let count = hash.and_then(|hash| self.known.get_mut(&hash)).filter(|count| **count > 0);
        count.map(|count| *count -= 1).is_some()
    }

    /// The rows of a part of the file.
    fn part(&mut self, origin: &str, rows: Vec<Row>, is_end: bool) -> io::Result<ForeignFile> {
        let (stamp, expected) = match &mut self.source {
            Source::Lines(lines) => {
                let stamp = lines.record(is_end)?;
                let before = std::mem::replace(&mut self.recorded, stamp.clone());
                (stamp, Some(before))
            }
            Source::Rows(_) if is_end => (self.file.stamp.clone(), None),
            Source::Rows(_) => (String::new(), None),
        };
        let rows = collect(&self.file, rows);
        let file = ForeignFile::new(origin, &self.file.name, stamp, rows);
        Ok(ForeignFile { expected, ..file })
    }
}
