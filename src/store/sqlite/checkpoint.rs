//! Checkpoints in a table of the SQLite file.

use std::sync::Arc;

use c2c_log_format::Sequence;
use c2c_log_format::checkpoint::CheckpointHeader;
use rusqlite::params;

use super::file::blob;
use super::{SEGMENT, SqliteStore};
use crate::log::{Checkpoint, FileContent};
use crate::store::{Checkpoints, Reopen, ResumeToken, StoreError};

impl Checkpoints for SqliteStore {
    fn newest(&mut self, projection: u16) -> Result<Option<Checkpoint>, StoreError> {
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
                return Ok(Some(Checkpoint { header, bytes: FileContent::Read(bytes) }));
            }
        }
        Ok(None)
    }

    fn keep(&mut self, head: Sequence, encode: &dyn Fn() -> Vec<u8>) -> Result<(), StoreError> {
        let (position, failed) = (self.position, self.failed("write"));
        if !self.writable || head + 1 != position.sequence || self.durable < head {
            return Ok(());
        }
        let Some((connection, log)) = self.opened()? else { return Ok(()) };
        let mut bytes = encode();
        let token = ResumeToken::new(SEGMENT, position);
        let Some(header) = token.record_in(log.log_id, &mut bytes) else { return Ok(()) };
        let transaction = connection.transaction().map_err(&failed)?;
        let row = params![head as i64, header.projection, bytes];
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

    fn resume(&mut self, checkpoint: &Checkpoint) {
        self.position = ResumeToken::of(&checkpoint.header).position();
        self.tail = (0, 0);
    }

    fn reopen(&self) -> Option<Reopen> {
        let (path, writable) = (self.path.clone(), self.writable);
        Some(Arc::new(move || Box::new(Self::with(&path, writable))))
    }

    fn tail_size(&self) -> (u64, u64) {
        self.tail
    }
}
