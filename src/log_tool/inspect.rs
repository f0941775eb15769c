//! `c2c-log inspect`: showing and following events.

use std::collections::VecDeque;
use std::time::Duration;

use c2c_log_format::EventHead;
use clap::{Args, ValueEnum};

use super::exit::{CLEAN, CORRUPT, ExitResult, TORN, ToolError};
use super::files::{self, EventRecord, LogFiles};
use super::filter::{EventFilter, FilterArgs};
use super::location::LogLocation;
use super::render;
use crate::present::diagnostics::note;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
    Hex,
}

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct InspectArgs {
    #[command(flatten)]
    location: LogLocation,
    #[command(flatten)]
    filter: FilterArgs,
    /// Wait for new events and show them
    #[arg(short = 'f', long)]
    follow: bool,
    /// Show only the last N events
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
    /// Show the newest events first
    #[arg(short = 'r', long)]
    reverse: bool,
    /// Format of the events
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    output: Output,
    /// Show message bodies, which are hidden otherwise
    #[arg(long)]
    bodies: bool,
    /// Show times in UTC
    #[arg(long)]
    utc: bool,
}

const EXAMPLES: &str = "\
Examples:
  c2c-log inspect -n 20                        show the last 20 events
  c2c-log inspect -f --alias alice             follow the events about alice
  c2c-log inspect --kind message -o json       write message events as JSON lines";

impl InspectArgs {
    pub fn run(self) -> ExitResult {
        let log = files::open(&self.location)?;
        let filter = self.filter.compile()?;
        let (mut status, mut last) = (CLEAN, 0);
        if self.lines.is_some() || self.reverse {
            (status, last) = self.show_newest(&log, &filter)?;
        } else {
            for base in &log.bases {
                let shown = self.show_segment(&log, *base, &filter, 0, &mut |sequence, line| {
                    last = last.max(sequence);
                    render::out(&line)
                })?;
                status = status.max(shown);
            }
        }
        if self.follow { self.follow(&log, &filter, last) } else { Ok(status) }
    }

    /// Shows the last matching events, reading no more segments than necessary.
    ///
    /// Returns the exit status and the last sequence shown.
    fn show_newest(&self, log: &LogFiles, filter: &EventFilter) -> Result<(u8, u64), ToolError> {
        let limit = self.lines.unwrap_or(usize::MAX);
        let (mut status, mut last) = (CLEAN, 0);
        let mut newest_first: Vec<VecDeque<String>> = Vec::new();
        let mut count = 0;
        for base in log.bases.iter().rev() {
            let mut lines = VecDeque::new();
            let read = self.show_segment(log, *base, filter, 0, &mut |sequence, line| {
                last = last.max(sequence);
                lines.push_back(line);
                if lines.len() > limit - count {
                    lines.pop_front();
                }
                Ok(())
            })?;
            status = status.max(read);
            count += lines.len();
            if self.reverse {
                lines.iter().rev().try_for_each(|line| render::out(line))?;
            } else {
                newest_first.push(lines);
            }
            if count >= limit {
                break;
            }
        }
        newest_first.iter().rev().flatten().try_for_each(|line| render::out(line))?;
        Ok((status, last))
    }

    /// Passes the matching events of a segment after a sequence to `show`; reports damage on stderr.
    fn show_segment(
        &self,
        log: &LogFiles,
        base: u64,
        filter: &EventFilter,
        after: u64,
        show: &mut dyn FnMut(u64, String) -> Result<(), ToolError>,
    ) -> ExitResult {
        let mut written = Ok(());
        let matches_head =
            |head: &EventHead, time_us| head.sequence > after && filter.matches_head(head, time_us);
        let damages = log.read_events(base, &matches_head, &mut |event| {
            if written.is_ok() && filter.matches_payload(&event) {
                written = show(event.head.sequence, self.render(&event));
            }
        })?;
        written?;
        for damage in &damages {
            note(&format!("damage: segment {base} offset {}: {}", damage.offset, damage.error));
        }
        let is_corrupt = damages.iter().any(|damage| damage.followed);
        Ok(if is_corrupt {
            CORRUPT
        } else if damages.is_empty() {
            CLEAN
        } else {
            TORN
        })
    }

    fn render(&self, event: &EventRecord) -> String {
        match self.output {
            Output::Text => render::text(event, self.bodies, self.utc),
            Output::Json => format!("{}\n", render::object(event, self.bodies)),
            Output::Hex => render::hex(event),
        }
    }

    /// Shows new events until the process is stopped.
    fn follow(&self, log: &LogFiles, filter: &EventFilter, mut last: u64) -> ExitResult {
        let mut store = log.store();
        loop {
            let seen = store.version();
            let log = files::open(&self.location)?;
            // A rotation may have happened since, so read the segment before the last one as well.
            for base in log.bases.iter().rev().take(2).rev() {
                self.show_segment(&log, *base, filter, last, &mut |sequence, line| {
                    last = last.max(sequence);
                    render::out(&line)
                })?;
            }
            store.wait(seen, Duration::from_secs(1));
        }
    }
}
