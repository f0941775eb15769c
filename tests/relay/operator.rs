//! Does somebody who runs machines and relays hear what is so, and get on from there?

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Hub, Machine, TOKEN, pair, pair_in, settle};
use crate::support::{Done, World, run};

const PATIENCE: Duration = Duration::from_secs(60);

fn relay(hub: &Hub, world: &World, words: &[&str]) -> Done {
    let url = hub.url();
    run(world.c2c(&[&["relay"], words, &["--relay-url", &url, "--token", TOKEN]].concat()))
}

fn health(machine: &Machine, who: &str) -> Value {
    machine.run(who, &["health", "--json"]).ok().json()
}

#[test]
fn a_rotated_key_is_taken_over_by_whoever_is_refused_first() {
    let hub = Hub::start("log");
    let world = World::new();
    relay(&hub, &world, &["register", "--alias", "ann"]).ok();
    for _ in 0..2 {
        run(world.c2c(&["relay", "identity", "rotate"])).ok();
        relay(&hub, &world, &["dm", "poll", "--alias", "ann"]).ok();
        run(world.c2c(&["relay", "identity", "rotate"])).ok();
        relay(&hub, &world, &["register", "--alias", "ann"]).ok();
    }
}

#[test]
fn a_connector_that_runs_goes_on_with_a_rotated_key() {
    let hub = Hub::start("log");
    let (mut a, b) = pair(&hub);
    a.start();
    b.run("bob", &["send", "ann@machine-a", "before"]).ok();
    b.once();
    assert_eq!(a.wait_for("ann", 1), ["before"]);
    run(a.world.c2c(&["relay", "identity", "rotate"])).ok();
    // Another program of the machine is the first to come with the new key.
    a.once();
    b.run("bob", &["send", "ann@machine-a", "after"]).ok();
    b.once();
    assert_eq!(a.wait_for("ann", 2), ["before", "after"]);
    a.run("ann", &["send", "bob@machine-b", "and back"]).ok();
    let until = Instant::now() + PATIENCE;
    while b.once()["inbound"] != 1 {
        assert!(Instant::now() < until, "nothing comes back");
    }
}

#[test]
fn two_machines_with_one_alias_are_named_and_peers_elsewhere_listed() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    b.world.register(&["ann"]);
    settle(&[&a, &b]);
    let row = |machine: &Machine, who: &str| health(machine, who)["alias_conflicts"][0].clone();
    let there = json!({ "alias": "ann", "elsewhere": "ann@machine-b", "bare_is_elsewhere": false });
    assert_eq!(row(&a, "ann"), there);
    let there = json!({ "alias": "ann", "elsewhere": "ann@machine-a", "bare_is_elsewhere": true });
    assert_eq!(row(&b, "bob"), there);
    let text = b.run("bob", &["health"]).ok().out;
    assert!(text.contains("'ann' is also ann@machine-a, and to others the plain name"), "{text}");
    let names = |args: &[&str]| -> Vec<String> {
        let rows = a.run("ann", &[&["list", "--json"], args].concat()).ok().json();
        let rows = rows.as_array().expect("rows").clone();
        rows.iter().map(|row| row["alias"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&[]), ["ann", "ann@machine-b", "bob@machine-b"]);
    assert_eq!(names(&["--local"]), ["ann"]);
}

#[test]
fn a_machine_that_the_relay_does_not_admit_says_so() {
    let hub = Hub::start("log");
    let (a, _b) = pair(&hub);
    let other = Machine::new(&hub, "machine-a");
    other.world.register(&["eve"]);
    other.once();
    let sent = other.run("eve", &["send", "bob@machine-b", "hello", "--json"]).ok().json();
    let warning = sent["warning"].as_str().unwrap_or_default();
    assert!(warning.contains("belongs to another key"), "{sent}");
    a.once();
    let sent = a.run("ann", &["send", "bob@machine-b", "hello", "--json"]).ok().json();
    assert_eq!(sent["warning"], Value::Null);
}

#[test]
fn what_is_said_in_a_room_while_the_relay_is_down_waits_and_is_seen_to() {
    let mut hub = Hub::start("log");
    let (a, b) = pair_in(&hub, "den");
    a.run("ann", &["rooms", "send", "den", "first"]).ok();
    settle(&[&a, &b]);
    hub.kill();
    let down = ["relay", "connect", "--once", "--relay-url", &hub.url(), "--node-id", "machine-a"];
    run(a.world.c2c(&down)).refused("remote_unavailable");
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
    hub.go_on();
    settle(&[&a, &b]);
    let hops: Vec<Value> = hops(&a);
    assert!(hops.contains(&json!("relayed")), "{hops:?}");
    assert_eq!(health(&a, "ann")["outbox_rooms"], 0);
}

#[test]
fn a_dead_letter_for_another_machine_leaves_once_more() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
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

#[test]
fn a_connector_with_nothing_to_do_writes_nothing() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    a.run("ann", &["send", "bob@machine-b", "hello"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["hello"]);
    settle(&[&a, &b]);
    let before = (health(&a, "ann")["head"].clone(), health(&b, "bob")["head"].clone());
    settle(&[&a, &b]);
    assert_eq!((health(&a, "ann")["head"].clone(), health(&b, "bob")["head"].clone()), before);
}

