//! Reading rows: in order, by sequence, by head and by message.

use c2c_log_format::event::events;
use c2c_log_format::frame::{self, FrameHeader};
use c2c_log_format::limits::SEGMENT_HEADER_BYTES;
use c2c_log_format::scan::{FramePosition, Scanned, Scanner};
use c2c_log_format::{EventHead, Sequence};
use rusqlite::Connection;

use super::file::{blob, sequence_from};
use super::{SEGMENT, SqliteStore};
use crate::log::LogDamage;
use crate::store::{EventRef, StoreError};

/// Frames that a search reads between two checks whether it is enough.
const SEARCH_FRAMES: i64 = 256;

impl SqliteStore {
    pub(super) fn read_rows_after(
        &mut self,
        after: Sequence,
        visit: &mut dyn FnMut(EventRef<'_>),
    ) -> Result<(), StoreError> {
        if after == 0 {
            self.position =
                FramePosition { offset: SEGMENT_HEADER_BYTES, sequence: 1, previous_frame: 0 };
        }
        let from = self.position.sequence as i64;
        let Some((_, header)) = self.opened()? else { return Ok(()) };
        // Taken out while reading, because visiting a row changes `self` while rows are borrowed.
        let Some(connection) = self.connection.take() else { return Ok(()) };
        let outcome = self.read_rows(&connection, from, header.salt, visit);
        self.connection = Some(connection);
        outcome
    }

    fn read_rows(
        &mut self,
        connection: &Connection,
        from: i64,
        salt: u32,
        visit: &mut dyn FnMut(EventRef<'_>),
    ) -> Result<(), StoreError> {
        let failed = self.failed("read");
        let query = "SELECT frame FROM frames WHERE first >= ?1 ORDER BY first";
        let mut statement = connection.prepare_cached(query).map_err(&failed)?;
        let mut rows = statement.query([from]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            self.read_frame(blob(row)?, salt, visit);
        }
        Ok(())
    }

    /// Visits the events of the next frame, or records why it cannot be read.
    fn read_frame(&mut self, frame: &[u8], salt: u32, visit: &mut dyn FnMut(EventRef<'_>)) {
        let start = self.position.offset;
        let mut scanner = Scanner::new(frame, salt, self.position);
        for piece in scanner.by_ref() {
            match piece {
                Scanned::Frame { header, body, .. } => {
                    self.tail.0 += u64::from(header.count);
                    visit_events(&header, body, visit);
                }
                // The row after a damaged one cannot be checked against it; nothing is missing.
                Scanned::Damage(damage) if damage.len == 0 && damage.last.is_none() => {}
                Scanned::Damage(damage) => {
                    let damaged = LogDamage::at(SEGMENT, &damage);
                    if !self.damage.contains(&damaged) {
                        self.damage.push(damaged);
                    }
                }
            }
        }
        self.tail.1 += frame.len() as u64;
        self.position = FramePosition { offset: start + frame.len(), ..scanner.position() };
    }

    pub(super) fn fetch_rows(
        &mut self,
        sequences: &[Sequence],
        visit: &mut dyn FnMut(EventRef<'_>),
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

    pub(super) fn search_rows(
        &mut self,
        matches: &dyn Fn(&EventHead) -> bool,
        visit: &mut dyn FnMut(EventRef<'_>),
        is_enough: &dyn Fn() -> bool,
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
                    if matches(&stored.event.head) {
                        visit(stored);
                    }
                });
            }
            match lowest {
                Some(first) if !is_enough() => below = first,
                _ => return Ok(()),
            }
        }
    }

    /// Sequences of the events of messages, in any order.
    pub(super) fn sequences_of(
        &mut self,
        message_hashes: &[u64],
    ) -> Result<Vec<Sequence>, StoreError> {
        let failed = self.failed("read");
        let Some((connection, _)) = self.opened()? else { return Ok(Vec::new()) };
        let query = "SELECT sequence FROM messages WHERE hash = ?1";
        let mut statement = connection.prepare_cached(query).map_err(&failed)?;
        let mut sequences: Vec<Sequence> = Vec::new();
        for hash in message_hashes {
            let rows =
                statement.query_map([hash.cast_signed()], |row| row.get(0).map(sequence_from));
            let rows: Result<Vec<Sequence>, _> = rows.and_then(Iterator::collect);
            sequences.extend(rows.map_err(&failed)?);
        }
        Ok(sequences)
    }

    /// The bytes of the file as one segment, which code for log directories can read.
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
}

fn visit_events(header: &FrameHeader, body: &[u8], visit: &mut dyn FnMut(EventRef<'_>)) {
    for event in events(body, header.sequence, header.count).flatten() {
        visit(EventRef { event: &event, time_us: header.time_us, durable: header.durable });
    }
}

/// Visits the events of a row; skips a damaged one.
fn visit_row(frame: &[u8], salt: u32, visit: &mut dyn FnMut(EventRef<'_>)) {
    if let Ok(header) = FrameHeader::decode(frame, salt)
        && let Ok(body) = frame::body(frame, &header)
    {
        visit_events(&header, body, visit);
    }
}
