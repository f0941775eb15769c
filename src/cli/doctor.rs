//! The `c2c doctor` command, which checks an installation and names a fix for each finding.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::context::{Context, Run};
use super::hints;
use super::output;
use super::overdue_mail::overdue_mail;
use super::relay_health::relay_health;
use super::setup::{DetectedClient, detect};
use crate::broker::LOG_DIRECTORY;
use crate::env::{C2C_MCP_BROKER_ROOT, directories};
use crate::error::Failure;
use crate::platform::clock;
use crate::platform::fs::{may_write, mode_of, owner_of, read_regular_text};
use crate::present::envelope::for_terminal;
use crate::present::shell::single_quote;
use crate::setup::variable_in;
use c2c_core::code::Code;
use c2c_core::decide::{CODEX, Rejection};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c doctor         check the broker root, the log, the clients and the relay\n  \
    c2c doctor --json  print the findings as JSON; the exit status is 1 if there are any")]
pub struct Doctor {}

/// One problem, and how to fix it.
#[derive(Debug, Serialize)]
struct DoctorFinding {
    /// A stable name of this kind of problem.
    kind: &'static str,
    what: String,
    /// A command to run, or an action in words.
    fix: String,
}

/// The results of all checks.
#[derive(Default)]
struct DoctorReport {
    good: Vec<String>,
    findings: Vec<DoctorFinding>,
}

impl DoctorReport {
    fn bad(&mut self, kind: &'static str, what: impl Into<String>, fix: impl Into<String>) {
        self.findings.push(DoctorFinding { kind, what: what.into(), fix: fix.into() });
    }

    fn good(&mut self, what: impl Into<String>) {
        self.good.push(what.into());
    }
}

impl Run for Doctor {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let mut report = DoctorReport::default();
        check_modes(context, &mut report);
        check_writable(context, &mut report);
        match context.broker.refresh(&context.actor) {
            Ok(()) => {
                check_log(context, &mut report)?;
                check_sessions(context, &mut report);
            }
            Err(failure) => {
                let fix =
                    hints::hint(&failure, "doctor").unwrap_or_else(|| "c2c-log verify".into());
                report.bad("log_unreadable", failure.message(), fix);
            }
        }
        check_clients(context, &mut report);
        check_relay(context, &mut report);
        print(context, &report)
    }
}

