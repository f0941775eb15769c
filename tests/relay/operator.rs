//! Operation of machines and relays: keys, warnings, services and options.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Machine, RelayProcess, TOKEN, pair, pair_in, settle};
use crate::support::{Outcome, World, run};

const PATIENCE: Duration = Duration::from_secs(60);

fn relay_command(relay: &RelayProcess, world: &World, words: &[&str]) -> Outcome {
    let url = relay.url();
    run(world.c2c(&[&["relay"], words, &["--relay-url", &url, "--token", TOKEN]].concat()))
}

fn health(machine: &Machine, who: &str) -> Value {
    machine.run(who, &["health", "--json"]).ok().json()
}

fn the_first_rejected_client_submits_the_key_rotation() {
    let relay = RelayProcess::start("log");
    let world = World::new();
    relay_command(&relay, &world, &["register", "--alias", "ann"]).ok();
    for _ in 0..2 {
        run(world.c2c(&["relay", "identity", "rotate"])).ok();
        relay_command(&relay, &world, &["dm", "poll", "--alias", "ann"]).ok();
        run(world.c2c(&["relay", "identity", "rotate"])).ok();
        relay_command(&relay, &world, &["register", "--alias", "ann"]).ok();
    }
}

fn a_running_connector_continues_with_a_rotated_key() {
    let relay = RelayProcess::start("log");
    let (mut a, b) = pair(&relay);
    a.start();
    b.run("bob", &["send", "ann@machine-a", "before"]).ok();
    b.once();
    assert_eq!(a.wait_for("ann", 1), ["before"]);
    run(a.world.c2c(&["relay", "identity", "rotate"])).ok();
    // Another program of the machine is the first to use the new key.
    a.once();
    b.run("bob", &["send", "ann@machine-a", "after"]).ok();
    b.once();
    assert_eq!(a.wait_for("ann", 2), ["before", "after"]);
    a.run("ann", &["send", "bob@machine-b", "and back"]).ok();
    let until = Instant::now() + PATIENCE;
    while b.once()["inbound"] != 1 {
        assert!(Instant::now() < until, "the reply does not arrive");
    }
}

fn alias_conflicts_and_remote_peers_are_listed() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    b.world.register(&["ann"]);
    settle(&[&a, &b]);
    let row = |machine: &Machine, who: &str| health(machine, who)["alias_conflicts"][0].clone();
    let expected =
        json!({ "alias": "ann", "elsewhere": "ann@machine-b", "bare_is_elsewhere": false });
    assert_eq!(row(&a, "ann"), expected);
    let expected =
        json!({ "alias": "ann", "elsewhere": "ann@machine-a", "bare_is_elsewhere": true });
    assert_eq!(row(&b, "bob"), expected);
    let text = b.run("bob", &["health"]).ok().out;
    assert!(text.contains("'ann' is also ann@machine-a, which other machines reach"), "{text}");
    let names = |args: &[&str]| -> Vec<String> {
        let rows = a.run("ann", &[&["list", "--json"], args].concat()).ok().json();
        let rows = rows.as_array().expect("rows").clone();
        rows.iter().map(|row| row["alias"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&[]), ["ann", "ann@machine-b", "bob@machine-b"]);
    assert_eq!(names(&["--local"]), ["ann"]);
}

fn a_send_warns_if_the_relay_does_not_admit_the_machine() {
    let relay = RelayProcess::start("log");
    let (a, _b) = pair(&relay);
    let other = Machine::new(&relay, "machine-a");
    other.world.register(&["eve"]);
    other.once();
    let sent = other.run("eve", &["send", "bob@machine-b", "hello", "--json"]).ok().json();
    let warning = sent["warning"].as_str().unwrap_or_default();
    assert!(warning.contains("belongs to another key"), "{sent}");
    a.once();
    let sent = a.run("ann", &["send", "bob@machine-b", "hello", "--json"]).ok().json();
    assert_eq!(sent["warning"], Value::Null);
}

