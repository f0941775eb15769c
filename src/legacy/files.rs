//! The legacy files of a root: which there are, and which changed since their last import.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;

use c2c_log_format::id::check_name;

use crate::error::Failure;
use crate::platform::fs::modified_parts;
use crate::store::StoreError;
use c2c_core::state::State;

/// Name of the file of sessions.
pub const REGISTRY: &str = "registry.json";
const OUTBOX: &str = "remote-outbox.jsonl";
const DEAD_LETTERS: &str = "dead-letter.jsonl";
const OUTBOX_DEAD_LETTERS: &str = "remote-outbox-dlq.jsonl";
/// End of the name of an inbox, after its session.
pub const INBOX_SUFFIX: &str = ".inbox.json";
/// Directory of delivered messages, one file per session.
pub const ARCHIVE: &str = "archive";
/// End of the name of a file in [`ARCHIVE`].
pub const ARCHIVE_SUFFIX: &str = ".jsonl";
/// Directory of rooms, one directory per room.
pub const ROOMS: &str = "rooms";
/// Description of a room in its directory.
pub const META: &str = "meta.json";
/// Stamp of a room without `meta.json`.
pub const NO_FILE: &str = "missing";

/// What a legacy file contains. The variants are in the order of import: the registry maps inboxes
/// to aliases, a room precedes its members, and what was delivered tells new rows of an inbox from
/// those that were delivered before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Registry,
    Room,
    Members,
    Archive,
    Inbox,
    Outbox,
    DeadLetters,
    RoomHistory,
}

impl Kind {
    /// Whether a file of this kind holds lines that are only ever added at its end.
    pub fn is_log(self) -> bool {
        matches!(self, Self::Archive | Self::RoomHistory)
    }
}

/// A legacy file that differs from what the log has imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyFile {
    pub kind: Kind,
    /// Name relative to the root.
    pub name: String,
    /// The room or the session that the file belongs to; empty if it belongs to none.
    pub owner: String,
    /// Size and modification time.
    pub stamp: String,
    /// What the log records about it; empty if it was never imported.
    pub recorded: String,
}

/// The legacy files in a root that differ from what the log records under `origin` and their name.
pub fn changed_files(root: &Path, origin: &str, state: &State) -> Result<Vec<LegacyFile>, Failure> {
    let found = list(root)?;
    Ok(changed(root, origin, state, found.unwrap_or_default()))
}

/// The kind and name of a legacy file, and the room or session that it belongs to.
pub(super) type Found = (Kind, String, String);

/// The legacy files in a root; `None` if the root holds no legacy file and no directory for them.
pub(super) fn list(root: &Path) -> Result<Option<Vec<Found>>, Failure> {
    let mut found = Vec::new();
    let mut has_directory = false;
    for name in names(root)? {
        has_directory |= matches!(name.as_str(), ARCHIVE | ROOMS);
        match name.as_str() {
            REGISTRY => found.push((Kind::Registry, name, String::new())),
            OUTBOX => found.push((Kind::Outbox, name, String::new())),
            DEAD_LETTERS | OUTBOX_DEAD_LETTERS => {
                found.push((Kind::DeadLetters, name, String::new()));
            }
            ARCHIVE => {
                let files = names(&root.join(ARCHIVE))?.into_iter();
                found.extend(files.filter_map(|file| {
                    let session = file.strip_suffix(ARCHIVE_SUFFIX)?.to_owned();
                    Some((Kind::Archive, format!("{ARCHIVE}/{file}"), session))
                }));
            }
            ROOMS => {
                let rooms = names(&root.join(ROOMS))?.into_iter();
                found.extend(rooms.filter(|room| check_name(room).is_ok()).flat_map(room_files));
            }
            _ => {
                if let Some(session) = name.strip_suffix(INBOX_SUFFIX) {
                    let session = session.to_owned();
                    found.push((Kind::Inbox, name, session));
                }
            }
        }
    }
    found.sort();
    Ok(Some(found).filter(|found| has_directory || !found.is_empty()))
}

fn room_files(room: String) -> [Found; 3] {
    [(Kind::Room, META), (Kind::Members, "members.json"), (Kind::RoomHistory, "history.jsonl")]
        .map(|(kind, file)| (kind, format!("{ROOMS}/{room}/{file}"), room.clone()))
}

/// The names in a directory; none if it does not exist or is not a directory.
fn names(directory: &Path) -> Result<Vec<String>, Failure> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(StoreError::io("list", &directory.display().to_string(), e).into()),
    };
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

pub(super) fn changed(
    root: &Path,
    origin: &str,
    state: &State,
    found: Vec<Found>,
) -> Vec<LegacyFile> {
    let mut files = Vec::new();
    for (kind, name, owner) in found {
        let metadata = fs::symlink_metadata(root.join(&name)).ok().filter(Metadata::is_file);
        let stamp = match metadata {
            Some(metadata) => {
                let (modified_s, modified_ns) = modified_parts(&metadata);
                format!("{} {modified_s} {modified_ns}", metadata.len())
            }
            // A room without a description is public. Rows of another file say that it exists.
            None if kind == Kind::Room && root.join(&name).parent().is_some_and(Path::is_dir) => {
                NO_FILE.to_owned()
            }
            None => continue,
        };
        let recorded = state.imported.get(format!("file {origin}{name}")).unwrap_or_default();
        let is_known = match kind.is_log() {
            true => recorded.strip_prefix(&stamp).is_some_and(|rest| rest.starts_with(' ')),
            false => recorded == stamp,
        };
        if !is_known {
            files.push(LegacyFile { kind, name, owner, stamp, recorded });
        }
    }
    files
}
