//! Appending rows and syncing them.

use c2c_log_format::frame::NewFrame;
use c2c_log_format::limits::BATCH_EVENTS_MAX;
use c2c_log_format::{Payload, Sequence};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::SqliteStore;
use super::file::{begin, connect, create, head_and_crc, is_busy, name, sequence_from};
use crate::log::{Appended, Durability};
use crate::store::StoreError;

impl SqliteStore {
    pub(super) fn append_row(
        &mut self,
        expected_head: Sequence,
        batch: &[Payload],
        time_us: u64,
        durability: Durability,
    ) -> Result<Appended, StoreError> {
        if self.poisoned {
            return Err(self.unknown(expected_head + 1));
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
        let Some(connection) = &mut self.connection else {
            return Err(self.unknown(expected_head + 1));
        };
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&failed)?;
        let header = begin(&transaction, known, time_us).map_err(&failed)?;
        let (head, previous_frame) = head_and_crc(&transaction).map_err(&failed)?;
        if head != expected_head {
            return Err(StoreError::Conflict { head });
        }
        let frame = NewFrame {
            sequence: head + 1,
            time_us,
            count: batch.len() as u16,
            durable: durability.is_promised(),
            seal: false,
            durable_sequence: durable_sequence(&transaction).map_err(&failed)?,
            previous_frame,
            body: &[],
        };
        let appended = insert(&transaction, header.salt, batch, frame).map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        self.header = Some(header);
        Ok(appended)
    }

    pub(super) fn sync_up_to(&mut self, sequence: Sequence) -> Result<(), StoreError> {
        if self.poisoned {
            return Err(self.unknown(sequence));
        }
        if sequence <= self.durable || !self.writable {
            return Ok(());
        }
        self.durable = self.recorded_durable()?;
        if sequence <= self.durable { Ok(()) } else { self.sync(sequence) }
    }

    /// Highest sequence that may have been reported as durable.
    pub fn recorded_durable(&mut self) -> Result<Sequence, StoreError> {
        let failed = self.failed("read");
        let Some(connection) = self.file()? else { return Ok(0) };
        durable_sequence(connection).map_err(&failed)
    }

    /// Commits with a sync, which makes all earlier commits durable.
    fn sync(&mut self, sequence: Sequence) -> Result<(), StoreError> {
        let failed = self.failed("sync");
        let Some((connection, _)) = self.opened()? else { return Ok(()) };
        connection.pragma_update(None, "synchronous", "FULL").map_err(&failed)?;
        let synced = record_durable_head(connection);
        let _ = connection.pragma_update(None, "synchronous", "NORMAL");
        match synced {
            Ok(head) => {
                self.durable = head;
                Ok(())
            }
            Err(source) if is_busy(&source) => Err(failed(source)),
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

/// Records the head as the durable sequence, and returns it; the commit makes it true.
fn record_durable_head(connection: &mut Connection) -> Result<Sequence, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (head, _) = head_and_crc(&transaction)?;
    transaction.execute("UPDATE durable SET sequence = ?1", [head as i64])?;
    transaction.commit()?;
    Ok(head)
}

fn durable_sequence(connection: &Connection) -> Result<Sequence, rusqlite::Error> {
    connection
        .query_row("SELECT sequence FROM durable", [], |row| row.get::<_, i64>(0))
        .map(sequence_from)
}

/// Inserts one batch as a row, and the index entries of its messages.
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
