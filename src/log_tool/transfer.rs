//! `c2c-log export` and `c2c-log import`: events as JSON lines.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;

use c2c_log_format::Payload;
use clap::Args;
use serde_json::{Value, json};

use super::exit::{CLEAN, ExitResult, ToolError};
use super::filter::FilterArgs;
use super::location::LogLocation;
use super::{files, render};
use crate::log::{Directory, Durability, Log, Options};

#[derive(Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct ExportArgs {
    #[command(flatten)]
    location: LogLocation,
    #[command(flatten)]
    filter: FilterArgs,
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  c2c-log export > events.jsonl                     export the whole log
  c2c-log export --room lounge --kind message       export the messages of a room";

impl ExportArgs {
    pub fn run(self) -> ExitResult {
        let log = files::open(&self.location)?;
        let filter = self.filter.compile()?;
        for base in &log.bases {
            let mut written = Ok(());
            log.read_events(*base, &|head, time| filter.matches_head(head, time), &mut |event| {
                if written.is_ok() && filter.matches_payload(&event) {
                    let mut line = render::object(&event, true);
                    line["begins_batch"] = json!(event.begins_batch);
                    written = render::out(&format!("{line}\n"));
                }
            })?;
            written?;
        }
        Ok(CLEAN)
    }
}

#[derive(Args)]
#[command(after_help = IMPORT_EXAMPLES)]
pub struct ImportArgs {
    /// Read JSON lines written by `export` from this file; `-` for standard input
    file: PathBuf,
    /// Create this broker root, which must not hold a log yet
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

const IMPORT_EXAMPLES: &str = "\
Examples:
  c2c-log import events.jsonl --to /srv/new-root           create a root from a file
  c2c-log export | c2c-log import - --to /srv/new-root     copy a log";

impl ImportArgs {
    pub fn run(self) -> ExitResult {
        let directory = self.to.join(crate::broker::LOG_DIRECTORY);
        if directory.exists() {
            let message = format!("{} already holds a log", self.to.display());
            return Err(ToolError::Failed(message));
        }
        let batches = read_batches(self.open_input()?)?;
        let mut log = Log::open(Arc::new(Directory::new(&directory)), Options::default());
        log.lock()?;
        let mut last = 0;
        for batch in &batches {
            last = log.append(&batch.events, batch.time_us, Durability::of(batch.durable))?.last;
        }
        log.unlock();
        log.wait_durable(last)?;
        render::out(&format!("imported {last} events into {}\n", self.to.display()))?;
        Ok(CLEAN)
    }

    fn open_input(&self) -> Result<Box<dyn BufRead>, ToolError> {
        if self.file.as_os_str() == "-" {
            return Ok(Box::new(std::io::stdin().lock()));
        }
        let file = std::fs::File::open(&self.file)
            .map_err(|e| ToolError::Failed(format!("cannot read {}: {e}", self.file.display())))?;
        Ok(Box::new(std::io::BufReader::new(file)))
    }
}

struct ImportBatch {
    events: Vec<Payload>,
    time_us: u64,
    durable: bool,
}

/// Reads all lines before the first append, so that a bad line does not leave half a log behind.
fn read_batches(input: Box<dyn BufRead>) -> Result<Vec<ImportBatch>, ToolError> {
    let mut batches: Vec<ImportBatch> = Vec::new();
    for (at, line) in input.lines().enumerate() {
        let bad = |what: &str| ToolError::Failed(format!("line {}: {what}", at + 1));
        let line = line.map_err(|e| bad(&e.to_string()))?;
        let value: Value =
            serde_json::from_str(&line).map_err(|e| bad(&format!("invalid JSON: {e}")))?;
        let sequence = value["sequence"].as_u64().ok_or_else(|| bad("no sequence"))?;
        if sequence != at as u64 + 1 {
            return Err(bad("the lines must be a whole log, starting with its first event"));
        }
        let kind = value["kind_number"].as_u64().ok_or_else(|| bad("no kind_number"))? as u16;
        let payload = Payload::decode(kind, value["payload"].to_string().as_bytes())
            .ok_or_else(|| bad("this version does not know the kind"))?
            .map_err(|e| bad(&e.to_string()))?;
        let begins_batch = value["begins_batch"].as_bool().unwrap_or(true);
        match batches.last_mut() {
            Some(batch) if !begins_batch => batch.events.push(payload),
            _ => batches.push(ImportBatch {
                events: vec![payload],
                time_us: value["time_us"].as_u64().ok_or_else(|| bad("no time_us"))?,
                durable: value["durable"].as_bool().unwrap_or(true),
            }),
        }
    }
    Ok(batches)
}
