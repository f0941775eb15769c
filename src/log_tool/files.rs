//! Read-only access to the segments and events of a log.

use std::fs;
use std::path::{Path, PathBuf};

use c2c_log_format::event::events;
use c2c_log_format::limits::SEGMENT_HEADER_BYTES;
use c2c_log_format::scan::{ScanDamage, Scanned};
use c2c_log_format::segment::{SegmentHeader, file_name, parse_file_name};
use c2c_log_format::{EventHead, Sequence};

use super::exit::ToolError;
use super::location::LogLocation;
use crate::log::{ARCHIVE, Directory, Storage, read_segment};
use crate::store::{SegmentedStore, Store};

/// One event of a log, with its position.
pub struct EventRecord {
    pub head: EventHead,
    pub time_us: u64,
    pub payload: Vec<u8>,
    pub segment: Sequence,
    pub offset: usize,
    pub begins_batch: bool,
    pub durable: bool,
}

/// A directory of segments, or a SQLite file, which is read as one segment.
pub struct LogFiles {
    pub root: PathBuf,
    pub directory: PathBuf,
    pub bases: Vec<Sequence>,
    /// Other directories that hold segments of this log.
    archives: Vec<PathBuf>,
    is_sqlite: bool,
}

/// Finds the log that the command line names.
pub fn open(location: &LogLocation) -> Result<LogFiles, ToolError> {
    open_with_archives(location, &[])
}

/// Finds the log that the command line names, with segments in further directories.
pub fn open_with_archives(
    location: &LogLocation,
    archives: &[PathBuf],
) -> Result<LogFiles, ToolError> {
    let here = std::env::current_dir().ok();
    let here = here.as_deref();
    let path = location.path();
    let caller = crate::env::actor::resolve(None, here);
    let hint = crate::env::actor::session_hint(&caller);
    #[cfg(feature = "sqlite")]
    if let Ok(crate::env::root::Root { path: root, .. }) =
        crate::env::root::named(path, here, hint.as_slice())
        && crate::store::is_sqlite(&root)
    {
        return Ok(LogFiles {
            directory: root.clone(),
            root,
            bases: vec![1],
            archives: Vec::new(),
            is_sqlite: true,
        });
    }
    let root = crate::env::root::resolve(path, here, hint.as_slice())
        .map_err(|e| ToolError::Failed(e.message))?
        .path;
    let log_directory = root.join(crate::broker::LOG_DIRECTORY);
    let directory = if log_directory.is_dir() { log_directory } else { root.clone() };
    let default_archive = Some(directory.join(ARCHIVE)).filter(|archive| archive.is_dir());
    let archives: Vec<PathBuf> =
        default_archive.into_iter().chain(archives.iter().cloned()).collect();
    let mut bases = list_bases(&directory)?;
    for archive in &archives {
        bases.extend(list_bases(archive)?);
    }
    bases.sort_unstable();
    bases.dedup();
    if bases.is_empty() {
        return Err(ToolError::Failed(format!("no log in {}", root.display())));
    }
    Ok(LogFiles { root, directory, bases, archives, is_sqlite: false })
}

fn list_bases(directory: &Path) -> Result<Vec<Sequence>, ToolError> {
    let entries = fs::read_dir(directory)
        .map_err(|e| ToolError::Failed(format!("cannot list {}: {e}", directory.display())))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut bases: Vec<Sequence> = names.filter_map(|name| parse_file_name(&name)).collect();
    bases.sort_unstable();
    Ok(bases)
}

impl LogFiles {
    /// Path of a segment, archived or not.
    pub fn path(&self, base: Sequence) -> PathBuf {
        let name = file_name(base);
        std::iter::once(&self.directory)
            .chain(&self.archives)
            .map(|directory| directory.join(&name))
            .find(|path| path.exists())
            .unwrap_or_else(|| self.directory.join(name))
    }

    /// Fails for a SQLite file, which `command` does not support.
    pub fn require_directory(&self, command: &str) -> Result<(), ToolError> {
        if !self.is_sqlite {
            return Ok(());
        }
        Err(ToolError::Failed(format!(
            "{command} works on log directories only, not on {}: restore it from a copy, or export it \
             and import the lines into a directory",
            self.root.display()
        )))
    }

    /// The log as a read-only store.
    pub fn store(&self) -> Box<dyn Store> {
        #[cfg(feature = "sqlite")]
        if self.is_sqlite {
            return Box::new(crate::store::SqliteStore::open_read_only(&self.root));
        }
        Box::new(SegmentedStore::open(&self.directory))
    }

    /// The highest sequence that the log records as durable, and problems outside the frames.
    pub fn durable_and_problems(&self) -> Result<(Sequence, Vec<String>), ToolError> {
        #[cfg(feature = "sqlite")]
        if self.is_sqlite {
            let mut store = crate::store::SqliteStore::open_read_only(&self.root);
            let problems = store.integrity()?;
            return Ok((store.recorded_durable().unwrap_or(0), problems));
        }
        let last = self.bases.last();
        let page = Directory::new(&self.directory).control(false).ok();
        let page = page.filter(|page| page.tail().is_some_and(|t| last == Some(&t.segment)));
        Ok((page.map_or(0, |page| page.durable()), Vec::new()))
    }

    /// The bytes of one segment.
    pub fn segment(&self, base: Sequence) -> Result<Vec<u8>, ToolError> {
        #[cfg(feature = "sqlite")]
        if self.is_sqlite {
            let mut store = crate::store::SqliteStore::open_read_only(&self.root);
            return Ok(store.segment_bytes()?);
        }
        let path = self.path(base);
        fs::read(&path)
            .map_err(|e| ToolError::Failed(format!("cannot read {}: {e}", path.display())))
    }

    /// Highest sequence of a segment that counts, as the next segment records it.
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

    /// Visits the events of one segment that count and match; returns the damage in the segment.
    ///
    /// `matches` receives the head and the time in microseconds.
    pub fn read_events(
        &self,
        base: Sequence,
        matches: &dyn Fn(&EventHead, u64) -> bool,
        visit: &mut dyn FnMut(EventRecord),
    ) -> Result<Vec<ScanDamage>, ToolError> {
        let bytes = self.segment(base)?;
        let void_above = self.void_above(base);
        let header = SegmentHeader::decode(&bytes)
            .map_err(|e| ToolError::Failed(format!("{}: {e}", file_name(base))))?;
        let mut damages = Vec::new();
        for piece in read_segment(&bytes, &header) {
            match piece {
                Scanned::Frame { header, .. } if header.sequence > void_above => {}
                Scanned::Frame { offset, header, body } => {
                    for event in events(body, header.sequence, header.count).flatten() {
                        if matches(&event.head, header.time_us) {
                            visit(EventRecord {
                                head: event.head,
                                time_us: header.time_us,
                                payload: event.payload.to_vec(),
                                segment: base,
                                offset,
                                begins_batch: event.head.sequence == header.sequence,
                                durable: header.durable,
                            });
                        }
                    }
                }
                Scanned::Damage(damage) => damages.push(damage),
            }
        }
        Ok(damages)
    }
}

/// A progress bar on standard error; hidden if that is not a terminal.
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
