//! Mirrors: copies of node logs that a node stores at the relay, for a restore after a loss.
//!
//! A mirror is a set of segment files; the relay's own log holds nothing of it. A mirror belongs to
//! the key that started it, even if another key registers under the node's name later.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use c2c_log_format::Sequence;
use c2c_log_format::id::{fold, hex};
use c2c_log_format::segment::{file_name, parse_file_name};

use super::call::{AnswerResult, Call, failed, not_found};
use crate::error::Failure;
use crate::platform::clock;
use crate::platform::fs::{
    create_private_directory, private_options, sync_directory, write_private,
};
use crate::relay::convert::parse_log_id;
use crate::relay::protocol::json;
use crate::relay::protocol::response;
use crate::relay::protocol::route::parameters;
use crate::relay::server::access::Caller;
use crate::relay::server::answer::RelayAnswer;
use crate::relay::server::core::RelayCore;
use c2c_core::code::Code;
use c2c_core::decide::{Rejection, check_host};
use c2c_core::limits::MIRROR_CHUNK_BYTES;

/// File with the key that owns the mirror of a node.
const OWNER: &str = "owner";
/// Media type of segments.
const BYTES: &str = "application/octet-stream";

fn bad_request(field: &'static str, message: &str) -> RelayAnswer {
    Rejection::new(Code::BadRequest, field, message.to_owned()).into()
}

fn io_failed(path: &Path, source: io::Error) -> RelayAnswer {
    failed(Failure::io("access", path, source))
}

/// The directory of a node's mirror. Rejects a caller that does not own it.
fn owned_directory(
    relay: &RelayCore,
    call: &Call<'_>,
    node_id: &str,
) -> Result<PathBuf, RelayAnswer> {
    // The id becomes a directory name.
    if check_host(node_id).is_err() || node_id.starts_with('.') {
        return Err(bad_request("node_id", "node_id is not a valid node id"));
    }
    if let Caller::Peer { key, .. } = call.caller {
        let bound = relay.broker.state().bindings_for_node(node_id);
        if !bound.iter().any(|row| row.public_key == *key) {
            let message = format!("no agent of {node_id} is registered with this key");
            return Err(Rejection::new(Code::ForeignSender, "node_id", message).into());
        }
    }
    if relay.profile.mirror_bytes_max == 0 || relay.broker.root().as_os_str().is_empty() {
        return Err(not_found("this relay does not store mirrors".into()));
    }
    let directory = mirrors(relay).join(fold(node_id));
    let owner = fs::read_to_string(directory.join(OWNER)).unwrap_or_default();
    match call.caller {
        Caller::Peer { key, .. } if directory.exists() && owner.trim() != key.as_str() => {
            let message = format!("the mirror of {node_id} belongs to another key");
            Err(Rejection::new(Code::ForeignSender, "node_id", message).into())
        }
        _ => Ok(directory),
    }
}

/// The directory of all mirrors.
fn mirrors(relay: &RelayCore) -> PathBuf {
    relay.broker.root().join("mirrors")
}

/// Gives the mirrors of an old key to the key that replaced it.
pub fn change_owner(relay: &RelayCore, old: &str, new: &str) {
    for node in file_names(&mirrors(relay)).unwrap_or_default() {
        let owner = mirrors(relay).join(node).join(OWNER);
        if fs::read_to_string(&owner).is_ok_and(|key| key.trim() == old) {
            let _ = write_private(&owner, new.as_bytes());
        }
    }
}

/// A position in a segment of a node's log.
struct SegmentPosition {
    node_id: String,
    log: String,
    segment: Sequence,
    offset: u64,
}

/// Parses the position in a query.
fn parse_position(call: &Call<'_>) -> Result<SegmentPosition, RelayAnswer> {
    let all: Vec<_> = parameters(call.request.query()).collect();
    let text = |name: &'static str| {
        let value = all.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        value.ok_or_else(|| bad_request(name, &format!("?{name}= is missing")))
    };
    let number = |name: &'static str| {
        let value = text(name)?.parse::<u64>();
        value.map_err(|_| bad_request(name, &format!("{name} is not a number")))
    };
    let log =
        parse_log_id(&text("log")?).map_err(|_| bad_request("log", "log is not a valid log id"))?;
    Ok(SegmentPosition {
        segment: number("segment")?,
        offset: number("offset")?,
        node_id: text("node_id")?,
        log: hex(&log),
    })
}

/// Lists the mirrored segments of a node (GET), or appends to one (POST).
pub fn mirror(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    if call.request.method == "POST" {
        return append(relay, call);
    }
    let node = parameters(call.request.query()).find(|(key, _)| key == "node_id");
    let (_, node_id) = node.ok_or_else(|| bad_request("node_id", "?node_id= is missing"))?;
    let directory = owned_directory(relay, call, &node_id)?;
    let segments = list_segments(&directory).map_err(|e| io_failed(&directory, e))?;
    Ok(RelayAnswer::ok(&response::MirrorListResponse { segments }))
}

