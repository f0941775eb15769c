//! How do events leave a log as text, and enter another?

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;

use crate::log::{Directory, Log, Options};
use c2c_log_format::Payload;
use clap::Args;
use serde_json::{Value, json};

use super::files;
use super::inspect::Filter;
use super::{CLEAN, Ended, Place, Trouble, render};

#[derive(Args)]
pub struct Export {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filter: Filter,
}

impl Export {
    pub fn run(self) -> Ended {
        let log = files::open(&self.place)?;
        let wanted = self.filter.ready()?;
        for base in &log.bases {
            let mut written = Ok(());
            log.rows(*base, &|head, time| wanted.by_head(head, time), &mut |row| {
                if written.is_ok() && wanted.by_payload(&row) {
                    let mut line = render::object(&row, true);
                    line["begins_batch"] = json!(row.begins);
                    written = render::out(&format!("{line}\n"));
                }
            })?;
            written?;
        }
        Ok(CLEAN)
    }
}

#[derive(Args)]
pub struct Import {
    /// File with JSON lines, as `export` writes them; `-` for standard input
    file: PathBuf,
    /// New root; it must not hold a log yet
    #[arg(long)]
    to: PathBuf,
}

impl Import {
    pub fn run(self) -> Ended {
        let unreadable = |what: String| Trouble::Unreadable(what);
        let directory = self.to.join(crate::broker::LOG_DIRECTORY);
        if directory.exists() {
            return Err(unreadable(format!("{} holds a log already", self.to.display())));
        }
        let input: Box<dyn BufRead> = if self.file.as_os_str() == "-" {
            Box::new(std::io::stdin().lock())
        } else {
            let file = std::fs::File::open(&self.file)
                .map_err(|e| unreadable(format!("cannot read {}: {e}", self.file.display())))?;
            Box::new(std::io::BufReader::new(file))
        };
        let batches = read_batches(input)?;
        let mut log = Log::open(Arc::new(Directory::new(&directory)), Options::default());
        let trouble = |e: crate::log::LogError| unreadable(e.to_string());
        log.lock().map_err(trouble)?;
        let mut last = 0;
        for batch in &batches {
            last = log.append(&batch.events, batch.time_us, batch.durable).map_err(trouble)?.last;
        }
        log.unlock();
        log.wait_durable(last).map_err(trouble)?;
        render::out(&format!("imported {last} events into {}\n", self.to.display()))?;
        Ok(CLEAN)
    }
}

struct Batch {
    events: Vec<Payload>,
    time_us: u64,
    durable: bool,
}

/// All lines first: a bad one must not leave half a log behind.
fn read_batches(input: Box<dyn BufRead>) -> Result<Vec<Batch>, Trouble> {
    let mut batches: Vec<Batch> = Vec::new();
    for (at, line) in input.lines().enumerate() {
        let bad = |what: &str| Trouble::Unreadable(format!("line {}: {what}", at + 1));
        let line = line.map_err(|e| bad(&e.to_string()))?;
        let value: Value = serde_json::from_str(&line).map_err(|e| bad(&e.to_string()))?;
        let sequence = value["sequence"].as_u64().ok_or_else(|| bad("no sequence"))?;
        if sequence != at as u64 + 1 {
            return Err(bad("only a whole log, from its first event on, can be imported"));
        }
        let kind = value["kind_number"].as_u64().ok_or_else(|| bad("no kind_number"))? as u16;
        let payload = Payload::decode(kind, value["payload"].to_string().as_bytes());
        let payload = payload.ok_or_else(|| bad("a kind that this version does not know"))?;
        let payload = payload.map_err(|e| bad(&e.to_string()))?;
        let begins = value["begins_batch"].as_bool().unwrap_or(true);
        match batches.last_mut() {
            Some(batch) if !begins => batch.events.push(payload),
            _ => batches.push(Batch {
                events: vec![payload],
                time_us: value["time_us"].as_u64().ok_or_else(|| bad("no time_us"))?,
                durable: value["durable"].as_bool().unwrap_or(true),
            }),
        }
    }
    Ok(batches)
}
