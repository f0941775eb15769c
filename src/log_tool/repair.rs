//! How does an operator say that damage has been seen, and let writing go on?

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use crate::log::{Directory, Log, Options};
use clap::Args;

use super::files::{self, LogFiles};
use super::verify::{Finding, accepted_name, check};
use super::{CLEAN, Ended, Place, Trouble, render};

#[derive(Args)]
pub struct Repair {
    #[command(flatten)]
    place: Place,
    /// Keep a copy of each damaged range, leave the damaged segment as it is, and go on
    #[arg(long)]
    accept: bool,
}

impl Repair {
    pub fn run(self) -> Ended {
        let log = files::open(&self.place)?;
        let report = check(&log, false)?;
        let open: Vec<&Finding> =
            report.findings.iter().filter(|finding| !finding.accepted).collect();
        if open.is_empty() && quarantined(&log).is_empty() {
            render::out("nothing to repair\n")?;
            return Ok(CLEAN);
        }
        log.only_directory("repair")?;
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
            render::out("nothing was changed; add --accept to do it\n")?;
            return Ok(report.status());
        }
        for finding in open {
            keep(&log, finding)?;
        }
        let trouble = |e: crate::log::LogError| Trouble::Unreadable(e.to_string());
        let storage = Arc::new(Directory::new(&log.directory));
        let mut engine = Log::open(storage, Options::default());
        engine.recover_now().map_err(trouble)?;
        for name in quarantined(&log) {
            let accepted = name.replacen("quarantine-", "accepted-", 1);
            fs::rename(log.directory.join(&name), log.directory.join(accepted))
                .map_err(|e| Trouble::Unreadable(format!("cannot rename {name}: {e}")))?;
        }
        let after = check(&files::open(&self.place)?, false)?;
        render::out(&format!("accepted; the log counts {} events now\n", after.events))?;
        Ok(after.status())
    }
}

fn quarantined(log: &LogFiles) -> Vec<String> {
    let Ok(entries) = fs::read_dir(&log.directory) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with("quarantine-")).collect()
}

/// Copies the damaged range; its name is the mark that it was seen.
fn keep(log: &LogFiles, finding: &Finding) -> Result<(), Trouble> {
    let bytes = log.segment(finding.segment)?;
    let end = (finding.offset + finding.len).min(bytes.len());
    let range = bytes.get(finding.offset..end).unwrap_or(&[]);
    let path = log.directory.join(accepted_name(finding.segment, finding.offset));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(range).and_then(|()| file.sync_all()));
    written.map_err(|e| Trouble::Unreadable(format!("cannot write {}: {e}", path.display())))
}
