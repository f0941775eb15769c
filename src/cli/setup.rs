//! The `c2c setup` command, which configures a client to start c2c.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use clap::Args;
use diffy::DiffOptions;
use serde_json::{Value, json};

use super::context::{Context, Run};
use super::output;
use crate::env::{LOGNAME, USER, directories, hide_prefixed};
use crate::error::Failure;
use crate::platform::user::host_name;
use crate::present::envelope::for_terminal;
use crate::setup::{self, CLIENTS, FileChange, Gap, SetupOptions, SetupPlan, SupportedClient};
use c2c_core::code::Code;
use c2c_core::decide::{Rejection, check_alias, check_room_id};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c setup                          list the clients and whether they are set up\n  \
    c2c setup claude-code --alias ann  set up Claude Code with the alias ann\n  \
    c2c setup codex --dry-run          show what would change\n  \
    c2c setup codex --undo             remove c2c from the files of Codex\n  \
    c2c setup codex --decline          do not report that Codex is not set up")]
pub struct Setup {
    /// Client to set up: claude-code, codex, opencode, kimi, crush or gemini; omit it to list them
    pub(super) client: Option<String>,
    /// Alias for sessions of the client [default: <client>-<user>-<host>]
    #[arg(long, short, value_name = "ALIAS", conflicts_with = "no_alias")]
    alias: Option<String>,
    /// Let each session choose its alias
    #[arg(long)]
    no_alias: bool,
    /// Project to set up, for opencode [default: the working directory]
    #[arg(long, short, value_name = "DIR", conflicts_with = "global")]
    target_dir: Option<PathBuf>,
    /// Set up c2c for all projects of this user
    #[arg(long)]
    global: bool,
    /// Replace an unrelated entry named c2c
    #[arg(long, short)]
    force: bool,
    /// Show the changes without making them
    #[arg(long, short = 'n')]
    pub(super) dry_run: bool,
    /// Remove the entries of an earlier setup
    #[arg(long)]
    pub(super) undo: bool,
    /// Remember that you do not want this client set up
    #[arg(long, conflicts_with_all = ["undo", "dry_run", "force", "alias", "rooms"])]
    decline: bool,
    /// Rooms that sessions of the client join, separated by commas
    #[arg(long, value_name = "ROOMS")]
    pub(super) rooms: Option<String>,
}

impl Run for Setup {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let Some(name) = &self.client else { return print_clients(context) };
        let client = SupportedClient::named(name)?;
        if self.decline {
            return decline_client(context, client);
        }
        let outcome = set_up(client, &self)?;
        if context.common.json {
            return output::print_json(&outcome.json(&self));
        }
        output::print(&outcome.text(&self))
    }
}

impl Setup {
    /// The arguments of `c2c setup CLIENT [--alias ALIAS]`.
    pub(super) fn for_client(client: &str, alias: Option<String>) -> Self {
        Self {
            client: Some(client.to_owned()),
            alias,
            no_alias: false,
            target_dir: None,
            global: false,
            force: false,
            dry_run: false,
            undo: false,
            decline: false,
            rooms: None,
        }
    }
}

/// What was changed for a client, or would be changed.
pub(super) struct SetupOutcome {
    plan: SetupPlan,
    pub alias: Option<String>,
    /// Number of tools that the server offers, if it was checked.
    tools: Option<usize>,
    /// What keeps a part of the setup from being used.
    gaps: Vec<Gap>,
    /// Files that still contain entries of c2c, after an undo.
    left: Vec<PathBuf>,
}