/// The names in a directory; none if it does not exist.
fn file_names(directory: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => {
            Ok(entries?.flatten().filter_map(|e| e.file_name().into_string().ok()).collect())
        }
    }
}

/// The segments of one mirror, by log and number.
fn list_segments(directory: &Path) -> io::Result<Vec<response::MirroredSegment>> {
    let mut segments = Vec::new();
    for log in file_names(directory)?.into_iter().filter(|log| parse_log_id(log).is_ok()) {
        for name in file_names(&directory.join(&log))? {
            let Some(segment) = parse_file_name(&name) else { continue };
            let metadata = fs::metadata(directory.join(&log).join(name))?;
            let changed_us = metadata.modified().ok().and_then(clock::us_of).unwrap_or_default();
            segments.push(response::MirroredSegment {
                log: log.clone(),
                segment,
                bytes: metadata.len(),
                changed_at: json::Seconds { us: changed_us },
            });
        }
    }
    segments.sort_by(|a, b| (&a.log, a.segment).cmp(&(&b.log, b.segment)));
    Ok(segments)
}

/// Bytes of the mirrors of all nodes.
fn total_bytes(mirrors: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for node in file_names(mirrors)? {
        bytes += list_segments(&mirrors.join(node))?.iter().map(|row| row.bytes).sum::<u64>();
    }
    Ok(bytes)
}

/// Appends to a segment, and answers with its length when the bytes are on disk. If the segment does
/// not end at the given offset, nothing is written: the answer shows where it ends.
fn append(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let position = parse_position(call)?;
    let directory = owned_directory(relay, call, &position.node_id)?;
    let bytes = &call.request.body;
    if bytes.len() > MIRROR_CHUNK_BYTES {
        let message = format!("at most {MIRROR_CHUNK_BYTES} bytes in one request");
        return Err(Rejection::new(Code::BodyTooLarge, "", message).into());
    }
    let folder = directory.join(&position.log);
    let path = folder.join(file_name(position.segment));
    if bytes.is_empty() || (position.offset > 0 && !path.exists()) {
        let message = "a chunk must not be empty, and the first of a segment must have offset 0";
        return Err(bad_request("offset", message));
    }
    let limit = relay.profile.mirror_bytes_max;
    let mirrors = mirrors(relay);
    let has_room =
        relay.mirror_usage.has_room(bytes.len() as u64, limit, &|| total_bytes(&mirrors));
    if !has_room.map_err(|e| io_failed(&directory, e))? {
        let message =
            format!("the mirrors of this relay have reached their limit of {limit} bytes");
        let rejection = Rejection::new(Code::DiskFull, "", message);
        return Err(rejection.hint("the relay's operator can raise --mirror-limit").into());
    }
    if let (false, Caller::Peer { key, .. }) = (directory.exists(), call.caller) {
        write_private(&directory.join(OWNER), key.as_bytes())
            .map_err(|e| io_failed(&directory, e))?;
    }
    match append_at(&folder, &path, position.offset, bytes) {
        Ok(end) => {
            relay.mirror_usage.add(end.written);
            Ok(RelayAnswer::ok(&response::MirrorWriteResponse { bytes: end.len }))
        }
        Err(e) => {
            // A part of the bytes may have been written.
            relay.mirror_usage.forget();
            Err(io_failed(&path, e))
        }
    }
}

/// The end of a mirrored segment after an append.
struct SegmentEnd {
    /// Length of the file, bytes.
    len: u64,
    /// Bytes that this append wrote.
    written: u64,
}

/// Appends to a file that ends at `offset`, and syncs it.
fn append_at(folder: &Path, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<SegmentEnd> {
    create_private_directory(folder)?;
    let mut file = private_options().append(true).create(true).open(path)?;
    let len = file.metadata()?.len();
    if len != offset {
        return Ok(SegmentEnd { len, written: 0 });
    }
    file.write_all(bytes)?;
    file.sync_data()?;
    sync_directory(folder)?;
    let written = bytes.len() as u64;
    Ok(SegmentEnd { len: len + written, written })
}

/// Reads a chunk of a segment.
pub fn read(relay: &RelayCore, call: &Call<'_>) -> AnswerResult {
    let position = parse_position(call)?;
    let directory = owned_directory(relay, call, &position.node_id)?;
    let path = directory.join(&position.log).join(file_name(position.segment));
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|mut file| {
        file.seek(SeekFrom::Start(position.offset))?;
        file.take(MIRROR_CHUNK_BYTES as u64).read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => Ok(RelayAnswer::of(200, BYTES, bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(not_found("this segment is not mirrored".into()))
        }
        Err(e) => Err(io_failed(&path, e)),
    }
}
