//! How are events kept in one SQLite file?
//!
//! A row is a frame, byte for byte as in a segment: the file is one segment in rows, with the
//! segment's header beside them. Sequence, chain and checksums mean the same as in a log directory.
//!
//! A batch is visible to all as soon as it is appended. It is on disk when a later transaction has
//! been committed with `synchronous=FULL`: one such commit serves all that came before it.

mod file;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use c2c_log_format::checkpoint::CheckpointHeader;
use c2c_log_format::event::events;
use c2c_log_format::frame::{self, FrameHeader, NewFrame};
use c2c_log_format::id::hex;
use c2c_log_format::limits::{BATCH_EVENTS_MAX, SEGMENT_HEADER_BYTES};
use c2c_log_format::scan::{Piece, Place, Scanner};
use c2c_log_format::segment::SegmentHeader;
use c2c_log_format::{EventHead, Payload, Sequence};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{EventStore, Reopen, StoreError, Stored};
use crate::log::{Appended, Checkpoint, Damaged, Whole};
use file::{begin, connect, create, failure, has_begun, is_busy, name, stored_header};

pub use file::is_sqlite;

/// The one segment that the rows make up.
const SEGMENT: Sequence = 1;
/// Frames that a search reads before it asks whether that was enough.
const SEARCH_FRAMES: i64 = 256;
/// How often a waiting reader looks.
const NAP: Duration = Duration::from_millis(10);

/// Events in a SQLite file.
pub struct SqliteStore {
    path: PathBuf,
    writable: bool,
    connection: Option<Connection>,
    header: Option<SegmentHeader>,
    place: Place,
    durable: Sequence,
    tail: (u64, u64),
    damage: Vec<Damaged>,
    /// A sync failed: what is on disk is not known any more until the file is opened anew.
    poisoned: bool,
}

impl SqliteStore {
    /// The store in a file, which is made by the first append.
    pub fn open(path: &Path) -> Self {
        Self::with(path, true)
    }

    /// The same, to read only: nothing is created, nothing is changed.
    pub fn open_read_only(path: &Path) -> Self {
        Self::with(path, false)
    }

    fn with(path: &Path, writable: bool) -> Self {
        let place = Place { offset: SEGMENT_HEADER_BYTES, sequence: 1, previous_frame: 0 };
        Self {
            path: path.to_owned(),
            writable,
            connection: None,
            header: None,
            place,
            durable: 0,
            tail: (0, 0),
            damage: Vec::new(),
            poisoned: false,
        }
    }

