//! How do old segments leave the log, and nothing that is still needed?
//!
//! Whole segments from the front, oldest first, and only up to the first message that somebody has
//! yet to read. Before any of them moves, the state is kept in a base on disk. In the directory
//! `archive` below the log they are found as before; in another directory they are out of sight,
//! and reading starts from the base. What is out of sight cannot tell a retry from a new message,
//! so segments whose message ids may still be repeated stay.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use c2c_log_format::Sequence;
use c2c_log_format::event::events;
use c2c_log_format::segment::file_name;
use clap::Args;
use serde_json::json;

use super::files::{self, LogFiles};
use super::verify::check;
use super::{CLEAN, Ended, Place, Trouble, render};
use crate::limits::{ID_KEPT_COUNT, ID_KEPT_US};
use crate::log::{ARCHIVE, Cursor, Directory, Log, LogError, Options};
use crate::state::State;

#[derive(Args)]
pub struct Archive {
    #[command(flatten)]
    place: Place,
    /// Segments that end before this sequence or time (RFC 3339)
    #[arg(long, value_name = "SEQ|TIME", value_parser = limit)]
    before: Limit,
    /// Move them to this directory instead of `archive` below the log
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// With --to: move also what is needed to know a message id again; a retry under one that went
    /// would be delivered as a new message
    #[arg(long, requires = "to")]
    forget_ids: bool,
    /// Say what would move, and move nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON value
    #[arg(long, short = 'j')]
    json: bool,
}

/// How far archiving may go.
#[derive(Debug, Clone, Copy)]
enum Limit {
    Sequence(Sequence),
    TimeUs(u64),
}

fn limit(text: &str) -> Result<Limit, String> {
    let sequence = text.parse().ok().map(Limit::Sequence);
    let limit = sequence.or_else(|| crate::clock::parse(text).map(Limit::TimeUs));
    limit.ok_or_else(|| "neither a sequence nor a time as 2026-01-31T12:00:00Z".into())
}

/// What moves, and why no more than that.
struct Plan {
    move_bases: Vec<Sequence>,
    held_by: Option<(Sequence, &'static str)>,
}

impl Archive {
    pub fn run(self) -> Ended {
        let log_files = files::open(&self.place)?;
        log_files.only_directory("archive")?;
        let report = check(&log_files, false)?;
        if report.status() != CLEAN {
            let hint = "the log has damage: see c2c-log verify, then c2c-log repair --accept";
            return Err(Trouble::Unreadable(hint.into()));
        }
        let storage = Arc::new(Directory::new(&log_files.directory));
        let mut log = Log::open(storage, Options::default());
        let (state, cursor) = replay(&mut log).map_err(trouble)?;
        if state.skipped > 0 {
            let hint = "the log holds events of a newer c2c: archive it with that";
            return Err(Trouble::Unreadable(hint.into()));
        }
        let plan = self.plan(&log_files, &state)?;
        if !self.dry_run && !plan.move_bases.is_empty() {
            let log_id = log.log_id().map_err(trouble)?.unwrap_or_default();
            let now_us = crate::clock::now_us();
            let base = state.checkpoint(log_id, cursor.segment, cursor.place, now_us);
            // ORDER: what reading starts from is on disk before the first segment moves.
            log.write_base(&base, state.head).map_err(trouble)?;
            self.move_all(&mut log, &log_files, &plan.move_bases)?;
        }
        self.tell(&plan)?;
        Ok(CLEAN)
    }

    fn plan(&self, log: &LogFiles, state: &State) -> Result<Plan, Trouble> {
        let mut held_by = state.first_needed();
        if self.to.is_some() && !self.forget_ids {
            let remembered = first_remembered(log, crate::clock::now_us())?;
            let what = "its message id may be given again";
            held_by = held_by.into_iter().chain(remembered.map(|first| (first, what))).min();
        }
        let mut move_bases = Vec::new();
        for pair in log.bases.windows(2) {
            let (base, next) = (pair[0], pair[1]);
            let needed = held_by.is_some_and(|(first, _)| first < next);
            if needed || !self.ends_before(log, next) {
                break;
            }
            let target = self.directory(log).join(file_name(base));
            if fs::canonicalize(target).ok() != fs::canonicalize(log.path(base)).ok() {
                move_bases.push(base);
            }
        }
        Ok(Plan { move_bases, held_by })
    }

    /// Where the segments go.
    fn directory(&self, log: &LogFiles) -> PathBuf {
        self.to.clone().unwrap_or_else(|| log.directory.join(ARCHIVE))
    }

