//! `c2c-log stats`: counts of events by kind, sender and time.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use super::exit::{CLEAN, ExitResult};
use super::files::{self, EventRecord};
use super::filter::FilterArgs;
use super::location::LogLocation;
use super::render;
use crate::platform::clock;

/// Rows of the chart over time.
const BUCKETS: u64 = 12;
const BAR_CHARS: u64 = 40;

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct StatsArgs {
    #[command(flatten)]
    location: LogLocation,
    #[command(flatten)]
    filter: FilterArgs,
    /// Write one JSON value
    #[arg(long, short = 'j')]
    json: bool,
    /// Show times in UTC
    #[arg(long)]
    utc: bool,
}

const EXAMPLES: &str = "\
Examples:
  c2c-log stats                                  count all events
  c2c-log stats --kind message --alias alice     count the messages from and to alice
  c2c-log stats --since 2026-01-31T00:00:00Z     count the events since a time";

/// Number of events of a kind, and the bytes of their payloads.
#[derive(Default)]
struct KindCount {
    events: u64,
    bytes: u64,
}

#[derive(Default)]
struct Counts {
    kinds: BTreeMap<String, KindCount>,
    senders: BTreeMap<String, u64>,
    times_us: Vec<u64>,
    bytes: u64,
}

/// A period of the chart over time.
struct Bucket {
    start_us: u64,
    events: u64,
}

impl Counts {
    fn add(&mut self, event: &EventRecord) {
        let bytes = event.payload.len() as u64;
        let kind = self.kinds.entry(render::kind(event)).or_default();
        kind.events += 1;
        kind.bytes += bytes;
        self.bytes += bytes;
        self.times_us.push(event.time_us);
        let payload: Value = serde_json::from_slice(&event.payload).unwrap_or_default();
        if let Some(from) = payload.get("from").and_then(Value::as_str) {
            *self.senders.entry(from.to_owned()).or_default() += 1;
        }
    }

    fn over_time(&self) -> Vec<Bucket> {
        let (Some(first), Some(last)) = (self.times_us.iter().min(), self.times_us.iter().max())
        else {
            return Vec::new();
        };
        let width = ((last - first) / BUCKETS + 1).max(1);
        let mut buckets: Vec<Bucket> =
            (0..BUCKETS).map(|at| Bucket { start_us: first + at * width, events: 0 }).collect();
        for time_us in &self.times_us {
            let at = ((time_us - first) / width).min(BUCKETS - 1) as usize;
            buckets[at].events += 1;
        }
        buckets
    }

    fn as_json(&self, segments: usize) -> Value {
        let kinds: BTreeMap<_, _> = self
            .kinds
            .iter()
            .map(|(name, kind)| (name, json!({ "events": kind.events, "bytes": kind.bytes })))
            .collect();
        let over_time: Vec<_> = self
            .over_time()
            .iter()
            .map(|bucket| {
                json!({ "from": clock::rfc3339(bucket.start_us), "events": bucket.events })
            })
            .collect();
        json!({
            "events": self.times_us.len(),
            "payload_bytes": self.bytes,
            "segments": segments,
            "kinds": kinds,
            "senders": self.senders,
            "over_time": over_time,
        })
    }

    fn as_text(&self, utc: bool) -> String {
        let mut text = format!("{} events, {} payload bytes\n\n", self.times_us.len(), self.bytes);
        for (name, kind) in &self.kinds {
            text.push_str(&format!("  {name:24} {:>9} {:>12} B\n", kind.events, kind.bytes));
        }
        if !self.senders.is_empty() {
            text.push_str("\nmessages by sender\n");
        }
        for (sender, count) in &self.senders {
            let sender = crate::present::envelope::for_terminal(sender);
            text.push_str(&format!("  {sender:24} {count:>9}\n"));
        }
        let buckets = self.over_time();
        let most = buckets.iter().map(|bucket| bucket.events).max().unwrap_or(0).max(1);
        text.push_str("\nover time\n");
        for Bucket { start_us, events } in buckets {
            let bar = "█".repeat((events * BAR_CHARS / most) as usize);
            text.push_str(&format!("  {}  {events:>9}  {bar}\n", clock::human(start_us, utc)));
        }
        text
    }
}

impl StatsArgs {
    pub fn run(self) -> ExitResult {
        let log = files::open(&self.location)?;
        let filter = self.filter.compile()?;
        let mut counts = Counts::default();
        let bar = files::progress(log.bases.len() as u64);
        for base in &log.bases {
            log.read_events(*base, &|head, time| filter.matches_head(head, time), &mut |event| {
                if filter.matches_payload(&event) {
                    counts.add(&event);
                }
            })?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        render::out(&if self.json {
            format!("{:#}\n", counts.as_json(log.bases.len()))
        } else {
            counts.as_text(self.utc)
        })?;
        Ok(CLEAN)
    }
}
