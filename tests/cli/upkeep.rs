//! The commands doctor, watch, init and install.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::{World, run};

fn kinds(report: &Value) -> Vec<String> {
    let rows = report["findings"].as_array().expect("findings");
    let mut kinds: Vec<String> =
        rows.iter().map(|row| row["kind"].as_str().expect("a kind").to_owned()).collect();
    kinds.sort();
    kinds
}

fn doctor_reports_no_findings_on_a_healthy_root() {
    let world = World::new();
    let done = run(world.c2c(&["doctor", "--json"])).ok().json();
    assert_eq!((done["ok"].as_bool(), kinds(&done).len()), (Some(true), 0), "{done}");
    world.register(&["ann"]);
    let done = run(world.c2c(&["doctor"])).ok();
    assert!(done.out.contains("✓ Broker root"), "{}", done.out);
}

fn each_finding_names_the_command_that_fixes_it() {
    let world = World::new();
    world.register(&["ann", "bob"]);
    // A session without a process, a file that others can read, a missing program.
    let mut dead = world.program("sh", &["-c", "exec \"$0\" register --alias old -s s-old"]);
    dead.arg(env!("CARGO_BIN_EXE_c2c"));
    run(dead).ok();
    fs::set_permissions(world.root().join("log"), fs::Permissions::from_mode(0o755)).expect("set");
    let codex = world.path().join("home/.codex/config.toml");
    fs::create_dir_all(codex.parent().expect("one")).expect("made");
    fs::write(&codex, "[mcp_servers.c2c]\ncommand = \"/gone/c2c\"\nargs = [\"mcp\"]\n")
        .expect("written");
    let gemini = world.path().join("home/.gemini/settings.json");
    fs::create_dir_all(gemini.parent().expect("one")).expect("made");
    fs::write(&gemini, "{").expect("written");
    let programs = world.path().join("programs");
    fs::create_dir_all(&programs).expect("made");
    fs::write(programs.join("crush"), "").expect("a program");
    let mut ask = world.c2c(&["doctor", "--json"]);
    ask.env("PATH", &programs);
    let done = run(ask);
    assert_eq!(done.status, 1);
    let report: Value = serde_json::from_str(&done.out).expect("one JSON value");
    let kinds = kinds(&report);
    for kind in ["client_file", "client_not_set_up", "client_program", "file_mode"] {
        assert!(kinds.iter().any(|found| found == kind), "{kind}: {kinds:?}");
    }
    let rows = report["findings"].as_array().expect("rows");
    assert!(rows.iter().all(|row| !row["fix"].as_str().unwrap_or_default().is_empty()));
    let mode = rows.iter().find(|row| row["kind"] == "file_mode").expect("it");
    let fix = mode["fix"].as_str().expect("text").to_owned();
    run(world.program("sh", &["-c", &fix])).ok();
    let report: Value =
        serde_json::from_str(&run(world.c2c(&["doctor", "--json"])).out).expect("JSON");
    assert!(!self::kinds(&report).contains(&"file_mode".to_owned()), "the fix solves it: {report}");
}

fn watch_sends_output_in_order_and_passes_the_exit_status_on() {
    let world = World::new();
    world.register(&["ann", "bob"]);
    let script = "echo one; echo two >&2; exit 4";
    let done = world.run("bob", &["watch", "--to", "ann", "--", "sh", "-c", script]);
    assert_eq!((done.status, done.out.as_str()), (4, "one\ntwo\n"));
    let received = world.poll("ann");
    assert!(received[0].starts_with("watching: sh -c"), "{received:?}");
    assert_eq!(received[1..received.len() - 1].join("\n"), "one\ntwo");
    assert_eq!(received.last().map(String::as_str), Some("ended: exit status: 4"));
    let done = world.run(
        "bob",
        &["watch", "--to", "ann", "--grep", "FAIL", "--", "printf", "ok\nFAIL x\nok\n"],
    );
    assert_eq!(done.ok().out, "ok\nFAIL x\nok\n");
    assert_eq!(world.poll("ann")[1..], ["FAIL x", "ended: exit status: 0"]);
    // Long output is sent in parts, and completely.
    world.run("bob", &["watch", "--to", "ann", "--", "seq", "5000"]).ok();
    let received = world.poll("ann");
    let numbers: Vec<&str> =
        received[1..received.len() - 1].iter().flat_map(|text| text.lines()).collect();
    assert_eq!(numbers.len(), 5000);
    assert!(received.len() > 4 && numbers.last() == Some(&"5000"));
}

