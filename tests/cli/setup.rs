//! Setup of Claude Code: its files before and after.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Outcome, World, run};

fn home(world: &World, name: &str) -> PathBuf {
    world.path().join("home").join(name)
}

fn put(world: &World, name: &str, text: &str) {
    let path = home(world, name);
    fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    fs::write(path, text).expect("written");
}

fn text(world: &World, name: &str) -> String {
    fs::read_to_string(home(world, name)).expect("a file")
}

fn json_of(world: &World, name: &str) -> Value {
    serde_json::from_str(&text(world, name)).expect("JSON")
}

fn setup(world: &World, args: &[&str]) -> Outcome {
    run(world.c2c(&[&["setup", "claude-code"], args].concat()))
}

const SERVERS: &str = ".claude.json";
const SETTINGS: &str = ".claude/settings.json";

fn ours(program: &str) -> Value {
    json!([{"hooks": [{"type": "command", "command": format!("{program} hook"), "timeout": 5}]}])
}

fn setup_adds_server_rule_and_hooks_to_a_fresh_home_once() {
    let world = World::new();
    let done = setup(&world, &["--json", "--alias", "ann"]).ok().json();
    assert_eq!(done["files"].as_array().map(Vec::len), Some(2));
    assert!(done["tools"].as_u64() > Some(5), "{done}");
    let program = env!("CARGO_BIN_EXE_c2c");
    let server = &json_of(&world, SERVERS)["mcpServers"]["c2c"];
    assert_eq!((&server["command"], &server["args"]), (&json!(program), &json!(["mcp"])));
    assert_eq!(server["alwaysLoad"], true);
    assert_eq!(server["env"], json!({"C2C_MCP_AUTO_REGISTER_ALIAS": "ann"}));
    let settings = json_of(&world, SETTINGS);
    assert_eq!(settings["permissions"]["allow"], json!(["mcp__c2c"]));
    for event in ["SessionStart", "UserPromptSubmit", "PostToolUse", "Stop"] {
        assert_eq!(settings["hooks"][event], ours(program), "{event}");
    }
    let wake = &settings["hooks"]["FileChanged"][0]["hooks"][0];
    assert_eq!(wake["command"], format!("{program} hook --wake"));
    assert_eq!(wake["asyncRewake"], true);
    let mode = fs::metadata(home(&world, SERVERS)).expect("it").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!world.root().exists(), "testing the server registers no session");
    let again = setup(&world, &["--alias", "ann"]).ok();
    assert!(again.out.starts_with("nothing to change"), "{}", again.out);
    // Setup without an alias removes the variable.
    setup(&world, &["--no-alias"]).ok();
    assert!(json_of(&world, SERVERS)["mcpServers"]["c2c"]["env"].is_null());
    setup(&world, &["--undo"]).ok();
    for name in [SERVERS, SETTINGS] {
        assert!(!home(&world, name).exists(), "{name} was ours alone");
    }
}

/// Files with other servers, other hooks and unusual formatting.
const FOREIGN_SERVERS: &str = "{\r\n\t\"numStartups\": 7,\r\n\t\"mcpServers\": {\r\n\t\t\"files\": \
    {\"command\": \"mcp-files\", \"args\": [  ]}\r\n\t},\r\n\t\"zeta\": 1.50\r\n}\r\n";
const FOREIGN_SETTINGS: &str = r#"{
  // mine
  "model": "opus",
  "permissions": { "allow": ["Bash(ls:*)"], "deny": [] },
  "hooks": {
    "PostToolUse": [
      { "matcher": "Edit", "hooks": [ { "type": "command", "command": "fmt.sh" } ] } // keep
    ],
    "Notification": [ { "hooks": [ { "type": "command", "command": "bell" } ] } ]
  }
}
"#;

