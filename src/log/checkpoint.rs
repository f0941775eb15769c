//! Where are checkpoints kept, and which one is used?

use c2c_log_format::Sequence;
use c2c_log_format::checkpoint::CheckpointHeader;

use super::storage::Held;
use super::{Cursor, Log, LogError, Whole};

/// A checkpoint: its header and the whole file.
#[derive(Clone)]
pub struct Checkpoint {
    /// What it covers.
    pub header: CheckpointHeader,
    /// The file.
    pub bytes: Whole,
}

impl Checkpoint {
    /// Where reading goes on after it.
    pub fn cursor(&self, epoch: u64) -> Cursor {
        Cursor { segment: self.header.segment, place: self.header.place, epoch }
    }
}

fn file_name(sequence: Sequence) -> String {
    format!("checkpoint-{sequence:020}")
}

impl Log {
    /// The newest checkpoint of this projection that belongs to this log.
    pub fn newest_checkpoint(&mut self, projection: u16) -> Result<Option<Checkpoint>, LogError> {
        let Some(log_id) = self.log_id()? else { return Ok(None) };
        // The page names it: a directory of many segments takes long to list.
        let named = self.control.as_ref().map_or(0, super::Control::checkpoint);
        if named > 0
            && let Some(found) = self.load_checkpoint(&file_name(named), projection, log_id)
        {
            return Ok(Some(found));
        }
        let names = self.storage.list().map_err(|e| LogError::io("list", "log", e))?;
        let found = names.iter().rev().filter(|name| name.starts_with("checkpoint-"));
        Ok(found.into_iter().find_map(|name| self.load_checkpoint(name, projection, log_id)))
    }

    /// A checkpoint that can be used: whole, of this projection and log, its segment still there.
    fn load_checkpoint(
        &mut self,
        name: &str,
        projection: u16,
        log_id: [u8; 16],
    ) -> Option<Checkpoint> {
        let file = self.storage.open(name, false).ok()?;
        // Mapped, because a command looks at a few rows and the file may be large.
        let bytes = file.whole().ok()?;
        let header = CheckpointHeader::decode(&bytes).ok()?;
        let usable = header.projection == projection && header.log_id == log_id;
        (usable && self.segment(header.segment).is_ok()).then_some(Checkpoint { header, bytes })
    }

    /// Writes a checkpoint and removes all but the two newest. One process at a time: whoever
    /// finds another at it does nothing.
    pub fn write_checkpoint(&mut self, bytes: &[u8], sequence: Sequence) -> Result<(), LogError> {
        let io = |e| LogError::io("write", "checkpoint", e);
        let lock = self.storage.lock_file("checkpoint.lock").map_err(io)?;
        let Some(_guard) = Held::try_take(&lock).map_err(io)? else { return Ok(()) };
        let _ = self.storage.remove("checkpoint.tmp");
        let file = self.storage.open("checkpoint.tmp", true).map_err(io)?;
        file.write_at(0, bytes).map_err(io)?;
        // ORDER: its content before its name, or a power loss could leave a name without content.
        file.sync().map_err(io)?;
        self.storage.rename("checkpoint.tmp", &file_name(sequence)).map_err(io)?;
        if let Some(control) = &self.control {
            control.set_checkpoint(sequence);
        }
        let names = self.storage.list().map_err(io)?;
        let old = names.iter().filter(|name| name.starts_with("checkpoint-")).rev().skip(2);
        for name in old {
            let _ = self.storage.remove(name);
        }
        Ok(())
    }
}