fn room_messages_sent_while_the_relay_is_down_wait_and_are_reported() {
    let mut relay = RelayProcess::start("log");
    let (a, b) = pair_in(&relay, "den");
    a.run("ann", &["rooms", "send", "den", "first"]).ok();
    settle(&[&a, &b]);
    relay.kill();
    let down =
        ["relay", "connect", "--once", "--relay-url", &relay.url(), "--node-id", "machine-a"];
    run(a.world.c2c(&down)).fails_with("remote_unavailable");
    let said = ["rooms", "send", "den", "hello", "--message-id", "said-1", "--json"];
    let said = a.run("ann", &said).ok().json();
    assert_eq!(
        (&said["queued"], &said["remote"]),
        (&json!(["bob@machine-b"]), &json!("remote_unavailable"))
    );
    let all = a.run("ann", &["send-all", "everybody", "--json"]).ok().json();
    assert_eq!(all["remote"], "remote_unavailable", "{all}");
    assert_eq!(health(&a, "ann")["outbox_rooms"], 1);
    let hops = |machine: &Machine| {
        let rows = machine.run("ann", &["trace", "said-1", "--json"]).ok().json();
        rows[0]["hops"].as_array().expect("hops").iter().map(|hop| hop["what"].clone()).collect()
    };
    assert_eq!(hops(&a), [json!("accepted")] as [Value; 1]);
    relay.restart();
    settle(&[&a, &b]);
    let hops: Vec<Value> = hops(&a);
    assert!(hops.contains(&json!("relayed")), "{hops:?}");
    assert_eq!(health(&a, "ann")["outbox_rooms"], 0);
}

fn a_replayed_dead_letter_for_another_machine_is_sent_again() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    a.run("ann", &["send", "zed@machine-b", "too early", "--message-id", "early"]).ok();
    settle(&[&a, &b]);
    b.world.register(&["zed"]);
    settle(&[&a, &b]);
    a.run("ann", &["dead-letter", "replay", "early"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("zed"), ["too early"]);
    assert_eq!(health(&a, "ann")["dead_letters"], 0);
    a.run("ann", &["send", "zoe@machine-b", "nobody", "--message-id", "nobody"]).ok();
    settle(&[&a, &b]);
    a.run("ann", &["dead-letter", "replay", "nobody", "--to", "zed@machine-b"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("zed"), ["nobody"]);
}

fn an_idle_connector_writes_nothing() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    a.run("ann", &["send", "bob@machine-b", "hello"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["hello"]);
    settle(&[&a, &b]);
    let before = (health(&a, "ann")["head"].clone(), health(&b, "bob")["head"].clone());
    settle(&[&a, &b]);
    assert_eq!((health(&a, "ann")["head"].clone(), health(&b, "bob")["head"].clone()), before);
}

/// Starts a proxy that closes connections after `idle` without traffic. Returns its URL and the
/// number of closed connections.
fn closing_proxy(relay: &RelayProcess, idle: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (url, to) = (listener.local_addr().expect("its address"), relay.address().to_owned());
    let cuts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&cuts);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&to) else { continue };
            let back = (server.try_clone().expect("fd"), client.try_clone().expect("fd"));
            let last_traffic = Arc::new(Mutex::new(Instant::now()));
            for (mut from, mut to) in [(client, server), back] {
                let (cuts, last_traffic) = (Arc::clone(&counted), Arc::clone(&last_traffic));
                from.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    loop {
                        match from.read(&mut buffer) {
                            Ok(0) => break,
                            Ok(read) if to.write_all(&buffer[..read]).is_ok() => {
                                *last_traffic.lock().expect("a time") = Instant::now();
                            }
                            Ok(_) => break,
                            Err(_) if last_traffic.lock().expect("a time").elapsed() < idle => {}
                            Err(_) => {
                                cuts.fetch_add(1, Ordering::Relaxed);
                                break;
                            }
                        }
                    }
                    let _ = from.shutdown(std::net::Shutdown::Both);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    (format!("http://{url}"), cuts)
}

