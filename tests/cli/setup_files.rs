//! Setup on files that are special, shared or busy, and the report of what is in force.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::skip;
use crate::support::{Outcome, World, run};

fn home(world: &World) -> PathBuf {
    world.path().join("home")
}

fn put(world: &World, name: &str, text: &str) {
    let path = home(world).join(name);
    fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    fs::write(path, text).expect("written");
}

fn text(world: &World, name: &str) -> String {
    fs::read_to_string(home(world).join(name)).expect("a file")
}

fn setup(world: &World, client: &str, args: &[&str]) -> Outcome {
    run(world.c2c(&[&["setup", client], args].concat()))
}

/// Every path below a directory.
fn names(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(names(&entry.path()));
        }
        found.push(entry.path());
    }
    found.sort();
    found
}

fn require_root() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !status.lines().any(|line| line.starts_with("Uid:\t0\t0")) {
        skip("changing owners and mounts needs root");
    }
}

fn a_file_that_is_a_mount_point_is_written_in_place() {
    require_root();
    let world = World::new();
    put(&world, ".claude.json", "{\"n\": 1}\n");
    put(&world, ".claude/settings.json", "{}\n");
    put(&world, "mounted", "{}\n");
    let script = "mount --bind \"$HOME/mounted\" \"$HOME/.claude/settings.json\" || exit 77
        \"$0\" setup claude-code >/dev/null && \"$0\" setup --json && \"$0\" setup claude-code --undo";
    let arguments = ["-m", "--propagation", "private", "sh", "-c", script];
    let done =
        run(world.program("unshare", &[&arguments[..], &[env!("CARGO_BIN_EXE_c2c")]].concat()));
    if done.status == 77 || done.err.contains("unshare") {
        skip("mounts are not permitted");
    }
    let mut values = serde_json::Deserializer::from_str(&done.out).into_iter::<Value>();
    let list = values.next().expect("a list").expect("JSON");
    let row = &list["clients"][0];
    assert_eq!((&row["client"], &row["gaps"]), (&json!("claude-code"), &json!([])), "{row}");
    assert_eq!(row["files"].as_array().map(Vec::len), Some(2), "{row}");
    assert_eq!(text(&world, "mounted"), "{}\n");
    assert_eq!(text(&world, ".claude.json"), "{\"n\": 1}\n");
    let left = names(&home(&world));
    assert_eq!(left.len(), 4, "nothing else is left: {left:?}");
}

fn what_root_sets_up_in_the_home_of_a_user_belongs_to_that_user() {
    require_root();
    let world = World::new();
    put(&world, ".claude.json", "{}\n");
    for path in [home(&world), home(&world).join(".claude.json")] {
        chown(path, Some(1000), Some(1001)).expect("given away");
    }
    setup(&world, "claude-code", &[]).ok();
    for path in names(&home(&world)) {
        let owner = fs::symlink_metadata(&path).map(|file| (file.uid(), file.gid())).expect("it");
        assert_eq!(owner, (1000, 1001), "{}", path.display());
    }
}

fn several_setups_and_a_client_that_writes_its_file_end_with_a_whole_file() {
    let world = World::new();
    put(&world, ".claude.json", "{\"n\": 0}\n");
    let path = home(&world).join(".claude.json");
    let children: Vec<_> = (0..4)
        .map(|_| {
            let mut command = world.c2c(&["setup", "claude-code", "--alias", "ann"]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            command.spawn().expect("starts")
        })
        .collect();
    // The client reads, changes and replaces its file.
    for n in 1..=40 {
        let text = fs::read_to_string(&path).expect("a whole file");
        let mut value: Value = serde_json::from_str(&text).expect("a whole file");
        value["n"] = json!(n);
        let new = path.with_file_name("client-writes");
        fs::write(&new, value.to_string()).expect("written");
        fs::rename(&new, &path).expect("replaced");
    }
    for child in children {
        let done = child.wait_with_output().expect("ends");
        let err = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success() || err.contains("[busy]"), "{err}");
    }
    setup(&world, "claude-code", &["--alias", "ann"]).ok();
    let value: Value = serde_json::from_str(&text(&world, ".claude.json")).expect("JSON");
    assert_eq!((&value["n"], &value["mcpServers"]["c2c"]["args"]), (&json!(40), &json!(["mcp"])));
    let left: Vec<_> = names(&home(&world))
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("c2c-new"))
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    setup(&world, "claude-code", &["--undo"]).ok();
    assert!(!text(&world, ".claude.json").contains("c2c"));
}

