//! Mirror: keeps a copy of the whole log at the relay.
//!
//! Runs only with `--mirror`, because the copy contains local messages. Segments grow only at the
//! end, so the length of a segment at the relay is the offset of the next write.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use c2c_log_format::Sequence;
use c2c_log_format::id::hex;

use super::relay_client::RelayClient;
use super::state::Connector;
use crate::broker::LOG_DIRECTORY;
use crate::error::Failure;
use crate::log::{Directory, Log, Options};
use crate::relay::protocol::response::{MirrorListResponse, MirrorWriteResponse, MirroredSegment};
use crate::store::StoreError;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;
use c2c_core::limits::{MIRROR_CHUNK_BYTES, MIRROR_ROUND_BYTES};

/// Opens the log in a directory.
pub(super) fn open_log(directory: &Path) -> Log {
    Log::open(Arc::new(Directory::new(directory)), Options::default())
}

/// The segments that the relay has of all logs of a node.
pub(super) fn mirrored_segments(
    client: &RelayClient,
    node_id: &str,
    alias: &str,
) -> Result<Vec<MirroredSegment>, Failure> {
    let target = format!("/mirror?node_id={node_id}");
    let response: MirrorListResponse = client.get(&target, Some(alias))?;
    Ok(response.segments)
}

impl Connector {
    /// Copies bytes that the relay lacks, of sealed segments and of the active one, up to a limit
    /// for one round. Returns the number of bytes sent.
    pub fn mirror(&mut self) -> Result<u64, Failure> {
        if !self.mirror_progress.enabled {
            return Ok(0);
        }
        let Some(log_id) = self.own_log()?.map(|log| hex(&log)) else { return Ok(0) };
        let Some(alias) = self.signing_alias() else { return Ok(0) };
        self.relay()?;
        let known = self.mirror_progress.known.take().filter(|(log, _)| *log == log_id);
        let mut known = match known {
            Some((_, known)) => known,
            None => self.mirrored_bytes(&log_id, &alias)?,
        };
        let durable = self.broker.settle()?;
        let mut log = open_log(&self.broker.root().join(LOG_DIRECTORY));
        let bases = log.bases().map_err(StoreError::from)?;
        if bases.first().is_some_and(|base| *base > 1) {
            let message = "cannot mirror the log: its first segments are archived";
            return Err(Rejection::new(Code::ArchiveNeeded, "mirror", message).into());
        }
        let mut sent = 0;
        for (at, base) in bases.iter().enumerate() {
            let copied = known.get(base).copied().unwrap_or_default();
            let is_sealed = at + 1 < bases.len();
            if is_sealed
                && copied > 0
                && log.segment_len(*base).map_err(StoreError::from)? == copied
            {
                continue;
            }
            let bytes = durable_bytes(&mut log, *base, is_sealed, durable)?;
            if copied > bytes.len() as u64 {
                let message =
                    format!("the relay's copy of segment {base} is longer than the local segment");
                return Err(Rejection::new(Code::OriginDiverged, "mirror", message).into());
            }
            for chunk in bytes[copied as usize..].chunks(MIRROR_CHUNK_BYTES) {
                let offset = known.get(base).copied().unwrap_or_default();
                let end = self.write_chunk(&log_id, *base, offset, chunk, &alias)?;
                if end != offset + chunk.len() as u64 {
                    // Another process writes the same copy, or the copy was truncated. Ask for the
                    // lengths again in the next round.
                    return Ok(sent);
                }
                known.insert(*base, end);
                sent += chunk.len() as u64;
            }
            if sent >= MIRROR_ROUND_BYTES {
                // Messages have priority; the next rounds copy the rest.
                break;
            }
        }
        self.mirror_progress.known = Some((log_id, known));
        Ok(sent)
    }

    /// Appends to a segment at the relay. Returns the length of the segment there.
    fn write_chunk(
        &self,
        log_id: &str,
        segment: Sequence,
        offset: u64,
        chunk: &[u8],
        alias: &str,
    ) -> Result<u64, Failure> {
        let node_id = &self.node_id;
        let target =
            format!("/mirror?log={log_id}&node_id={node_id}&offset={offset}&segment={segment}");
        let response: MirrorWriteResponse =
            self.client.send_bytes(&target, chunk.to_vec(), Some(alias))?;
        Ok(response.bytes)
    }

    /// Bytes by segment that the relay has of a log.
    fn mirrored_bytes(&self, log: &str, alias: &str) -> Result<HashMap<Sequence, u64>, Failure> {
        let segments = mirrored_segments(&self.client, &self.node_id, alias)?.into_iter();
        let of_log = segments.filter(|segment| segment.log == log);
        Ok(of_log.map(|segment| (segment.segment, segment.bytes)).collect())
    }
}

/// The bytes of a segment that are certainly on disk: all of a sealed segment, and the frames up to
/// the sequence `durable` of the active one.
fn durable_bytes(
    log: &mut Log,
    base: Sequence,
    is_sealed: bool,
    durable: Sequence,
) -> Result<Vec<u8>, Failure> {
    let mut end = 0;
    log.scan_segment(base, &mut |frame| {
        if frame.header.last_sequence() <= durable {
            end = frame.offset + frame.header.frame_len();
        }
    })
    .map_err(StoreError::from)?;
    let (mut bytes, _) = log.segment_bytes(base).map_err(StoreError::from)?;
    if !is_sealed {
        bytes.truncate(end);
    }
    Ok(bytes)
}
