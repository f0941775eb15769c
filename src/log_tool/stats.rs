//! How many events of what kind, from whom, and when?

use std::collections::BTreeMap;

use crate::clock;
use clap::Args;
use serde_json::{Value, json};

use super::files::{self, Row};
use super::inspect::Filter;
use super::{CLEAN, Ended, Place, render};

/// Rows of the chart over time.
const BUCKETS: u64 = 12;
const BAR_CHARS: u64 = 40;

#[derive(Args)]
pub struct Stats {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filter: Filter,
    /// One JSON value
    #[arg(long, short = 'j')]
    json: bool,
    /// Times in UTC
    #[arg(long)]
    utc: bool,
}

#[derive(Default)]
struct Counts {
    kinds: BTreeMap<String, (u64, u64)>,
    senders: BTreeMap<String, u64>,
    times: Vec<u64>,
    bytes: u64,
}

impl Counts {
    fn add(&mut self, row: &Row) {
        let entry = self.kinds.entry(render::kind(row)).or_default();
        entry.0 += 1;
        entry.1 += row.payload.len() as u64;
        self.bytes += row.payload.len() as u64;
        self.times.push(row.time_us);
        let payload: Value = serde_json::from_slice(&row.payload).unwrap_or_default();
        if let Some(from) = payload.get("from").and_then(Value::as_str) {
            *self.senders.entry(from.to_owned()).or_default() += 1;
        }
    }

    /// Start of each bucket, and the events in it.
    fn over_time(&self) -> Vec<(u64, u64)> {
        let (Some(first), Some(last)) = (self.times.iter().min(), self.times.iter().max()) else {
            return Vec::new();
        };
        let width = ((last - first) / BUCKETS + 1).max(1);
        let mut buckets: Vec<(u64, u64)> = (0..BUCKETS).map(|at| (first + at * width, 0)).collect();
        for time in &self.times {
            let at = ((time - first) / width).min(BUCKETS - 1) as usize;
            buckets[at].1 += 1;
        }
        buckets
    }
}

impl Stats {
    pub fn run(self) -> Ended {
        let log = files::open(&self.place)?;
        let wanted = self.filter.ready()?;
        let mut counts = Counts::default();
        let bar = files::progress(log.bases.len() as u64);
        for base in &log.bases {
            log.rows(*base, &|head, time| wanted.by_head(head, time), &mut |row| {
                if wanted.by_payload(&row) {
                    counts.add(&row);
                }
            })?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        let over_time = counts.over_time();
        if self.json {
            let kinds: BTreeMap<_, _> = counts
                .kinds
                .iter()
                .map(|(kind, (count, bytes))| (kind, json!({ "events": count, "bytes": bytes })))
                .collect();
            let times: Vec<_> = over_time
                .iter()
                .map(|(at, count)| json!({ "from": clock::rfc3339(*at), "events": count }))
                .collect();
            render::out(&format!(
                "{:#}\n",
                json!({
                    "events": counts.times.len(),
                    "payload_bytes": counts.bytes,
                    "segments": log.bases.len(),
                    "kinds": kinds,
                    "senders": counts.senders,
                    "over_time": times,
                })
            ))?;
            return Ok(CLEAN);
        }
        render::out(&self.text(&counts, &over_time))?;
        Ok(CLEAN)
    }

    fn text(&self, counts: &Counts, over_time: &[(u64, u64)]) -> String {
        let mut text = format!("{} events, {} payload bytes\n\n", counts.times.len(), counts.bytes);
        for (kind, (count, bytes)) in &counts.kinds {
            text.push_str(&format!("  {kind:24} {count:>9} {bytes:>12} B\n"));
        }
        if !counts.senders.is_empty() {
            text.push_str("\nmessages by sender\n");
        }
        for (sender, count) in &counts.senders {
            let sender = crate::envelope::for_terminal(sender);
            text.push_str(&format!("  {sender:24} {count:>9}\n"));
        }
        let most = over_time.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
        text.push_str("\nover time\n");
        for (at, count) in over_time {
            let bar = "█".repeat((count * BAR_CHARS / most) as usize);
            text.push_str(&format!("  {}  {count:>9}  {bar}\n", clock::human(*at, self.utc)));
        }
        text
    }
}
