//! Import of legacy files into the log, batch by batch.
//!
//! Each batch is one frame with the keys or the position of its rows, so an import that is
//! interrupted continues where it ended. The rows of files that were not imported yet are visible to
//! queries, which write nothing.

use std::collections::HashMap;
use std::path::Path;

use c2c_log_format::Payload;
use c2c_log_format::payload::Target;

use super::Broker;
use super::views::decoded;
use crate::error::Failure;
use crate::legacy::{
    self, ImportTarget, LegacyFile, LegacyLocks, LegacyReader, SkippedRows, history_hash,
};
use crate::platform::clock;
use c2c_core::command::ImportFiles;
use c2c_core::decide::{Actor, ForeignFile, ImportReply};
use c2c_core::state::{State, is_history};
use c2c_core::view::LoggedEvent;

/// How often an import looks for files that changed meanwhile.
const ROUNDS_MAX: usize = 3;

/// Outcome of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Rows that were added.
    pub rows: ImportReply,
    /// What could not be imported.
    pub skipped: SkippedRows,
}

/// The root that an import reads.
struct Source<'a> {
    root: &'a Path,
    /// Name of the root in the log; empty for the root in use.
    origin: String,
    /// Whether to record files without a row to import.
    records_empty_files: bool,
}

/// # Import of legacy files
impl Broker {
    /// Imports the legacy files under the root in use, under the locks of the older program.
    pub fn import_legacy_files(&mut self, actor: &Actor) -> Result<Imported, Failure> {
        self.catch_up()?;
        let files = self.foreign_files()?;
        if files.is_empty() {
            return Ok(Imported::default());
        }
        legacy::create_or_check_root(&self.root)?;
        // ORDER: the locks of the legacy files before the writer lock, as in a mirror.
        let root = self.root.clone();
        let locks = LegacyLocks::for_import(&root, &files)?;
        let imported = self.import(&Source::in_use(&root), actor)?;
        drop(locks);
        Ok(imported)
    }

    /// Imports what an export under the root in use would overwrite. The caller holds the locks.
    pub fn import_before_export(&mut self, actor: &Actor) -> Result<Imported, Failure> {
        let root = self.root.clone();
        self.import(&Source { records_empty_files: false, ..Source::in_use(&root) }, actor)
    }

    /// Imports the legacy files of another root, which is not changed.
    pub fn import_legacy_root(&mut self, root: &Path, actor: &Actor) -> Result<Imported, Failure> {
        let files = legacy::changed_files(root, "", &State::default())?;
        let locks = LegacyLocks::for_reading(root, &files)?;
        let source = Source { origin: legacy::origin_of(root), ..Source::in_use(root) };
        let imported = self.import(&source, actor)?;
        drop(locks);
        Ok(imported)
    }

    /// Counts the rows of the legacy files under a root that are not imported yet; under another root
    /// than the one in use, all rows.
    pub fn count_legacy_rows(&mut self, root: Option<&Path>) -> Result<Imported, Failure> {
        let mut counted = Imported::default();
        let mut nothing = Nothing(State::default());
        self.catch_up()?;
        let own = self.root.clone();
        let files = match root {
            Some(root) => legacy::changed_files(root, "", &nothing.0)?,
            None => self.foreign_files()?,
        };
        let target: &mut dyn ImportTarget = if root.is_some() { &mut nothing } else { self };
        let root = root.unwrap_or(&own).to_path_buf();
        let mut reader = LegacyReader::new(root, String::new(), files);
        loop {
            let batch = reader.next_batch(target)?;
            if batch.is_empty() {
                counted.skipped = reader.skipped;
                return Ok(counted);
            }
            batch.iter().for_each(|file| counted.rows.add(&file.rows.count()));
        }
    }

    fn import(&mut self, source: &Source<'_>, actor: &Actor) -> Result<Imported, Failure> {
        let Source { root, origin, records_empty_files } = source;
        let mut imported = Imported::default();
        let mut before = Vec::new();
        for _ in 0..ROUNDS_MAX {
            self.catch_up()?;
            let files = legacy::changed_files(root, origin, &self.state)?;
            // What is left is not whole, and another process may complete it.
            if files.is_empty() || files == before {
                break;
            }
            before.clone_from(&files);
            let mut reader = LegacyReader::new(root.to_path_buf(), origin.clone(), files);
            loop {
                let mut files = reader.next_batch(self)?;
                if files.is_empty() {
                    break;
                }
                files.retain(|file| *records_empty_files || !file.rows.is_empty());
                if !files.is_empty() {
                    let reply = self.execute(&ImportFiles { files }, actor)?.reply;
                    imported.rows.add(&reply);
                }
            }
            // A file that was not whole may be whole in the next round.
            imported.skipped.files = reader.skipped.files;
            imported.skipped.rows += reader.skipped.rows;
        }
        Ok(imported)
    }