fn the_configured_program_is_the_link_on_the_path() {
    let world = World::new();
    let (versioned, bin) = (world.path().join("opt/c2c-0.1.0"), world.path().join("bin"));
    fs::create_dir_all(&versioned).expect("made");
    fs::create_dir_all(&bin).expect("made");
    fs::copy(env!("CARGO_BIN_EXE_c2c"), versioned.join("c2c")).expect("copied");
    symlink(versioned.join("c2c"), bin.join("c2c")).expect("linked");
    let path = format!("{}:{}:/usr/bin:/bin", versioned.display(), bin.display());
    let setup = "c2c setup claude-code && c2c setup codex";
    let mut command = world.program("sh", &["-c", setup]);
    run({
        command.env("PATH", path);
        command
    })
    .ok();
    let expected = format!("{}/c2c", bin.display());
    for name in [".claude.json", ".claude/settings.json", ".codex/config.toml", ".codex/hooks.json"]
    {
        let text = text(&world, name);
        assert!(text.contains(&expected) && !text.contains("0.1.0"), "{name}: {text}");
    }
}

/// Changes to the files of a client that keep a part of the setup from being used.
const BROKEN: &[(&str, &str, &str, &str)] = &[
    ("claude-code", ".claude.json", "{}", "server c2c is missing"),
    ("claude-code", ".claude/settings.json", "", "hooks"),
    ("claude-code", ".claude/settings.json", "+{\"disableAllHooks\": true}", "disableAllHooks"),
    ("claude-code", ".claude/settings.json", "+{\"hooks\": {}}", "hooks"),
    (
        "claude-code",
        ".claude/settings.json",
        "+{\"permissions\": {\"allow\": [\"mcp__c2c\"], \"deny\": \
      [\"mcp__c2c\"]}}",
        "permissions.deny",
    ),
    (
        "claude-code",
        ".claude/settings.json",
        "+{\"permissions\": {\"allow\": []}}",
        "permissions.allow",
    ),
    (
        "claude-code",
        ".claude/settings.json",
        "+{\"deniedMcpServers\": [{\"serverName\": \"c2c\"}]}",
        "denied",
    ),
    ("claude-code", ".claude/settings.json", "+{\"allowedMcpServers\": []}", "allowedMcpServers"),
    (
        "claude-code",
        ".claude.json",
        "+{\"projects\": {\"/x\": {\"disabledMcpServers\": [\"c2c\"]}}}",
        "/x",
    ),
    ("gemini", ".gemini/settings.json", "+{\"hooksConfig\": {\"enabled\": false}}", "hooksConfig"),
    ("gemini", ".gemini/settings.json", "+{\"mcp\": {\"excluded\": [\"c2c\"]}}", "mcp.excluded"),
    ("gemini", ".gemini/settings.json", "+{\"mcp\": {\"allowed\": [\"x\"]}}", "mcp.allowed"),
    (
        "gemini",
        ".gemini/settings.json",
        "+{\"mcpServers\": {\"c2c\": {}}}",
        "server c2c is missing",
    ),
    ("codex", ".codex/hooks.json", "", "hooks"),
    ("codex", ".codex/config.toml", "+\n[features]\nhooks = false\n", "feature hooks"),
    ("codex", ".codex/config.toml", "+enabled = false\n", "enabled = false"),
    ("kimi", ".kimi-code/config.toml", "", "hooks"),
    ("kimi", ".kimi-code/mcp.json", "{\"mcpServers\": {}}", "server c2c is missing"),
    ("crush", ".config/crush/crush.json", "+{\"hooks\": {}}", "PreToolUse"),
    ("opencode", ".config/opencode/plugin/c2c.js", "", "plugin is missing"),
    (
        "opencode",
        ".config/opencode/opencode.json",
        "+{\"tools\": {\"c2c_send\": false}}",
        "tools.c2c_send",
    ),
];

