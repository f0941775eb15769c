//! Comparing checkpoints with a replay of the log.

use std::sync::Arc;

use c2c_log_format::Event;
use c2c_log_format::checkpoint::CheckpointHeader;

use super::finding::{Finding, Report};
use crate::log::{Checkpoint, FileContent};
use crate::log_tool::exit::ToolError;
use crate::log_tool::files::{self, LogFiles};
use c2c_core::state::{CheckpointBase, PROJECTION, State};

/// Replays the log from its start and compares the state with every checkpoint on the way.
pub fn compare_checkpoints(
    log: &LogFiles,
    mut checkpoints: Vec<Checkpoint>,
    report: &mut Report,
) -> Result<(), ToolError> {
    checkpoints.retain(|checkpoint| checkpoint.header.projection == PROJECTION);
    checkpoints.sort_unstable_by_key(|checkpoint| checkpoint.header.sequence);
    let Some(oldest) = checkpoints.first() else { return Ok(()) };
    let mut state = if lacks_first_segment(log) { state_of(oldest) } else { State::default() };
    let headers = checkpoints.iter().map(|checkpoint| checkpoint.header);
    let headers: Vec<_> = headers.filter(|header| header.sequence > state.head).collect();
    let mut pending = headers.into_iter().peekable();
    let bar = files::progress(log.bases.len() as u64);
    for base in &log.bases {
        let mut differing: Vec<CheckpointHeader> = Vec::new();
        log.read_events(*base, &|_, _| true, &mut |record| {
            if record.head.sequence <= state.head {
                return;
            }
            let event = Event { head: record.head, payload: &record.payload };
            state.apply_event(&event, record.time_us);
            while let Some(header) = pending.next_if(|header| header.sequence == state.head) {
                report.checkpoints += 1;
                if state.digest() != header.digest {
                    differing.push(header);
                }
            }
        })?;
        report.findings.extend(differing.iter().map(|header| {
            let sequence = header.sequence;
            let what = format!("checkpoint at {sequence} differs from the replay: delete it");
            Finding::at(*base, sequence, what)
        }));
        bar.inc(1);
        if pending.peek().is_none() {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn state_of(checkpoint: &Checkpoint) -> State {
    let bytes = Arc::new(checkpoint.bytes.clone());
    let base = CheckpointBase::open(bytes, &checkpoint.header, Arc::new(|| None));
    State::from_base(base.as_ref(), checkpoint.header.sequence)
}

/// Whether the first segments are archived in a directory that is not read.
pub fn lacks_first_segment(log: &LogFiles) -> bool {
    log.bases.first().is_some_and(|base| *base > 1)
}

/// The checkpoints and bases from which reading can start, and findings about damaged ones.
pub fn load_checkpoints(log: &LogFiles) -> (Vec<Checkpoint>, Vec<Finding>) {
    let (mut usable, mut damaged) = (Vec::new(), Vec::new());
    let entries = std::fs::read_dir(&log.directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| is_checkpoint_or_base(name)) {
        // A newer checkpoint may just have replaced this one.
        let Ok(bytes) = std::fs::read(log.directory.join(&name)) else { continue };
        let bytes = FileContent::Read(bytes.into());
        match Checkpoint::open(bytes.clone()).filter(Checkpoint::is_whole) {
            Some(checkpoint) if log.bases.contains(&checkpoint.header.segment) => {
                usable.push(checkpoint);
            }
            None if Checkpoint::is_damaged(bytes) => damaged.push(damaged_file(log, &name)),
            _ => {}
        }
    }
    (usable, damaged)
}

fn is_checkpoint_or_base(name: &str) -> bool {
    name.starts_with("checkpoint-0") || name.starts_with("base-0")
}

fn damaged_file(log: &LogFiles, name: &str) -> Finding {
    let is_needed_base = lacks_first_segment(log) && name.starts_with("base-");
    let remedy = if is_needed_base {
        "bring the archived segments back, then delete it"
    } else {
        "delete it"
    };
    let segment = log.bases.last().copied().unwrap_or(1);
    let sequence = name.rsplit('-').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    Finding::at(segment, sequence, format!("{name} is damaged: {remedy}"))
}
