//! What is done, under the writer lock, when nobody has vouched for the tail since the machine
//! started?
//!
//! Nothing is destroyed: a segment that does not end cleanly is left as it is, the bad range is
//! copied to `quarantine-…`, and writing goes on in a new segment.

use c2c_log_format::limits::FRAME_HEADER_BYTES;
use c2c_log_format::scan::{Damage, Piece, Place};
use c2c_log_format::segment::{Reason, SegmentHeader, file_name};
use c2c_log_format::verdict::{Facts, Verdict, judge};
use c2c_log_format::{Sequence, bytes};

use super::storage::{FileIdentity, read_range};
use super::{Log, LogError, Tail, read_segment};

/// The file that names its own inode: in a copy it names another's.
const PLACE: &str = "place";
const PLACE_BYTES_MAX: u64 = 64;

fn place_line(identity: FileIdentity) -> String {
    format!("{} {}\n", identity.inode, identity.born_ns)
}

/// The time of birth decides where the file system keeps it: no copy has the same, and other than
/// the inode on some file systems it outlives a remount.
fn is_same_file(noted: &str, found: FileIdentity) -> bool {
    let mut numbers = noted.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(inode)), Some(Ok(born_ns))) = (numbers.next(), numbers.next()) else {
        return false;
    };
    match (born_ns, found.born_ns) {
        (0, _) | (_, 0) => inode == found.inode,
        (noted, found) => noted == found,
    }
}

impl Log {
    /// Makes the tail true, and gives a restored copy an id of its own.
    pub(super) fn recover(&mut self) -> Result<(), LogError> {
        self.segments.clear();
        match self.last_usable_segment()? {
            None => self.create_first()?,
            Some(last) => {
                let copy = self.is_copy()?;
                self.recover_tail(last, copy)?;
            }
        }
        match self.mark_place() {
            // A full disk must not keep anybody from reading mail.
            Err(LogError::Full { .. }) => Ok(()),
            other => other,
        }
    }

    /// Opens a segment with another log id after the last one.
    pub(super) fn leave_id(&mut self) -> Result<(), LogError> {
        match self.last_usable_segment()? {
            Some(last) => self.recover_tail(last, true),
            None => Ok(()),
        }
    }

    /// Whether the files were copied here from elsewhere: two logs must not go on under one id.
    fn is_copy(&self) -> Result<bool, LogError> {
        let io = |e| LogError::io("read", PLACE, e);
        let Some(noted) = self.noted_place().map_err(io)? else { return Ok(false) };
        Ok(!is_same_file(&noted, self.storage.identity(PLACE).map_err(io)?))
    }

