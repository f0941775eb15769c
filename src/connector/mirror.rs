//! How does a copy of the whole log come to a relay, and back?
//!
//! Only with `--mirror`: local messages are in it. Segments grow at their end only, so what the relay
//! has of one is where the next piece goes on.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use c2c_log_format::Sequence;
use c2c_log_format::id::hex;
use c2c_log_format::scan::Piece;
use c2c_log_format::segment::{SegmentHeader, file_name};

use super::{Client, Connector};
use crate::broker::LOG_DIRECTORY;
use crate::code::Code;
use crate::decide::Refusal;
use crate::failure::Failure;
use crate::files::write_private;
use crate::limits::{MIRROR_CHUNK_BYTES, MIRROR_ROUND_BYTES};
use crate::log::{Directory, Log, LogError, Options, read_segment};
use crate::wire::body;

/// What the relay has of this log.
#[derive(Debug, Default)]
pub struct Mirror {
    /// Whether it is to have it.
    pub wanted: bool,
    /// Log, and bytes by segment; none before it was asked.
    known: Option<(String, HashMap<Sequence, u64>)>,
}

/// A copy that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Log that it is a copy of.
    pub log: String,
    pub segments: usize,
    pub bytes: u64,
    /// Segments of which something is missing or damaged.
    pub broken: usize,
}

/// Whether a segment of a copy is all there: each frame in its place, and only the last one open.
fn is_whole(segment: &[u8], is_last: bool) -> bool {
    let Ok(header) = SegmentHeader::decode(segment) else { return false };
    let mut scanner = read_segment(segment, &header);
    let damaged = scanner.by_ref().any(|piece| matches!(piece, Piece::Damage(_)));
    let is_read = scanner.place().offset == segment.len();
    !damaged && is_read && (is_last || scanner.seal().is_some())
}

fn own_log_of(directory: &Path) -> Log {
    Log::open(Arc::new(Directory::new(directory)), Options::default())
}

impl Connector {
    /// Ships what the relay does not have yet, sealed segments and the tail; the bytes that went.
    pub fn mirror(&mut self) -> Result<u64, Failure> {
        if !self.mirror.wanted {
            return Ok(0);
        }
        let Some(log_id) = self.own_log()?.map(|log| hex(&log)) else { return Ok(0) };
        let Some(speaker) = self.speaker() else { return Ok(0) };
        self.hub()?;
        let known = self.mirror.known.take().filter(|(log, _)| *log == log_id);
        let mut known = match known {
            Some((_, known)) => known,
            None => self.mirrored(&log_id, &speaker)?,
        };
        let upto = self.broker.settle()?;
        let mut log = own_log_of(&self.broker.root().join(LOG_DIRECTORY));
        let bases = log.bases()?;
        if bases.first().is_some_and(|base| *base > 1) {
            let message = "the first segments of this log are archived: a mirror would lack them";
            return Err(Refusal::new(Code::ArchiveNeeded, "mirror", message).into());
        }
        let mut sent = 0;
        for (at, base) in bases.iter().enumerate() {
            let have = known.get(base).copied().unwrap_or_default();
            let sealed = at + 1 < bases.len();
            if sealed && have > 0 && log.segment_len(*base)? == have {
                continue;
            }
            let bytes = durable_bytes(&mut log, *base, sealed, upto)?;
            if have > bytes.len() as u64 {
                let message = format!("the relay's mirror of segment {base} is longer than it is");
                return Err(Refusal::new(Code::OriginDiverged, "mirror", message).into());
            }
            for piece in bytes[have as usize..].chunks(MIRROR_CHUNK_BYTES) {
                let offset = known.get(base).copied().unwrap_or_default();
                let target = format!(
                    "/mirror?log={log_id}&node_id={}&offset={offset}&segment={base}",
                    self.node_id
                );
                let answer = self.client.send_bytes::<body::MirrorEnd>(
                    &target,
                    piece.to_vec(),
                    Some(&speaker),
                )?;
                if answer.bytes != offset + piece.len() as u64 {
                    // Somebody else ships it, too, or it was put back: asked again next time.
                    return Ok(sent);
                }
                known.insert(*base, answer.bytes);
                sent += piece.len() as u64;
            }
            if sent >= MIRROR_ROUND_BYTES {
                // Mail goes first; the rest comes with the next rounds.
                break;
            }
        }
        self.mirror.known = Some((log_id, known));
        Ok(sent)
    }

