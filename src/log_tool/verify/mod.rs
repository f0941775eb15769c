//! `c2c-log verify`: checking every byte of a log.

mod finding;
mod judge;
mod replay;
mod scan;

use std::path::PathBuf;

use c2c_log_format::Sequence;
use clap::Args;
use serde_json::{Value, json};

use super::exit::{CLEAN, ExitResult, TORN, ToolError};
use super::files::{self, LogFiles};
use super::location::LogLocation;
use super::render;

pub use finding::{Finding, Report};

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    #[command(flatten)]
    location: LogLocation,
    /// Write one JSON value
    #[arg(long, short = 'j')]
    json: bool,
    /// Read archived segments from this directory (repeatable)
    #[arg(long, value_name = "DIR")]
    with: Vec<PathBuf>,
    /// Skip the comparison of checkpoints with a replay
    #[arg(long)]
    no_replay: bool,
}

const EXAMPLES: &str = "\
Examples:
  c2c-log verify                              check the log of this directory's root
  c2c-log verify --json /backup/broker        check a copy, with JSON output
  c2c-log verify --with /backup/segments      include archived segments

Exit status: 0 clean, 1 incomplete batch at the end, 2 damage, 3 the log cannot be read";

impl VerifyArgs {
    pub fn run(self) -> ExitResult {
        let log = files::open_with_archives(&self.location, &self.with)?;
        let report = check(&log, !self.no_replay)?;
        render::out(&if self.json {
            format!("{:#}\n", as_json(&report, log.bases.len()))
        } else {
            as_text(&report, log.bases.len())
        })?;
        Ok(report.status())
    }
}

fn as_json(report: &Report, segments: usize) -> Value {
    let findings: Vec<_> = report.findings.iter().map(Finding::as_json).collect();
    json!({
        "status": report.status(),
        "segments": segments,
        "frames": report.frames,
        "events": report.events,
        "bytes": report.bytes,
        "checkpoints": report.checkpoints,
        "findings": findings,
    })
}

fn as_text(report: &Report, segments: usize) -> String {
    let mut text: String = report.findings.iter().map(Finding::as_line).collect();
    let summary = match report.status() {
        CLEAN => "clean",
        TORN => "torn tail",
        _ => "CORRUPT",
    };
    text.push_str(&format!(
        "{summary}: {} events in {} frames, {segments} segments, {} bytes, {} checkpoints replayed\n",
        report.events, report.frames, report.bytes, report.checkpoints
    ));
    text
}

/// Name of the file that records that an operator has accepted a damaged range.
pub fn accepted_name(segment: Sequence, offset: usize) -> String {
    format!("accepted-{segment:020}-{offset:012}")
}

/// Checks the whole log; with `replay`, also its checkpoints.
pub fn check(log: &LogFiles, replay: bool) -> Result<Report, ToolError> {
    let segments = scan::scan_all(log)?;
    let (durable, problems) = log.durable_and_problems()?;
    let first_base = segments.first().map_or(1, |segment| segment.base);
    let mut findings: Vec<Finding> =
        problems.into_iter().map(|what| Finding::at(first_base, 1, what)).collect();
    findings.extend(judge::judge_all(&segments, durable));
    for finding in &mut findings {
        let name = accepted_name(finding.segment, finding.offset);
        finding.accepted = log.directory.join(name).exists();
    }
    let mut report = Report {
        frames: segments.iter().map(|segment| segment.frames).sum(),
        events: segments.iter().map(|segment| segment.events).sum(),
        bytes: segments.iter().map(|segment| segment.bytes as u64).sum(),
        checkpoints: 0,
        findings,
    };
    let (checkpoints, damaged) = replay::load_checkpoints(log);
    if replay::lacks_first_segment(log) && checkpoints.is_empty() {
        let what = "earlier segments are missing, and no base replaces them";
        report
            .findings
            .push(Finding { last: Some(log.bases[0] - 1), ..Finding::at(log.bases[0], 1, what) });
    } else if replay && report.findings.is_empty() {
        replay::compare_checkpoints(log, checkpoints, &mut report)?;
    }
    if replay {
        report.findings.extend(damaged);
    }
    Ok(report)
}
