//! `c2c setup`: one command makes a client send and receive.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::{Value, json};
use similar::TextDiff;

use super::{Context, Run, output};
use crate::code::Code;
use crate::decide::Refusal;
use crate::envelope::for_terminal;
use crate::failure::Failure;
use crate::setup::{self, CLIENTS, Change, Client, Plan, Wish};

#[derive(Args)]
pub struct Setup {
    /// The client: claude-code, codex, opencode, kimi, crush or gemini; none to see which are here
    pub(super) client: Option<String>,
    /// Alias that its sessions take [default: <client>-<user>-<host>]
    #[arg(long, short, value_name = "ALIAS", conflicts_with = "no_alias")]
    alias: Option<String>,
    /// Leave the alias to each session
    #[arg(long)]
    no_alias: bool,
    /// The project, for a client that is set up in each (opencode) [default: here]
    #[arg(long, short, value_name = "DIR", conflicts_with = "global")]
    target_dir: Option<PathBuf>,
    /// For all projects of this user
    #[arg(long)]
    global: bool,
    /// Replace an entry named c2c that runs something else
    #[arg(long, short)]
    force: bool,
    /// Show what would change, and change nothing
    #[arg(long, short = 'n')]
    pub(super) dry_run: bool,
    /// Take away what setup has put there
    #[arg(long)]
    undo: bool,
    /// Rooms that its sessions join, with a comma between them
    #[arg(long, value_name = "ROOMS")]
    pub(super) rooms: Option<String>,
}

impl Run for Setup {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let Some(name) = &self.client else { return overview(context) };
        let client = Client::named(name)?;
        let done = set_up(client, &self)?;
        tell(context, &self, &done)
    }
}

/// What was done for a client, or would be.
pub(super) struct Done {
    plan: Plan,
    pub alias: Option<String>,
    /// Tools that the server offers, once it was tried out.
    tools: Option<usize>,
}

impl Setup {
    /// As `c2c init` asks for it.
    pub(super) fn plain(client: &str, alias: Option<String>) -> Self {
        Self {
            client: Some(client.to_owned()),
            alias,
            no_alias: false,
            target_dir: None,
            global: false,
            force: false,
            dry_run: false,
            undo: false,
            rooms: None,
        }
    }
}

pub(super) fn set_up(client: &Client, asked: &Setup) -> Result<Done, Failure> {
    if let Some(alias) = &asked.alias {
        c2c_log_format::id::check_alias(alias)
            .map_err(|e| Refusal::new(Code::InvalidAlias, "alias", format!("alias {e}")))?;
    }
    let mut wish = wish_of(client)?;
    wish.global = asked.global;
    if let Some(directory) = &asked.target_dir {
        wish.directory = std::fs::canonicalize(directory).map_err(|e| {
            let message = format!("{}: {e}", directory.display());
            Refusal::new(Code::InvalidArgument, "target_dir", message)
        })?;
    }
    let (alias_before, rooms_before) = client.settings(&wish)?;
    let alias_before = alias_before.filter(|alias| c2c_log_format::id::check_alias(alias).is_ok());
    let alias = match (&asked.alias, asked.no_alias) {
        (Some(alias), _) => Some(alias.clone()),
        (None, true) => None,
        // Set up again, it stays who it is.
        (None, false) => alias_before.or_else(|| Some(default_alias(client))),
    };
    if asked.target_dir.is_some() && client.name != "opencode" {
        let message = format!("{} is set up once for all projects", client.name);
        return Err(Refusal::new(Code::InvalidArgument, "target_dir", message)
            .hint("leave --target-dir out")
            .into());
    }
    for room in asked.rooms.iter().flat_map(|rooms| rooms.split(',')) {
        c2c_log_format::id::check_name(room.trim())
            .map_err(|e| Refusal::new(Code::InvalidRoomId, "rooms", format!("room {e}")))?;
    }
    wish.alias.clone_from(&alias);
    wish.rooms = asked.rooms.clone().or(rooms_before);
    (wish.undo, wish.force) = (asked.undo, asked.force);
    let plan = client.plan(&wish)?;
    let mut tools = None;
    if !asked.dry_run {
        setup::carry_out(&plan.changes)?;
        if !asked.undo {
            tools = Some(try_out(&wish.program)?);
        }
    }
    Ok(Done { plan, alias, tools })
}

/// Nothing in particular for a client, as it is on this machine.
fn wish_of(client: &Client) -> Result<Wish, Failure> {
    let home = variable("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = home.ok_or_else(|| {
        Refusal::new(Code::InvalidArgument, "HOME", "HOME is not set")
            .hint("the client's files are in the user's home")
    })?;
    let named = client.variable.and_then(variable).map(PathBuf::from);
    Ok(Wish {
        home,
        config_directory: named.filter(|path| path.is_absolute()),
        directory: std::env::current_dir().map_err(Failure::Output)?,
        global: false,
        program: std::env::current_exe().map_err(Failure::Output)?,
        alias: None,
        rooms: None,
        undo: true,
        force: false,
    })
}

/// What is known of a client here.
#[derive(serde::Serialize)]
pub(super) struct Found {
    pub client: &'static str,
    /// Where its program is.
    pub program: Option<PathBuf>,
    /// Files of it that name c2c.
    pub files: Vec<PathBuf>,
    /// Why a file of it cannot be read.
    pub problem: Option<String>,
}

