//! How does a node keep a copy of its log at a relay, and get it back?
//!
//! Copies are bytes: nothing of them enters the relay's own log. The key that began the copies of a
//! node is the one that sees them, whoever has the node's name later.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use c2c_log_format::Sequence;
use c2c_log_format::id::{fold, hex};
use c2c_log_format::segment::{file_name, parse_file_name};

use super::{Answer, Call, Done, not_found};
use crate::clock;
use crate::code::Code;
use crate::decide::{Refusal, check_host};
use crate::files::write_private;
use crate::limits::MIRROR_CHUNK_BYTES;
use crate::log::LogError;
use crate::relay::access::Caller;
use crate::relay::service::Relay;
use crate::replication::log_bytes;
use crate::wire::body;
use crate::wire::route::parameters;

/// File with the key that a node's copies belong to.
const OWNER: &str = "owner";
/// Media type of segments.
const BYTES: &str = "application/octet-stream";

fn bad(field: &'static str, message: &str) -> Answer {
    Refusal::new(Code::BadRequest, field, message.to_owned()).into()
}

fn io_failed(path: &Path, cause: io::Error) -> Answer {
    let shown = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    super::failed(LogError::io("access", &shown, cause).into())
}

/// The directory of a node's copies, for whoever may see it.
fn directory(relay: &Relay, call: &Call<'_>, node_id: &str) -> Result<PathBuf, Answer> {
    // It becomes a name in a directory.
    if check_host(node_id).is_err() || node_id.starts_with('.') {
        return Err(bad("node_id", "this is not a node id"));
    }
    if let Caller::Peer { key, .. } = &call.caller {
        let bound = relay.broker.state().bindings_of(node_id);
        if !bound.iter().any(|row| row.public_key == *key) {
            let message = format!("nobody on {node_id} has registered with this key");
            return Err(Refusal::new(Code::ForeignSender, "node_id", message).into());
        }
    }
    if relay.about.mirror_bytes_max == 0 || relay.broker.root().as_os_str().is_empty() {
        return Err(not_found("this relay keeps no mirrors".into()));
    }
    let directory = all(relay).join(fold(node_id));
    let owner = fs::read_to_string(directory.join(OWNER)).unwrap_or_default();
    match &call.caller {
        Caller::Peer { key, .. } if directory.exists() && owner.trim() != key.as_str() => {
            let message = format!("the mirror of {node_id} belongs to another key");
            Err(Refusal::new(Code::ForeignSender, "node_id", message).into())
        }
        _ => Ok(directory),
    }
}

/// Where all copies are.
fn all(relay: &Relay) -> PathBuf {
    relay.broker.root().join("mirrors")
}

/// The copies of an old key belong to the new one that it has named.
pub fn hand_over(relay: &Relay, old: &str, new: &str) {
    for node in names(&all(relay)).unwrap_or_default() {
        let owner = all(relay).join(node).join(OWNER);
        if fs::read_to_string(&owner).is_ok_and(|key| key.trim() == old) {
            let _ = write_private(&owner, new.as_bytes());
        }
    }
}

struct Wanted {
    node_id: String,
    log: String,
    segment: Sequence,
    offset: u64,
}

/// What a query names.
fn wanted(call: &Call<'_>) -> Result<Wanted, Answer> {
    let all: Vec<_> = parameters(call.request.query()).collect();
    let named = |name: &'static str| {
        let found = all.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        found.ok_or_else(|| bad(name, &format!("?{name}= is missing")))
    };
    let number = |name: &'static str| {
        named(name)?.parse::<u64>().map_err(|_| bad(name, &format!("{name} is not a number")))
    };
    let log = log_bytes(&named("log")?).map_err(|_| bad("log", "this is not a log id"))?;
    let (segment, offset) = (number("segment")?, number("offset")?);
    Ok(Wanted { node_id: named("node_id")?, log: hex(&log), segment, offset })
}