    /// What the relay has of a log.
    fn mirrored(&self, log: &str, speaker: &str) -> Result<HashMap<Sequence, u64>, Failure> {
        let found = segments(&self.client, &self.node_id, speaker)?.into_iter();
        Ok(found.filter(|row| row.log == log).map(|row| (row.segment, row.bytes)).collect())
    }
}

/// What of a segment is on disk for sure: of the last one, the frames up to a sequence that is.
fn durable_bytes(
    log: &mut Log,
    base: Sequence,
    sealed: bool,
    upto: Sequence,
) -> Result<Vec<u8>, Failure> {
    let mut end = 0;
    log.scan_segment(base, &mut |frame| {
        if frame.header.last_sequence() <= upto {
            end = frame.offset + frame.header.frame_len();
        }
    })?;
    let (mut bytes, _) = log.segment_bytes(base)?;
    if !sealed {
        bytes.truncate(end);
    }
    Ok(bytes)
}

fn segments(client: &Client, node_id: &str, alias: &str) -> Result<Vec<body::Segment>, Failure> {
    let target = format!("/mirror?node_id={node_id}");
    let found: body::Mirrored = client.get(&target, Some(alias))?;
    Ok(found.segments)
}

/// Makes a root from the copy that a relay has: of the log that is named, else of the one that grew
/// last. It goes on under a log id of its own.
pub fn restore(
    client: &Client,
    node_id: &str,
    alias: &str,
    log: Option<&str>,
    root: &Path,
) -> Result<Restored, Failure> {
    let target = root.join(LOG_DIRECTORY);
    if target.exists() {
        let message = format!("{} has a log already", root.display());
        let refusal = Refusal::new(Code::BadRoot, "broker_root", message);
        return Err(refusal.hint("name a root that does not exist yet").into());
    }
    let all = segments(client, node_id, alias)?;
    let newest = all.iter().max_by_key(|row| row.changed_at.us).map(|row| row.log.clone());
    let wanted = log.map(str::to_owned).or(newest).unwrap_or_default();
    let rows: Vec<_> = all.into_iter().filter(|row| row.log == wanted).collect();
    if rows.first().is_some_and(|row| row.segment > 1) {
        let message = format!("the mirror of log {wanted} lacks its first segments");
        return Err(Refusal::new(Code::ArchiveNeeded, "log", message).into());
    }
    if rows.is_empty() {
        let message = format!("the relay has no mirror of {node_id}");
        let refusal = Refusal::new(Code::NotFound, "node_id", message);
        return Err(refusal.hint("c2c relay connect --mirror makes one").into());
    }
    let part = root.join("log.part");
    let io = |e| LogError::io("write", &part.display().to_string(), e);
    let _ = fs::remove_dir_all(&part);
    let (mut bytes, mut broken) = (0, 0);
    for (at, row) in rows.iter().enumerate() {
        let mut segment = Vec::new();
        while (segment.len() as u64) < row.bytes {
            let target = format!(
                "/mirror_read?log={wanted}&node_id={node_id}&offset={}&segment={}",
                segment.len(),
                row.segment
            );
            let piece = client.fetch_bytes(&target, &(), Some(alias), Duration::ZERO)?;
            if piece.is_empty() {
                let message = format!("segment {} ends early", row.segment);
                return Err(Refusal::new(Code::BatchInvalid, "", message).into());
            }
            segment.extend(piece);
        }
        bytes += segment.len() as u64;
        broken += usize::from(!is_whole(&segment, at + 1 == rows.len()));
        write_private(&part.join(file_name(row.segment)), &segment).map_err(io)?;
    }
    // ORDER: under its own id first, so that nobody ever finds two logs of the same id.
    own_log_of(&part).renew_id()?;
    fs::rename(&part, &target).map_err(io)?;
    fs::File::open(root).and_then(|root| root.sync_all()).map_err(io)?;
    Ok(Restored { log: wanted, segments: rows.len(), bytes, broken })
}