fn a_proxy_that_closes_silent_connections_is_not_an_error() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    let (url, cuts) = closing_proxy(&relay, Duration::from_millis(1_500));
    let words = ["relay", "connect", "--node-id", "machine-b", "--relay-url", &url];
    let mut command = b.world.c2c(&[&words[..], &["--token", TOKEN, "--interval", "1"]].concat());
    let diagnostics = b.world.path().join("diagnostics");
    let file = std::fs::File::create(&diagnostics).expect("a file");
    let mut child = command.stdout(Stdio::null()).stderr(file).spawn().expect("a connector");
    let until = Instant::now() + PATIENCE;
    while cuts.load(Ordering::Relaxed) < 4 {
        assert!(Instant::now() < until, "no connection is closed");
        std::thread::yield_now();
    }
    a.run("ann", &["send", "bob@machine-b", "hello"]).ok();
    a.once();
    assert_eq!(b.wait_for("bob", 1), ["hello"]);
    let _ = child.kill();
    let _ = child.wait();
    let diagnostics = std::fs::read_to_string(diagnostics).expect("the diagnostics");
    assert!(!diagnostics.contains("UNREACHABLE"), "{diagnostics}");
}

fn an_installed_service_keeps_all_options() {
    let world = World::new();
    let path = world.path().join("home/.config/systemd/user/c2c-connect.service");
    let token = world.path().join("token file");
    std::fs::write(&token, "secret").expect("a token");
    let token = token.display().to_string();
    let words = ["relay", "connect", "--install-service", "--relay-url", "http://hub:7331"];
    let more = ["--token-file", &token, "--interval", "7", "--mirror"];
    let mut command = world.c2c(&[&words[..], &more].concat());
    command.env_remove("C2C_MCP_BROKER_ROOT");
    run(command).ok();
    let unit = std::fs::read_to_string(&path).expect("the unit");
    let line = format!(
        "relay connect --all --relay-url http://hub:7331 --token-file \"{token}\" --interval 7 --mirror\n"
    );
    assert!(unit.contains(&line), "{unit}");
    world.run("x", &[&words[..], &["--node-id", "here"]].concat()).ok();
    let unit = std::fs::read_to_string(&path).expect("the unit");
    let root = world.root().display().to_string();
    assert!(unit.contains(&format!("relay connect --broker-root {root} --")), "{unit}");
    let refused = world.run("x", &[&words[..], &["--token", "secret"]].concat());
    refused.fails_with("invalid_argument");
    assert_eq!(world.run("x", &["relay", "connect", "--all", "--node-id", "x"]).status, 2);
}

fn a_group_writable_key_directory_is_closed_to_the_group() {
    let world = World::new();
    let folder = world.path().join("home/.config/c2c");
    std::fs::create_dir_all(&folder).expect("a directory");
    let mode = |mode| std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode));
    mode(0o775).expect("as umask 002 has it");
    world.run("x", &["relay", "identity", "init"]).ok();
    world.run("x", &["relay", "identity", "show"]).ok();
    let now = std::fs::metadata(&folder).expect("the directory").permissions().mode() & 0o777;
    assert_eq!(now, 0o755);
    // A directory that the user names is not changed, and nothing is written there.
    let own = world.path().join("team");
    std::fs::create_dir(&own).expect("a directory");
    let open = std::fs::Permissions::from_mode(0o775);
    std::fs::set_permissions(&own, open).expect("as umask 002 has it");
    let key = own.join("id.json").display().to_string();
    world.run("x", &["relay", "identity", "init", "--path", &key]).fails_with("bad_identity");
    assert!(own.read_dir().expect("read").next().is_none());
    mode(0o777).expect("opened again");
    world.run("x", &["relay", "identity", "show"]).fails_with("bad_identity");
    let refused = world.run("x", &["relay", "identity", "show", "--path", "/dev/null"]);
    assert!(
        refused.err.contains("not a file") && !refused.err.contains("chmod"),
        "{}",
        refused.err
    );
}

