//! Restore: creates a broker root from the copy of a log at a relay.

use std::fs;
use std::path::Path;
use std::time::Duration;

use c2c_log_format::scan::Scanned;
use c2c_log_format::segment::{SegmentHeader, file_name};

use super::mirror::{mirrored_segments, open_log};
use super::relay_client::RelayClient;
use crate::broker::LOG_DIRECTORY;
use crate::error::Failure;
use crate::log::read_segment;
use crate::platform::fs::{sync_directory, write_private};
use crate::relay::protocol::response::MirroredSegment;
use crate::store::StoreError;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// Result of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Id of the log that was copied.
    pub log: String,
    /// Number of segments.
    pub segments: usize,
    /// Number of bytes.
    pub bytes: u64,
    /// Number of segments that are incomplete or damaged.
    pub broken: usize,
}

/// Restores a broker root from the copy that a relay has of the named log, or else of the log of
/// that node that was written last. The restored log gets a new log id.
///
/// Fails with [`Code::BadRoot`] if the root already contains a log, [`Code::NotFound`] if the relay
/// has no copy, and [`Code::ArchiveNeeded`] if the copy does not begin with the first segment.
pub fn restore(
    client: &RelayClient,
    node_id: &str,
    alias: &str,
    log: Option<&str>,
    root: &Path,
) -> Result<Restored, Failure> {
    let target = root.join(LOG_DIRECTORY);
    if target.exists() {
        let message = format!("{} already contains a log", root.display());
        let rejection = Rejection::new(Code::BadRoot, "broker_root", message);
        return Err(rejection.hint("choose another root: --broker-root DIR").into());
    }
    let (log, segments) = segments_to_restore(client, node_id, alias, log)?;
    let partial = root.join("log.part");
    let io = |e| StoreError::io("write", &partial.display().to_string(), e);
    let _ = fs::remove_dir_all(&partial);
    let (mut bytes, mut broken) = (0, 0);
    for (at, listed) in segments.iter().enumerate() {
        let segment = download(client, node_id, alias, listed)?;
        bytes += segment.len() as u64;
        broken += usize::from(!is_complete(&segment, at + 1 == segments.len()));
        write_private(&partial.join(file_name(listed.segment)), &segment).map_err(io)?;
    }
    // ORDER: renew the id before the rename, so that two logs with one id are never visible.
    open_log(&partial).renew_id().map_err(StoreError::from)?;
    fs::rename(&partial, &target).map_err(io)?;
    sync_directory(root).map_err(io)?;
    Ok(Restored { log, segments: segments.len(), bytes, broken })
}

/// Id and segments of the log to restore.
fn segments_to_restore(
    client: &RelayClient,
    node_id: &str,
    alias: &str,
    log: Option<&str>,
) -> Result<(String, Vec<MirroredSegment>), Failure> {
    let all = mirrored_segments(client, node_id, alias)?;
    let newest = all.iter().max_by_key(|segment| segment.changed_at.us);
    let newest = newest.map(|segment| segment.log.clone());
    let log = log.map(str::to_owned).or(newest).unwrap_or_default();
    let segments: Vec<_> = all.into_iter().filter(|segment| segment.log == log).collect();
    let Some(first) = segments.first() else {
        let message = format!("the relay has no copy of a log of node {node_id}");
        let rejection = Rejection::new(Code::NotFound, "node_id", message);
        return Err(rejection.hint("to create a copy, run: c2c relay connect --mirror").into());
    };
    if first.segment > 1 {
        let message = format!("the relay's copy of log {log} lacks its first segments");
        return Err(Rejection::new(Code::ArchiveNeeded, "log", message).into());
    }
    Ok((log, segments))
}

/// Downloads a segment.
fn download(
    client: &RelayClient,
    node_id: &str,
    alias: &str,
    listed: &MirroredSegment,
) -> Result<Vec<u8>, Failure> {
    let mut segment = Vec::new();
    while (segment.len() as u64) < listed.bytes {
        let target = format!(
            "/mirror_read?log={}&node_id={node_id}&offset={}&segment={}",
            listed.log,
            segment.len(),
            listed.segment
        );
        let chunk = client.fetch_bytes(&target, &(), Some(alias), Duration::ZERO)?;
        if chunk.is_empty() {
            let message = format!(
                "segment {} at the relay ends after {} of {} bytes",
                listed.segment,
                segment.len(),
                listed.bytes
            );
            return Err(Rejection::new(Code::BatchInvalid, "", message).into());
        }
        segment.extend(chunk);
    }
    Ok(segment)
}

/// Whether a segment is undamaged and, unless it is the last one, sealed.
fn is_complete(segment: &[u8], is_last: bool) -> bool {
    let Ok(header) = SegmentHeader::decode(segment) else { return false };
    let mut scanner = read_segment(segment, &header);
    let is_damaged = scanner.by_ref().any(|piece| matches!(piece, Scanned::Damage(_)));
    let is_read = scanner.position().offset == segment.len();
    !is_damaged && is_read && (is_last || scanner.seal().is_some())
}