/// A proxy that ends connections on which nothing was said for so long; how often it has.
fn impatient(hub: &Hub, patience: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (url, to) = (listener.local_addr().expect("its address"), hub.address().to_owned());
    let cuts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&cuts);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&to) else { continue };
            let back = (server.try_clone().expect("fd"), client.try_clone().expect("fd"));
            let heard = Arc::new(Mutex::new(Instant::now()));
            for (mut from, mut to) in [(client, server), back] {
                let (cuts, heard) = (Arc::clone(&counted), Arc::clone(&heard));
                from.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    loop {
                        match from.read(&mut buffer) {
                            Ok(0) => break,
                            Ok(read) if to.write_all(&buffer[..read]).is_ok() => {
                                *heard.lock().expect("a time") = Instant::now();
                            }
                            Ok(_) => break,
                            Err(_) if heard.lock().expect("a time").elapsed() < patience => {}
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

#[test]
fn a_proxy_that_cuts_silent_connections_is_no_failure() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    let (url, cuts) = impatient(&hub, Duration::from_millis(1_500));
    let words = ["relay", "connect", "--node-id", "machine-b", "--relay-url", &url];
    let mut command = b.world.c2c(&[&words[..], &["--token", TOKEN, "--interval", "1"]].concat());
    let told = b.world.path().join("told");
    let file = std::fs::File::create(&told).expect("a file");
    let mut child = command.stdout(Stdio::null()).stderr(file).spawn().expect("a connector");
    let until = Instant::now() + PATIENCE;
    while cuts.load(Ordering::Relaxed) < 4 {
        assert!(Instant::now() < until, "nothing is cut");
        std::thread::yield_now();
    }
    a.run("ann", &["send", "bob@machine-b", "hello"]).ok();
    a.once();
    assert_eq!(b.wait_for("bob", 1), ["hello"]);
    let _ = child.kill();
    let _ = child.wait();
    let told = std::fs::read_to_string(told).expect("what it said");
    assert!(!told.contains("UNREACHABLE"), "{told}");
}

#[test]
fn a_service_is_as_it_was_asked_for() {
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
    refused.refused("invalid_argument");
    assert_eq!(world.run("x", &["relay", "connect", "--all", "--node-id", "x"]).status, 2);
}

#[test]
fn a_directory_that_a_group_may_write_to_is_closed_to_it() {
    let world = World::new();
    let folder = world.path().join("home/.config/c2c");
    std::fs::create_dir_all(&folder).expect("a directory");
    let mode = |mode| std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode));
    mode(0o775).expect("as umask 002 has it");
    world.run("x", &["relay", "identity", "init"]).ok();
    world.run("x", &["relay", "identity", "show"]).ok();
    let now = std::fs::metadata(&folder).expect("the directory").permissions().mode() & 0o777;
    assert_eq!(now, 0o755);
    // Somebody's own directory stays as it is: nothing is written there.
    let own = world.path().join("team");
    std::fs::create_dir(&own).expect("a directory");
    let open = std::fs::Permissions::from_mode(0o775);
    std::fs::set_permissions(&own, open).expect("as umask 002 has it");
    let key = own.join("id.json").display().to_string();
    world.run("x", &["relay", "identity", "init", "--path", &key]).refused("bad_identity");
    assert!(own.read_dir().expect("read").next().is_none());
    mode(0o777).expect("opened again");
    world.run("x", &["relay", "identity", "show"]).refused("bad_identity");
    let refused = world.run("x", &["relay", "identity", "show", "--path", "/dev/null"]);
    assert!(
        refused.err.contains("not a file") && !refused.err.contains("chmod"),
        "{}",
        refused.err
    );
}

#[test]
fn an_operator_lists_with_the_token_whoever_lives_here() {
    let hub = Hub::start("log");
    let (_a, _b) = pair(&hub);
    let world = World::new();
    world.register(&["dora"]);
    run(world.c2c(&["relay", "identity", "init"])).ok();
    let listed = relay(&hub, &world, &["list"]).ok().out;
    assert!(listed.contains("ann") && listed.contains("bob"), "{listed}");
}

#[test]
fn a_long_node_id_or_message_id_keeps_nobody_from_a_broadcast() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    let long = Machine::new(&hub, &"n".repeat(200));
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
    refused.refused("invalid_message_id");
}

#[test]
fn what_cannot_work_is_refused_with_the_field() {
    let world = World::new();
    let hub = Hub::start("memory");
    let serve = |words: &[&str]| world.run("x", &[&["relay", "serve"], words].concat());
    let busy = serve(&["--listen", hub.address()]);
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
    let help = serve(&["--help"]).ok().out;
    for limit in ["16384 connections", "64 headers", "MiB of body", "--rate-limit"] {
        assert!(help.contains(limit), "{help}");
    }
    let done = relay(&hub, &world, &["connect", "--once", "--json", "--node-id", "a b"]);
    world.register(&["ann"]);
    assert_eq!(done.status, 0, "nobody to register");
    let done = relay(&hub, &world, &["register", "--alias", "ann", "--node-id", "a b"]);
    assert!(done.err.contains("field: node_id"), "{}", done.err);
}
