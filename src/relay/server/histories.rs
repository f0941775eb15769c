//! Room histories as files, for programs that read them without the relay.
//!
//! `rooms/<room_id>/history.jsonl` holds one message per line. The files are a view of the log,
//! written after the messages are on disk. A file whose room the log does not know, written by an
//! older relay or by one that stored nothing else, is imported once at the start.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use c2c_log_format::checksum::name_hash;
use c2c_log_format::id::{check_message_id, check_name, fold};
use c2c_log_format::payload::{RoomVisibility, Target};
use c2c_log_format::{Payload, Sequence};
use serde::{Deserialize, Serialize};

use super::core::system_actor;
use super::rows::message_row;
use crate::broker::{Broker, RecordedEvent};
use crate::error::Failure;
use crate::platform::fs::{create_private_directory, private_options};
use crate::present::diagnostics::note;
use crate::relay::protocol::response;
use c2c_core::command;
use c2c_core::decide::{ForeignFile, ForeignMessage, ForeignRows, IMPORT_SOURCE};
use c2c_core::ids::MessageId;
use c2c_core::limits::{BODY_BYTES_MAX, ROOM_HISTORY};
use c2c_core::state::{compound_key, sequence_in_key};
use c2c_core::view::MessageView;

const FILE: &str = "history.jsonl";
/// Number of events to read from the log in one pass.
const CHUNK: u64 = 512;

/// One line of a history file.
#[derive(Serialize, Deserialize)]
struct HistoryLine {
    #[serde(flatten)]
    message: response::InboxMessage,
    /// Visibility of the room. Older relays had public rooms only and wrote none.
    #[serde(default)]
    visibility: Option<RoomVisibility>,
    /// Id of the log that `sequence` belongs to.
    #[serde(default)]
    c2c_log: String,
}

/// The messages of one history file.
#[derive(Default)]
struct LoadedHistory {
    /// Hashes of all message ids in the file.
    ids: HashSet<u64>,
    /// The last messages, as many as the relay shows of a room.
    last: VecDeque<response::InboxMessage>,
    /// Whether a line is of a room that is not public.
    has_private: bool,
}

/// The history files under one directory.
pub struct RoomHistories {
    directory: PathBuf,
    /// Every event up to this sequence is written.
    upto: Sequence,
}

impl RoomHistories {
    /// Imports the existing files, then writes the room messages that the state still holds and the
    /// files lack.
    pub fn open(directory: &Path, broker: &mut Broker) -> Result<Self, Failure> {
        let mut histories = Self { directory: directory.join("rooms"), upto: 0 };
        let mut written = BTreeMap::<String, HashSet<u64>>::new();
        for room_id in histories.rooms_on_disk()? {
            written.entry(fold(&room_id)).or_default().extend(histories.load(broker, &room_id)?);
        }
        histories.upto = broker.state().head;
        for (_, room) in broker.state().rooms.scan([]) {
            let key = fold(&room.room_id);
            let rows = broker.state().room_messages.scan(compound_key(&key, &[]));
            let sequences: Vec<_> = rows.iter().map(|(at, _)| sequence_in_key(at)).collect();
            let mut events = broker.fetch(&sequences)?;
            if let Some(ids) = written.get(&key) {
                events.retain(|event| match &event.payload {
                    Some(Payload::MessageSent(sent)) => !ids.contains(&name_hash(&sent.message_id)),
                    _ => false,
                });
            }
            histories.append(broker, &events)?;
        }
        Ok(histories)
    }