fn a_watch_that_cannot_start_runs_no_command() {
    let world = World::new();
    world.register(&["bob"]);
    let marker = world.path().join("ran");
    let touch = ["watch", "--to", "nobody", "--", "touch", marker.to_str().expect("text")];
    world.run("bob", &touch).fails_with("unknown_alias");
    assert!(!marker.exists());
    world.register(&["ann"]);
    world.run("bob", &["watch", "--to", "ann", "--", "/no/such"]).fails_with("invalid_argument");
    assert_eq!(world.run("bob", &["watch", "--to", "ann"]).status, 2);
}

fn a_background_process_does_not_keep_the_watch_running() {
    let world = World::new();
    world.register(&["ann", "bob"]);
    let held = world.path().join("held");
    std::process::Command::new("mkfifo").arg(&held).status().expect("a pipe");
    let script = format!("cat {} & echo done", held.display());
    let done = world.run("bob", &["watch", "--to", "ann", "--", "sh", "-c", &script]);
    assert_eq!(done.ok().out, "done\n");
    fs::write(&held, "").expect("it ends");
    assert_eq!(world.poll("ann")[1..], ["done", "ended: exit status: 0"]);
    // One endless line, too large to buffer.
    let endless = ["watch", "--to", "ann", "--", "head", "-c", "200000000", "/dev/zero"];
    world.run("bob", &endless).ok();
    let sizes: Vec<usize> = world.poll("ann").iter().map(String::len).collect();
    assert!(sizes.iter().all(|size| *size < 8192), "{sizes:?}");
}

fn init_sets_up_the_only_installed_client() {
    let world = World::new();
    let programs = world.path().join("programs");
    fs::create_dir_all(&programs).expect("made");
    let init = |args: &[&str]| {
        let mut command = world.c2c(&[&["init"], args].concat());
        command.env("PATH", &programs);
        run(command)
    };
    init(&[]).fails_with("invalid_argument");
    fs::write(programs.join("gemini"), "").expect("a program");
    init(&["--room", "../x"]).fails_with("invalid_room_id");
    let done = init(&["--alias", "gem", "--room", "lobby", "--json"]).ok().json();
    assert_eq!((&done["client"], &done["alias"]), (&"gemini".into(), &"gem".into()));
    let file = fs::read_to_string(world.path().join("home/.gemini/settings.json")).expect("it");
    let env = &serde_json::from_str::<Value>(&file).expect("JSON")["mcpServers"]["c2c"]["env"];
    assert_eq!(env["C2C_MCP_AUTO_REGISTER_ALIAS"], "gem");
    assert_eq!(env["C2C_MCP_AUTO_JOIN_ROOMS"], "lobby");
    fs::write(programs.join("codex"), "").expect("another");
    let done = init(&[]);
    assert!(done.err.contains("codex, gemini"), "{}", done.err);
    done.fails_with("invalid_argument");
    let done = init(&["--client", "codex", "--no-setup"]).ok();
    assert!(done.out.contains("c2c send codex-"), "{}", done.out);
    assert!(!world.path().join("home/.codex").exists());
}

fn install_self_adds_completions_and_manual_pages_and_install_sets_up_clients() {
    let world = World::new();
    let bin = world.path().join("usr/bin");
    let done =
        run(world.c2c(&["install", "self", "--dest", bin.to_str().expect("text"), "--json"]));
    let done = done.ok().json();
    assert!(bin.join("c2c").exists());
    let share = world.path().join("usr/share");
    let completion = fs::read_to_string(share.join("bash-completion/completions/c2c")).expect("it");
    assert!(completion.contains("poll-inbox"));
    let page = fs::read_to_string(share.join("man/man1/c2c-send.1")).expect("a page");
    assert!(page.contains("c2c\\-send") && page.contains("message"), "{page}");
    assert!(done["installed"].as_array().map(Vec::len) > Some(20));
    run(world.c2c(&["install", "gemini"])).ok();
    assert!(world.path().join("home/.gemini/settings.json").exists());
    run(world.c2c(&["install", "gemini", "--dest", "/x"])).fails_with("invalid_argument");
    run(world.c2c(&["install", "nothing"])).fails_with("invalid_argument");
}

