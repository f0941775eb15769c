//! Recovery of the tail by the first writer after a boot.
//!
//! Recovery destroys nothing. It leaves a segment that does not end cleanly unchanged, copies each
//! damaged range to a `quarantine-…` file, and continues in a new segment.

use c2c_log_format::limits::FRAME_HEADER_BYTES;
use c2c_log_format::scan::{FramePosition, ScanDamage, Scanned};
use c2c_log_format::segment::{OpenReason, SegmentHeader, file_name};
use c2c_log_format::verdict::{Evidence, Verdict, judge};
use c2c_log_format::{Sequence, bytes};

use super::storage::read_range;
use super::{Control, Log, LogError, Tail, read_segment};
use crate::platform::fs::FileIdentity;

/// File that records its own identity. In a copied directory it records the identity of the original.
const IDENTITY_FILE: &str = "place";
const IDENTITY_BYTES_MAX: u64 = 64;

fn identity_line(identity: FileIdentity) -> String {
    format!("{} {}\n", identity.inode, identity.born_ns)
}

/// Whether a file still has the identity that it records.
///
/// The birth time decides if both sides have one: a copy never has the same, and unlike the inode
/// number on some file systems it survives a remount. Otherwise the inode number decides.
fn is_same_file(recorded: &str, present: FileIdentity) -> bool {
    let mut numbers = recorded.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(inode)), Some(Ok(born_ns))) = (numbers.next(), numbers.next()) else {
        return false;
    };
    match (born_ns, present.born_ns) {
        (0, _) | (_, 0) => inode == present.inode,
        (recorded, present) => recorded == present,
    }
}

impl Log {
    /// Makes the tail correct, and gives a copied log a new id.
    pub(super) fn recover(&mut self, page: &Control) -> Result<(), LogError> {
        self.segments.clear();
        match self.last_usable_segment()? {
            None => self.create_first(page)?,
            Some(last) => {
                let copy = self.is_copy()?;
                self.recover_tail(page, last, copy)?;
            }
        }
        match self.record_identity() {
            // A full disk must not prevent reading mail.
            Err(LogError::Full { .. }) => Ok(()),
            other => other,
        }
    }

    /// Opens a segment with a new log id after the last one.
    pub(super) fn leave_id(&mut self, page: &Control) -> Result<(), LogError> {
        match self.last_usable_segment()? {
            Some(last) => self.recover_tail(page, last, true),
            None => Ok(()),
        }
    }

    /// Whether the files were copied from another directory. Two logs must not continue under one id.
    fn is_copy(&self) -> Result<bool, LogError> {
        let io = |e| LogError::io("read", IDENTITY_FILE, e);
        let Some(recorded) = self.recorded_identity().map_err(io)? else { return Ok(false) };
        Ok(!is_same_file(&recorded, self.storage.identity(IDENTITY_FILE).map_err(io)?))
    }