    /// Legacy files under the root in use that differ from what the log has imported. A relay has
    /// none: its room histories are views of the log.
    pub(super) fn foreign_files(&mut self) -> Result<Vec<LegacyFile>, Failure> {
        if self.relay.is_some() {
            return Ok(Vec::new());
        }
        self.foreign.changed_files(&self.root, &self.state)
    }
}

impl<'a> Source<'a> {
    fn in_use(root: &'a Path) -> Self {
        Self { root, origin: String::new(), records_empty_files: true }
    }
}

/// # Rows that are not imported yet
impl Broker {
    /// Applies rows of legacy files that the log has not imported, only in memory. Histories are left
    /// out: no state depends on them, and they may be long.
    pub(super) fn merge_foreign(&mut self, actor: &Actor) -> Result<(), Failure> {
        let (histories, files) =
            self.foreign_files()?.into_iter().partition(|file| file.kind.is_log());
        self.foreign_histories = histories;
        let files: Vec<LegacyFile> = files;
        if files.is_empty() {
            return Ok(());
        }
        let actor = crate::env::actor::complete(actor, &self.root);
        let mut merged = Vec::new();
        let visited = self.visit_batches(files, &actor, &mut |event| merged.push(event));
        self.merged.append(&mut merged);
        visited
    }

    /// Passes the events that would import some files of lines to `visit`, oldest first.
    pub(super) fn visit_foreign_history(
        &mut self,
        is_wanted: &dyn Fn(&State, &LegacyFile) -> bool,
        visit: &mut dyn FnMut(LoggedEvent),
    ) -> Result<(), Failure> {
        let histories = self.foreign_histories.iter();
        let files: Vec<LegacyFile> =
            histories.filter(|file| is_wanted(&self.state, file)).cloned().collect();
        if files.is_empty() {
            return Ok(());
        }
        let state = self.state.clone();
        let visited = self.visit_batches(files, &Actor::default(), visit);
        self.state = state;
        visited
    }

    /// Applies the events that would import these files, batch by batch, and passes each to `visit`.
    fn visit_batches(
        &mut self,
        files: Vec<LegacyFile>,
        actor: &Actor,
        visit: &mut dyn FnMut(LoggedEvent),
    ) -> Result<(), Failure> {
        let mut reader = LegacyReader::new(self.root.clone(), String::new(), files);
        loop {
            let batch = reader.next_batch(self)?;
            if batch.is_empty() {
                return Ok(());
            }
            for event in self.decide_in_memory(batch, actor)? {
                self.state.apply(event.sequence, event.time_us, &event.payload);
                visit(event);
            }
        }
    }

    /// The events that would import these files, with the sequences after the head.
    fn decide_in_memory(
        &self,
        files: Vec<ForeignFile>,
        actor: &Actor,
    ) -> Result<Vec<LoggedEvent>, Failure> {
        let events = self.decide_import(files, actor)?;
        let (time_us, first) = (clock::now_us(), self.state.head + 1);
        let numbered = events.into_iter().zip(first..);
        Ok(numbered.map(|(payload, sequence)| LoggedEvent { sequence, time_us, payload }).collect())
    }
}

/// A log without events, in which every row is new.
struct Nothing(State);

impl ImportTarget for Nothing {
    fn state(&self) -> &State {
        &self.0
    }

    fn imported_history(&mut self, _: Option<u64>) -> Result<HashMap<u64, usize>, Failure> {
        Ok(HashMap::new())
    }
}

impl ImportTarget for Broker {
    fn state(&self) -> &State {
        &self.state
    }

    fn imported_history(&mut self, room: Option<u64>) -> Result<HashMap<u64, usize>, Failure> {
        let mut known = HashMap::new();
        let mut add = |hash| *known.entry(hash).or_default() += 1;
        self.store.search(
            &|head| room.is_none_or(|scope| head.scope == scope),
            &mut |stored| match decoded(&stored).map(|event| event.payload) {
                Some(Payload::MessageSent(sent))
                    if is_history(&sent) && matches!(sent.target, Target::Room { .. }) =>
                {
                    add(history_hash(sent.sent_us, sent.body.as_str()));
                }
                Some(Payload::LegacyDelivered(fact)) if room.is_none() => {
                    add(history_hash(fact.drained_us, fact.body.as_str()));
                }
                _ => {}
            },
            &|| false,
        )?;
        Ok(known)
    }
}