fn install_self_can_be_previewed_and_taken_back() {
    let world = World::new();
    let bin = world.path().join("usr/bin");
    let install = ["install", "self", "--dest", bin.to_str().expect("text"), "--json"];
    let with = |more: &[&str]| run(world.c2c(&[&install[..], more].concat())).ok().json();
    let preview = with(&["--dry-run"]);
    assert_eq!(preview["dry_run"], true);
    assert!(!bin.exists(), "a preview installs nothing");
    let done = with(&[]);
    assert_eq!(done["installed"], preview["installed"]);
    assert_eq!(
        with(&["--undo", "--dry-run"])["removed"].as_array().map(Vec::len),
        done["installed"].as_array().map(Vec::len)
    );
    assert!(bin.join("c2c").exists());
    with(&["--undo"]);
    for path in done["installed"].as_array().expect("paths") {
        assert!(!std::path::Path::new(path.as_str().expect("text")).exists(), "{path}");
    }
    // A program of another origin is not removed.
    fs::write(bin.join("c2c"), "#!/bin/sh\n").expect("written");
    let undone = with(&["--undo"]);
    assert!(bin.join("c2c").exists() && undone["left"].to_string().contains("another program"));
}

fn install_self_names_an_older_program_that_comes_first_in_the_path() {
    let world = World::new();
    let (old, bin) = (world.path().join("old"), world.path().join("bin"));
    fs::create_dir_all(&old).expect("made");
    fs::write(old.join("c2c"), "#!/bin/sh\n").expect("written");
    let path = format!("{}:{}:/usr/bin:/bin", old.display(), bin.display());
    let mut install = world.c2c(&["install", "self", "--dest", bin.to_str().expect("text")]);
    install.env("PATH", path);
    let done = run(install).ok();
    let other = old.join("c2c").display().to_string();
    assert!(done.out.contains(&format!("still runs {other}")), "{}", done.out);
}

fn uninstall_takes_everything_away_and_names_what_it_leaves() {
    let world = World::new();
    world.register(&["ann"]);
    let home = world.path().join("home");
    let project = world.path().join("project");
    fs::create_dir_all(&project).expect("made");
    fs::write(home.join(".claude.json"), "{ \"mine\": 1 }\n").expect("written");
    run(world.c2c(&["install", "self"])).ok();
    for client in ["claude-code", "codex"] {
        run(world.c2c(&["setup", client])).ok();
    }
    run(world.c2c(&["setup", "opencode", "--target-dir", project.to_str().expect("text")])).ok();
    run(world.c2c(&["setup", "crush", "--decline"])).ok();
    run(world.c2c(&["uninstall", "--dry-run"])).ok();
    assert!(home.join(".local/bin/c2c").exists() && home.join(".codex/hooks.json").exists());
    let done = run(world.c2c(&["uninstall", "--json"])).ok().json();
    assert!(done["left"].to_string().contains("the mail of this broker root"), "{done}");
    for gone in [".local/bin/c2c", ".codex", ".claude", ".c2c/setup", ".config/c2c"] {
        assert!(!home.join(gone).exists(), "{gone}");
    }
    assert!(!project.join(".opencode").exists());
    let text = fs::read_to_string(home.join(".claude.json")).expect("it");
    assert_eq!(text, "{ \"mine\": 1 }\n");
    assert!(world.root().join("log").exists(), "mail stays");
}

crate::harness::tests! {
    fast:
        doctor_reports_no_findings_on_a_healthy_root,
        each_finding_names_the_command_that_fixes_it,
        watch_sends_output_in_order_and_passes_the_exit_status_on,
        a_watch_that_cannot_start_runs_no_command,
        a_background_process_does_not_keep_the_watch_running,
        init_sets_up_the_only_installed_client;
    slow:
        uninstall_takes_everything_away_and_names_what_it_leaves,
        install_self_can_be_previewed_and_taken_back,
        install_self_adds_completions_and_manual_pages_and_install_sets_up_clients,
        install_self_names_an_older_program_that_comes_first_in_the_path;
}
