//! `c2c doctor`: what is wrong here, and which command mends it?

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::setup::detect;
use super::{Context, Run, output, upkeep};
use crate::broker::LOG_DIRECTORY;
use crate::clock;
use crate::code::Code;
use crate::decide::Refusal;
use crate::envelope::for_terminal;
use crate::failure::Failure;

#[derive(Args)]
pub struct Doctor {}

/// One thing that is not as it should be.
#[derive(Debug, Serialize)]
struct Finding {
    /// A stable name for this kind.
    kind: &'static str,
    what: String,
    /// A command, or what else to do.
    fix: String,
}

/// What was looked at, and what came of it.
#[derive(Default)]
struct Report {
    good: Vec<String>,
    findings: Vec<Finding>,
}

impl Report {
    fn bad(&mut self, kind: &'static str, what: impl Into<String>, fix: impl Into<String>) {
        self.findings.push(Finding { kind, what: what.into(), fix: fix.into() });
    }

    fn good(&mut self, what: impl Into<String>) {
        self.good.push(what.into());
    }
}

impl Run for Doctor {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let mut report = Report::default();
        modes(context, &mut report);
        match context.broker.look(&context.actor) {
            Ok(()) => {
                log(context, &mut report)?;
                people(context, &mut report);
            }
            Err(failure) => {
                let fix = failure.hint().unwrap_or_else(|| "c2c-log verify".into());
                report.bad("log_unreadable", failure.message(), fix);
            }
        }
        clients(&mut report);
        relay(context, &mut report);
        tell(context, &report)
    }
}

fn tell(context: &Context, report: &Report) -> Result<(), Failure> {
    let count = report.findings.len();
    if context.common.json {
        output::say_json(&json!({
            "ok": count == 0,
            "version": env!("CARGO_PKG_VERSION"),
            "broker_root": context.root.path,
            "findings": report.findings,
            "good": report.good,
        }))?;
    } else {
        let mut text = String::new();
        for line in &report.good {
            text.push_str(&format!("✓ {}\n", for_terminal(line)));
        }
        for row in &report.findings {
            let (what, fix) = (for_terminal(&row.what), for_terminal(&row.fix));
            text.push_str(&format!("✗ {what} [{}]\n    {fix}\n", row.kind));
        }
        output::say(&text)?;
    }
    if count == 0 {
        return Ok(());
    }
    let plural = if count == 1 { "" } else { "s" };
    Err(Failure::Told(Refusal::new(Code::Findings, "", format!("{count} finding{plural}"))))
}

/// Only this user may read what is below the root.
fn modes(context: &Context, report: &mut Report) {
    let root = &context.root.path;
    if !root.exists() {
        report.good(format!(
            "Broker root: {} ({}), not used yet",
            root.display(),
            context.root.reason
        ));
        return;
    }
    let open: Vec<PathBuf> = below(root, 2).into_iter().filter(|path| is_open(path)).collect();
    for path in &open {
        let mode = if path.is_dir() { "700" } else { "600" };
        let what = format!("others may read {}", path.display());
        report.bad("file_mode", what, format!("chmod {mode} '{}'", path.display()));
    }
    if open.is_empty() {
        report.good(format!("Broker root: {} ({})", root.display(), context.root.reason));
    }
}

fn is_open(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|found| !found.is_symlink() && found.permissions().mode() & 0o077 != 0)
}

/// A path and what is in it, so many directories deep.
fn below(path: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    if depth > 0 && path.is_dir() {
        let inner = fs::read_dir(path).into_iter().flatten().flatten();
        inner.for_each(|entry| found.extend(below(&entry.path(), depth - 1)));
    }
    found
}