    /// What the file says of itself; `None` if it is missing or was cut off.
    fn noted_place(&self) -> std::io::Result<Option<String>> {
        match self.storage.open(PLACE, false) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
            Ok(file) => {
                let bytes = read_range(&*file, 0, PLACE_BYTES_MAX)?;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                Ok(text.ends_with('\n').then_some(text))
            }
        }
    }

    fn mark_place(&self) -> Result<(), LogError> {
        let io = |e| LogError::io("write", PLACE, e);
        let file = self.storage.open(PLACE, true).map_err(io)?;
        let line = place_line(self.storage.identity(PLACE).map_err(io)?);
        if self.noted_place().map_err(io)?.as_deref() == Some(&*line) {
            return Ok(());
        }
        file.truncate(0).map_err(io)?;
        file.write_at(0, line.as_bytes()).map_err(io)?;
        file.sync().map_err(io)?;
        self.storage.sync_dir().map_err(io)
    }

    /// Scans the last segment, syncs it, and goes on there, or in a new segment, as the verdicts say.
    /// In a copy the new segment has another log id; the one before holds the old.
    fn recover_tail(&mut self, last: Sequence, copy: bool) -> Result<(), LogError> {
        let name = file_name(last);
        let segment = self.segment(last)?;
        let io = |operation: &'static str| {
            let name = name.clone();
            move |e| LogError::io(operation, &name, e)
        };
        let len = segment.file.len().map_err(io("measure"))?;
        let content = read_range(&*segment.file, 0, len).map_err(io("read"))?;
        let Scanned { place, sealed, damages } = scan(&content, &segment.header);
        segment.file.sync().map_err(io("sync"))?;
        let acknowledged = self.acknowledged(last)?;
        let end =
            Facts { unused: true, followed: false, sealed, proven: place.sequence <= acknowledged };
        if judge(end) != Verdict::Clean {
            self.note_loss(last, place, acknowledged)?;
        }
        for damage in &damages {
            self.quarantine(last, damage, &content)?;
        }
        let stumbles = damages.iter().map(|damage| Facts {
            unused: false,
            followed: damage.followed,
            sealed,
            proven: damage.first <= acknowledged,
        });
        let whole = stumbles.chain([end]).all(|facts| judge(facts) == Verdict::Clean);
        let page = self.page();
        page.set_poisoned(0);
        page.set_durable(place.sequence - 1);
        let reason = match (copy, whole, sealed) {
            (true, ..) => Reason::Restored,
            (false, false, _) => Reason::Recovery,
            (false, true, true) => Reason::Rotation,
            (false, true, false) => {
                page.set_zeroed(0);
                page.set_tail(&Tail { boot_id: self.boot_id, segment: last, place });
                return Ok(());
            }
        };
        if !whole {
            self.forget_checkpoints_above(place.sequence - 1)?;
        }
        let named = highest_named(&content, &damages, segment.header.salt, place.sequence);
        // Never the name of this segment, even if nothing is in it.
        let base = named.max(acknowledged + 1).max(last + 1);
        self.open_next(last, place, base, reason)
    }

    /// The highest sequence of which somebody may have been told that it is on disk, as far as the
    /// page of an earlier boot and the checkpoints know; 0 if they know nothing.
    fn acknowledged(&mut self, last: Sequence) -> Result<Sequence, LogError> {
        let page = self.page();
        let of_page = match page.tail() {
            Some(tail) if tail.segment >= last => page.durable(),
            _ => 0,
        };
        let log_id = self.segment(last)?.header.log_id;
        Ok(of_page.max(self.covered_by_checkpoints(log_id)?))
    }

    /// The newest segment with a readable header. One without any is set aside, whole.
    fn last_usable_segment(&mut self) -> Result<Option<Sequence>, LogError> {
        for base in self.bases()?.into_iter().rev() {
            match self.segment(base) {
                Ok(_) => return Ok(Some(base)),
                Err(LogError::Format { .. }) => {
                    let name = file_name(base);
                    let aside = format!("quarantine-{name}");
                    self.storage
                        .rename(&name, &aside)
                        .map_err(|e| LogError::io("set aside", &name, e))?;
                }
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }

    /// More was on disk than is there now: that is kept for `health` as a range set aside.
    fn note_loss(
        &self,
        segment: Sequence,
        end: Place,
        acknowledged: Sequence,
    ) -> Result<(), LogError> {
        let (offset, next) = (end.offset, end.sequence);
        let name = format!("quarantine-{segment:020}-{offset:012}-lost-{next}-{acknowledged}");
        let io = |e| LogError::io("write", &name, e);
        self.storage.open(&name, true).map_err(io)?.sync().map_err(io)?;
        self.storage.sync_dir().map_err(io)
    }

    /// Copies a damaged range to a file of its own, never overwriting one.
    fn quarantine(
        &mut self,
        segment: Sequence,
        damage: &Damage,
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

    /// Names of quarantined ranges that no operator has accepted yet.
    pub fn quarantined(&self) -> Result<Vec<String>, LogError> {
        let names = self.storage.list().map_err(|e| LogError::io("list", "log", e))?;
        Ok(names.into_iter().filter(|name| name.starts_with("quarantine-")).collect())
    }
}

/// What a scan of a segment found.
struct Scanned {
    /// After the last good frame, or after damage that one follows.
    place: Place,
    sealed: bool,
    damages: Vec<Damage>,
}

fn scan(content: &[u8], header: &SegmentHeader) -> Scanned {
    let mut scanner = read_segment(content, header);
    let (mut place, mut damages) = (scanner.place(), Vec::new());
    while let Some(piece) = scanner.next() {
        match piece {
            Piece::Frame { .. } => place = scanner.place(),
            Piece::Damage(damage) => {
                if damage.followed {
                    place = scanner.place();
                }
                damages.push(damage);
            }
        }
    }
    Scanned { place, sealed: scanner.seal().is_some(), damages }
}

/// Sequences are never reused: goes above every one that the damaged bytes still name.
fn highest_named(content: &[u8], damages: &[Damage], salt: u32, next: Sequence) -> Sequence {
    let mut highest = next;
    for damage in damages {
        let last = damage.last.unwrap_or(damage.first);
        highest = highest.max(last + 1);
        let range = content.get(damage.offset..damage.offset + FRAME_HEADER_BYTES).unwrap_or(&[]);
        if bytes::u32_at(range, 0).is_ok_and(|magic| magic ^ salt == c2c_log_format::frame::MAGIC)
            && let (Ok(first), Ok(count)) = (bytes::u64_at(range, 8), bytes::u16_at(range, 24))
            // A flipped bit can name any number: believe only a near one.
            && first >= next
            && first < next + 1_000_000
        {
            highest = highest.max(first + Sequence::from(count));
        }
    }
    highest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_from_its_copy_by_birth_and_by_inode_only_where_there_is_no_birth() {
        let noted = place_line(FileIdentity { inode: 7, born_ns: 1000 });
        assert!(is_same_file(&noted, FileIdentity { inode: 7, born_ns: 1000 }));
        assert!(is_same_file(&noted, FileIdentity { inode: 8, born_ns: 1000 }), "a remount");
        assert!(!is_same_file(&noted, FileIdentity { inode: 7, born_ns: 2000 }), "inode reused");
        assert!(is_same_file(&noted, FileIdentity { inode: 7, born_ns: 0 }), "an older kernel");
        let noted = place_line(FileIdentity { inode: 7, born_ns: 0 });
        assert!(is_same_file(&noted, FileIdentity { inode: 7, born_ns: 3 }), "a newer kernel");
        assert!(!is_same_file(&noted, FileIdentity { inode: 8, born_ns: 0 }));
    }
}