fn set_up_is_said_only_while_server_rule_and_hooks_are_in_force() {
    for (client, name, change, reason) in BROKEN {
        let world = World::new();
        let programs = world.path().join("programs");
        fs::create_dir_all(&programs).expect("made");
        let client_program = programs.join(client.strip_suffix("-code").unwrap_or(client));
        fs::write(client_program, "").expect("a program");
        let doctor = || {
            let mut ask = world.c2c(&["doctor", "--json"]);
            ask.env("PATH", &programs);
            serde_json::from_str::<Value>(&run(ask).out).expect("JSON")
        };
        let global: &[&str] = if *client == "opencode" { &["--global"] } else { &[] };
        setup(&world, client, global).ok();
        let report = doctor();
        assert_eq!(report["findings"], json!([]), "{client}");
        assert!(report["good"].to_string().contains(&format!("{client}: set up")), "{report}");
        let path = home(&world).join(name);
        match change.strip_prefix('+') {
            None if change.is_empty() => fs::remove_file(&path).expect("removed"),
            None => put(&world, name, change),
            Some(more) if name.ends_with("toml") => put(&world, name, &(text(&world, name) + more)),
            Some(more) => {
                let mut value: Value = serde_json::from_str(&text(&world, name)).expect("JSON");
                let more: Value = serde_json::from_str(more).expect("JSON");
                for (key, member) in more.as_object().expect("an object") {
                    value[key] = member.clone();
                }
                put(&world, name, &value.to_string());
            }
        }
        let report = doctor();
        let findings = report["findings"].as_array().expect("rows");
        let is_partly = |row: &Value| {
            row["kind"] == "client_partly_set_up"
                && row["what"].as_str().is_some_and(|what| what.contains(reason))
        };
        assert!(findings.iter().any(is_partly), "{client} {change}: {report}");
        assert!(!report["good"].to_string().contains(client), "{report}");
        let list = run(world.c2c(&["setup"])).ok().out;
        assert!(list.contains("partly set up"), "{list}");
    }
}

fn empty_sections_of_a_client_that_was_never_set_up_are_not_taken_for_c2c() {
    for (client, name, before) in [
        ("crush", ".config/crush/crush.json", "{\"mcp\":{}}"),
        ("gemini", ".gemini/settings.json", "{ \"mcpServers\":{}, \"hooks\": { } }"),
    ] {
        let world = World::new();
        put(&world, name, before);
        let list = run(world.c2c(&["setup"])).ok().out;
        assert!(!list.contains("set up:"), "{list}");
        setup(&world, client, &["--undo"]).ok();
        assert_eq!(text(&world, name), before);
        setup(&world, client, &[]).ok();
        setup(&world, client, &["--undo"]).ok();
        assert_eq!(text(&world, name), before);
        let left: Vec<_> = names(&home(&world)).into_iter().filter(|path| path.is_file()).collect();
        assert_eq!(left, [home(&world).join(name)]);
    }
}

fn undo_keeps_empty_sections_of_the_user_in_a_file_that_changed_meanwhile() {
    let world = World::new();
    let name = ".gemini/settings.json";
    put(&world, name, "{\n  \"mcpServers\": {},\n  \"hooks\": null,\n  \"a\": 1\n}\n");
    setup(&world, "gemini", &[]).ok();
    put(&world, name, &text(&world, name).replace("\"a\": 1", "\"a\": 2"));
    setup(&world, "gemini", &["--undo"]).ok();
    let now: Value = serde_json::from_str(&text(&world, name)).expect("JSON");
    assert_eq!(now, json!({"mcpServers": {}, "hooks": null, "a": 2}));
}

fn an_entry_in_the_other_file_of_opencode_is_replaced_and_restored() {
    let world = World::new();
    let name = ".config/opencode/opencode.jsonc";
    let before = "{\n  // mine\n  \"mcp\": {\"c2c\": {\"type\": \"local\", \"command\": \
                  [\"/old/c2c\", \"mcp\"], \"enabled\": false}, \"f\": {}}\n}\n";
    put(&world, name, before);
    setup(&world, "opencode", &["--global"]).ok();
    let now = text(&world, name);
    assert!(!now.contains("/old/") && !now.contains("false") && now.contains("// mine"), "{now}");
    assert!(!home(&world).join(".config/opencode/opencode.json").exists());
    setup(&world, "opencode", &["--global", "--undo"]).ok();
    assert_eq!(text(&world, name), before);
}