pub(super) fn set_up(client: &SupportedClient, arguments: &Setup) -> Result<SetupOutcome, Failure> {
    if let Some(alias) = &arguments.alias {
        check_alias("alias", alias)?;
    }
    let mut options = default_options(client)?;
    options.global = arguments.global;
    if let Some(directory) = &arguments.target_dir {
        options.directory = std::fs::canonicalize(directory).map_err(|e| {
            let message = format!("{}: {e}", directory.display());
            Rejection::new(Code::InvalidArgument, "target_dir", message)
        })?;
    }
    options.record = client.recorded(&options);
    let (present_alias, present_rooms) = client.settings(&options)?;
    let present_alias = present_alias.filter(|alias| check_alias("alias", alias).is_ok());
    let alias = match (&arguments.alias, arguments.no_alias) {
        (Some(alias), _) => Some(alias.clone()),
        (None, true) => None,
        // A repeated setup keeps the alias.
        (None, false) => present_alias.or_else(|| Some(default_alias(client))),
    };
    if arguments.target_dir.is_some() && client.name != "opencode" {
        let message = format!("{} is set up once for all projects", client.name);
        return Err(Rejection::new(Code::InvalidArgument, "target_dir", message)
            .hint("omit --target-dir")
            .into());
    }
    for room in arguments.rooms.iter().flat_map(|rooms| rooms.split(',')) {
        check_room_id("rooms", room.trim())?;
    }
    options.alias.clone_from(&alias);
    options.rooms = arguments.rooms.clone().or(present_rooms);
    options.undo = arguments.undo;
    options.force = arguments.force;
    let plan = if arguments.dry_run { client.plan(&options)? } else { client.apply(&options)? };
    let mut outcome = SetupOutcome { plan, alias, tools: None, gaps: Vec::new(), left: Vec::new() };
    if arguments.dry_run {
        return Ok(outcome);
    }
    if arguments.undo {
        options.record = Arc::default();
        outcome.left = client.files(&options)?;
    } else {
        setup::decline(&options.state, client.name, false)?;
        outcome.tools = Some(check_server(&options.program)?);
        outcome.gaps = client.gaps(&options);
    }
    Ok(outcome)
}

/// Remembers that the user does not want a client set up.
fn decline_client(context: &Context, client: &SupportedClient) -> Result<(), Failure> {
    let options = default_options(client)?;
    if let Some(file) = files_of(client)?.first() {
        let message = format!("{} is set up: {} has entries of c2c", client.name, file.display());
        let undo = format!("remove them first: c2c setup {} --undo", client.name);
        return Err(Rejection::new(Code::InvalidArgument, "decline", message).hint(undo).into());
    }
    setup::decline(&options.state, client.name, true)?;
    if context.common.json {
        return output::print_json(&json!({ "ok": true, "client": client.name, "declined": true }));
    }
    output::print(&format!("declined {0}; to set it up later: c2c setup {0}\n", client.name))
}

/// Takes back every setup of this user, in this project and those that were recorded. Returns the files
/// that it changed, or with `dry_run` those that it would change, and the failures of single clients.
pub(super) fn undo_everywhere(dry_run: bool) -> Result<(Vec<PathBuf>, Vec<Failure>), Failure> {
    let mut changed = Vec::new();
    let mut failures = Vec::new();
    for client in CLIENTS {
        let mut places: Vec<SetupOptions> = scopes(client)?.into();
        for directory in client.recorded_projects(&places[0]) {
            let mut project = SetupOptions { directory, ..places[0].clone() };
            project.record = client.recorded(&project);
            places.push(project);
        }
        for options in &places {
            let plan = if dry_run { client.plan(options) } else { client.apply(options) };
            match plan {
                Ok(plan) => {
                    let files = plan.changes.iter().filter(|change| !change.is_unchanged());
                    changed.extend(files.map(|change| change.path.clone()));
                }
                Err(failure) => failures.push(failure),
            }
        }
        if !dry_run {
            setup::decline(&places[0].state, client.name, false)?;
        }
    }
    changed.sort();
    changed.dedup();
    Ok((changed, failures))
}