    /// The file as one segment: what reads a log directory can read this.
    pub fn segment_bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        let failed = self.failed("read");
        let Some(connection) = self.file()? else { return Ok(Vec::new()) };
        let mut bytes: Vec<u8> = connection
            .query_row("SELECT header FROM log", [], |row| row.get(0))
            .map_err(&failed)?;
        let mut statement =
            connection.prepare("SELECT frame FROM frames ORDER BY first").map_err(&failed)?;
        let mut rows = statement.query([]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            bytes.extend_from_slice(blob(row)?);
        }
        Ok(bytes)
    }

    /// What SQLite itself finds wrong with the file.
    pub fn integrity(&mut self) -> Result<Vec<String>, StoreError> {
        let failed = self.failed("check");
        let Some(connection) = self.file()? else { return Ok(Vec::new()) };
        let mut statement = connection.prepare("PRAGMA integrity_check").map_err(&failed)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(&failed)?;
        let found: Vec<String> = rows.collect::<Result<_, _>>().map_err(&failed)?;
        Ok(found.into_iter().filter(|line| line != "ok").collect())
    }

    /// The highest sequence of which somebody may have been told that it is on disk.
    pub fn durable_mark(&mut self) -> Result<Sequence, StoreError> {
        let failed = self.failed("read");
        let Some(connection) = self.file()? else { return Ok(0) };
        mark(connection).map_err(&failed)
    }

    /// The open file; `None` while no log has begun in it.
    fn file(&mut self) -> Result<Option<&mut Connection>, StoreError> {
        if self.connection.is_none() {
            let there = fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() > 0);
            if !there {
                return Ok(None);
            }
            self.connection = Some(connect(&self.path, self.writable)?);
        }
        let failed = self.failed("read");
        let Some(connection) = &mut self.connection else { return Ok(None) };
        Ok(has_begun(connection).map_err(failed)?.then_some(connection))
    }

    /// The same with the header of the log, without which no frame can be read or written.
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
        move |cause| failure(operation, &file, cause)
    }

    /// Takes what was appended into the handle's view of a row, or notes why it cannot be read.
    fn visit_row(&mut self, frame: &[u8], salt: u32, visit: &mut dyn FnMut(Stored<'_>)) {
        let start = self.place.offset;
        let mut scanner = Scanner::new(frame, salt, self.place);
        for piece in scanner.by_ref() {
            match piece {
                Piece::Frame { header, body, .. } => {
                    self.tail.0 += u64::from(header.count);
                    visit_frame(&header, body, visit);
                }
                // After a bad row the next one cannot be checked against it: nothing is missing.
                Piece::Damage(damage) if damage.len == 0 && damage.last.is_none() => {}
                Piece::Damage(damage) => {
                    let (offset, len) = (damage.offset, damage.len);
                    let (first, last) = (damage.first, damage.last);
                    let damaged = Damaged { segment: SEGMENT, offset, len, first, last };
                    if !self.damage.contains(&damaged) {
                        self.damage.push(damaged);
                    }
                }
            }
        }
        self.tail.1 += frame.len() as u64;
        self.place = Place { offset: start + frame.len(), ..scanner.place() };
    }

    fn read_rows(
        &mut self,
        connection: &Connection,
        from: i64,
        salt: u32,
        visit: &mut dyn FnMut(Stored<'_>),
    ) -> Result<(), StoreError> {
        let failed = self.failed("read");
        let query = "SELECT frame FROM frames WHERE first >= ?1 ORDER BY first";
        let mut statement = connection.prepare_cached(query).map_err(&failed)?;
        let mut rows = statement.query([from]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            self.visit_row(blob(row)?, salt, visit);
        }
        Ok(())
    }

    /// Commits with a sync, which takes all earlier commits to the disk, too.
    fn sync(&mut self, sequence: Sequence) -> Result<(), StoreError> {
        let failed = self.failed("sync");
        let Some((connection, _)) = self.opened()? else { return Ok(()) };
        connection.pragma_update(None, "synchronous", "FULL").map_err(&failed)?;
        let synced = mark_durable(connection);
        let _ = connection.pragma_update(None, "synchronous", "NORMAL");
        match synced {
            Ok(head) => {
                self.durable = head;
                Ok(())
            }
            Err(cause) if is_busy(&cause) => Err(failed(cause)),
            Err(_) => {
                self.poisoned = true;
                Err(self.unknown(sequence))
            }
        }
    }

    fn unknown(&self, sequence: Sequence) -> StoreError {
        StoreError::Unknown { file: name(&self.path), sequence }
    }
}

/// Names the head as durable; true once this has returned.
fn mark_durable(connection: &mut Connection) -> Result<Sequence, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (head, _) = end(&transaction)?;
    transaction.execute("UPDATE durable SET sequence = ?1", [head as i64])?;
    transaction.commit()?;
    Ok(head)
}

fn mark(connection: &Connection) -> Result<Sequence, rusqlite::Error> {
    connection
        .query_row("SELECT sequence FROM durable", [], |row| row.get::<_, i64>(0))
        .map(as_sequence)
}

fn as_sequence(number: i64) -> Sequence {
    number.max(0).cast_unsigned()
}

/// The head, and the checksum of the last frame.
fn end(connection: &Connection) -> Result<(Sequence, u32), rusqlite::Error> {
    let last = "SELECT last, substr(frame, 53, 4) FROM frames ORDER BY first DESC LIMIT 1";
    let found = connection.prepare_cached(last)?.query_row([], |row| {
        let crc: Vec<u8> = row.get(1)?;
        let crc = crc.try_into().map_or(0, u32::from_le_bytes);
        Ok((as_sequence(row.get(0)?), crc))
    });
    Ok(found.optional()?.unwrap_or((0, 0)))
}