fn a_declined_client_is_no_finding_until_it_is_set_up() {
    let world = World::new();
    let programs = world.path().join("programs");
    fs::create_dir_all(&programs).expect("made");
    fs::write(programs.join("crush"), "").expect("a program");
    let doctor = || {
        let mut ask = world.c2c(&["doctor"]);
        ask.env("PATH", &programs);
        run(ask)
    };
    assert!(doctor().out.contains("client_not_set_up"));
    setup(&world, "crush", &["--decline"]).ok();
    let told = doctor().ok();
    assert!(told.out.contains("crush: declined"), "{}", told.out);
    assert!(run(world.c2c(&["setup"])).ok().out.contains("declined"));
    setup(&world, "crush", &[]).ok();
    assert!(doctor().ok().out.contains("crush: set up"));
    setup(&world, "crush", &["--decline"]).fails_with("invalid_argument");
    setup(&world, "crush", &["--undo"]).ok();
    assert!(doctor().out.contains("client_not_set_up"));
}

fn a_file_that_cannot_be_written_leaves_all_files_and_nothing_else() {
    require_root();
    let world = World::new();
    put(&world, ".claude.json", "{\"n\": 1}\n");
    put(&world, ".claude/settings.json", "{}\n");
    fs::set_permissions(home(&world).join(".claude.json"), fs::Permissions::from_mode(0o600))
        .expect("set");
    let script = "mount --bind \"$HOME/.claude\" \"$HOME/.claude\" || exit 77
        mount -o remount,ro,bind \"$HOME/.claude\" || exit 77
        exec \"$0\" setup claude-code";
    let arguments = ["-m", "--propagation", "private", "sh", "-c", script];
    let done =
        run(world.program("unshare", &[&arguments[..], &[env!("CARGO_BIN_EXE_c2c")]].concat()));
    if done.status == 77 || done.err.contains("unshare") {
        skip("mounts are not permitted");
    }
    assert!(done.err.contains("settings.json") && done.err.contains("read-only"), "{}", done.err);
    assert!(!done.err.contains("broker root"), "{}", done.err);
    done.fails_with("storage_failed");
    assert_eq!(text(&world, ".claude.json"), "{\"n\": 1}\n");
    let files: Vec<_> = names(&home(&world)).into_iter().filter(|path| path.is_file()).collect();
    assert_eq!(files.len(), 2, "{files:?}");
}

fn anything_but_a_regular_file_is_rejected_and_stays() {
    for name in [".claude.json", ".claude/settings.json"] {
        let world = World::new();
        let pipe = world.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        fs::create_dir_all(home(&world).join(".claude")).expect("made");
        symlink(&pipe, home(&world).join(name)).expect("a link");
        let done = setup(&world, "claude-code", &[]);
        assert!(done.err.contains("is not a regular file"), "{}", done.err);
        done.fails_with("invalid_argument");
        setup(&world, "claude-code", &["--undo"]).fails_with("invalid_argument");
        run(world.c2c(&["doctor"]));
        let kind = fs::symlink_metadata(&pipe).expect("the pipe").file_type();
        assert!(std::os::unix::fs::FileTypeExt::is_fifo(&kind));
        let left = names(&home(&world));
        assert!(left.iter().all(|path| !path.to_string_lossy().contains("before")), "{left:?}");
    }
}

crate::harness::tests! {
    fast:
        a_file_that_is_a_mount_point_is_written_in_place,
        what_root_sets_up_in_the_home_of_a_user_belongs_to_that_user,
        several_setups_and_a_client_that_writes_its_file_end_with_a_whole_file,
        the_configured_program_is_the_link_on_the_path,
        empty_sections_of_a_client_that_was_never_set_up_are_not_taken_for_c2c,
        undo_keeps_empty_sections_of_the_user_in_a_file_that_changed_meanwhile,
        an_entry_in_the_other_file_of_opencode_is_replaced_and_restored,
        a_declined_client_is_no_finding_until_it_is_set_up,
        a_file_that_cannot_be_written_leaves_all_files_and_nothing_else,
        anything_but_a_regular_file_is_rejected_and_stays;
    slow:
        set_up_is_said_only_while_server_rule_and_hooks_are_in_force;
}