/// Segments of a node, or the end of one that grows.
pub fn mirror(relay: &Relay, call: &Call<'_>) -> Done {
    if call.request.method == "POST" {
        return append(relay, call);
    }
    let node = parameters(call.request.query()).find(|(key, _)| key == "node_id");
    let (_, node_id) = node.ok_or_else(|| bad("node_id", "?node_id= is missing"))?;
    let directory = directory(relay, call, &node_id)?;
    let segments = list(&directory).map_err(|e| io_failed(&directory, e))?;
    Ok(Answer::ok(&body::Mirrored { segments }))
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => {
            Ok(entries?.flatten().filter_map(|e| e.file_name().into_string().ok()).collect())
        }
    }
}

fn list(directory: &Path) -> io::Result<Vec<body::Segment>> {
    let mut segments = Vec::new();
    for log in names(directory)?.into_iter().filter(|log| log_bytes(log).is_ok()) {
        for name in names(&directory.join(&log))? {
            let Some(segment) = parse_file_name(&name) else { continue };
            let found = fs::metadata(directory.join(&log).join(name))?;
            let changed_us = found.modified().ok().and_then(clock::us_of).unwrap_or_default();
            let (log, changed_at) = (log.clone(), body::Seconds { us: changed_us });
            segments.push(body::Segment { log, segment, bytes: found.len(), changed_at });
        }
    }
    segments.sort_by(|a, b| (&a.log, a.segment).cmp(&(&b.log, b.segment)));
    Ok(segments)
}

/// Bytes of all copies of all nodes.
fn total(all: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for node in names(all)? {
        bytes += list(&all.join(node))?.iter().map(|row| row.bytes).sum::<u64>();
    }
    Ok(bytes)
}

/// Adds to the end of a segment, and answers when that is on disk. A segment that ends elsewhere is
/// left alone: the answer says where.
fn append(relay: &Relay, call: &Call<'_>) -> Done {
    let wanted = wanted(call)?;
    let directory = directory(relay, call, &wanted.node_id)?;
    let bytes = &call.request.body;
    if bytes.len() > MIRROR_CHUNK_BYTES {
        let message = format!("at most {MIRROR_CHUNK_BYTES} bytes at once");
        return Err(Refusal::new(Code::BodyTooLarge, "", message).into());
    }
    let folder = directory.join(&wanted.log);
    let path = folder.join(file_name(wanted.segment));
    if bytes.is_empty() || (wanted.offset > 0 && !path.exists()) {
        return Err(bad("offset", "a piece has bytes, and the first one of a segment offset 0"));
    }
    let most = relay.about.mirror_bytes_max;
    let kept = total(&all(relay)).map_err(|e| io_failed(&directory, e))?;
    if kept + bytes.len() as u64 > most {
        let message = format!("the mirrors of this relay hold {most} bytes");
        let refusal = Refusal::new(Code::DiskFull, "", message);
        return Err(refusal.hint("its operator may allow more: --mirror-limit").into());
    }
    if let (false, Caller::Peer { key, .. }) = (directory.exists(), &call.caller) {
        write_private(&directory.join(OWNER), key.as_bytes())
            .map_err(|e| io_failed(&directory, e))?;
    }
    let written = DirBuilder::new().recursive(true).mode(0o700).create(&folder).and_then(|()| {
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(&path)?;
        let end = file.metadata()?.len();
        if end == wanted.offset {
            file.write_all(bytes)?;
            file.sync_data()?;
            File::open(&folder)?.sync_all()?;
        }
        file.metadata().map(|found| found.len())
    });
    let end = written.map_err(|e| io_failed(&path, e))?;
    Ok(Answer::ok(&body::MirrorEnd { bytes: end }))
}

/// A piece of a segment.
pub fn read(relay: &Relay, call: &Call<'_>) -> Done {
    let wanted = wanted(call)?;
    let directory = directory(relay, call, &wanted.node_id)?;
    let path = directory.join(&wanted.log).join(file_name(wanted.segment));
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|mut file| {
        file.seek(SeekFrom::Start(wanted.offset))?;
        file.take(MIRROR_CHUNK_BYTES as u64).read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => Ok(Answer::of(200, BYTES, bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(not_found("there is no such segment".into()))
        }
        Err(e) => Err(io_failed(&path, e)),
    }
}
