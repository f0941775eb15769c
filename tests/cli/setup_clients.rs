//! The files of every client, before and after `c2c setup`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::skip;
use crate::support::{Outcome, World, run};

struct Case {
    client: &'static str,
    /// Files in the home: name, content before, and text that setup must add.
    files: &'static [(&'static str, &'static str, &'static str)],
}

const CASES: &[Case] = &[
    Case {
        client: "codex",
        files: &[
            (
                ".codex/config.toml",
                "# mine\nmodel = \"o9\"   # keep\n\n[mcp_servers.files]\ncommand = \"mcp-files\"\n\
                 args = [ ]\n\n[tui]\ntheme = 'dark'\n",
                "default_tools_approval_mode = \"approve\"",
            ),
            (
                ".codex/hooks.json",
                "{ \"hooks\": { \"Stop\": [ { \"hooks\": [ { \"type\": \"command\", \"command\": \
                 \"bell\" } ] } ] } }\n",
                "c2c hook",
            ),
        ],
    },
    Case {
        client: "opencode",
        files: &[(
            "work/.opencode/opencode.json",
            "{\r\n  // mine\r\n  \"model\": \"x/y\",\r\n  \"mcp\": {\"files\": {\"type\": \"local\", \
             \"command\": [\"mcp-files\"]}}\r\n}\r\n",
            "\"type\": \"local\"",
        )],
    },
    Case {
        client: "kimi",
        files: &[
            (
                ".kimi-code/mcp.json",
                "{\"mcpServers\": {\"files\": {\"command\": \"f\"}}}",
                "\"mcp\"",
            ),
            (".kimi/mcp.json", "{\n  \"mcpServers\": {\"x\": {}}, \"zeta\": 1.50\n}\n", "\"mcp\""),
            (
                ".kimi-code/config.toml",
                "default_model = \"k2\"\r\n\r\n[[hooks]]\r\nevent = \"Stop\"\r\n\
                 command = \"bell\" # keep\r\n",
                "c2c hook --client kimi",
            ),
        ],
    },
    Case {
        client: "crush",
        files: &[(
            ".config/crush/crush.json",
            "{\n  \"mcp\": { \"files\": {\"type\": \"stdio\", \"command\": \"f\"} },\n  \"hooks\": {\
             \"PreToolUse\": [ {\"matcher\": \"bash\", \"command\": \"check\"} ]}\n}\n",
            "c2c hook --client crush",
        )],
    },
    Case {
        client: "gemini",
        files: &[(
            ".gemini/settings.json",
            "{\n  // mine\n  \"theme\": \"dark\",\n  \"hooks\": {\"AfterTool\": [ {\"matcher\": \"x\", \
             \"hooks\": [ {\"type\": \"command\", \"command\": \"fmt\"} ]} ]}\n}\n",
            "\"AfterAgent\"",
        )],
    },
];

fn path(world: &World, name: &str) -> PathBuf {
    match name.strip_prefix("work/") {
        Some(name) => world.path().join("work").join(name),
        None => world.path().join("home").join(name),
    }
}

fn put(world: &World, name: &str, text: &str) {
    let path = path(world, name);
    fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    fs::write(path, text).expect("written");
}

fn setup(world: &World, client: &str, args: &[&str]) -> Outcome {
    let here = world.path().join("work");
    fs::create_dir_all(&here).expect("a directory");
    let mut command = world.c2c(&[&["setup", client], args].concat());
    command.current_dir(here);
    run(command)
}

fn text(world: &World, name: &str) -> String {
    fs::read_to_string(path(world, name)).expect("a file")
}

/// Every file below a directory except for backups, with its content.
fn tree(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(tree(&entry.path()));
        } else if !entry.file_name().to_string_lossy().ends_with(".before-c2c") {
            found.push((entry.path(), fs::read_to_string(entry.path()).expect("text")));
        }
    }
    found.sort();
    found
}

