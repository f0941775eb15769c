//! Checkpoint files: choosing, writing and removing them.
//!
//! A checkpoint can be deleted at any time and is rebuilt from the log. A base has the same content
//! but replaces archived segments, so it must not be deleted.

use c2c_log_format::Sequence;
use c2c_log_format::checkpoint::CheckpointHeader;
use c2c_log_format::checksum::{crc32, sha256};
use c2c_log_format::error::Problem;
use c2c_log_format::limits::CHECKPOINT_HEADER_BYTES;
use c2c_log_format::segment::file_name as segment_name;

use super::storage::LockGuard;
use super::{FileContent, Log, LogError, ReadPosition};

/// A checkpoint: the decoded header and the content of the file.
#[derive(Clone)]
pub struct Checkpoint {
    /// The decoded header.
    pub header: CheckpointHeader,
    /// Content of the file, including the header.
    pub bytes: FileContent,
}

impl Checkpoint {
    /// Decodes the header and checks the index; does not check the rows. `None` if either is damaged.
    pub fn open(bytes: FileContent) -> Option<Self> {
        let header = CheckpointHeader::decode(&bytes).ok()?;
        let index = bytes.get(CHECKPOINT_HEADER_BYTES + header.rows_len as usize..)?;
        (crc32(index) == header.index_crc).then_some(Self { header, bytes })
    }

    /// Whether the bytes are a damaged checkpoint. A checkpoint of a future format does not count.
    pub fn is_damaged(bytes: FileContent) -> bool {
        let future = CheckpointHeader::decode(&bytes)
            .is_err_and(|e| matches!(e.problem, Problem::FutureVersion { .. }));
        !future && !Self::open(bytes).is_some_and(|checkpoint| checkpoint.is_whole())
    }

    /// Whether the digest of the rows is correct.
    pub fn is_whole(&self) -> bool {
        let rows = CHECKPOINT_HEADER_BYTES..CHECKPOINT_HEADER_BYTES + self.header.rows_len as usize;
        self.bytes.get(rows).is_some_and(|rows| sha256(rows) == self.header.digest)
    }

    /// Position at which reading resumes after the checkpoint.
    pub fn resume_position(&self, epoch: u64) -> ReadPosition {
        ReadPosition { segment: self.header.segment, frame: self.header.position, epoch }
    }
}

const CHECKPOINT: &str = "checkpoint-";
/// Prefix of a base: the state that replaces archived segments.
const BASE: &str = "base-";
/// File that lists the directories of archived segments, one per line, newest last.
pub const ARCHIVED_TO: &str = "archived-to";

fn file_name(sequence: Sequence) -> String {
    format!("{CHECKPOINT}{sequence:020}")
}

impl Log {
    /// The newest usable checkpoint of a projection.
    ///
    /// Returns [`LogError::ArchiveNeeded`] if the first segments are archived elsewhere and no base of
    /// this projection replaces them.
    pub fn newest_checkpoint(&mut self, projection: u16) -> Result<Option<Checkpoint>, LogError> {
        // The page names the newest one; listing a directory of many segments takes long.
        let named = self.control.as_ref().map_or(0, |page| page.checkpoint());
        if named > 0
            && let Some(checkpoint) = self.load_checkpoint(&file_name(named), projection)
        {
            return Ok(Some(checkpoint));
        }
        let names = self.state_files()?;
        for name in names.iter().rev() {
            if let Some(checkpoint) = self.load_checkpoint(name, projection) {
                return Ok(Some(checkpoint));
            }
        }
        // Without the events before the base, the state is known only from a base of this projection.
        match names.into_iter().find(|name| name.starts_with(BASE)) {
            Some(file) if self.lacks_first_segment() => {
                Err(LogError::ArchiveNeeded { file, archive: self.archive_directory() })
            }
            _ => Ok(None),
        }
    }

    /// Names of checkpoints and bases, oldest first.
    fn state_files(&self) -> Result<Vec<String>, LogError> {
        let mut names =
            self.storage.list().map_err(|e| LogError::io("list", "the log directory", e))?;
        names.retain(|name| name.starts_with(CHECKPOINT) || name.starts_with(BASE));
        names.sort_unstable_by(|a, b| a.rsplit('-').next().cmp(&b.rsplit('-').next()));
        Ok(names)
    }

    /// Whether the newest checkpoint or base is damaged.
    pub fn checkpoint_damaged(&self) -> Result<bool, LogError> {
        let newest = self.state_files()?.pop();
        let bytes = newest.and_then(|name| self.storage.open(&name, false).ok()?.content().ok());
        Ok(bytes.is_some_and(Checkpoint::is_damaged))
    }