    fn rooms_on_disk(&self) -> Result<Vec<String>, Failure> {
        let io = |e| Failure::io("list", &self.directory, e);
        let entries = match fs::read_dir(&self.directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io)?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter(|name| check_name(name).is_ok()).collect())
    }

    /// Reads the file of a room, and imports it if the log does not know the room. Returns the hashes
    /// of the message ids in the file; these messages need no new line.
    fn load(&self, broker: &mut Broker, room_id: &str) -> Result<HashSet<u64>, Failure> {
        let path = self.directory.join(room_id).join(FILE);
        let io = |e| Failure::io("read", &path, e);
        let loaded = read_history(&path).map_err(io)?;
        // A file does not say who was invited, so private messages are not imported.
        let is_known = broker.state().rooms.get(fold(room_id)).is_some();
        if !is_known && !loaded.has_private && !loaded.last.is_empty() {
            import(broker, room_id, loaded.last)?;
        }
        Ok(loaded.ids)
    }

    /// Writes the new messages, which are on disk in the log. `has_messages` is false if no room
    /// message was posted since the last call. A write error is only reported: the next start writes
    /// the missing lines.
    pub fn write(&mut self, broker: &mut Broker, has_messages: bool) {
        let head = broker.state().head;
        while has_messages && self.upto < head {
            let written = broker.events_after(self.upto, CHUNK).and_then(|(events, upto)| {
                self.append(broker, &events)?;
                Ok(upto)
            });
            match written {
                Ok(upto) => self.upto = upto,
                Err(failure) => {
                    note(&format!("room history: {}", failure.message()));
                    break;
                }
            }
        }
        self.upto = head;
    }

    /// Appends the room messages among these events to their files.
    fn append(&self, broker: &mut Broker, events: &[RecordedEvent]) -> Result<(), Failure> {
        let log_id = broker.log_id()?.to_owned();
        let mut texts = BTreeMap::<String, Vec<u8>>::new();
        for event in events {
            let Some(Payload::MessageSent(sent)) = &event.payload else { continue };
            let Target::Room { room_id, .. } = &sent.target else { continue };
            // A message that was imported from the file is in it already.
            let is_imported = sent.source.as_deref() == Some(IMPORT_SOURCE);
            let room = broker.state().rooms.get(room_id).filter(|_| !is_imported);
            let Some(room) = room else { continue };
            let message = MessageView {
                sequence: event.head.sequence,
                sent: sent.clone(),
                room_id: Some(room.room_id.clone()),
                redelivered: false,
                drained_us: None,
            };
            let line = HistoryLine {
                message: message_row(&message, Some(&room.room_id)),
                visibility: Some(room.visibility),
                c2c_log: log_id.clone(),
            };
            let text = texts.entry(room.room_id.into()).or_default();
            let encoded = serde_json::to_writer(&mut *text, &line).map_err(io::Error::other);
            encoded.map_err(|e| Failure::io("write", FILE, e))?;
            text.push(b'\n');
        }
        for (room_id, text) in texts {
            let folder = self.directory.join(room_id);
            let io = |e| Failure::io("write", &folder, e);
            append_lines(&folder, &text).map_err(io)?;
        }
        Ok(())
    }
}

/// Reads a history file; a missing one is empty. Lines that do not parse are skipped.
fn read_history(path: &Path) -> io::Result<LoadedHistory> {
    let mut loaded = LoadedHistory::default();
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(loaded),
        file => file?,
    };
    for line in BufReader::new(file).split(b'\n') {
        let Ok(line) = serde_json::from_slice::<HistoryLine>(&line?) else { continue };
        if !(1..=BODY_BYTES_MAX).contains(&line.message.content.len()) {
            continue;
        }
        loaded.has_private |=
            line.visibility.is_some_and(|visibility| visibility != RoomVisibility::Public);
        loaded.ids.insert(name_hash(&line.message.message_id));
        if loaded.last.len() == ROOM_HISTORY {
            loaded.last.pop_front();
        }
        loaded.last.push_back(line.message);
    }
    Ok(loaded)
}

/// Imports the messages of a history file as a room.
fn import(
    broker: &mut Broker,
    room_id: &str,
    last: VecDeque<response::InboxMessage>,
) -> Result<(), Failure> {
    let messages = last.into_iter().map(|message| ForeignMessage {
        key: String::new(),
        ordinal: 0,
        text_key: None,
        session_id: None,
        message_id: Some(message.message_id.into())
            .filter(|id: &MessageId| check_message_id(id).is_ok()),
        from: message.from_alias,
        to: room_id.to_owned(),
        body: message.content,
        sent_us: Some(message.ts.us).filter(|us| *us > 0),
        deferrable: false,
    });
    let rows = ForeignRows::RelayHistory { room_id: room_id.into(), messages: messages.collect() };
    let name = format!("rooms/{room_id}/{FILE}");
    let file = ForeignFile::new("", &name, "loaded".into(), rows);
    broker.execute(&command::ImportFiles { files: vec![file] }, &system_actor())?;
    Ok(())
}

/// Appends whole lines to a history file. Terminates a partial line at its end first, so that the
/// partial line stays separate.
fn append_lines(folder: &Path, text: &[u8]) -> io::Result<()> {
    create_private_directory(folder)?;
    let mut file =
        private_options().read(true).append(true).create(true).open(folder.join(FILE))?;
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
