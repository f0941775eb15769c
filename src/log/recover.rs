//! What is done, under the writer lock, when nobody has vouched for the tail since the machine
//! started?
//!
//! Nothing is destroyed: a segment that does not end cleanly is left as it is, the bad range is
//! copied to `quarantine-…`, and writing goes on in a new segment.

use c2c_log_format::limits::FRAME_HEADER_BYTES;
use c2c_log_format::scan::{Damage, Piece};
use c2c_log_format::segment::{Reason, file_name};
use c2c_log_format::{Sequence, bytes};

use super::storage::{FileIdentity, read_range};
use super::{Log, LogError, Tail, read_segment};

/// The file that names its own inode: in a copy it names another's.
const PLACE: &str = "place";
const PLACE_BYTES_MAX: u64 = 64;

fn place_line(identity: FileIdentity) -> String {
    format!("{} {}\n", identity.inode, identity.born_ns)
}

impl Log {
    /// Makes the tail true, and gives a restored copy an id of its own.
    pub(super) fn recover(&mut self) -> Result<(), LogError> {
        self.segments.clear();
        match self.last_usable_segment()? {
            None => self.create_first()?,
            Some(last) => {
                self.recover_tail(last)?;
                if self.is_copy()? {
                    self.fork()?;
                }
            }
        }
        match self.mark_place() {
            // A full disk must not keep anybody from reading mail.
            Err(LogError::Full { .. }) => Ok(()),
            other => other,
        }
    }

    /// Whether the files were copied here from elsewhere: two logs must not go on under one id.
    fn is_copy(&self) -> Result<bool, LogError> {
        let io = |e| LogError::io("read", PLACE, e);
        let Some(noted) = self.noted_place().map_err(io)? else { return Ok(false) };
        Ok(noted != place_line(self.storage.identity(PLACE).map_err(io)?))
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

    /// Goes on in a segment with another log id; the segment before holds the old one.
    fn fork(&mut self) -> Result<(), LogError> {
        let tail = self.tail().ok_or(LogError::Reload)?;
        let empty = tail.place.offset == super::SEGMENT_HEADER_BYTES;
        // An empty segment has the name that the new one would get.
        let base = tail.place.sequence + Sequence::from(empty);
        self.open_next(tail.segment, tail.place, base, Reason::Restored)
    }

    /// Scans the last segment, syncs it, and publishes the tail.
    fn recover_tail(&mut self, last: Sequence) -> Result<(), LogError> {
        let name = file_name(last);
        let segment = self.segment(last)?;
        let io = |operation: &'static str| {
            let name = name.clone();
            move |e| LogError::io(operation, &name, e)
        };
        let len = segment.file.len().map_err(io("measure"))?;
        let content = read_range(&*segment.file, 0, len).map_err(io("read"))?;
        let mut scanner = read_segment(&content, &segment.header);
        let mut place = scanner.place();
        let mut damages = Vec::new();
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
        segment.file.sync().map_err(io("sync"))?;
        self.note_loss(last, place.offset, place.sequence)?;
        let seal = scanner.seal();
        let page = self.page();
        page.set_poisoned(0);
        page.set_durable(place.sequence - 1);
        if let Some(next) = seal {
            return self.open_next(last, place, next, Reason::Rotation);
        }
        if damages.is_empty() {
            let tail = Tail { boot_id: self.boot_id, segment: last, place };
            self.page().set_zeroed(0);
            self.page().set_tail(&tail);
            return Ok(());
        }
        for damage in &damages {
            self.quarantine(last, damage, &content)?;
        }
        let base = highest_named(&content, &damages, segment.header.salt, place.sequence);
        self.open_next(last, place, base, Reason::Recovery)
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

    /// The page may remember that more was on disk than is there now: that is loss, and is kept
    /// for `health` as a range set aside.
    fn note_loss(
        &mut self,
        segment: Sequence,
        offset: usize,
        next: Sequence,
    ) -> Result<(), LogError> {
        let page = self.page();
        let same = page.tail().is_some_and(|tail| tail.segment == segment);
        let durable = page.durable();
        if !same || durable < next {
            return Ok(());
        }
        let name = format!("quarantine-{segment:020}-{offset:012}-lost-{next}-{durable}");
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