    /// Highest sequence that a checkpoint of this log covers. All events up to it were on disk once.
    pub(super) fn covered_by_checkpoints(&self, log_id: [u8; 16]) -> Result<Sequence, LogError> {
        let covered = self.state_files()?.into_iter().filter_map(|name| {
            let bytes = self.storage.open(&name, false).and_then(|file| file.content()).ok()?;
            let header = Checkpoint::open(bytes)?.header;
            (header.log_id == log_id).then_some(header.sequence)
        });
        Ok(covered.max().unwrap_or(0))
    }

    /// Removes the checkpoints that cover events after `head`.
    pub(super) fn remove_checkpoints_above(&self, head: Sequence) -> Result<(), LogError> {
        let above = |name: &String| *name > file_name(head) && name.starts_with(CHECKPOINT);
        for name in self.state_files()?.into_iter().filter(above) {
            self.storage.remove(&name).map_err(|e| LogError::io("remove", &name, e))?;
        }
        Ok(())
    }

    /// Whether the first segment is archived in another directory.
    fn lacks_first_segment(&self) -> bool {
        self.storage.open(&segment_name(1), false).is_err()
    }

    /// Directory to which segments were last archived, if archiving recorded one.
    fn archive_directory(&self) -> Option<String> {
        let list = self.storage.open(ARCHIVED_TO, false).and_then(|file| file.content()).ok()?;
        String::from_utf8_lossy(&list).lines().last().map(str::to_owned)
    }

    /// Writes a base: the state from which reading starts once earlier segments are archived.
    ///
    /// Unlike a checkpoint, a base must not be lost. It is on disk when this returns. Removes older
    /// bases.
    pub fn write_base(&mut self, bytes: &[u8], sequence: Sequence) -> Result<(), LogError> {
        let name = format!("{BASE}{sequence:020}");
        let io = |e| LogError::io("write", &name, e);
        self.write_temporary("base.tmp", bytes).map_err(io)?;
        self.storage.rename("base.tmp", &name).map_err(io)?;
        self.storage.sync_dir().map_err(io)?;
        let names = self.storage.list().map_err(io)?;
        for old in names.iter().filter(|old| old.starts_with(BASE) && **old < name) {
            self.storage.remove(old).map_err(io)?;
        }
        Ok(())
    }

    /// Writes a file that is renamed afterwards.
    ///
    /// Uses the storage instead of `platform::fs::write_atomic`, so that the crash simulation covers
    /// every step.
    fn write_temporary(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let _ = self.storage.remove(name);
        let file = self.storage.open(name, true)?;
        file.write_at(0, bytes)?;
        // ORDER: the content is durable before the rename, so that a power loss cannot leave the final
        // name without content.
        file.sync()
    }

    /// Moves a sealed segment to the archive.
    pub fn archive_segment(&mut self, base: Sequence) -> Result<(), LogError> {
        let name = segment_name(base);
        self.storage.archive(&name).map_err(|e| LogError::io("archive", &name, e))
    }

    /// Loads a checkpoint; `None` if it is damaged, of another projection or log, or its segment is gone.
    fn load_checkpoint(&mut self, name: &str, projection: u16) -> Option<Checkpoint> {
        let file = self.storage.open(name, false).ok()?;
        // Mapped, because a command reads a few rows and the file may be large.
        let checkpoint = Checkpoint::open(file.content().ok()?)?;
        let segment = self.segment(checkpoint.header.segment).ok()?;
        let header = &checkpoint.header;
        let usable = header.projection == projection && header.log_id == segment.header.log_id;
        // Damaged rows are detected when they are read, and rebuilt from the log. That is impossible
        // if the first segments are missing, so check the rows now.
        (usable && (!self.lacks_first_segment() || checkpoint.is_whole())).then_some(checkpoint)
    }

    /// Writes a checkpoint and removes all but the two newest.
    ///
    /// Does nothing if another process is writing a checkpoint.
    pub fn write_checkpoint(&mut self, bytes: &[u8], sequence: Sequence) -> Result<(), LogError> {
        let io = |e| LogError::io("write", "checkpoint", e);
        let lock = self.storage.lock_file("checkpoint.lock").map_err(io)?;
        let Some(_guard) = LockGuard::try_take(&lock).map_err(io)? else { return Ok(()) };
        self.write_temporary("checkpoint.tmp", bytes).map_err(io)?;
        // Not followed by a sync of the directory: a lost checkpoint is written again.
        self.storage.rename("checkpoint.tmp", &file_name(sequence)).map_err(io)?;
        if let Some(page) = &self.control {
            page.set_checkpoint(sequence);
        }
        let names = self.storage.list().map_err(io)?;
        let old = names.iter().filter(|name| name.starts_with(CHECKPOINT)).rev().skip(2);
        for name in old {
            let _ = self.storage.remove(name);
        }
        Ok(())
    }
}
