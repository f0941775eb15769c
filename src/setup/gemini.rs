//! Setup of Gemini CLI.
//!
//! Setup writes the server, with its tools trusted, and the hooks to `settings.json`. Gemini CLI
//! has its own event names.

use serde_json::{Value, json};

use super::force::{self, Gap, has_word, json_file};
use super::hooks;
use super::json::{edit, set_server};
use super::own_entries::is_our_hook;
use super::plan::{SetupOptions, SetupPlan};
use crate::error::Failure;

const EVENTS: [&str; 4] = ["SessionStart", "BeforeAgent", "AfterTool", "AfterAgent"];
/// The client stops waiting for the hook after this many milliseconds.
const HOOK_TIMEOUT_MS: u64 = 5000;

pub fn plan(options: &SetupOptions) -> Result<SetupPlan, Failure> {
    let home = options.config_directory.as_ref().unwrap_or(&options.home);
    let mut settings = options.read(home.join(".gemini/settings.json"))?;
    let mut entry = json!({ "command": options.program, "args": ["mcp"], "trust": true });
    if let Some(env) = options.environment() {
        entry["env"] = env;
    }
    let hook = json!({
        "type": "command", "command": options.hook_command(), "timeout": HOOK_TIMEOUT_MS,
    });
    let by_event: Vec<(&str, Option<Value>)> =
        EVENTS.map(|event| (event, options.unless_undo(&hook))).into();
    edit(&mut settings, options.undo, &|editor| {
        set_server(editor, "mcpServers", options, &entry)?;
        hooks::set(editor, &by_event)
    })?;
    let next: &[&str] = if options.undo {
        &["restart Gemini CLI"]
    } else {
        &[
            "restart Gemini CLI",
            "trust the folder when asked: Gemini CLI starts no server in other folders",
        ]
    };
    let next = next.iter().map(|step| (*step).to_owned()).collect();
    Ok(SetupPlan { client: "gemini", changes: vec![settings], next })
}

/// Why Gemini CLI does not use a part of the setup.
pub fn gaps(options: &SetupOptions) -> Vec<Gap> {
    let directory = options.config_directory.as_ref().unwrap_or(&options.home).join(".gemini");
    let path = directory.join("settings.json");
    let shown = path.display();
    let settings = json_file(&path);
    let server = &settings["mcpServers"]["c2c"];
    let mut gaps = force::server(server, &path);
    if gaps.is_empty() && server["trust"] != true {
        gaps.push(Gap::missing(format!("{shown}: the server c2c lacks trust = true")));
    }
    if has_word(&settings["mcp"]["excluded"], "c2c") {
        gaps.push(Gap::setting(format!("{shown}: mcp.excluded names c2c")));
    }
    let allowed = &settings["mcp"]["allowed"];
    if allowed.is_array() && !has_word(allowed, "c2c") {
        gaps.push(Gap::setting(format!("{shown}: mcp.allowed does not name c2c")));
    }
    let switched = directory.join("mcp-server-enablement.json");
    if json_file(&switched)["c2c"]["enabled"] == false {
        gaps.push(Gap::setting(format!("{}: c2c is disabled", switched.display())));
    }
    let missing = EVENTS.into_iter().filter(|event| !hooks::has_hook(&settings["hooks"], event));
    gaps.extend(force::missing_hooks(missing, &path));
    if settings["hooksConfig"]["enabled"] == false {
        gaps.push(Gap::setting(format!("{shown}: hooksConfig.enabled is false")));
    }
    let disabled = settings["hooksConfig"]["disabled"].as_array().into_iter().flatten();
    let disabled = disabled.filter_map(Value::as_str);
    if disabled.into_iter().any(is_our_hook) {
        gaps.push(Gap::setting(format!("{shown}: hooksConfig.disabled names the hook of c2c")));
    }
    gaps
}