fn log(context: &mut Context, report: &mut Report) -> Result<(), Failure> {
    let health = context.broker.health()?;
    if let Some(to) = context.broker.moved_to() {
        report.bad("root_moved", format!("this root moved to {to}"), "work where it is now");
    }
    if !health.is_whole() {
        let count = health.damage.len() + health.quarantine.len();
        report.bad("log_damaged", format!("{count} damaged ranges in the log"), "c2c-log verify");
    }
    if health.checkpoint_damaged {
        let what = "the newest checkpoint cannot be read; answers come from the log";
        report.bad("checkpoint_damaged", what, "c2c-log verify; the next send makes it anew");
    }
    if health.upgrade_needed {
        report.bad("upgrade_needed", "the log holds events of a newer c2c", "update c2c here");
    }
    if health.dead > 0 {
        let what = format!("{} of {} sessions are gone", health.dead, health.sessions);
        report.bad("stale_sessions", what, "c2c sweep");
    }
    if health.dead_letters > 0 {
        let what = format!("{} messages could not be delivered", health.dead_letters);
        report.bad("dead_letters", what, "c2c dead-letter");
    }
    let waits = health.outbox_oldest_us.map(|us| clock::now_us().saturating_sub(us) / 1_000_000);
    if let Some(age_s) = waits.filter(|age_s| *age_s > crate::limits::UNREAD_ALARM_S) {
        let what = format!("{} messages wait for a relay, one for {age_s} s", health.outbox);
        report.bad("outbox_old", what, "c2c relay status, then c2c relay connect");
    }
    let mib = health.log_bytes as f64 / (1024.0 * 1024.0);
    report.good(format!("{LOG_DIRECTORY}: {} events, {mib:.1} MiB", health.head));
    report.good(format!("{} of {} sessions alive", health.alive, health.sessions));
    Ok(())
}

fn people(context: &mut Context, report: &mut Report) {
    let rows = context.broker.state().sessions.scan([]);
    let mut builds: Vec<String> = rows.into_iter().map(|(_, session)| session.build).collect();
    builds.retain(|build| !build.is_empty());
    builds.sort();
    builds.dedup();
    if builds.iter().any(|build| build != env!("CARGO_PKG_VERSION")) {
        let what = format!("sessions were registered by c2c {}", builds.join(", "));
        report.bad("mixed_versions", what, "restart the clients that run an older one");
    }
    for old in upkeep::old_mail(context) {
        let what =
            format!("{} has {} unread messages, one for {} s", old.alias, old.unread, old.age_s);
        report.bad("unread_old", what, format!("c2c wake --alias {} --tmux PANE", old.alias));
    }
}

fn clients(report: &mut Report) {
    let found = match detect() {
        Ok(found) => found,
        Err(failure) => return report.bad("home", failure.message(), "set HOME"),
    };
    for row in found {
        let setup = format!("c2c setup {}", row.client);
        if let Some(problem) = row.problem {
            report.bad("client_file", problem, format!("mend the file, then {setup}"));
        }
        for file in &row.files {
            let text = fs::read_to_string(file).unwrap_or_default();
            for program in programs(&text) {
                if !runs(&program) {
                    let what = format!(
                        "{} runs {}, which is no program",
                        file.display(),
                        program.display()
                    );
                    report.bad("client_program", what, setup.clone());
                }
            }
        }
        match (row.program.is_some(), row.files.is_empty()) {
            (true, false) => report.good(format!("{}: set up", row.client)),
            (true, true) => report.bad(
                "client_not_set_up",
                format!("{} is here and not set up", row.client),
                setup,
            ),
            (false, _) => {}
        }
    }
}

/// Absolute paths of programs called c2c that a file names as commands.
fn programs(text: &str) -> Vec<PathBuf> {
    // In JSON and in TOML a command stands in one of the next quotes.
    let quoted = |rest: &str| -> Option<PathBuf> {
        let is_path = |word: &&str| word.trim_start_matches('\'').starts_with('/');
        let word = rest.split('"').take(3).find(is_path)?;
        let word = match word.strip_prefix('\'') {
            Some(word) => word.split('\'').next(),
            None => word.split_whitespace().next(),
        };
        word.map(PathBuf::from)
    };
    let named = text.split("command").skip(1).filter_map(quoted);
    let mut found: Vec<PathBuf> =
        named.filter(|path| path.file_name().is_some_and(|name| name == "c2c")).collect();
    found.sort();
    found.dedup();
    found
}

fn runs(program: &Path) -> bool {
    fs::metadata(program)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn relay(context: &Context, report: &mut Report) {
    let (row, _) = upkeep::relay_health(context);
    let message = row["message"].as_str().unwrap_or_default();
    match row["status"].as_str() {
        Some("unreachable") => report.bad("relay", message, "c2c relay status"),
        _ => report.good(format!("Relay: {message}")),
    }
}