    /// Whether the segment before `next` ends before what was asked for.
    fn ends_before(&self, log: &LogFiles, next: Sequence) -> bool {
        match self.before {
            Limit::Sequence(sequence) => next <= sequence,
            Limit::TimeUs(time_us) => {
                log.segment_header(next).is_some_and(|header| header.created_us <= time_us)
            }
        }
    }

    fn move_all(&self, log: &mut Log, files: &LogFiles, bases: &[Sequence]) -> Result<(), Trouble> {
        if let Some(directory) = &self.to {
            note(files, directory).map_err(|e| cannot("note", directory, &e))?;
        }
        let bar = files::progress(bases.len() as u64);
        for base in bases {
            match &self.to {
                None => log.archive_segment(*base).map_err(trouble)?,
                Some(directory) => {
                    carry(&files.path(*base), &directory.join(file_name(*base)))?;
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn tell(&self, plan: &Plan) -> Result<(), Trouble> {
        let names: Vec<String> = plan.move_bases.iter().map(|base| file_name(*base)).collect();
        let to = self.to.as_ref().map_or_else(|| ARCHIVE.into(), |to| to.display().to_string());
        if self.json {
            let held_by =
                plan.held_by.map(|(sequence, what)| json!({ "sequence": sequence, "what": what }));
            let value = json!({
                "moved": names, "to": to, "dry_run": self.dry_run, "first_needed": held_by,
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
        if let Some((sequence, what)) = plan.held_by {
            render::out(&format!("kept from sequence {sequence} on: {what}\n"))?;
        }
        Ok(())
    }
}

fn trouble(error: LogError) -> Trouble {
    Trouble::Unreadable(error.to_string())
}

/// The state at the head, all of it on disk, and the place in the log.
fn replay(log: &mut Log) -> Result<(State, Cursor), LogError> {
    let mut cursor = Cursor::START;
    let mut state = State::default();
    if let Some(start) = log.newest_checkpoint(crate::state::PROJECTION)? {
        let base = crate::state::Base::open(
            Arc::new(start.bytes.clone()),
            &start.header,
            Arc::new(|| None),
        );
        if let Some(base) = base.filter(|base| !base.is_damaged()) {
            state = State::from_base(Some(&base), start.header.sequence);
            cursor = start.cursor(log.epoch());
        }
    }
    log.read(&mut cursor, &mut |frame| {
        let header = frame.header;
        for event in events(frame.body, header.sequence, header.count).flatten() {
            state.apply_event(&event, header.time_us);
        }
    })?;
    log.wait_durable(state.head)?;
    Ok((state, cursor))
}

/// The first message whose id is remembered: younger than the time that ids are kept, or followed by
/// too few of its sender.
fn first_remembered(log: &LogFiles, now_us: u64) -> Result<Option<Sequence>, Trouble> {
    let (mut newer, mut first) = (HashMap::<u64, u64>::new(), None);
    for base in log.bases.iter().rev() {
        let mut sent = Vec::new();
        log.rows(*base, &|head, _| head.message != 0, &mut |row| {
            sent.push((row.head.sequence, row.head.actor, row.time_us));
        })?;
        for (sequence, sender, time_us) in sent.into_iter().rev() {
            let count = newer.entry(sender).or_default();
            if *count < ID_KEPT_COUNT || time_us + ID_KEPT_US > now_us {
                first = Some(sequence);
            }
            *count += 1;
        }
    }
    Ok(first)
}

/// Leaves word where segments went, for whoever needs them again.
fn note(log: &LogFiles, directory: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut note = options
        .append(true)
        .create(true)
        .mode(0o600)
        .open(log.directory.join(crate::log::ARCHIVED_TO))?;
    let directory = std::path::absolute(directory)?;
    note.write_all(format!("{}\n", directory.display()).as_bytes())?;
    note.sync_all()
}

/// Moves a file, to another file system if need be: it is there, whole, before it goes from here.
/// A move that was interrupted goes on from where it was.
fn carry(from: &Path, to: &Path) -> Result<(), Trouble> {
    let failed = |e: io::Error| cannot("move to", to, &e);
    let directory = to.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    if !to.exists() {
        let part = to.with_extension("part");
        fs::copy(from, &part).map_err(failed)?;
        fs::File::open(&part).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(&part, to).map_err(failed)?;
    } else if fs::read(from).map_err(failed)? != fs::read(to).map_err(failed)? {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    fs::File::open(directory).and_then(|dir| dir.sync_all()).map_err(failed)?;
    fs::remove_file(from).map_err(failed)
}

fn cannot(what: &str, path: &Path, cause: &io::Error) -> Trouble {
    Trouble::Unreadable(format!("cannot {what} {}: {cause}", path.display()))
}
