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
use crate::setup::{self, Change, Plan, Wish};

#[derive(Args)]
pub struct Setup {
    /// The client: claude-code
    client: String,
    /// Alias that its sessions take [default: claude-<user>-<host>]
    #[arg(long, value_name = "ALIAS", conflicts_with = "no_alias")]
    alias: Option<String>,
    /// Leave the alias to each session
    #[arg(long)]
    no_alias: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Take away what setup has put there
    #[arg(long)]
    undo: bool,
}

impl Run for Setup {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let program = std::env::current_exe().map_err(Failure::Output)?;
        let home = variable("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let home = home.ok_or_else(|| {
            Refusal::new(Code::InvalidArgument, "HOME", "HOME is not set")
                .hint("the client's files are in the user's home")
        })?;
        let alias = match (&self.alias, self.no_alias) {
            (Some(alias), _) => {
                c2c_log_format::id::check_alias(alias)
                    .map_err(|e| Refusal::new(Code::InvalidAlias, "alias", format!("alias {e}")))?;
                Some(alias.clone())
            }
            (None, true) => None,
            (None, false) => Some(default_alias("claude")),
        };
        let config_directory = variable("CLAUDE_CONFIG_DIR").map(PathBuf::from);
        let undo = self.undo;
        let wish = Wish { home, config_directory, program: program.clone(), alias, undo };
        let plan = setup::plan(&self.client, &wish)?;
        let mut seen = None;
        if !self.dry_run {
            setup::carry_out(&plan.changes)?;
            if !undo {
                seen = Some(try_out(&program)?);
            }
        }
        tell(context, &self, &plan, wish.alias.as_deref(), seen)
    }
}

fn tell(
    context: &Context,
    asked: &Setup,
    plan: &Plan,
    alias: Option<&str>,
    seen: Option<usize>,
) -> Result<(), Failure> {
    let changed: Vec<&Change> = plan.changes.iter().filter(|row| !row.is_nothing()).collect();
    if context.common.json {
        let files = changed
            .iter()
            .map(|row| json!({ "path": row.path, "new": row.before.is_none(), "diff": diff(row) }));
        return output::say_json(&json!({
            "ok": true,
            "client": plan.client,
            "alias": alias.filter(|_| !asked.undo),
            "dry_run": asked.dry_run,
            "undone": asked.undo,
            "files": files.collect::<Vec<_>>(),
            "tools": seen,
            "next": plan.next,
        }));
    }
    let mut text = String::new();
    for row in &changed {
        let would = if asked.dry_run { "would change" } else { "changed" };
        text.push_str(&format!("{would} {}\n{}", row.path.display(), diff(row)));
    }
    if changed.is_empty() {
        text.push_str("nothing to change\n");
    }
    if let Some(tools) = seen {
        text.push_str(&format!("checked: the server starts and offers {tools} tools\n"));
    }
    if !asked.dry_run {
        plan.next.iter().for_each(|step| text.push_str(&format!("next: {step}\n")));
    }
    let shown: Vec<String> = text.lines().map(for_terminal).collect();
    output::say(&format!("{}\n", shown.join("\n")))
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
fn default_alias(client: &str) -> String {
    let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "user".into());
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = host.to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let part = |text: &str| text.chars().map(plain).take(24).collect::<String>();
    format!("{client}-{}-{}", part(&user), part(host.split('.').next().unwrap_or("host")))
}
