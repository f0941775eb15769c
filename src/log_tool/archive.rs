//! How do old segments leave the log, and nothing that is still needed?
//!
//! Whole segments from the front, oldest first, and only up to the first message that somebody has
//! yet to read. Before any of them moves, the state is kept in a base on disk. In the directory
//! `archive` below the log they are found as before; in another directory they are out of sight,
//! and reading starts from the base.

use std::fs;
use std::io;
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
        let plan = self.plan(&log_files, &state);
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

    fn plan(&self, log: &LogFiles, state: &State) -> Plan {
        let held_by = state.first_needed();
        let archived = |base: &Sequence| !log.directory.join(file_name(*base)).exists();
        let mut move_bases = Vec::new();
        for pair in log.bases.windows(2) {
            let (base, next) = (pair[0], pair[1]);
            let needed = held_by.is_some_and(|(first, _)| first < next);
            if needed || !self.ends_before(log, next) {
                break;
            }
            if !archived(&base) || self.to.is_some() {
                move_bases.push(base);
            }
        }
        Plan { move_bases, held_by }
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

/// Moves a file, to another file system if need be: it is there, whole, before it goes from here.
fn carry(from: &Path, to: &Path) -> Result<(), Trouble> {
    let failed = |e: io::Error| {
        Trouble::Unreadable(format!("cannot move {} to {}: {e}", from.display(), to.display()))
    };
    let directory = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(failed)?;
    if to.exists() {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    fs::copy(from, to).map_err(failed)?;
    fs::File::open(to).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::File::open(directory).and_then(|dir| dir.sync_all()).map_err(failed)?;
    fs::remove_file(from).map_err(failed)
}