fn print(context: &Context, report: &DoctorReport) -> Result<(), Failure> {
    let count = report.findings.len();
    if context.common.json {
        output::print_json(&json!({
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
        output::print(&text)?;
    }
    if count == 0 {
        return Ok(());
    }
    let plural = if count == 1 { "" } else { "s" };
    Err(Failure::AlreadyReported(Rejection::new(
        Code::Findings,
        "",
        format!("{count} finding{plural}"),
    )))
}

/// Checks that only this user may access the files in the root.
fn check_modes(context: &Context, report: &mut DoctorReport) {
    let root = &context.root.path;
    if !root.exists() {
        report.good(format!(
            "Broker root: {} ({}), not used yet",
            root.display(),
            context.root.reason
        ));
        return;
    }
    let open: Vec<PathBuf> =
        paths_below(root, 2).into_iter().filter(|path| is_open_to_others(path)).collect();
    for path in &open {
        let mode = if path.is_dir() { "700" } else { "600" };
        let what = format!("other users may access {}", path.display());
        let path = single_quote(&path.display().to_string());
        report.bad("file_mode", what, format!("chmod {mode} {path}"));
    }
    if open.is_empty() {
        report.good(format!("Broker root: {} ({})", root.display(), context.root.reason));
    }
}

/// Checks that this user may write the root, and HOME, where clients are set up.
fn check_writable(context: &Context, report: &mut DoctorReport) {
    let root = &context.root.path;
    let existing = root.ancestors().find(|path| path.exists()).unwrap_or(root);
    if !may_write(existing) {
        let what = match existing == root {
            true => format!("the broker root cannot be written: {}", root.display()),
            false => format!(
                "the broker root cannot be created, because {} cannot be written",
                existing.display()
            ),
        };
        let fix = "check its owner, mode and file system, or set C2C_MCP_BROKER_ROOT to a directory \
                   that you may write; until then, c2c sends and takes no mail";
        report.bad("root_not_writable", what, fix);
    } else if existing == root {
        let paths = paths_below(root, 2).into_iter().filter(|path| !may_write(path));
        // One row of each owner is enough: the fix is the same.
        for path in paths.take(1) {
            let owner = fs::symlink_metadata(&path).map(|file| owner_of(&file)).unwrap_or_default();
            let what = format!("{} belongs to user {owner} and cannot be written", path.display());
            let root = single_quote(&root.display().to_string());
            report.bad("root_file_owner", what, format!("sudo chown -R $(id -u):$(id -g) {root}"));
        }
    }
    if let Some(home) = directories::home().filter(|home| home.exists() && !may_write(home)) {
        let what = format!("HOME cannot be written: {}", home.display());
        report.bad("home_not_writable", what, "set HOME to a directory that you may write");
    }
}

fn is_open_to_others(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| !file.is_symlink() && mode_of(&file) & 0o077 != 0)
}

/// A path and all paths in it, down to `depth` levels of directories.
fn paths_below(path: &Path, depth: usize) -> Vec<PathBuf> {
    let mut paths = vec![path.to_owned()];
    if depth > 0 && path.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.for_each(|entry| paths.extend(paths_below(&entry.path(), depth - 1)));
    }
    paths
}

fn check_log(context: &mut Context, report: &mut DoctorReport) -> Result<(), Failure> {
    let health = context.broker.health()?;
    if let Some(to) = context.broker.moved_to() {
        report.bad(
            "root_moved",
            format!("this root moved to {to}"),
            format!("pass --broker-root {to}"),
        );
    }
    if !health.is_whole() {
        let count = health.damage.len() + health.quarantine.len();
        report.bad("log_damaged", format!("{count} damaged ranges in the log"), "c2c-log verify");
    }
    if health.checkpoint_damaged {
        let what = "the newest checkpoint cannot be read; c2c reads the log instead";
        report.bad(
            "checkpoint_damaged",
            what,
            "c2c-log verify; the next send writes a new checkpoint",
        );
    }
    if health.upgrade_needed {
        let what = "the log contains events of a newer version of c2c";
        report.bad("upgrade_needed", what, "update c2c on this machine");
    }
    if health.dead > 0 {
        let what =
            format!("{} of {} sessions have no running process", health.dead, health.sessions);
        report.bad("stale_sessions", what, "c2c sweep");
    }
    if health.dead_letters > 0 {
        let what = format!("{} messages could not be delivered", health.dead_letters);
        report.bad("dead_letters", what, "c2c dead-letter");
    }
    let age_s = health.outbox_oldest_us.map(|us| clock::now_us().saturating_sub(us) / 1_000_000);
    if let Some(age_s) = age_s.filter(|age_s| *age_s > c2c_core::limits::UNREAD_ALARM_AFTER_S) {
        let what = format!("{} messages wait for a relay, the oldest for {age_s} s", health.outbox);
        report.bad("outbox_old", what, "c2c relay status, then c2c relay connect");
    }
    let mib = health.log_bytes as f64 / (1024.0 * 1024.0);
    report.good(format!("{LOG_DIRECTORY}: {} events, {mib:.1} MiB", health.head));
    report.good(format!("{} of {} sessions alive", health.alive, health.sessions));
    Ok(())
}

fn check_sessions(context: &mut Context, report: &mut DoctorReport) {
    let rows = context.broker.state().sessions.scan([]);
    let mut builds: Vec<String> = rows.into_iter().map(|(_, session)| session.build).collect();
    builds.retain(|build| !build.is_empty());
    builds.sort();
    builds.dedup();
    if builds.iter().any(|build| build != env!("CARGO_PKG_VERSION")) {
        let what = format!("sessions were registered by c2c {}", builds.join(", "));
        report.bad("mixed_versions", what, "restart the clients that run an older version");
    }
    for old in overdue_mail(context) {
        let what = format!(
            "{} has {} unread messages, the oldest for {} s",
            old.alias, old.unread, old.age_s
        );
        report.bad("unread_old", what, format!("c2c wake --alias {} --tmux PANE", old.alias));
    }
}

fn check_clients(context: &Context, report: &mut DoctorReport) {
    match detect() {
        Ok(clients) => clients.iter().for_each(|client| check_client(context, client, report)),
        Err(failure) => {
            let fix = failure.hint().unwrap_or_else(|| "set HOME".into());
            report.bad("home", failure.message(), fix);
        }
    }
}

fn check_client(context: &Context, row: &DetectedClient, report: &mut DoctorReport) {
    let setup = format!("c2c setup {}", row.client);
    let before = report.findings.len();
    if let Some(problem) = &row.problem {
        report.bad("client_file", problem, format!("correct the file, then run {setup}"));
    }
    check_programs(context, row, report);
    if row.interrupted {
        let what = format!("a setup of {} was interrupted", row.client);
        report.bad("setup_interrupted", what, setup.clone());
    }
    for gap in &row.gaps {
        let what = format!("{} is only partly set up: {gap}", row.client);
        let fix = match row.is_fixed_by_setup {
            true => setup.clone(),
            false => format!("change that setting, then run {setup}"),
        };
        report.bad("client_partly_set_up", what, fix);
    }
    if row.program.is_none() || report.findings.len() > before {
        return;
    }
    match (row.files.is_empty(), row.declined) {
        (false, _) => report.good(format!("{}: set up", row.client)),
        (true, true) => report.good(format!("{}: declined", row.client)),
        (true, false) => report.bad(
            "client_not_set_up",
            format!("{} is installed but not set up", row.client),
            format!("{setup}, or {setup} --decline"),
        ),
    }
    if row.client == CODEX && !row.files.is_empty() && C2C_MCP_BROKER_ROOT.path().is_some() {
        let name = C2C_MCP_BROKER_ROOT.name;
        report.good(format!(
            "{CODEX} hides {name} from servers: add env_vars = [\"{name}\"] to [mcp_servers.c2c] \
             if its sessions should use that root"
        ));
    }
}

/// Checks the programs and the roots that the files of a client name.
fn check_programs(context: &Context, row: &DetectedClient, report: &mut DoctorReport) {
    let setup = format!("c2c setup {}", row.client);
    let mut programs = Vec::new();
    for file in &row.files {
        let shown = file.display();
        let text = read_regular_text(file).unwrap_or_default();
        let name = C2C_MCP_BROKER_ROOT.name;
        let server_root = variable_in(&text, name).filter(|root| !root.is_empty());
        if let Some(root) = server_root.filter(|root| Path::new(root) != context.root.path) {
            let own = context.root.path.display();
            let what = format!(
                "{shown} gives the server the broker root {root}; hooks and commands use {own}"
            );
            report.bad("client_split", what, format!("remove {name} from {shown}"));
        }
        for program in programs_in(&text) {
            if !is_executable(&program) {
                let program = program.display();
                let what = format!("{shown} starts {program}, which is not an executable file");
                report.bad("client_program", what, setup.clone());
            }
            if !programs.contains(&program) {
                programs.push(program);
            }
        }
    }
    if programs.len() > 1 {
        let names: Vec<String> = programs.iter().map(|path| path.display().to_string()).collect();
        let what = format!(
            "the server and the hooks of {} start different programs: {}",
            row.client,
            names.join(", ")
        );
        report.bad("client_split", what, setup);
    }
}

/// Absolute paths of programs named c2c that a client's file names as commands.
fn programs_in(text: &str) -> Vec<PathBuf> {
    // In JSON and in TOML the command is in one of the quotes that follow its key.
    let command_path = |rest: &str| -> Option<PathBuf> {
        let is_path = |word: &&str| word.trim_start_matches('\'').starts_with('/');
        let word = rest.split('"').take(3).find(is_path)?;
        let word = match word.strip_prefix('\'') {
            Some(word) => word.split('\'').next(),
            None => word.split_whitespace().next(),
        };
        word.map(PathBuf::from)
    };
    let commands = text.split("command").skip(1).filter_map(command_path);
    let mut programs: Vec<PathBuf> =
        commands.filter(|path| path.file_name().is_some_and(|name| name == "c2c")).collect();
    programs.sort();
    programs.dedup();
    programs
}

fn is_executable(program: &Path) -> bool {
    fs::metadata(program).is_ok_and(|file| file.is_file() && mode_of(&file) & 0o111 != 0)
}

fn check_relay(context: &Context, report: &mut DoctorReport) {
    let (row, _) = relay_health(context);
    let message = row["message"].as_str().unwrap_or_default();
    match row["status"].as_str() {
        Some("unreachable") => report.bad("relay", message, "c2c relay status"),
        _ => report.good(format!("Relay: {message}")),
    }
}
