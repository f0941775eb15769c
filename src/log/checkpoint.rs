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

const CHECKPOINT: &str = "checkpoint-";
/// What archiving keeps instead of the segments that it moved away.
const BASE: &str = "base-";

fn file_name(sequence: Sequence) -> String {
    format!("{CHECKPOINT}{sequence:020}")
}

impl Log {
    /// The newest checkpoint of this projection that belongs to this log.
    pub fn newest_checkpoint(&mut self, projection: u16) -> Result<Option<Checkpoint>, LogError> {
        // The page names it: a directory of many segments takes long to list.
        let named = self.control.as_ref().map_or(0, super::Control::checkpoint);
        if named > 0
            && let Some(found) = self.load_checkpoint(&file_name(named), projection)
        {
            return Ok(Some(found));
        }
        let names = self.storage.list().map_err(|e| LogError::io("list", "log", e))?;
        let is_kept = |name: &&String| name.starts_with(CHECKPOINT) || name.starts_with(BASE);
        let mut kept: Vec<&String> = names.iter().filter(is_kept).collect();
        kept.sort_unstable_by_key(|name| name.rsplit('-').next());
        for name in kept.iter().rev() {
            if let Some(found) = self.load_checkpoint(name, projection) {
                return Ok(Some(found));
            }
        }
        // Without the events before the base, only a base of this projection tells the state.
        let begins_late = self.bases()?.first().is_some_and(|base| *base > 1);
        match kept.iter().find(|name| name.starts_with(BASE)) {
            Some(name) if begins_late => Err(LogError::ArchiveNeeded { file: String::clone(name) }),
            _ => Ok(None),
        }
    }

    /// Keeps a state on disk from which reading can start when the segments before are elsewhere.
    /// Other than a checkpoint it is not disposable, and is on disk when this returns.
    pub fn write_base(&mut self, bytes: &[u8], sequence: Sequence) -> Result<(), LogError> {
        let name = format!("{BASE}{sequence:020}");
        let io = |e| LogError::io("write", &name, e);
        self.write_aside("base.tmp", bytes).map_err(io)?;
        self.storage.rename("base.tmp", &name).map_err(io)?;
        self.storage.sync_dir().map_err(io)?;
        let names = self.storage.list().map_err(io)?;
        for old in names.iter().filter(|old| old.starts_with(BASE) && **old != name) {
            self.storage.remove(old).map_err(io)?;
        }
        Ok(())
    }

    fn write_aside(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let _ = self.storage.remove(name);
        let file = self.storage.open(name, true)?;
        file.write_at(0, bytes)?;
        // ORDER: its content before its name, or a power loss could leave a name without content.
        file.sync()
    }

    /// Moves a sealed segment to the archive.
    pub fn archive_segment(&mut self, base: Sequence) -> Result<(), LogError> {
        let name = c2c_log_format::segment::file_name(base);
        self.storage.archive(&name).map_err(|e| LogError::io("archive", &name, e))
    }

    /// A checkpoint that can be used: whole, of this projection and log, its segment still there.
    fn load_checkpoint(&mut self, name: &str, projection: u16) -> Option<Checkpoint> {
        let file = self.storage.open(name, false).ok()?;
        // Mapped, because a command looks at a few rows and the file may be large.
        let bytes = file.whole().ok()?;
        let header = CheckpointHeader::decode(&bytes).ok()?;
        let segment = self.segment(header.segment).ok()?;
        let usable = header.projection == projection && header.log_id == segment.header.log_id;
        usable.then_some(Checkpoint { header, bytes })
    }

    /// Writes a checkpoint and removes all but the two newest. One process at a time: whoever
    /// finds another at it does nothing.
    pub fn write_checkpoint(&mut self, bytes: &[u8], sequence: Sequence) -> Result<(), LogError> {
        let io = |e| LogError::io("write", "checkpoint", e);
        let lock = self.storage.lock_file("checkpoint.lock").map_err(io)?;
        let Some(_guard) = Held::try_take(&lock).map_err(io)? else { return Ok(()) };
        self.write_aside("checkpoint.tmp", bytes).map_err(io)?;
        self.storage.rename("checkpoint.tmp", &file_name(sequence)).map_err(io)?;
        if let Some(control) = &self.control {
            control.set_checkpoint(sequence);
        }
        let names = self.storage.list().map_err(io)?;
        let old = names.iter().filter(|name| name.starts_with(CHECKPOINT)).rev().skip(2);
        for name in old {
            let _ = self.storage.remove(name);
        }
        Ok(())
    }
}