/// The client's files that contain entries of c2c, for all projects and for this one.
fn files_of(client: &SupportedClient) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for options in scopes(client)? {
        files.extend(client.files(&options)?);
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// Options for the project of the working directory, and for all projects.
fn scopes(client: &SupportedClient) -> Result<[SetupOptions; 2], Failure> {
    let mut project = default_options(client)?;
    let mut global = SetupOptions { global: true, ..project.clone() };
    project.record = client.recorded(&project);
    global.record = client.recorded(&global);
    Ok([project, global])
}

/// Options that remove all entries of c2c from the files of a client on this machine.
fn default_options(client: &SupportedClient) -> Result<SetupOptions, Failure> {
    let home = directories::home().ok_or_else(|| {
        Rejection::new(Code::InvalidArgument, "HOME", "HOME is not set")
            .hint("set HOME: the client's files are in the home directory")
    })?;
    Ok(SetupOptions {
        state: setup::state_directory(&home),
        home,
        config_directory: client.variable.and_then(|variable| variable.path()),
        directory: std::env::current_dir().map_err(Failure::working_directory)?,
        global: false,
        program: super::own_path::stable_path()?,
        alias: None,
        rooms: None,
        undo: true,
        force: false,
        record: Arc::default(),
    })
}

/// What this machine has of a client.
#[derive(serde::Serialize)]
pub(super) struct DetectedClient {
    pub client: &'static str,
    /// Path of its program, if it is on the `PATH`.
    pub program: Option<PathBuf>,
    /// Its files that contain entries of c2c.
    pub files: Vec<PathBuf>,
    /// Why one of its files cannot be read.
    pub problem: Option<String>,
    /// What keeps a part of the setup from being used.
    pub gaps: Vec<String>,
    /// Whether setup fills all of the gaps.
    #[serde(skip)]
    pub is_fixed_by_setup: bool,
    /// Whether the user does not want it set up.
    pub declined: bool,
    /// Whether a setup of it was interrupted.
    pub interrupted: bool,
}

/// Checks for every client whether it is installed and set up.
pub(super) fn detect() -> Result<Vec<DetectedClient>, Failure> {
    CLIENTS.iter().map(detect_client).collect()
}

fn detect_client(client: &SupportedClient) -> Result<DetectedClient, Failure> {
    let programs = directories::program_directories().into_iter();
    let mut programs = programs.map(|directory| directory.join(client.program));
    let program = programs.find(|program| program.is_file());
    let scopes = scopes(client)?;
    let mut found = DetectedClient {
        client: client.name,
        program,
        files: Vec::new(),
        problem: None,
        gaps: Vec::new(),
        is_fixed_by_setup: true,
        declined: setup::is_declined(&scopes[0].state, client.name),
        interrupted: scopes.iter().any(|options| client.is_interrupted(options)),
    };
    let mut gaps_by_scope: Vec<Vec<Gap>> = Vec::new();
    for options in &scopes {
        match client.files(options) {
            Ok(files) if files.is_empty() => {}
            Ok(files) => {
                found.files.extend(files);
                gaps_by_scope.push(client.gaps(options));
            }
            Err(failure) => found.problem = Some(failure.message()),
        }
    }
    found.files.sort();
    found.files.dedup();
    // One scope that is whole suffices.
    let gaps = gaps_by_scope.into_iter().min_by_key(Vec::len).unwrap_or_default();
    found.is_fixed_by_setup = gaps.iter().all(|gap| gap.is_fixed_by_setup);
    found.gaps = gaps.into_iter().map(|gap| gap.what).collect();
    Ok(found)
}

fn print_clients(context: &Context) -> Result<(), Failure> {
    let clients = detect()?;
    if context.common.json {
        return output::print_json(&json!({ "ok": true, "clients": clients }));
    }
    let mut text = format!("{:<12} {:<10} {}\n", "client", "installed", "c2c");
    for row in &clients {
        let installed = if row.program.is_some() { "yes" } else { "no" };
        let files: Vec<String> = row.files.iter().map(|file| file.display().to_string()).collect();
        let state = match (&row.problem, row.files.is_empty(), row.program.is_some()) {
            (Some(problem), ..) => problem.clone(),
            (None, false, _) if !row.gaps.is_empty() => {
                format!("partly set up: {}", row.gaps.join("; "))
            }
            (None, false, _) => format!("set up: {}", files.join(", ")),
            (None, true, _) if row.declined => format!("declined: c2c setup {}", row.client),
            (None, true, true) => format!("not set up: c2c setup {}", row.client),
            (None, true, false) => "-".to_owned(),
        };
        text.push_str(&format!("{:<12} {installed:<10} {}\n", row.client, for_terminal(&state)));
    }
    output::print(&text)
}

impl SetupOutcome {
    fn changed(&self) -> impl Iterator<Item = &FileChange> {
        self.plan.changes.iter().filter(|file| !file.is_unchanged())
    }

    pub(super) fn json(&self, arguments: &Setup) -> Value {
        let files = self.changed().map(
            |file| json!({ "path": file.path, "new": file.before.is_none(), "diff": diff(file) }),
        );
        json!({
            "ok": true,
            "client": self.plan.client,
            "alias": self.alias.as_ref().filter(|_| !arguments.undo),
            "dry_run": arguments.dry_run,
            "undone": arguments.undo,
            "files": files.collect::<Vec<_>>(),
            "tools": self.tools,
            "gaps": self.gaps.iter().map(|gap| &gap.what).collect::<Vec<_>>(),
            "left": self.left,
            "next": self.plan.next,
        })
    }

    pub(super) fn text(&self, arguments: &Setup) -> String {
        let mut text = String::new();
        for file in self.changed() {
            let verb = if arguments.dry_run { "would change" } else { "changed" };
            text.push_str(&format!("{verb} {}\n{}", file.path.display(), diff(file)));
        }
        if self.changed().next().is_none() {
            text.push_str("nothing to change\n");
        }
        if let Some(tools) = self.tools {
            text.push_str(&format!("checked: the server starts and offers {tools} tools\n"));
        }
        for gap in &self.gaps {
            text.push_str(&format!("not in force: {}\n", gap.what));
        }
        for file in &self.left {
            text.push_str(&format!(
                "left: {} has older entries of c2c; run the command again to remove them\n",
                file.display()
            ));
        }
        if !arguments.dry_run {
            self.plan.next.iter().for_each(|step| text.push_str(&format!("next: {step}\n")));
        }
        let lines: Vec<String> = text.lines().map(for_terminal).collect();
        format!("{}\n", lines.join("\n"))
    }
}

/// The changed lines in unified format, with two lines of context and without the file header.
fn diff(file: &FileChange) -> String {
    let before = file.before.as_deref().unwrap_or_default();
    let after = file.after.as_deref().unwrap_or_default();
    let patch = DiffOptions::new().set_context_len(2).create_patch(before, after).to_string();
    let first_hunk = patch.find("@@").unwrap_or(patch.len());
    patch[first_hunk..].to_owned()
}

/// Starts the MCP server as the client does and returns how many tools it offers.
fn check_server(program: &Path) -> Result<usize, Failure> {
    let mut command = Command::new(program);
    // Without an identity in the environment the server registers no session.
    hide_prefixed(&mut command, &["C2C_", "CLAUDE"]);
    command.arg("mcp").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|e| Failure::io("start", program, e))?;
    let no_response = || {
        let message = format!("{} did not respond as an MCP server", program.display());
        Failure::from(Rejection::new(Code::Internal, "", message))
    };
    let mut requests = String::new();
    for request in [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "c2c-setup", "version": env!("CARGO_PKG_VERSION")}}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}),
    ] {
        requests.push_str(&format!("{request}\n"));
    }
    let mut stdin = child.stdin.take().ok_or_else(no_response)?;
    stdin.write_all(requests.as_bytes()).map_err(|_| no_response())?;
    let lines = BufReader::new(child.stdout.take().ok_or_else(no_response)?).lines();
    let mut responses =
        lines.map_while(Result::ok).filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let response = responses.find(|response| response["id"] == 2);
    // Close both pipes, so that the server ends.
    drop((responses, stdin));
    let _ = child.wait();
    let tools = response.and_then(|found| found["result"]["tools"].as_array().map(Vec::len));
    tools.ok_or_else(no_response)
}

/// `<client>-<user>-<host>`, with every character replaced that an alias must not have.
fn default_alias(client: &SupportedClient) -> String {
    let client = client.also.unwrap_or(client.name);
    let user = USER.text().or_else(|| LOGNAME.text()).unwrap_or_else(|| "user".into());
    let host = host_name();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let part = |text: &str| text.chars().map(plain).take(24).collect::<String>();
    format!("{client}-{}-{}", part(&user), part(host.split('.').next().unwrap_or("host")))
}
