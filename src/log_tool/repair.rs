//! `c2c-log repair`: accepting damage so that the log is reported as clean again.

use std::fs;
use std::sync::Arc;

use clap::Args;

use super::exit::{CLEAN, ExitResult, ToolError};
use super::files::{self, LogFiles};
use super::location::LogLocation;
use super::render;
use super::verify::{Finding, accepted_name, check};
use crate::log::{Directory, Log, Options};
use crate::platform::fs::{WriteOptions, write_atomic};

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct RepairArgs {
    #[command(flatten)]
    location: LogLocation,
    /// Copy each damaged range to a file and continue in a new segment; without this, change nothing
    #[arg(long)]
    accept: bool,
}

const EXAMPLES: &str = "\
Examples:
  c2c-log repair              show what would be done
  c2c-log repair --accept     accept the loss; damaged segments stay unchanged";

impl RepairArgs {
    pub fn run(self) -> ExitResult {
        let log = files::open(&self.location)?;
        let report = check(&log, false)?;
        let open: Vec<&Finding> =
            report.findings.iter().filter(|finding| !finding.accepted).collect();
        if open.is_empty() && quarantined(&log).is_empty() {
            render::out("nothing to repair\n")?;
            return Ok(CLEAN);
        }
        log.require_directory("repair")?;
        if !self.accept {
            for finding in &open {
                render::out(&format!(
                    "would copy {} bytes at offset {} of segment {} to {}\n",
                    finding.len,
                    finding.offset,
                    finding.segment,
                    accepted_name(finding.segment, finding.offset)
                ))?;
            }
            render::out("nothing was changed; run with --accept to apply\n")?;
            return Ok(report.status());
        }
        for finding in open {
            copy_damage(&log, finding)?;
        }
        let storage = Arc::new(Directory::new(&log.directory));
        Log::open(storage, Options::default()).recover_now()?;
        for name in quarantined(&log) {
            let accepted = name.replacen("quarantine-", "accepted-", 1);
            fs::rename(log.directory.join(&name), log.directory.join(accepted))
                .map_err(|e| ToolError::Failed(format!("cannot rename {name}: {e}")))?;
        }
        let after = check(&files::open(&self.location)?, false)?;
        render::out(&format!("accepted; the log now has {} events\n", after.events))?;
        Ok(after.status())
    }
}

fn quarantined(log: &LogFiles) -> Vec<String> {
    let Ok(entries) = fs::read_dir(&log.directory) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with("quarantine-")).collect()
}

/// Copies a damaged range to a file whose name records that the damage was accepted.
fn copy_damage(log: &LogFiles, finding: &Finding) -> Result<(), ToolError> {
    let bytes = log.segment(finding.segment)?;
    let end = (finding.offset + finding.len).min(bytes.len());
    let range = bytes.get(finding.offset..end).unwrap_or(&[]);
    let path = log.directory.join(accepted_name(finding.segment, finding.offset));
    write_atomic(&path, range, WriteOptions::PRIVATE)
        .map_err(|e| ToolError::Failed(format!("cannot write {}: {e}", path.display())))
}
