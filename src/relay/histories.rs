//! How can what was said in rooms be read without the relay?
//!
//! `rooms/<room_id>/history.jsonl` holds one message a line: a view of the log, written after the
//! messages are on disk. A file from before the log knew the room, of an older relay or of one that
//! kept nothing else, is loaded once.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use c2c_log_format::id::{check_message_id, check_name, fold};
use c2c_log_format::payload::Target;
use c2c_log_format::{Payload, Sequence};
use serde::{Deserialize, Serialize};

use super::handle::row;
use super::service::nobody;
use crate::broker::{Broker, Kept, Message};
use crate::decide::{Command, ForeignFile, ForeignMessage, IMPORTED};
use crate::failure::Failure;
use crate::limits::{BODY_BYTES_MAX, ROOM_HISTORY};
use crate::log::LogError;
use crate::state::{pair, sequence_of};
use crate::wire::body;

const FILE: &str = "history.jsonl";
/// Events that are looked at together.
const CHUNK: u64 = 512;

/// One line.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    message: body::Message,
    /// Who sees the room. Older relays had public ones only.
    #[serde(default)]
    visibility: Option<String>,
    /// The log that `sequence` is of.
    #[serde(default)]
    c2c_log: String,
}

/// The histories under one directory.
pub struct Histories {
    directory: PathBuf,
    /// Everything up to here is written.
    upto: Sequence,
    /// Whether something was said since.
    said: bool,
    failed: bool,
}

impl Histories {
    /// Loads what is there, and writes what the log has at hand and the files do not.
    pub fn open(directory: &Path, broker: &mut Broker) -> Result<Self, Failure> {
        let directory = directory.join("rooms");
        let mut histories = Self { directory, upto: 0, said: false, failed: false };
        let mut written = BTreeMap::new();
        for room_id in histories.on_disk()? {
            written.insert(fold(&room_id), histories.load(broker, &room_id)?);
        }
        histories.upto = broker.state().head;
        for (_, room) in broker.state().rooms.scan([]) {
            let key = fold(&room.room_id);
            let next = written.get(&key).copied().unwrap_or_default() + 1;
            let (all, from) = (pair(&key, &[]), pair(&key, &next.to_be_bytes()));
            let rows = broker.state().room_messages.range(&all, &from);
            let wanted: Vec<_> = rows.iter().map(|(at, _)| sequence_of(at)).collect();
            let events = broker.fetch(&wanted)?;
            histories.append(broker, &events)?;
        }
        Ok(histories)
    }

    fn on_disk(&self) -> Result<Vec<String>, Failure> {
        let io = |e| LogError::io("list", &self.directory.display().to_string(), e);
        let entries = match fs::read_dir(&self.directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io)?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter(|name| check_name(name).is_ok()).collect())
    }

    /// Reads the file of a room, and takes in what the log does not know yet. Up to where of this
    /// log the file goes.
    fn load(&self, broker: &mut Broker, room_id: &str) -> Result<Sequence, Failure> {
        let path = self.directory.join(room_id).join(FILE);
        let io = |e| LogError::io("read", &path.display().to_string(), e);
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
            file => file.map_err(io)?,
        };
        let log_id = broker.log_id()?.to_owned();
        let (mut upto, mut visibility) = (0, None);
        let mut foreign = Vec::new();
        for line in BufReader::new(file).split(b'\n') {
            // A line that broke off is no message.
            let Ok(line) = serde_json::from_slice::<Line>(&line.map_err(io)?) else { continue };
            if line.c2c_log == log_id {
                upto = line.message.sequence.unwrap_or_default().max(upto);
            } else if (1..=BODY_BYTES_MAX).contains(&line.message.content.len()) {
                visibility = line.visibility.clone().or(visibility);
                foreign.push(line.message);
            }
        }
        let mark = format!("rooms/{room_id}/{FILE}");
        let loaded = broker.state().imported.get(format!("file {mark}")).is_some();
        if loaded || foreign.is_empty() {
            return Ok(upto);
        }
        // As many as a relay tells of a room; the file keeps all of them.
        let last = foreign.split_off(foreign.len().saturating_sub(ROOM_HISTORY));
        let public = visibility.is_none_or(|visibility| visibility == "public");
        let visibility = if public { "public" } else { "invite_only" };
        let messages = last.into_iter().map(|message| ForeignMessage {
            key: String::new(),
            session_id: None,
            message_id: Some(message.message_id).filter(|id| check_message_id(id).is_ok()),
            from: message.from_alias,
            to: room_id.to_owned(),
            body: message.content,
            sent_us: Some(message.ts.us).filter(|us| *us > 0),
        });
        let file = ForeignFile {
            file: mark,
            stamp: "loaded".into(),
            messages: messages.collect(),
            room: Some((room_id.to_owned(), visibility.into())),
            ..ForeignFile::default()
        };
        broker.execute(&Command::Import { files: vec![file] }, &nobody())?;
        Ok(upto)
    }

    /// Something was said in a room.
    pub fn note(&mut self) {
        self.said = true;
    }

    /// Writes what is new; it is on disk in the log already. A file that cannot be written fails
    /// nobody: it is told once, and tried again with what is said next.
    pub fn write(&mut self, broker: &mut Broker) {
        let head = broker.state().head;
        while self.said && self.upto < head {
            let written = broker.events_after(self.upto, CHUNK).and_then(|(events, upto)| {
                self.append(broker, &events)?;
                Ok(upto)
            });
            match written {
                Ok(upto) => (self.upto, self.failed) = (upto, false),
                Err(failure) => {
                    if !std::mem::replace(&mut self.failed, true) {
                        eprintln!("room history: {}", failure.message());
                    }
                    return;
                }
            }
        }
        (self.upto, self.said) = (head, false);
    }

    /// Adds those of these events that were said in rooms.
    fn append(&self, broker: &mut Broker, events: &[Kept]) -> Result<(), Failure> {
        let log_id = broker.log_id()?.to_owned();
        let mut texts = BTreeMap::<String, Vec<u8>>::new();
        for event in events {
            let Some(Payload::MessageSent(sent)) = &event.payload else { continue };
            let Target::Room { room_id, .. } = &sent.target else { continue };
            // What came from the file is in it.
            let from_file = sent.source.as_deref() == Some(IMPORTED);
            let room = broker.state().rooms.get(room_id).filter(|_| !from_file);
            let Some(room) = room else { continue };
            let message = Message {
                sequence: event.head.sequence,
                sent: sent.clone(),
                room_id: Some(room.room_id.clone()),
                redelivered: false,
                drained_us: None,
            };
            let line = Line {
                message: row(&message, Some(&room.room_id)),
                visibility: Some(room.visibility),
                c2c_log: log_id.clone(),
            };
            let text = texts.entry(room.room_id).or_default();
            let encoded = serde_json::to_writer(&mut *text, &line).map_err(io::Error::other);
            encoded.map_err(|e| LogError::io("write", FILE, e))?;
            text.push(b'\n');
        }
        for (room_id, text) in texts {
            let folder = self.directory.join(room_id);
            let io = |e| LogError::io("write", &folder.display().to_string(), e);
            append_lines(&folder, &text).map_err(io)?;
        }
        Ok(())
    }
}

/// Adds whole lines to a history; what broke off before becomes a line of its own.
fn append_lines(folder: &Path, text: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).append(true).create(true).mode(0o600).open(folder.join(FILE))?;
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    file.write_all(text)
}