/// All clients, here and elsewhere.
pub(super) fn detect() -> Result<Vec<Found>, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = CLIENTS.iter().map(|client| {
        let mut places = std::env::split_paths(&path).map(|place| place.join(client.program));
        let program = places.find(|place| place.is_file());
        let mut wish = wish_of(client)?;
        let (mut files, mut problem) = (Vec::new(), None);
        for global in [false, true] {
            wish.global = global;
            match client.plan(&wish) {
                Ok(plan) => {
                    // What undoing would change is what names c2c.
                    let named = plan.changes.into_iter().filter(|change| !change.is_nothing());
                    files.extend(named.map(|change| change.path));
                }
                Err(failure) => problem = Some(failure.message()),
            }
        }
        files.dedup();
        files.sort();
        files.dedup();
        Ok(Found { client: client.name, program, files, problem })
    });
    found.collect()
}

fn overview(context: &Context) -> Result<(), Failure> {
    let found = detect()?;
    if context.common.json {
        return output::say_json(&json!({ "ok": true, "clients": found }));
    }
    let mut text = format!("{:<12} {:<10} {}\n", "client", "installed", "c2c");
    for row in &found {
        let installed = if row.program.is_some() { "yes" } else { "no" };
        let files: Vec<String> = row.files.iter().map(|file| file.display().to_string()).collect();
        let state = match (&row.problem, row.files.is_empty(), row.program.is_some()) {
            (Some(problem), ..) => problem.clone(),
            (None, false, _) => format!("set up: {}", files.join(", ")),
            (None, true, true) => format!("not set up: c2c setup {}", row.client),
            (None, true, false) => "-".to_owned(),
        };
        text.push_str(&format!("{:<12} {installed:<10} {}\n", row.client, for_terminal(&state)));
    }
    output::say(&text)
}

fn tell(context: &Context, asked: &Setup, done: &Done) -> Result<(), Failure> {
    if context.common.json {
        return output::say_json(&done.json(asked));
    }
    output::say(&done.text(asked))
}

impl Done {
    fn changed(&self) -> impl Iterator<Item = &Change> {
        self.plan.changes.iter().filter(|row| !row.is_nothing())
    }

    pub(super) fn json(&self, asked: &Setup) -> Value {
        let files = self
            .changed()
            .map(|row| json!({ "path": row.path, "new": row.before.is_none(), "diff": diff(row) }));
        json!({
            "ok": true,
            "client": self.plan.client,
            "alias": self.alias.as_ref().filter(|_| !asked.undo),
            "dry_run": asked.dry_run,
            "undone": asked.undo,
            "files": files.collect::<Vec<_>>(),
            "tools": self.tools,
            "next": self.plan.next,
        })
    }

    pub(super) fn text(&self, asked: &Setup) -> String {
        let mut text = String::new();
        for row in self.changed() {
            let would = if asked.dry_run { "would change" } else { "changed" };
            text.push_str(&format!("{would} {}\n{}", row.path.display(), diff(row)));
        }
        if self.changed().next().is_none() {
            text.push_str("nothing to change\n");
        }
        if let Some(tools) = self.tools {
            text.push_str(&format!("checked: the server starts and offers {tools} tools\n"));
        }
        if !asked.dry_run {
            self.plan.next.iter().for_each(|step| text.push_str(&format!("next: {step}\n")));
        }
        let shown: Vec<String> = text.lines().map(for_terminal).collect();
        format!("{}\n", shown.join("\n"))
    }
}

fn diff(change: &Change) -> String {
    let before = change.before.as_deref().unwrap_or_default();
    let lines = TextDiff::from_lines(before, &change.after);
    lines.unified_diff().context_radius(2).to_string()
}

/// Starts the server as the client will, and asks which tools it has.
fn try_out(program: &Path) -> Result<usize, Failure> {
    let mut command = Command::new(program);
    // Nobody in particular asks: no session is registered by that.
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("C2C_") || name_text.starts_with("CLAUDE") {
            command.env_remove(name);
        }
    }
    command.arg("mcp").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(Failure::Output)?;
    let failed = || {
        let message = format!("{} does not answer as an MCP server", program.display());
        Failure::from(Refusal::new(Code::Internal, "", message))
    };
    let mut asked = String::new();
    for request in [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "c2c-setup", "version": env!("CARGO_PKG_VERSION")}}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}),
    ] {
        asked.push_str(&format!("{request}\n"));
    }
    let mut stdin = child.stdin.take().ok_or_else(failed)?;
    stdin.write_all(asked.as_bytes()).map_err(|_| failed())?;
    let lines = BufReader::new(child.stdout.take().ok_or_else(failed)?).lines();
    let answers = lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
    let answer = { answers }.find(|answer: &Value| answer["id"] == 2);
    drop(stdin);
    let _ = child.wait();
    let tools = answer.and_then(|answer| answer["result"]["tools"].as_array().map(Vec::len));
    tools.ok_or_else(failed)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `<client>-<user>-<host>`, spelt so that it is an alias.
fn default_alias(client: &Client) -> String {
    let client = client.also.unwrap_or(client.name);
    let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "user".into());
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = host.to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let part = |text: &str| text.chars().map(plain).take(24).collect::<String>();
    format!("{client}-{}-{}", part(&user), part(host.split('.').next().unwrap_or("host")))
}