fn an_operator_who_is_also_an_agent_lists_agents_with_the_token() {
    let relay = RelayProcess::start("log");
    let (_a, _b) = pair(&relay);
    let world = World::new();
    world.register(&["dora"]);
    run(world.c2c(&["relay", "identity", "init"])).ok();
    let listed = relay_command(&relay, &world, &["list"]).ok().out;
    assert!(listed.contains("ann") && listed.contains("bob"), "{listed}");
}

fn long_node_ids_and_message_ids_do_not_block_a_broadcast() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    let long = Machine::new(&relay, &"n".repeat(200));
    long.world.register(&["eve"]);
    settle(&[&long, &a, &b]);
    let id = "i".repeat(128);
    for _ in 0..2 {
        a.run("ann", &["send-all", "everybody", "--message-id", &id]).ok();
        settle(&[&a, &b, &long]);
    }
    assert_eq!(b.world.poll("bob"), ["everybody"]);
    assert_eq!(long.world.poll("eve"), ["everybody"]);
    let refused = a.run("ann", &["send-all", "x", "--message-id", &"i".repeat(129)]);
    refused.fails_with("invalid_message_id");
}

fn invalid_relay_options_are_rejected_with_their_field() {
    let world = World::new();
    let relay = RelayProcess::start("memory");
    let serve = |words: &[&str]| world.run("x", &[&["relay", "serve"], words].concat());
    let busy = serve(&["--listen", relay.address()]);
    assert!(busy.err.contains("field: listen") && busy.err.contains("hint:"), "{}", busy.err);
    for (words, field) in [
        (&["--token-file", "/nowhere/at/all"][..], "token_file"),
        (&["--allowed-identities", "/nowhere/at/all"], "allowed_identities"),
        (&["--token", "two words"], "token"),
        (&["--db-path", "/tmp/x.db"], "db_path"),
    ] {
        let done = serve(&[&["--listen", "127.0.0.1:0"], words].concat());
        assert!(done.status == 1 && done.err.contains(&format!("field: {field}")), "{}", done.err);
    }
    let keys = world.path().join("keys.json");
    std::fs::write(&keys, r#"{"bob":"garbage"}"#).expect("a list");
    let keys = keys.display().to_string();
    let done = serve(&["--listen", "127.0.0.1:0", "--allowed-identities", &keys]);
    assert!(done.status == 1 && done.err.contains("'bob'"), "{}", done.err);
    let done = relay_command(&relay, &world, &["connect", "--once", "--json", "--node-id", "a b"]);
    world.register(&["ann"]);
    assert_eq!(done.status, 0, "no session to register");
    let done = relay_command(&relay, &world, &["register", "--alias", "ann", "--node-id", "a b"]);
    assert!(done.err.contains("field: node_id"), "{}", done.err);
}

crate::harness::tests! {
    fast:
        the_first_rejected_client_submits_the_key_rotation,
        a_running_connector_continues_with_a_rotated_key,
        alias_conflicts_and_remote_peers_are_listed,
        a_send_warns_if_the_relay_does_not_admit_the_machine,
        room_messages_sent_while_the_relay_is_down_wait_and_are_reported,
        a_replayed_dead_letter_for_another_machine_is_sent_again,
        an_idle_connector_writes_nothing,
        an_installed_service_keeps_all_options,
        a_group_writable_key_directory_is_closed_to_the_group,
        an_operator_who_is_also_an_agent_lists_agents_with_the_token,
        long_node_ids_and_message_ids_do_not_block_a_broadcast,
        invalid_relay_options_are_rejected_with_their_field;
    slow:
        a_proxy_that_closes_silent_connections_is_not_an_error;
}