fn foreign_settings_stay_byte_for_byte_and_undo_restores_the_file() {
    let world = World::new();
    put(&world, SERVERS, FOREIGN_SERVERS);
    put(&world, SETTINGS, FOREIGN_SETTINGS);
    let dry = setup(&world, &["--dry-run"]).ok();
    assert!(dry.out.contains("+") && dry.out.contains("mcp__c2c"), "{}", dry.out);
    assert_eq!(text(&world, SERVERS), FOREIGN_SERVERS);
    setup(&world, &["--alias", "ann"]).ok();
    let servers = text(&world, SERVERS);
    assert!(
        servers.contains("\"files\": {\"command\": \"mcp-files\", \"args\": [  ]}"),
        "{servers}"
    );
    assert!(servers.contains("\t\"zeta\": 1.50\r\n") && servers.contains("\"c2c\""), "{servers}");
    assert_eq!(servers.matches('\n').count(), servers.matches("\r\n").count(), "{servers}");
    let settings = text(&world, SETTINGS);
    for line in ["  // mine\n", "\"command\": \"fmt.sh\" } ] }", "// keep", "\"Bash(ls:*)\""] {
        assert!(settings.contains(line), "{line} in {settings}");
    }
    assert_eq!(settings.matches("c2c hook").count(), 5, "{settings}");
    assert_eq!(text(&world, ".claude.json.before-c2c"), FOREIGN_SERVERS);
    let once = (servers, settings);
    setup(&world, &["--alias", "ann"]).ok();
    assert_eq!((text(&world, SERVERS), text(&world, SETTINGS)), once);
    setup(&world, &["--undo"]).ok();
    assert_eq!(text(&world, SERVERS), FOREIGN_SERVERS);
    assert_eq!(text(&world, SETTINGS), FOREIGN_SETTINGS);
    let nothing = setup(&world, &["--undo"]).ok();
    assert!(nothing.out.starts_with("nothing to change"), "{}", nothing.out);
}

fn hooks_and_servers_of_an_older_c2c_are_replaced() {
    let world = World::new();
    put(&world, SERVERS, r#"{"mcpServers": {"c2c": {"command": "c2c-mcp-server", "args": []}}}"#);
    let older = r#"{"hooks": {"PostToolUse": [
        {"matcher": "^(?!mcp__).*", "hooks": [
            {"type": "command", "command": "/home/x/.claude/hooks/c2c-inbox-check.sh"},
            {"type": "command", "command": "mine.sh"}]},
        {"hooks": [{"type": "command", "command": "/old/c2c hook"}]}]}}"#;
    put(&world, SETTINGS, older);
    let done = setup(&world, &["--no-alias"]).ok();
    assert!(done.out.contains("c2c-inbox-check.sh"), "it is shown: {}", done.out);
    assert_eq!(json_of(&world, SERVERS)["mcpServers"]["c2c"]["args"], json!(["mcp"]));
    let hooks = &json_of(&world, SETTINGS)["hooks"]["PostToolUse"];
    assert_eq!(hooks[0]["hooks"], json!([{"type": "command", "command": "mine.sh"}]));
    assert_eq!(hooks[1], ours(env!("CARGO_BIN_EXE_c2c"))[0]);
    assert_eq!(hooks.as_array().map(Vec::len), Some(2));
}

fn a_linked_file_stays_a_link() {
    let world = World::new();
    put(&world, "dotfiles/claude.json", "{}\n");
    symlink("dotfiles/claude.json", home(&world, SERVERS)).expect("a link");
    setup(&world, &[]).ok();
    assert!(fs::symlink_metadata(home(&world, SERVERS)).expect("it").is_symlink());
    assert!(text(&world, "dotfiles/claude.json").contains("mcpServers"));
}

fn a_malformed_file_is_rejected_and_nothing_changes() {
    for wrong in ["{", "[]", "{\"hooks\": 5}", "{\"permissions\": {\"allow\": \"all\"}}", "\u{0}"] {
        let world = World::new();
        put(&world, SETTINGS, wrong);
        let done = setup(&world, &[]);
        assert!(done.err.contains("settings.json"), "{wrong}: {}", done.err);
        done.fails_with("invalid_argument");
        assert_eq!(text(&world, SETTINGS), wrong);
        assert!(!home(&world, SERVERS).exists(), "{wrong}");
    }
    // A path where nothing can be written.
    let world = World::new();
    put(&world, ".claude", "a file where a directory should be");
    setup(&world, &[]).fails_with("storage_failed");
    assert!(!home(&world, SERVERS).exists());
    run(world.c2c(&["setup", "clippy"])).fails_with("invalid_argument");
    setup(&world, &["--alias", "no/alias"]).fails_with("invalid_alias");
    let mut homeless = world.c2c(&["setup", "claude"]);
    homeless.env_remove("HOME");
    run(homeless).fails_with("invalid_argument");
}

crate::harness::tests! {
    fast:
        setup_adds_server_rule_and_hooks_to_a_fresh_home_once,
        foreign_settings_stay_byte_for_byte_and_undo_restores_the_file,
        hooks_and_servers_of_an_older_c2c_are_replaced,
        a_linked_file_stays_a_link,
        a_malformed_file_is_rejected_and_nothing_changes;
}
