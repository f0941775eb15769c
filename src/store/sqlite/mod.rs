//! Events in one SQLite file.
//!
//! Each row holds a frame with exactly the bytes that it would have in a segment, and the file also
//! holds the header of that segment. Sequences, chain and checksums mean the same as in a log
//! directory.
//!
//! Other processes see a batch as soon as it is appended. It is on disk once a later transaction
//! commits with `synchronous=FULL`; one such commit covers all earlier batches.

mod append;
mod checkpoint;
mod file;
mod read;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use c2c_log_format::id::hex;
use c2c_log_format::limits::SEGMENT_HEADER_BYTES;
use c2c_log_format::scan::FramePosition;
use c2c_log_format::segment::SegmentHeader;
use c2c_log_format::{EventHead, Payload, Sequence};
use rusqlite::Connection;

use super::{Changes, EventRef, EventStore, Inspect, StoreError};
use crate::log::{Appended, Durability, LogDamage};
use crate::platform::clock;
use file::{connect, failure, has_begun, head_and_crc, name, sequence_from, stored_header};

pub use file::is_sqlite;

/// Base of the one segment that the rows form.
const SEGMENT: Sequence = 1;
/// How often a waiting reader checks for new rows.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A store in a SQLite file.
pub struct SqliteStore {
    path: PathBuf,
    writable: bool,
    connection: Option<Connection>,
    header: Option<SegmentHeader>,
    position: FramePosition,
    durable: Sequence,
    /// Events and bytes read since the checkpoint.
    tail: (u64, u64),
    damage: Vec<LogDamage>,
    /// Set when a sync fails: which events are on disk is unknown until the file is reopened.
    poisoned: bool,
}

impl SqliteStore {
    /// Opens the store in a file, which the first append creates.
    pub fn open(path: &Path) -> Self {
        Self::with(path, true)
    }

    /// Opens the store read-only: creates and changes nothing.
    pub fn open_read_only(path: &Path) -> Self {
        Self::with(path, false)
    }

    fn with(path: &Path, writable: bool) -> Self {
        Self {
            path: path.to_owned(),
            writable,
            connection: None,
            header: None,
            position: FramePosition {
                offset: SEGMENT_HEADER_BYTES,
                sequence: 1,
                previous_frame: 0,
            },
            durable: 0,
            tail: (0, 0),
            damage: Vec::new(),
            poisoned: false,
        }
    }

    /// Problems that SQLite's own integrity check finds in the file.
    pub fn integrity(&mut self) -> Result<Vec<String>, StoreError> {
        let failed = self.failed("check");
        let Some(connection) = self.file()? else { return Ok(Vec::new()) };
        let mut statement = connection.prepare("PRAGMA integrity_check").map_err(&failed)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(&failed)?;
        let lines: Vec<String> = rows.collect::<Result<_, _>>().map_err(&failed)?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    /// The open file; `None` while it holds no log.
    fn file(&mut self) -> Result<Option<&mut Connection>, StoreError> {
        if self.connection.is_none() {
            let is_created = fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() > 0);
            if !is_created {
                return Ok(None);
            }
            self.connection = Some(connect(&self.path, self.writable)?);
        }
        let failed = self.failed("read");
        let Some(connection) = &mut self.connection else { return Ok(None) };
        Ok(has_begun(connection).map_err(failed)?.then_some(connection))
    }

    /// The open file and the log's header, which is needed to read or write a frame.
    fn opened(&mut self) -> Result<Option<(&mut Connection, SegmentHeader)>, StoreError> {
        let failed = self.failed("read");
        if self.header.is_none() {
            let Some(connection) = self.file()? else { return Ok(None) };
            self.header = Some(stored_header(connection).map_err(&failed)?);
        }
        Ok(self.connection.as_mut().zip(self.header))
    }

    fn failed(&self, operation: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let file = name(&self.path);
        move |source| failure(operation, &file, source)
    }
}

impl EventStore for SqliteStore {
    fn log_id(&mut self) -> Result<String, StoreError> {
        let header = self.opened()?.map(|(_, header)| header);
        Ok(header.map_or_else(String::new, |header| hex(&header.log_id)))
    }

    fn read_after(
        &mut self,
        after: Sequence,
        visit: &mut dyn FnMut(EventRef<'_>),
    ) -> Result<(), StoreError> {
        self.read_rows_after(after, visit)
    }

    /// Does nothing: each append names the expected head.
    fn lock(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn unlock(&mut self) {}

    fn append(
        &mut self,
        expected_head: Sequence,
        batch: &[Payload],
        time_us: u64,
        durability: Durability,
    ) -> Result<Appended, StoreError> {
        self.append_row(expected_head, batch, time_us, durability)
    }

    fn wait_durable(&mut self, sequence: Sequence) -> Result<(), StoreError> {
        self.sync_up_to(sequence)
    }

    fn durable(&self) -> Sequence {
        self.durable
    }

    fn fetch(
        &mut self,
        sequences: &[Sequence],
        visit: &mut dyn FnMut(EventRef<'_>),
    ) -> Result<(), StoreError> {
        self.fetch_rows(sequences, visit)
    }

    fn search(
        &mut self,
        matches: &dyn Fn(&EventHead) -> bool,
        visit: &mut dyn FnMut(EventRef<'_>),
        is_enough: &dyn Fn() -> bool,
    ) -> Result<(), StoreError> {
        self.search_rows(matches, visit, is_enough)
    }

    fn indexed(&mut self, message_hashes: &[u64]) -> Result<Option<Vec<Sequence>>, StoreError> {
        self.sequences_of(message_hashes).map(Some)
    }

    fn finds_by_id(&self) -> bool {
        true
    }
}

impl Changes for SqliteStore {
    fn version(&self) -> u32 {
        let end = self.connection.as_ref().and_then(|connection| head_and_crc(connection).ok());
        end.map_or(0, |(head, _)| head as u32)
    }

    fn wait(&mut self, seen: u32, timeout: Duration) {
        let deadline = clock::monotonic() + timeout;
        while self.opened().is_err() || self.version() == seen {
            let left = clock::until(deadline);
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(POLL_INTERVAL));
        }
    }
}

impl Inspect for SqliteStore {
    fn damage(&self) -> Vec<LogDamage> {
        self.damage.clone()
    }

    fn size(&mut self) -> Result<(u64, Vec<String>), StoreError> {
        let failed = self.failed("measure");
        let Some((connection, _)) = self.opened()? else { return Ok((0, Vec::new())) };
        let query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
        let bytes = connection.query_row(query, [], |row| row.get(0)).map_err(&failed)?;
        Ok((sequence_from(bytes), Vec::new()))
    }
}