fn visit_frame(header: &FrameHeader, body: &[u8], visit: &mut dyn FnMut(Stored<'_>)) {
    for event in events(body, header.sequence, header.count).flatten() {
        visit(Stored { event: &event, time_us: header.time_us, durable: header.durable });
    }
}

/// Visits the events of one row, if it can be read.
fn visit_row(frame: &[u8], salt: u32, visit: &mut dyn FnMut(Stored<'_>)) {
    if let Ok(header) = FrameHeader::decode(frame, salt)
        && let Ok(body) = frame::body(frame, &header)
    {
        visit_frame(&header, body, visit);
    }
}

fn blob<'a>(row: &'a rusqlite::Row<'_>) -> Result<&'a [u8], StoreError> {
    let value = row.get_ref(0).map_err(|cause| failure("read", "frames", cause))?;
    value.as_blob().map_err(|cause| StoreError::io("read", "frames", io::Error::other(cause)))
}

/// Writes one batch as a row, and where its messages are found.
fn insert(
    transaction: &Transaction<'_>,
    salt: u32,
    batch: &[Payload],
    frame: NewFrame<'_>,
) -> Result<Appended, rusqlite::Error> {
    let first = frame.sequence;
    let last = first + batch.len() as Sequence - 1;
    let mut body = Vec::with_capacity(1024);
    let mut index = transaction.prepare_cached("INSERT INTO messages VALUES (?1, ?2)")?;
    for (payload, sequence) in batch.iter().zip(first..) {
        let head = payload.head(sequence);
        head.encode_with(&mut body, |body| payload.encode_into(body));
        if head.message != 0 {
            index.execute(params![head.message.cast_signed(), sequence as i64])?;
        }
    }
    let mut bytes = Vec::new();
    NewFrame { body: &body, ..frame }.encode(salt, &mut bytes);
    let mut row = transaction.prepare_cached("INSERT INTO frames VALUES (?1, ?2, ?3)")?;
    row.execute(params![first as i64, last as i64, bytes])?;
    Ok(Appended { first, last })
}

impl EventStore for SqliteStore {
    fn log_id(&mut self) -> Result<String, StoreError> {
        let header = self.opened()?.map(|(_, header)| header);
        Ok(header.map_or_else(String::new, |header| hex(&header.log_id)))
    }

    fn read_after(
        &mut self,
        after: Sequence,
        visit: &mut dyn FnMut(Stored<'_>),
    ) -> Result<(), StoreError> {
        if after == 0 {
            self.place = Place { offset: SEGMENT_HEADER_BYTES, sequence: 1, previous_frame: 0 };
        }
        let from = self.place.sequence as i64;
        let Some((_, header)) = self.opened()? else { return Ok(()) };
        // Taken out for the time of reading: a row moves the place while the rows are borrowed.
        let Some(connection) = self.connection.take() else { return Ok(()) };
        let done = self.read_rows(&connection, from, header.salt, visit);
        self.connection = Some(connection);
        done
    }

    /// Each append names the head, so nobody needs to be kept out.
    fn lock(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn unlock(&mut self) {}

    fn append(
        &mut self,
        head: Sequence,
        batch: &[Payload],
        time_us: u64,
        durable: bool,
    ) -> Result<Appended, StoreError> {
        if self.poisoned {
            return Err(self.unknown(head + 1));
        }
        if batch.len() > BATCH_EVENTS_MAX {
            return Err(StoreError::TooLarge { events: batch.len(), bytes: 0 });
        }
        let failed = self.failed("write");
        if self.connection.is_none() {
            create(&self.path)?;
            self.connection = Some(connect(&self.path, self.writable)?);
        }
        self.opened()?;
        let known = self.header;
        let Some(connection) = &mut self.connection else { return Err(self.unknown(head + 1)) };
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&failed)?;
        let header = begin(&transaction, known, time_us).map_err(&failed)?;
        let (at, previous_frame) = end(&transaction).map_err(&failed)?;
        if at != head {
            return Err(StoreError::Conflict { head: at });
        }
        let frame = NewFrame {
            sequence: head + 1,
            time_us,
            count: batch.len() as u16,
            durable,
            seal: false,
            durable_sequence: mark(&transaction).map_err(&failed)?,
            previous_frame,
            body: &[],
        };
        let appended = insert(&transaction, header.salt, batch, frame).map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        self.header = Some(header);
        Ok(appended)
    }

    fn wait_durable(&mut self, sequence: Sequence) -> Result<(), StoreError> {
        if self.poisoned {
            return Err(self.unknown(sequence));
        }
        if sequence <= self.durable || !self.writable {
            return Ok(());
        }
        self.durable = self.durable_mark()?;
        if sequence <= self.durable { Ok(()) } else { self.sync(sequence) }
    }

    fn durable(&self) -> Sequence {
        self.durable
    }

    fn fetch(
        &mut self,
        sequences: &[Sequence],
        visit: &mut dyn FnMut(Stored<'_>),
    ) -> Result<(), StoreError> {
        let failed = self.failed("read");
        let Some((connection, header)) = self.opened()? else { return Ok(()) };
        let query = "SELECT frame FROM frames WHERE first <= ?1 ORDER BY first DESC LIMIT 1";
        let mut statement = connection.prepare_cached(query).map_err(&failed)?;
        for sequence in sequences {
            let mut rows = statement.query([*sequence as i64]).map_err(&failed)?;
            if let Some(row) = rows.next().map_err(&failed)? {
                visit_row(blob(row)?, header.salt, &mut |stored| {
                    if stored.event.head.sequence == *sequence {
                        visit(stored);
                    }
                });
            }
        }
        Ok(())
    }

    fn search(
        &mut self,
        wanted: &dyn Fn(&EventHead) -> bool,
        visit: &mut dyn FnMut(Stored<'_>),
        enough: &dyn Fn() -> bool,
    ) -> Result<(), StoreError> {
        let failed = self.failed("read");
        let Some((connection, header)) = self.opened()? else { return Ok(()) };
        let query = "SELECT frame, first FROM (SELECT frame, first FROM frames WHERE first < ?1
            ORDER BY first DESC LIMIT ?2) ORDER BY first";
        let mut statement = connection.prepare_cached(query).map_err(&failed)?;
        let mut below = i64::MAX;
        loop {
            let mut rows = statement.query([below, SEARCH_FRAMES]).map_err(&failed)?;
            let mut lowest = None;
            while let Some(row) = rows.next().map_err(&failed)? {
                lowest = lowest.or(Some(row.get(1).map_err(&failed)?));
                visit_row(blob(row)?, header.salt, &mut |stored| {
                    if wanted(&stored.event.head) {
                        visit(stored);
                    }
                });
            }
            match lowest {
                Some(first) if !enough() => below = first,
                _ => return Ok(()),
            }
        }
    }

    fn finds_by_id(&self) -> bool {
        true
    }

    fn find(
        &mut self,
        messages: &[u64],
        visit: &mut dyn FnMut(Stored<'_>),
    ) -> Result<(), StoreError> {
        let failed = self.failed("read");
        let Some((connection, _)) = self.opened()? else { return Ok(()) };
        let query = "SELECT sequence FROM messages WHERE hash = ?1 ORDER BY sequence";
        let mut statement = connection.prepare_cached(query).map_err(&failed)?;
        let mut found: Vec<Sequence> = Vec::new();
        for message in messages {
            let rows =
                statement.query_map([message.cast_signed()], |row| row.get(0).map(as_sequence));
            let rows: Result<Vec<Sequence>, _> = rows.and_then(Iterator::collect);
            found.extend(rows.map_err(&failed)?);
        }
        drop(statement);
        found.sort_unstable();
        found.dedup();
        self.fetch(&found, visit)
    }

    fn checkpoint(&mut self, projection: u16) -> Result<Option<Checkpoint>, StoreError> {
        let failed = self.failed("read");
        let Some((connection, log)) = self.opened()? else { return Ok(None) };
        let query = "SELECT bytes FROM checkpoints WHERE projection = ?1 ORDER BY sequence DESC";
        let mut statement = connection.prepare_cached(query).map_err(&failed)?;
        let mut rows = statement.query([projection]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let bytes: Arc<[u8]> = blob(row)?.into();
            if let Ok(header) = CheckpointHeader::decode(&bytes)
                && header.projection == projection
                && header.log_id == log.log_id
            {
                return Ok(Some(Checkpoint { header, bytes: Whole::Read(bytes) }));
            }
        }
        Ok(None)
    }

    fn reopen(&self) -> Option<Reopen> {
        let (path, writable) = (self.path.clone(), self.writable);
        Some(Arc::new(move || Box::new(Self::with(&path, writable))))
    }

    fn resume(&mut self, checkpoint: &Checkpoint) {
        self.place = checkpoint.header.place;
        self.tail = (0, 0);
    }

    fn keep_checkpoint(
        &mut self,
        head: Sequence,
        encode: &dyn Fn([u8; 16], Sequence, Place) -> Vec<u8>,
    ) -> Result<(), StoreError> {
        let (place, durable, failed) = (self.place, self.durable, self.failed("write"));
        if !self.writable || head + 1 != place.sequence || durable < head {
            return Ok(());
        }
        let Some((connection, header)) = self.opened()? else { return Ok(()) };
        let bytes = encode(header.log_id, SEGMENT, place);
        let Ok(CheckpointHeader { projection, .. }) = CheckpointHeader::decode(&bytes) else {
            return Ok(());
        };
        let transaction = connection.transaction().map_err(&failed)?;
        let row = params![head as i64, projection, bytes];
        transaction
            .execute("INSERT OR REPLACE INTO checkpoints VALUES (?1, ?2, ?3)", row)
            .and_then(|_| {
                let old = "DELETE FROM checkpoints WHERE sequence NOT IN
                    (SELECT sequence FROM checkpoints ORDER BY sequence DESC LIMIT 2)";
                transaction.execute(old, [])
            })
            .map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        self.tail = (0, 0);
        Ok(())
    }

    fn tail_size(&self) -> (u64, u64) {
        self.tail
    }

    fn pulse(&self) -> u32 {
        let head = self.connection.as_ref().and_then(|connection| end(connection).ok());
        head.map_or(0, |(head, _)| head as u32)
    }

    fn wait(&mut self, pulse: u32, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while self.opened().is_err() || self.pulse() == pulse {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(NAP));
        }
    }

    fn damage(&self) -> Vec<Damaged> {
        self.damage.clone()
    }

    fn size(&mut self) -> Result<(u64, Vec<String>), StoreError> {
        let failed = self.failed("measure");
        let Some((connection, _)) = self.opened()? else { return Ok((0, Vec::new())) };
        let query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
        let bytes = connection.query_row(query, [], |row| row.get(0)).map_err(&failed)?;
        Ok((as_sequence(bytes), Vec::new()))
    }
}

#[cfg(test)]
mod tests;
