//! Where are the segments, and what do they hold? Read-only.

use std::fs;
use std::path::{Path, PathBuf};

use crate::log::{ARCHIVE, Directory, Storage, read_segment};
use crate::store::{EventStore, SegmentedStore};
use c2c_log_format::event::events;
use c2c_log_format::limits::SEGMENT_HEADER_BYTES;
use c2c_log_format::scan::{Damage, Piece};
use c2c_log_format::segment::{SegmentHeader, file_name, parse_file_name};
use c2c_log_format::{EventHead, Sequence};

use super::{Place, Trouble};

/// One event on its way to the screen.
pub struct Row {
    pub head: EventHead,
    pub time_us: u64,
    pub payload: Vec<u8>,
    pub segment: Sequence,
    pub offset: usize,
    /// First of its batch.
    pub begins: bool,
    pub durable: bool,
}

/// A directory of segments, or a SQLite file, which is read as one segment.
pub struct LogFiles {
    pub root: PathBuf,
    pub directory: PathBuf,
    pub bases: Vec<Sequence>,
    /// Other directories in which segments of this log lie.
    archives: Vec<PathBuf>,
    in_one_file: bool,
}

/// Finds the log that is meant.
pub fn open(place: &Place) -> Result<LogFiles, Trouble> {
    open_with(place, &[])
}

/// The same, with segments that lie in other directories.
pub fn open_with(place: &Place, with: &[PathBuf]) -> Result<LogFiles, Trouble> {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let named = place.root.as_deref().or(place.broker_root.as_deref());
    #[cfg(feature = "sqlite")]
    if let Ok(crate::root::Root { path: root, .. }) = crate::root::named(named, &here)
        && crate::store::is_sqlite(&root)
    {
        let (directory, bases, archives) = (root.clone(), vec![1], Vec::new());
        return Ok(LogFiles { root, directory, bases, archives, in_one_file: true });
    }
    let root = crate::root::resolve(named, &here).map_err(|e| Trouble::Unreadable(e.message))?.path;
    let below = root.join(crate::broker::LOG_DIRECTORY);
    let directory = if below.is_dir() { below } else { root.clone() };
    let mut bases = bases(&directory)?;
    let mut archives = vec![directory.join(ARCHIVE)];
    archives.retain(|archive| archive.is_dir());
    archives.extend_from_slice(with);
    for archive in &archives {
        bases.extend(self::bases(archive)?);
    }
    bases.sort_unstable();
    bases.dedup();
    if bases.is_empty() {
        return Err(Trouble::Unreadable(format!("no log in {}", root.display())));
    }
    Ok(LogFiles { root, directory, bases, archives, in_one_file: false })
}

fn bases(directory: &Path) -> Result<Vec<Sequence>, Trouble> {
    let entries = fs::read_dir(directory)
        .map_err(|e| Trouble::Unreadable(format!("cannot list {}: {e}", directory.display())))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut bases: Vec<Sequence> = names.filter_map(|name| parse_file_name(&name)).collect();
    bases.sort_unstable();
    Ok(bases)
}

impl LogFiles {
    /// Where a segment lies: archived ones are read like the others.
    pub fn path(&self, base: Sequence) -> PathBuf {
        let name = file_name(base);
        let places = std::iter::once(&self.directory).chain(&self.archives);
        let found = places.map(|place| place.join(&name)).find(|path| path.exists());
        found.unwrap_or_else(|| self.directory.join(name))
    }

    /// Refuses what is done to the segments of a directory, where there is none.
    pub fn only_directory(&self, what: &str) -> Result<(), Trouble> {
        if !self.in_one_file {
            return Ok(());
        }
        let hint = "bring it back from a copy, or export it and import the lines into a directory";
        let path = self.root.display();
        Err(Trouble::Unreadable(format!("{what} is for log directories, not for {path}: {hint}")))
    }

    /// The same events as a store, to read only.
    pub fn store(&self) -> Box<dyn EventStore> {
        #[cfg(feature = "sqlite")]
        if self.in_one_file {
            return Box::new(crate::store::SqliteStore::open_read_only(&self.root));
        }
        Box::new(SegmentedStore::open(&self.directory))
    }

    /// The highest sequence that the log itself says is on disk, and what is wrong besides frames.
    pub fn marks(&self) -> Result<(Sequence, Vec<String>), Trouble> {
        #[cfg(feature = "sqlite")]
        if self.in_one_file {
            let mut store = crate::store::SqliteStore::open_read_only(&self.root);
            let wrong = store.integrity().map_err(|e| Trouble::Unreadable(e.to_string()))?;
            return Ok((store.durable_mark().unwrap_or(0), wrong));
        }
        let page = Directory::new(&self.directory).control(false).ok();
        let last = self.bases.last();
        let page = page.filter(|page| page.tail().is_some_and(|t| last == Some(&t.segment)));
        Ok((page.map_or(0, |page| page.durable()), Vec::new()))
    }

    /// The bytes of one segment.
    pub fn segment(&self, base: Sequence) -> Result<Vec<u8>, Trouble> {
        #[cfg(feature = "sqlite")]
        if self.in_one_file {
            let mut store = crate::store::SqliteStore::open_read_only(&self.root);
            return store.segment_bytes().map_err(|e| Trouble::Unreadable(e.to_string()));
        }
        let path = self.path(base);
        fs::read(&path)
            .map_err(|e| Trouble::Unreadable(format!("cannot read {}: {e}", path.display())))
    }

    /// Sequences above this do not count in the segment: a later one says so.
    pub fn void_above(&self, base: Sequence) -> Sequence {
        let next = self.bases.iter().find(|next| **next > base);
        let header = next.and_then(|next| self.segment_header(*next));
        header.map_or(Sequence::MAX, |header| header.durable)
    }

    pub fn segment_header(&self, base: Sequence) -> Option<SegmentHeader> {
        use std::io::Read;
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        let mut file = fs::File::open(self.path(base)).ok()?;
        file.read_exact(&mut bytes).ok()?;
        SegmentHeader::decode(&bytes).ok()
    }

    /// The events of one segment that count, and the damage in it.
    pub fn rows(
        &self,
        base: Sequence,
        wanted: &dyn Fn(&EventHead, u64) -> bool,
        visit: &mut dyn FnMut(Row),
    ) -> Result<Vec<Damage>, Trouble> {
        let bytes = self.segment(base)?;
        let void_above = self.void_above(base);
        let header = SegmentHeader::decode(&bytes)
            .map_err(|e| Trouble::Unreadable(format!("{}: {e}", file_name(base))))?;
        let mut damages = Vec::new();
        for piece in read_segment(&bytes, &header) {
            match piece {
                Piece::Frame { header, .. } if header.sequence > void_above => {}
                Piece::Frame { offset, header, body } => {
                    for event in events(body, header.sequence, header.count).flatten() {
                        if wanted(&event.head, header.time_us) {
                            visit(Row {
                                head: event.head,
                                time_us: header.time_us,
                                payload: event.payload.to_vec(),
                                segment: base,
                                offset,
                                begins: event.head.sequence == header.sequence,
                                durable: header.durable,
                            });
                        }
                    }
                }
                Piece::Damage(damage) => damages.push(damage),
            }
        }
        Ok(damages)
    }
}

/// A bar on standard error for what takes a while; none when nobody looks.
pub fn progress(total: u64) -> indicatif::ProgressBar {
    use std::io::IsTerminal;
    if !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let bar = indicatif::ProgressBar::new(total);
    if let Ok(style) = indicatif::ProgressStyle::with_template("{bar:40} {pos}/{len} segments") {
        bar.set_style(style);
    }
    bar
}
