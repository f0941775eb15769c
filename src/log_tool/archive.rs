//! `c2c-log archive`: moving old segments out of the log.
//!
//! Archiving moves whole segments, oldest first, up to the first message that is still unread. Before
//! the first one moves, it writes a base: the state from which reading starts without those segments.
//! Segments in the directory `archive` inside the log are still read; segments in another directory
//! are not. A message id in an unread segment is forgotten, so a retry would be delivered as a new
//! message; therefore segments with ids that may still be reused stay.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use c2c_log_format::Sequence;
use c2c_log_format::event::events;
use c2c_log_format::segment::file_name;
use clap::Args;
use serde_json::json;

use super::exit::{CLEAN, ExitResult, ToolError};
use super::files::{self, LogFiles};
use super::location::LogLocation;
use super::render;
use super::verify::check;
use crate::log::{ARCHIVE, ARCHIVED_TO, Directory, Log, LogError, Options, ReadPosition};
use crate::platform::fs::{
    PreparedFile, WriteOptions, create_private_directory, mode_of, private_options, sync_directory,
};
use c2c_core::limits::{MESSAGE_ID_RETENTION_COUNT, MESSAGE_ID_RETENTION_US};
use c2c_core::state::{CheckpointBase, PROJECTION, State};

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ArchiveArgs {
    #[command(flatten)]
    location: LogLocation,
    /// Move segments that end before this sequence or time (RFC 3339)
    #[arg(long, value_name = "SEQ|TIME", value_parser = parse_limit)]
    before: Limit,
    /// Move them to this directory instead of `archive` inside the log
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Move segments with message ids that may still be reused; a retry of such a message would be
    /// delivered again
    #[arg(long, requires = "to")]
    forget_ids: bool,
    /// Show the segments to move without moving them
    #[arg(long)]
    dry_run: bool,
    /// Write one JSON value
    #[arg(long, short = 'j')]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  c2c-log archive --before 2026-01-01T00:00:00Z --dry-run     show the segments to move
  c2c-log archive --before 50000                              move segments to log/archive
  c2c-log archive --before 50000 --to /backup/segments        move segments out of the root";

/// How far archiving may go.
#[derive(Debug, Clone, Copy)]
enum Limit {
    Sequence(Sequence),
    TimeUs(u64),
}

fn parse_limit(text: &str) -> Result<Limit, String> {
    let sequence = text.parse().ok().map(Limit::Sequence);
    let limit = sequence.or_else(|| crate::platform::clock::parse(text).map(Limit::TimeUs));
    limit.ok_or_else(|| "neither a sequence nor a time such as 2026-01-31T12:00:00Z".into())
}

/// The segments to move, and the event that keeps the others in place.
struct ArchivePlan {
    bases: Vec<Sequence>,
    first_needed: Option<(Sequence, &'static str)>,
}

impl ArchiveArgs {
    pub fn run(self) -> ExitResult {
        let log_files = files::open(&self.location)?;
        log_files.require_directory("archive")?;
        let report = check(&log_files, false)?;
        if report.status() != CLEAN {
            let message = "the log is damaged; run c2c-log verify, then c2c-log repair --accept";
            return Err(ToolError::Failed(message.into()));
        }
        let storage = Arc::new(Directory::new(&log_files.directory));
        let mut log = Log::open(storage, Options::default());
        let (state, position) = replay(&mut log)?;
        if state.skipped > 0 {
            let message = "the log holds events of a newer c2c; archive it with that version";
            return Err(ToolError::Failed(message.into()));
        }
        let plan = self.plan(&log_files, &state)?;
        if !self.dry_run && !plan.bases.is_empty() {
            let log_id = log.log_id()?.unwrap_or_default();
            let now_us = crate::platform::clock::now_us();
            let base = state.checkpoint(log_id, position.segment, position.frame, now_us);
            // ORDER: the base is on disk before the first segment moves.
            log.write_base(&base, state.head)?;
            self.move_segments(&mut log, &log_files, &plan.bases)?;
        }
        self.print(&plan)?;
        Ok(CLEAN)
    }

    fn plan(&self, log: &LogFiles, state: &State) -> Result<ArchivePlan, ToolError> {
        let mut first_needed = state.first_undelivered();
        if self.to.is_some() && !self.forget_ids {
            let remembered = first_remembered(log, crate::platform::clock::now_us())?;
            let remembered = remembered.map(|sequence| (sequence, "its message id may be reused"));
            first_needed = first_needed.into_iter().chain(remembered).min();
        }
        let mut bases = Vec::new();
        for pair in log.bases.windows(2) {
            let (base, next) = (pair[0], pair[1]);
            let is_needed = first_needed.is_some_and(|(first, _)| first < next);
            if is_needed || !self.ends_before_limit(log, next) {
                break;
            }
            let target = self.target_directory(log).join(file_name(base));
            if fs::canonicalize(target).ok() != fs::canonicalize(log.path(base)).ok() {
                bases.push(base);
            }
        }
        Ok(ArchivePlan { bases, first_needed })
    }

    fn target_directory(&self, log: &LogFiles) -> PathBuf {
        self.to.clone().unwrap_or_else(|| log.directory.join(ARCHIVE))
    }

    /// Whether the segment that `next` follows ends before the requested limit.
    fn ends_before_limit(&self, log: &LogFiles, next: Sequence) -> bool {
        match self.before {
            Limit::Sequence(sequence) => next <= sequence,
            Limit::TimeUs(time_us) => {
                log.segment_header(next).is_some_and(|header| header.created_us <= time_us)
            }
        }
    }

    fn move_segments(
        &self,
        log: &mut Log,
        files: &LogFiles,
        bases: &[Sequence],
    ) -> Result<(), ToolError> {
        if let Some(directory) = &self.to {
            record_directory(files, directory)
                .map_err(|e| cannot("record the archive", directory, &e))?;
        }
        let bar = files::progress(bases.len() as u64);
        for base in bases {
            match &self.to {
                None => log.archive_segment(*base)?,
                Some(directory) => {
                    move_file(&files.path(*base), &directory.join(file_name(*base)))?;
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn print(&self, plan: &ArchivePlan) -> Result<(), ToolError> {
        let names: Vec<String> = plan.bases.iter().map(|base| file_name(*base)).collect();
        let to = self.to.as_ref().map_or_else(|| ARCHIVE.into(), |to| to.display().to_string());
        if self.json {
            let first_needed = plan
                .first_needed
                .map(|(sequence, what)| json!({ "sequence": sequence, "what": what }));
            let value = json!({
                "moved": names,
                "to": to,
                "dry_run": self.dry_run,
                "first_needed": first_needed,
            });
            return render::out(&format!("{value}\n"));
        }
        let verb = if self.dry_run { "would move" } else { "moved" };
        for name in &names {
            render::out(&format!("{verb} {name} to {to}\n"))?;
        }
        if names.is_empty() {
            render::out("nothing to archive\n")?;
        }
        if let Some((sequence, what)) = plan.first_needed {
            render::out(&format!("events from sequence {sequence} on stay: {what}\n"))?;
        }
        Ok(())
    }
}

/// The state at the head and the position there. All events up to the head are on disk.
fn replay(log: &mut Log) -> Result<(State, ReadPosition), LogError> {
    let mut position = ReadPosition::START;
    let mut state = State::default();
    if let Some(checkpoint) = log.newest_checkpoint(PROJECTION)? {
        let bytes = Arc::new(checkpoint.bytes.clone());
        let base = CheckpointBase::open(bytes, &checkpoint.header, Arc::new(|| None));
        if let Some(base) = base.filter(|base| !base.is_damaged()) {
            state = State::from_base(Some(&base), checkpoint.header.sequence);
            position = checkpoint.resume_position(log.epoch());
        }
    }
    log.read(&mut position, &mut |frame| {
        let header = frame.header;
        for event in events(frame.body, header.sequence, header.count).flatten() {
            state.apply_event(&event, header.time_us);
        }
    })?;
    log.wait_durable(state.head)?;
    Ok((state, position))
}

/// The first message whose id must still be recognised.
///
/// Ids are kept for [`MESSAGE_ID_RETENTION_US`], and for the last [`MESSAGE_ID_RETENTION_COUNT`] messages of each sender.
fn first_remembered(log: &LogFiles, now_us: u64) -> Result<Option<Sequence>, ToolError> {
    let mut newer_messages = HashMap::<u64, u64>::new();
    let mut first = None;
    for base in log.bases.iter().rev() {
        let mut sent = Vec::new();
        log.read_events(*base, &|head, _| head.message != 0, &mut |event| {
            sent.push((event.head.sequence, event.head.actor, event.time_us));
        })?;
        for (sequence, sender, time_us) in sent.into_iter().rev() {
            let count = newer_messages.entry(sender).or_default();
            if *count < MESSAGE_ID_RETENTION_COUNT || time_us + MESSAGE_ID_RETENTION_US > now_us {
                first = Some(sequence);
            }
            *count += 1;
        }
    }
    Ok(first)
}

/// Appends the directory to the list of archives, so that errors can name where segments are.
fn record_directory(log: &LogFiles, directory: &Path) -> io::Result<()> {
    let mut list =
        private_options().append(true).create(true).open(log.directory.join(ARCHIVED_TO))?;
    let directory = std::path::absolute(directory)?;
    list.write_all(format!("{}\n", directory.display()).as_bytes())?;
    list.sync_all()
}

/// Moves a file, also to another file system.
///
/// The copy is complete and on disk before the original is removed. An interrupted move can be
/// repeated.
fn move_file(from: &Path, to: &Path) -> Result<(), ToolError> {
    let failed = |e: io::Error| cannot("move to", to, &e);
    let directory = to.parent().unwrap_or(Path::new("."));
    create_private_directory(directory).map_err(failed)?;
    if !to.exists() {
        copy_file(from, to).map_err(failed)?;
    } else if fs::read(from).map_err(failed)? != fs::read(to).map_err(failed)? {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    } else {
        // An interrupted move may have left the name unsynced.
        sync_directory(directory).map_err(failed)?;
    }
    fs::remove_file(from).map_err(failed)
}

/// Copies a file with its mode. The copy is complete and on disk when its name appears.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut original = File::open(from)?;
    let mode = mode_of(&original.metadata()?);
    let options = WriteOptions { mode, ..WriteOptions::PRIVATE };
    PreparedFile::create_with(to, options, |copy| io::copy(&mut original, copy).map(|_| ()))?
        .commit()
}

fn cannot(operation: &str, path: &Path, source: &io::Error) -> ToolError {
    ToolError::Failed(format!("cannot {operation} {}: {source}", path.display()))
}
