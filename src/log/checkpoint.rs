//! Where are checkpoints kept, and which one is used?

use c2c_log_format::Sequence;
use c2c_log_format::checkpoint::CheckpointHeader;
use c2c_log_format::checksum::{crc32, sha256};
use c2c_log_format::error::Problem;
use c2c_log_format::limits::CHECKPOINT_HEADER_BYTES;
use c2c_log_format::segment::file_name as segment_name;

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
    /// Reads its header; the index must match, the rows are not looked at.
    pub fn open(bytes: Whole) -> Option<Self> {
        let header = CheckpointHeader::decode(&bytes).ok()?;
        let index = bytes.get(CHECKPOINT_HEADER_BYTES + header.rows_len as usize..)?;
        (crc32(index) == header.index_crc).then_some(Self { header, bytes })
    }

    /// Whether bytes are a damaged checkpoint. One of a future format is not for us to judge.
    pub fn is_damaged(bytes: Whole) -> bool {
        let future = CheckpointHeader::decode(&bytes)
            .is_err_and(|e| matches!(e.problem, Problem::FutureVersion { .. }));
        !future && !Self::open(bytes).is_some_and(|found| found.is_whole())
    }

    /// Whether the rows match, all of them.
    pub fn is_whole(&self) -> bool {
        let rows = CHECKPOINT_HEADER_BYTES..CHECKPOINT_HEADER_BYTES + self.header.rows_len as usize;
        self.bytes.get(rows).is_some_and(|rows| sha256(rows) == self.header.digest)
    }

    /// Where reading goes on after it.
    pub fn cursor(&self, epoch: u64) -> Cursor {
        Cursor { segment: self.header.segment, place: self.header.place, epoch }
    }
}

const CHECKPOINT: &str = "checkpoint-";
/// What archiving keeps instead of the segments that it moved away.
const BASE: &str = "base-";
/// Where archived segments went: one directory a line, the last is the newest.
pub const ARCHIVED_TO: &str = "archived-to";

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
        let kept = self.kept_states()?;
        for name in kept.iter().rev() {
            if let Some(found) = self.load_checkpoint(name, projection) {
                return Ok(Some(found));
            }
        }
        // Without the events before the base, only a base of this projection tells the state.
        match kept.into_iter().find(|name| name.starts_with(BASE)) {
            Some(file) if self.begins_late() => {
                Err(LogError::ArchiveNeeded { file, archive: self.archived_to() })
            }
            _ => Ok(None),
        }
    }

    /// Names of checkpoints and bases, oldest first.
    fn kept_states(&self) -> Result<Vec<String>, LogError> {
        let mut names = self.storage.list().map_err(|e| LogError::io("list", "log", e))?;
        names.retain(|name| name.starts_with(CHECKPOINT) || name.starts_with(BASE));
        names.sort_unstable_by(|a, b| a.rsplit('-').next().cmp(&b.rsplit('-').next()));
        Ok(names)
    }

    /// Whether the newest checkpoint or base is damaged.
    pub fn checkpoint_damaged(&self) -> Result<bool, LogError> {
        let newest = self.kept_states()?.pop();
        let bytes = newest.and_then(|name| self.storage.open(&name, false).ok()?.whole().ok());
        Ok(bytes.is_some_and(Checkpoint::is_damaged))
    }

    /// The highest sequence that a checkpoint of this log covers: it was on disk once.
    pub(super) fn covered_by_checkpoints(&self, log_id: [u8; 16]) -> Result<Sequence, LogError> {
        let kept = self.kept_states()?.into_iter();
        let found = kept.filter_map(|name| {
            let bytes = self.storage.open(&name, false).and_then(|file| file.whole()).ok()?;
            let header = Checkpoint::open(bytes)?.header;
            (header.log_id == log_id).then_some(header.sequence)
        });
        Ok(found.max().unwrap_or(0))
    }

    /// Removes the checkpoints that say more than the log does now.
    pub(super) fn forget_checkpoints_above(&self, head: Sequence) -> Result<(), LogError> {
        let above = |name: &String| *name > file_name(head) && name.starts_with(CHECKPOINT);
        for name in self.kept_states()?.into_iter().filter(above) {
            self.storage.remove(&name).map_err(|e| LogError::io("remove", &name, e))?;
        }
        Ok(())
    }

    /// Whether the first segment is out of sight.
    fn begins_late(&self) -> bool {
        self.storage.open(&segment_name(1), false).is_err()
    }

    /// Where segments were moved to last, as archiving noted it.
    fn archived_to(&self) -> Option<String> {
        let note = self.storage.open(ARCHIVED_TO, false).and_then(|file| file.whole()).ok()?;
        String::from_utf8_lossy(&note).lines().last().map(str::to_owned)
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
        for old in names.iter().filter(|old| old.starts_with(BASE) && **old < name) {
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
        let name = segment_name(base);
        self.storage.archive(&name).map_err(|e| LogError::io("archive", &name, e))
    }

    /// A checkpoint that can be used: whole, of this projection and log, its segment still there.
    fn load_checkpoint(&mut self, name: &str, projection: u16) -> Option<Checkpoint> {
        let file = self.storage.open(name, false).ok()?;
        // Mapped, because a command looks at a few rows and the file may be large.
        let found = Checkpoint::open(file.whole().ok()?)?;
        let segment = self.segment(found.header.segment).ok()?;
        let header = &found.header;
        let usable = header.projection == projection && header.log_id == segment.header.log_id;
        // Rows are checked as they are read, and made anew from the log; here it may lack them.
        (usable && (!self.begins_late() || found.is_whole())).then_some(found)
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