    /// The recorded identity; `None` if the file is missing or incomplete.
    fn recorded_identity(&self) -> std::io::Result<Option<String>> {
        match self.storage.open(IDENTITY_FILE, false) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
            Ok(file) => {
                let bytes = read_range(&*file, 0, IDENTITY_BYTES_MAX)?;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                Ok(text.ends_with('\n').then_some(text))
            }
        }
    }

    fn record_identity(&self) -> Result<(), LogError> {
        let io = |e| LogError::io("write", IDENTITY_FILE, e);
        let file = self.storage.open(IDENTITY_FILE, true).map_err(io)?;
        let line = identity_line(self.storage.identity(IDENTITY_FILE).map_err(io)?);
        if self.recorded_identity().map_err(io)?.as_deref() == Some(&*line) {
            return Ok(());
        }
        file.truncate(0).map_err(io)?;
        file.write_at(0, line.as_bytes()).map_err(io)?;
        file.sync().map_err(io)?;
        self.storage.sync_dir().map_err(io)
    }

    /// Scans and syncs the last segment, then continues in it if it is clean, else in a new segment.
    ///
    /// If the log is a copy, the new segment has a new log id; earlier segments keep the old one.
    fn recover_tail(&mut self, page: &Control, last: Sequence, copy: bool) -> Result<(), LogError> {
        let name = file_name(last);
        let segment = self.segment(last)?;
        let io = |operation: &'static str| {
            let name = name.clone();
            move |e| LogError::io(operation, &name, e)
        };
        let len = segment.file.len().map_err(io("measure"))?;
        let content = read_range(&*segment.file, 0, len).map_err(io("read"))?;
        let SegmentScan { position, sealed, damages } = scan(&content, &segment.header);
        segment.file.sync().map_err(io("sync"))?;
        let acknowledged = self.acknowledged(page, last)?;
        let end = Evidence {
            unused: true,
            followed: false,
            sealed,
            proven: position.sequence <= acknowledged,
        };
        if judge(end) != Verdict::Clean {
            self.record_loss(last, position, acknowledged)?;
        }
        for damage in &damages {
            self.quarantine(last, damage, &content)?;
        }
        let stumbles = damages.iter().map(|damage| Evidence {
            unused: false,
            followed: damage.followed,
            sealed,
            proven: damage.first <= acknowledged,
        });
        let whole = stumbles.chain([end]).all(|facts| judge(facts) == Verdict::Clean);
        page.set_poisoned(0);
        page.set_durable(position.sequence - 1);
        let reason = match (copy, whole, sealed) {
            (true, ..) => OpenReason::Restored,
            (false, false, _) => OpenReason::Recovery,
            (false, true, true) => OpenReason::Rotation,
            (false, true, false) => {
                page.set_zeroed(0);
                page.set_tail(&Tail { boot_id: self.boot_id, segment: last, position });
                return Ok(());
            }
        };
        if !whole {
            self.remove_checkpoints_above(position.sequence - 1)?;
        }
        let next_unused =
            next_unused_sequence(&content, &damages, segment.header.salt, position.sequence);
        // Never the name of this segment, even if it is empty.
        let base = next_unused.max(acknowledged + 1).max(last + 1);
        self.open_next(page, last, position, base, reason)
    }

    /// Highest sequence that may have been reported as durable.
    ///
    /// Known from the page of an earlier boot and from the checkpoints; 0 if there are none.
    fn acknowledged(&mut self, page: &Control, last: Sequence) -> Result<Sequence, LogError> {
        let of_page = match page.tail() {
            Some(tail) if tail.segment >= last => page.durable(),
            _ => 0,
        };
        let log_id = self.segment(last)?.header.log_id;
        Ok(of_page.max(self.covered_by_checkpoints(log_id)?))
    }

    /// The newest segment with a readable header. Segments without one are moved to quarantine.
    fn last_usable_segment(&mut self) -> Result<Option<Sequence>, LogError> {
        for base in self.bases()?.into_iter().rev() {
            match self.segment(base) {
                Ok(_) => return Ok(Some(base)),
                Err(LogError::Format { .. }) => {
                    let name = file_name(base);
                    let quarantine = format!("quarantine-{name}");
                    self.storage
                        .rename(&name, &quarantine)
                        .map_err(|e| LogError::io("quarantine", &name, e))?;
                }
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }

    /// Records that acknowledged events vanished, as a quarantine file for `health` to report.
    fn record_loss(
        &self,
        segment: Sequence,
        end: FramePosition,
        acknowledged: Sequence,
    ) -> Result<(), LogError> {
        let (offset, next) = (end.offset, end.sequence);
        let name = format!("quarantine-{segment:020}-{offset:012}-lost-{next}-{acknowledged}");
        let io = |e| LogError::io("write", &name, e);
        self.storage.open(&name, true).map_err(io)?.sync().map_err(io)?;
        self.storage.sync_dir().map_err(io)
    }

    /// Copies a damaged range to a quarantine file, unless it exists already.
    fn quarantine(
        &mut self,
        segment: Sequence,
        damage: &ScanDamage,
        content: &[u8],
    ) -> Result<(), LogError> {
        let name = format!("quarantine-{segment:020}-{:012}", damage.offset);
        let exists = self.storage.list().is_ok_and(|names| names.contains(&name));
        if exists {
            return Ok(());
        }
        let io = |e| LogError::io("write", &name, e);
        let file = self.storage.open(&name, true).map_err(io)?;
        let range = content.get(damage.offset..damage.offset + damage.len).unwrap_or(&[]);
        file.write_at(0, range).map_err(io)?;
        file.sync().map_err(io)?;
        self.storage.sync_dir().map_err(io)
    }

    /// Names of the quarantine files that no operator has accepted yet.
    pub fn quarantined(&self) -> Result<Vec<String>, LogError> {
        let names =
            self.storage.list().map_err(|e| LogError::io("list", "the log directory", e))?;
        Ok(names.into_iter().filter(|name| name.starts_with("quarantine-")).collect())
    }
}

/// Result of scanning a segment.
struct SegmentScan {
    /// Position after the last good frame, or after damage that a good frame follows.
    position: FramePosition,
    sealed: bool,
    damages: Vec<ScanDamage>,
}

fn scan(content: &[u8], header: &SegmentHeader) -> SegmentScan {
    let mut scanner = read_segment(content, header);
    let (mut position, mut damages) = (scanner.position(), Vec::new());
    while let Some(piece) = scanner.next() {
        match piece {
            Scanned::Frame { .. } => position = scanner.position(),
            Scanned::Damage(damage) => {
                if damage.followed {
                    position = scanner.position();
                }
                damages.push(damage);
            }
        }
    }
    SegmentScan { position, sealed: scanner.seal().is_some(), damages }
}

/// Lowest sequence that neither the log nor its damaged bytes have used: sequences are never reused.
fn next_unused_sequence(
    content: &[u8],
    damages: &[ScanDamage],
    salt: u32,
    next: Sequence,
) -> Sequence {
    let mut unused = next;
    for damage in damages {
        let last = damage.last.unwrap_or(damage.first);
        unused = unused.max(last + 1);
        let range = content.get(damage.offset..damage.offset + FRAME_HEADER_BYTES).unwrap_or(&[]);
        if bytes::u32_at(range, 0).is_ok_and(|magic| magic ^ salt == c2c_log_format::frame::MAGIC)
            && let (Ok(first), Ok(count)) = (bytes::u64_at(range, 8), bytes::u16_at(range, 24))
            // A flipped bit can produce any number, so accept only a near one.
            && first >= next
            && first < next + 1_000_000
        {
            unused = unused.max(first + Sequence::from(count));
        }
    }
    unused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_recognised_by_birth_time_or_by_inode_without_one() {
        let recorded = identity_line(FileIdentity { inode: 7, born_ns: 1000 });
        assert!(is_same_file(&recorded, FileIdentity { inode: 7, born_ns: 1000 }));
        assert!(is_same_file(&recorded, FileIdentity { inode: 8, born_ns: 1000 }), "a remount");
        assert!(!is_same_file(&recorded, FileIdentity { inode: 7, born_ns: 2000 }), "inode reused");
        assert!(is_same_file(&recorded, FileIdentity { inode: 7, born_ns: 0 }), "an older kernel");
        let recorded = identity_line(FileIdentity { inode: 7, born_ns: 0 });
        assert!(is_same_file(&recorded, FileIdentity { inode: 7, born_ns: 3 }), "a newer kernel");
        assert!(!is_same_file(&recorded, FileIdentity { inode: 8, born_ns: 0 }));
    }
}