fn a_fresh_home_is_set_up_once_and_undone_completely() {
    for case in CASES {
        let world = World::new();
        let (home, work) = (world.path().join("home"), world.path().join("work"));
        let before = (tree(&home), tree(&work));
        let done = setup(&world, case.client, &["--alias", "ann", "--json"]).ok().json();
        assert!(done["tools"].as_u64() > Some(5), "{done}");
        for (name, _, expected) in case.files {
            let text = text(&world, name);
            assert!(text.contains(expected), "{name}: {text}");
            assert!(!text.contains("BROKER_ROOT") && !text.contains("SESSION_ID"), "{text}");
            let mode = fs::metadata(path(&world, name)).expect("it").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let servers: String = case.files.iter().map(|(name, ..)| text(&world, name)).collect();
        assert!(servers.contains("\"ann\""), "{servers}");
        let again = setup(&world, case.client, &["--alias", "ann"]).ok();
        assert!(again.out.starts_with("nothing to change"), "{}: {}", case.client, again.out);
        setup(&world, case.client, &["--undo"]).ok();
        for (name, ..) in case.files {
            let left = fs::read_to_string(path(&world, name)).unwrap_or_default();
            assert!(left.trim().trim_matches(['{', '}']).trim().is_empty(), "{name}: {left}");
        }
        assert_eq!((&before.0, &before.1), (&Vec::new(), &Vec::new()), "{}", case.client);
    }
}

fn foreign_settings_stay_and_undo_restores_every_byte() {
    for case in CASES {
        let world = World::new();
        case.files.iter().for_each(|(name, before, _)| put(&world, name, before));
        setup(&world, case.client, &["--dry-run"]).ok();
        for (name, before, _) in case.files {
            assert_eq!(text(&world, name), *before, "{name}");
        }
        setup(&world, case.client, &["--alias", "ann"]).ok();
        for (name, before, expected) in case.files {
            let after = text(&world, name);
            assert!(after.contains(expected), "{name}: {after}");
            for line in before.lines().filter(|line| line.contains("keep") || line.contains("mine"))
            {
                assert!(after.contains(line), "{line} in {after}");
            }
            if before.contains('\r') {
                assert_eq!(after.matches('\n').count(), after.matches("\r\n").count(), "{after}");
            }
            let kept = text(&world, &format!("{name}.before-c2c"));
            assert_eq!(kept, *before);
        }
        setup(&world, case.client, &["--undo"]).ok();
        for (name, before, _) in case.files {
            assert_eq!(text(&world, name), *before, "{name}");
        }
    }
}

fn a_linked_file_stays_a_link_and_a_malformed_one_is_not_changed() {
    for case in CASES {
        let (name, before, expected) = case.files[0];
        let world = World::new();
        put(&world, "dotfiles/it", before);
        if case.client == "opencode" {
            // A file of a project, where links are rejected: see below.
            continue;
        }
        fs::create_dir_all(path(&world, name).parent().expect("one")).expect("made");
        symlink(path(&world, "dotfiles/it"), path(&world, name)).expect("a link");
        setup(&world, case.client, &[]).ok();
        assert!(fs::symlink_metadata(path(&world, name)).expect("it").is_symlink());
        assert!(text(&world, "dotfiles/it").contains(expected), "{}", case.client);
        for wrong in ["{", "[[[", "= 1", "\u{0}"] {
            let world = World::new();
            put(&world, name, wrong);
            let done = setup(&world, case.client, &[]);
            let file = Path::new(name).file_name().expect("a name").to_string_lossy().into_owned();
            assert!(done.err.contains(&file), "{wrong}: {}", done.err);
            done.fails_with("invalid_argument");
            assert_eq!(text(&world, name), wrong);
        }
    }
}

fn an_unrelated_entry_is_replaced_only_with_force() {
    let foreign: [(&str, &str, &str); 3] = [
        ("gemini", ".gemini/settings.json", "{\"mcpServers\": {\"c2c\": {\"command\": \"mine\"}}}"),
        ("codex", ".codex/config.toml", "[mcp_servers.c2c]\ncommand = \"mine\"\n"),
        ("crush", ".config/crush/crush.json", "{\"mcp\": {\"c2c\": {\"command\": \"mine\"}}}"),
    ];
    for (client, name, before) in foreign {
        let world = World::new();
        put(&world, name, before);
        let done = setup(&world, client, &[]);
        assert!(done.err.contains("mine"), "{}", done.err);
        done.fails_with("invalid_argument");
        assert_eq!(text(&world, name), before);
        setup(&world, client, &["--undo"]).ok();
        assert_eq!(text(&world, name), before, "undo does not remove an unrelated entry");
        setup(&world, client, &["--force"]).ok();
        assert!(!text(&world, name).contains("mine"));
    }
}

fn entries_of_an_older_c2c_are_replaced() {
    let world = World::new();
    let older = "[mcp_servers.c2c]\ncommand = \"opam\"\nargs = [\"exec\", \"--\", \
                 \"/x/c2c_mcp_server.exe\"]\n\n[mcp_servers.c2c.env]\nC2C_MCP_BROKER_ROOT = \"/x\"\n\n\
                 [mcp_servers.c2c.tools.send]\napproval_mode = \"auto\"\n";
    put(&world, ".codex/config.toml", older);
    setup(&world, "codex", &["--alias", "ann"]).ok();
    let now = text(&world, ".codex/config.toml");
    assert!(!now.contains("opam") && !now.contains("BROKER_ROOT") && !now.contains("tools.send"));
    put(&world, "work/.opencode/plugins/c2c.ts", "// c2c, the older one\n");
    let done = setup(&world, "opencode", &["--json"]).ok().json();
    assert!(done.to_string().contains("c2c, the older one"), "{done}");
    assert!(!path(&world, "work/.opencode/plugins/c2c.ts").exists());
    assert_eq!(text(&world, "work/.opencode/plugins/c2c.ts.before-c2c"), "// c2c, the older one\n");
}

fn opencode_is_set_up_in_the_requested_directory() {
    let world = World::new();
    let there = world.path().join("there");
    fs::create_dir_all(&there).expect("made");
    setup(&world, "opencode", &["--target-dir", there.to_str().expect("text")]).ok();
    assert!(there.join(".opencode/opencode.json").exists());
    setup(&world, "opencode", &["--global"]).ok();
    assert!(path(&world, ".config/opencode/plugin/c2c.js").exists());
    assert!(!path(&world, "work/.opencode").exists());
    setup(&world, "opencode", &["--target-dir", "/nowhere/at/all"]).fails_with("invalid_argument");
    setup(&world, "codex", &["--target-dir", "."]).fails_with("invalid_argument");
}

fn setup_without_a_client_lists_the_installed_clients() {
    let world = World::new();
    let programs = world.path().join("programs");
    fs::create_dir_all(&programs).expect("made");
    for name in ["codex", "kimi"] {
        fs::write(programs.join(name), "").expect("a program");
    }
    setup(&world, "codex", &["--alias", "ann"]).ok();
    put(&world, ".gemini/settings.json", "{");
    let mut ask = world.c2c(&["setup", "--json"]);
    ask.env("PATH", &programs);
    let rows = run(ask).ok().json();
    let row = |name: &str| -> Value {
        let rows = rows["clients"].as_array().expect("rows");
        rows.iter().find(|row| row["client"] == name).expect("it").clone()
    };
    assert_eq!(row("codex")["program"], json!(programs.join("codex")));
    assert_eq!(row("codex")["files"].as_array().map(Vec::len), Some(2));
    assert_eq!((&row("kimi")["files"], &row("crush")["program"]), (&json!([]), &Value::Null));
    assert!(row("gemini")["problem"].as_str().is_some_and(|why| why.contains("settings.json")));
    let mut ask = world.c2c(&["setup"]);
    ask.env("PATH", &programs);
    let text = run(ask).ok().out;
    assert!(text.contains("not set up: c2c setup kimi"), "{text}");
}

/// Runs as another user, because root can write every file.
fn a_read_only_file_is_named_and_nothing_changes() {
    const NOBODY: u32 = 65_534;
    let world = World::new();
    if !is_root() {
        skip("changing the user needs root");
    }
    let home = world.path().join("home");
    fs::create_dir_all(home.join(".codex")).expect("made");
    put(&world, ".codex/config.toml", "model = \"o9\"\n");
    let hooks = home.join(".codex/hooks.json");
    fs::write(&hooks, "{}\n").expect("written");
    fs::set_permissions(&hooks, fs::Permissions::from_mode(0o444)).expect("set");
    for place in [world.path(), &home, &home.join(".codex"), &home.join(".codex/config.toml")] {
        chown(place, Some(NOBODY), Some(NOBODY)).expect("given away");
    }
    // A program that the other user can reach.
    let program = world.path().join("c2c");
    // Copied by another process: a child of another test may inherit a file that this process has
    // open for writing, and then the file cannot be executed.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_c2c")).arg(&program).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let mut command = world.program(program.to_str().expect("text"), &["setup", "codex"]);
    command.uid(NOBODY).gid(NOBODY).current_dir(&home);
    let done = run(command);
    assert!(done.err.contains("hooks.json"), "{}", done.err);
    done.fails_with("storage_failed");
    assert_eq!(text(&world, ".codex/config.toml"), "model = \"o9\"\n");
    let files: Vec<_> = tree(&home.join(".codex")).into_iter().map(|(path, _)| path).collect();
    assert_eq!(files.len(), 2, "no other file remains: {files:?}");
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status")
        .is_ok_and(|text| text.lines().any(|line| line.starts_with("Uid:\t0\t0")))
}

fn repeated_setup_keeps_the_alias_and_the_additions_of_the_user() {
    for (client, name, text_of_env) in [
        ("gemini", ".gemini/settings.json", "\"env\": {"),
        ("codex", ".codex/config.toml", "env = {"),
    ] {
        let world = World::new();
        setup(&world, client, &["--alias", "alice", "--rooms", "lobby"]).ok();
        let own = if client == "codex" { " MINE = \"1\"," } else { "\"MINE\": \"1\"," };
        let edited = text(&world, name).replace(text_of_env, &format!("{text_of_env}{own}"));
        put(&world, name, &edited);
        setup(&world, client, &[]).ok();
        let now = text(&world, name);
        for word in ["alice", "lobby", "MINE"] {
            assert!(now.contains(word), "{client} {word}: {now}");
        }
        setup(&world, client, &["--alias", "bert"]).ok();
        let now = text(&world, name);
        assert!(now.contains("bert") && now.contains("MINE") && !now.contains("alice"), "{now}");
        setup(&world, client, &["--undo"]).ok();
        assert!(!path(&world, name).exists(), "the file contained only entries of c2c");
        assert!(!path(&world, &format!("{name}.before-c2c")).exists(), "{client}");
    }
}

fn undo_keeps_later_changes_of_the_user() {
    let world = World::new();
    let name = ".gemini/settings.json";
    put(&world, name, "{\n  // it is 5\" wide\n  \"title\": \"x y\"\n}\n");
    setup(&world, "gemini", &[]).ok();
    put(&world, name, &text(&world, name).replace("\"x y\"", "\"xy\""));
    setup(&world, "gemini", &["--undo"]).ok();
    let now = text(&world, name);
    assert!(now.contains("\"xy\"") && now.contains("// it is 5\" wide"), "{now}");
}

fn links_in_a_project_cannot_lead_setup_outside_of_it() {
    let world = World::new();
    put(&world, ".bashrc", "# mine: c2c\n");
    put(&world, ".profile", "// c2c in OpenCode, they say\n");
    fs::create_dir_all(path(&world, "work/.opencode/plugins")).expect("made");
    symlink(path(&world, ".bashrc"), path(&world, "work/.opencode/plugins/c2c.ts"))
        .expect("a link");
    setup(&world, "opencode", &[]).fails_with("invalid_argument");
    setup(&world, "opencode", &["--undo"]).fails_with("invalid_argument");
    assert_eq!(text(&world, ".bashrc"), "# mine: c2c\n");
    // A plugin of the user is neither replaced nor removed.
    let world = World::new();
    put(&world, "work/.opencode/plugin/c2c.js", "// my own\n");
    setup(&world, "opencode", &[]).fails_with("invalid_argument");
    setup(&world, "opencode", &["--undo"]).ok();
    assert_eq!(text(&world, "work/.opencode/plugin/c2c.js"), "// my own\n");
}

fn unrelated_entries_are_recognised_by_their_program() {
    for before in [
        "[mcp_servers.c2c]\nurl = \"http://127.0.0.1/\"\n",
        "[mcp_servers.c2c]\ncommand = \"my-proxy\"\nargs = [\"--dir\", \"/work/c2c\"]\n",
    ] {
        let world = World::new();
        put(&world, ".codex/config.toml", before);
        setup(&world, "codex", &[]).fails_with("invalid_argument");
        setup(&world, "codex", &["--undo"]).ok();
        assert_eq!(text(&world, ".codex/config.toml"), before);
    }
    // An entry of c2c in one line, and an empty list of hooks.
    let world = World::new();
    put(
        &world,
        ".codex/config.toml",
        "[mcp_servers]\nc2c = { command = \"/x/c2c\", args = [\"mcp\"] }\n",
    );
    setup(&world, "codex", &["--alias", "ann"]).ok();
    assert!(text(&world, ".codex/config.toml").contains("approve"));
    put(&world, ".kimi-code/config.toml", "hooks = []\n");
    setup(&world, "kimi", &[]).ok();
    setup(&world, "kimi", &["--undo"]).ok();
}

crate::harness::tests! {
    fast:
        a_fresh_home_is_set_up_once_and_undone_completely,
        foreign_settings_stay_and_undo_restores_every_byte,
        a_linked_file_stays_a_link_and_a_malformed_one_is_not_changed,
        an_unrelated_entry_is_replaced_only_with_force,
        entries_of_an_older_c2c_are_replaced,
        opencode_is_set_up_in_the_requested_directory,
        setup_without_a_client_lists_the_installed_clients,
        a_read_only_file_is_named_and_nothing_changes,
        repeated_setup_keeps_the_alias_and_the_additions_of_the_user,
        undo_keeps_later_changes_of_the_user,
        links_in_a_project_cannot_lead_setup_outside_of_it,
        unrelated_entries_are_recognised_by_their_program;
}
