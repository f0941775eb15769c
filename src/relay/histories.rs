//! How can what was said in rooms be read without the relay?
//!
//! `rooms/<room_id>/history.jsonl` holds one message a line: a view of the log, written after the
//! messages are on disk. A file from before the log knew the room, of an older relay or of one that
//! kept nothing else, is loaded once.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use c2c_log_format::checksum::name_hash;
use c2c_log_format::id::{check_message_id, check_name, fold};
use c2c_log_format::payload::Target;
use c2c_log_format::{Payload, Sequence};
use serde::{Deserialize, Serialize};

use super::handle::row;
use super::service::nobody;
use crate::broker::{Broker, Kept, Message};
use crate::decide::{Command, ForeignFile, ForeignMessage, IMPORTED};
use crate::diagnosis::note;
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
}

impl Histories {
    /// Loads what is there, and writes what the log has at hand and the files do not.
    pub fn open(directory: &Path, broker: &mut Broker) -> Result<Self, Failure> {
        let directory = directory.join("rooms");
        let mut histories = Self { directory, upto: 0, said: false };
        let mut written = BTreeMap::<String, HashSet<u64>>::new();
        for room_id in histories.on_disk()? {
            written.entry(fold(&room_id)).or_default().extend(histories.load(broker, &room_id)?);
        }
        histories.upto = broker.state().head;
        for (_, room) in broker.state().rooms.scan([]) {
            let key = fold(&room.room_id);
            let rows = broker.state().room_messages.scan(pair(&key, &[]));
            let wanted: Vec<_> = rows.iter().map(|(at, _)| sequence_of(at)).collect();
            let mut events = broker.fetch(&wanted)?;
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

    fn on_disk(&self) -> Result<Vec<String>, Failure> {
        let io = |e| LogError::io("list", &self.directory.display().to_string(), e);
        let entries = match fs::read_dir(&self.directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io)?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter(|name| check_name(name).is_ok()).collect())
    }

    /// Reads the file of a room, and takes it in if the log does not know the room. The hashes of the
    /// ids that the file holds: they need not be written again.
    fn load(&self, broker: &mut Broker, room_id: &str) -> Result<HashSet<u64>, Failure> {
        let path = self.directory.join(room_id).join(FILE);
        let io = |e| LogError::io("read", &path.display().to_string(), e);
        let (mut ids, mut last) = (HashSet::new(), VecDeque::new());
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(ids),
            file => file.map_err(io)?,
        };
        let mut private = false;
        for line in BufReader::new(file).split(b'\n') {
            // A line that broke off is no message.
            let Ok(line) = serde_json::from_slice::<Line>(&line.map_err(io)?) else { continue };
            if !(1..=BODY_BYTES_MAX).contains(&line.message.content.len()) {
                continue;
            }
            private |= line.visibility.is_some_and(|visibility| visibility != "public");
            ids.insert(name_hash(&line.message.message_id));
            // As many as a relay tells of a room; the file keeps all of them.
            if last.len() == ROOM_HISTORY {
                last.pop_front();
            }
            last.push_back(line.message);
        }
        // Who was invited is not in a file: what was said in private stays there.
        let known = broker.state().rooms.get(fold(room_id)).is_some();
        if !known && !private && !last.is_empty() {
            take_in(broker, room_id, last)?;
        }
        Ok(ids)
    }

    /// Something was said in a room.
    pub fn note(&mut self) {
        self.said = true;
    }

    /// Writes what is new; it is on disk in the log already. A file that cannot be written fails
    /// nobody: the next start writes what it lacks.
    pub fn write(&mut self, broker: &mut Broker) {
        let head = broker.state().head;
        while self.said && self.upto < head {
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

/// Makes a room of what a file says.
fn take_in(
    broker: &mut Broker,
    room_id: &str,
    last: VecDeque<body::Message>,
) -> Result<(), Failure> {
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
        file: format!("rooms/{room_id}/{FILE}"),
        stamp: "loaded".into(),
        messages: messages.collect(),
        room: Some(room_id.to_owned()),
        ..ForeignFile::default()
    };
    broker.execute(&Command::Import { files: vec![file] }, &nobody())?;
    Ok(())
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
