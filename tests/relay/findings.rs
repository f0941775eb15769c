//! Does what was found wrong once stay right? Each test is named after what went wrong.

use serde_json::{Value, json};

use super::{Hub, Machine, TOKEN, ask, pair, settle};
use crate::support::{World, contents, run};

/// Sends what is on standard input.
fn send_text(machine: &Machine, who: &str, to: &str, text: &str) {
    let path = machine.world.path().join("text");
    std::fs::write(&path, text).expect("a text");
    let mut send = machine.world.c2c(&["send", to, "-"]);
    send.env("C2C_MCP_SESSION_ID", format!("s-{who}"));
    send.stdin(std::fs::File::open(path).expect("the text"));
    run(send).ok();
}

#[test]
fn another_key_on_a_node_read_and_refused_its_mail() {
    let hub = Hub::start("log");
    let (_a, b) = pair(&hub);
    // A machine with a key of its own that calls itself like another.
    let thief = Machine::new(&hub, "machine-b");
    thief.world.register(&["mallory"]);
    let tick = thief.once();
    assert_eq!(tick["errors"][0]["error_code"], "alias_identity_mismatch", "{tick}");
    b.once();
}

#[test]
fn a_broadcast_larger_than_a_frame_broke_the_log() {
    let world = World::new();
    let names: Vec<String> = (0..20).map(|at| format!("agent-{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.register(&names);
    let text = "x".repeat(4 * 1024 * 1024);
    let path = world.path().join("text");
    std::fs::write(&path, &text).expect("a text");
    let mut all = world.c2c(&["send-all", "-", "--json"]);
    all.env("C2C_MCP_SESSION_ID", "s-agent-0");
    all.stdin(std::fs::File::open(path).expect("the text"));
    assert_eq!(run(all).ok().json()["sent_to"].as_array().map(Vec::len), Some(19));
    world.run("agent-1", &["send", "agent-2", "after"]).ok();
    let came = world.poll("agent-2");
    assert_eq!(came.iter().map(String::len).collect::<Vec<_>>(), [text.len(), 5]);
}

#[test]
fn parked_mail_that_fills_a_batch_stopped_everything_that_leaves() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    send_text(&a, "ann", "zoe@nowhere", &"x".repeat(1_100_000));
    send_text(&a, "ann", "zoe@nowhere", &"x".repeat(1_100_000));
    a.once();
    a.once();
    a.run("ann", &["send", "bob@machine-b", "through"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["through"]);
    // And what was parked goes when somebody is there.
    let c = Machine::new(&hub, "nowhere");
    c.world.register(&["zoe"]);
    c.once();
    settle(&[&a, &c]);
    assert_eq!(c.world.poll("zoe").len(), 2);
}

#[test]
fn the_largest_message_that_is_all_escaped_arrives() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    let text = "\u{1}".repeat(4 * 1024 * 1024);
    send_text(&a, "ann", "bob@machine-b", &text);
    a.run("ann", &["send", "bob@machine-b", "and a small one"]).ok();
    settle(&[&a, &b]);
    let came = b.world.poll("bob");
    assert_eq!(came.iter().map(String::len).collect::<Vec<_>>(), [text.len(), 15]);
}

#[test]
fn a_room_with_many_members_made_every_pull_fail() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    let rows: Vec<String> = (0..1_010)
        .map(|at| format!(r#"{{"session_id":"s{at}","alias":"m{at}","pid":1,"pid_start_time":1}}"#))
        .collect();
    std::fs::write(a.world.root().join("registry.json"), format!("[{}]", rows.join(",")))
        .expect("an older registry");
    a.run("ann", &["rooms", "join", "den"]).ok();
    for at in 0..1_010 {
        let mut join = a.world.c2c(&["rooms", "join", "den"]);
        join.env("C2C_MCP_SESSION_ID", format!("s{at}"));
        run(join).ok();
    }
    settle(&[&a, &b]);
    b.run("bob", &["rooms", "join", "den"]).ok();
    settle(&[&b, &a]);
    a.run("ann", &["rooms", "send", "den", "hello"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["hello"]);
}

#[test]
fn a_private_room_was_opened_by_a_stranger_with_a_room_of_that_name() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    b.run("bob", &["rooms", "create", "den", "--visibility", "local"]).ok();
    b.run("bob", &["rooms", "send", "den", "secret"]).ok();
    a.run("ann", &["rooms", "create", "den", "--visibility", "invite_only"]).ok();
    a.run("ann", &["rooms", "invite", "den", "bob@machine-b"]).ok();
    a.run("ann", &["rooms", "visibility", "den", "--set", "public"]).ok();
    settle(&[&a, &b, &a]);
    b.run("bob", &["rooms", "send", "den", "new secret"]).ok();
    settle(&[&b, &a]);
    let own = b.run("bob", &["rooms", "list", "--json"]).ok().json();
    assert_eq!(own[0]["visibility"], "local", "{own}");
    let history = a.run("ann", &["rooms", "history", "den", "--json"]).ok().json();
    assert!(contents(&history).iter().all(|text| !text.contains("secret")), "{history}");
}

#[test]
fn what_was_said_in_a_local_room_left_when_it_became_public() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    a.run("ann", &["rooms", "create", "den", "--visibility", "local"]).ok();
    a.run("ann", &["rooms", "send", "den", "among ourselves"]).ok();
    a.run("ann", &["rooms", "visibility", "den", "--set", "public"]).ok();
    a.once();
    b.run("bob", &["rooms", "join", "den"]).ok();
    settle(&[&b, &a, &b]);
    a.run("ann", &["rooms", "send", "den", "to all"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["to all"]);
    let history = b.run("bob", &["rooms", "history", "den", "--json"]).ok().json();
    assert_eq!(contents(&history), ["to all"]);
}

#[test]
fn members_elsewhere_heard_nothing_after_a_room_became_private() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    a.run("ann", &["rooms", "join", "den"]).ok();
    a.once();
    b.run("bob", &["rooms", "join", "den"]).ok();
    settle(&[&b, &a]);
    a.run("ann", &["rooms", "visibility", "den", "--set", "invite_only"]).ok();
    a.run("ann", &["rooms", "send", "den", "still here?"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["still here?"]);
    // Strangers see it no more.
    let listed = run(b.world.c2c(&[
        "relay",
        "rooms",
        "list",
        "--json",
        "--relay-url",
        &hub.url(),
        "--alias",
        "nobody",
    ]));
    assert_eq!(listed.ok().json()["rooms"], serde_json::json!([]));
}

#[test]
fn a_saved_token_was_sent_to_any_url() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = format!("http://{}", listener.local_addr().expect("its address"));
    let world = World::new();
    world.run("x", &["relay", "setup", "--url", "http://127.0.0.1:1", "--token", "secret"]).ok();
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut buffer = [0; 4096];
        let read = std::io::Read::read(&mut stream, &mut buffer).expect("a request");
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    });
    world.run("x", &["relay", "gc", "--once", "--relay-url", &other]).refused("remote_unavailable");
    let heard = heard.join().expect("heard");
    assert!(heard.starts_with("POST /gc") && !heard.contains("secret"), "{heard}");
}

#[test]
fn a_web_page_could_speak_to_agents_where_no_token_is_needed() {
    let hub = Hub::with("memory", &[]);
    let ask = |headers: &str| {
        let mut stream = std::net::TcpStream::connect(hub.address()).expect("a connection");
        let body = r#"{"from_alias":"x","to_alias":"y","content":"z"}"#;
        let request = format!(
            "POST /send HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        std::io::Write::write_all(&mut stream, request.as_bytes()).expect("written");
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).expect("read");
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(ask("Host: localhost\r\n"), "409");
    assert_eq!(ask("Host: 127.0.0.1:7331\r\n"), "409");
    assert_eq!(ask("Host: localhost\r\nOrigin: https://evil.example\r\n"), "403");
    assert_eq!(ask("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n"), "403");
    assert_eq!(ask("Host: evil.example\r\n"), "403");
}

#[test]
fn one_alias_that_is_not_listed_kept_the_whole_node_out() {
    let key = World::new();
    let made = key.run("x", &["relay", "identity", "init", "--json"]).ok().json();
    let public = made["public_key"].as_str().expect("a key").to_owned();
    let list = key.path().join("allowed.json");
    std::fs::write(&list, format!(r#"{{"ann":"{public}"}}"#)).expect("a list");
    let list = list.display().to_string();
    let hub = Hub::with("memory", &["--token", TOKEN, "--allowed-identities", &list]);
    let machine = Machine::in_world(key, &hub, "machine-a");
    machine.world.register(&["ann", "bob"]);
    let tick = machine.once();
    assert_eq!((&tick["registered"], &tick["failed"]), (&1.into(), &1.into()), "{tick}");
    assert_eq!(tick["errors"][0]["error_code"], "alias_not_allowed");
    // Nor does somebody get in by sending.
    machine.run("bob", &["send", "ann@relay", "let me in"]).ok();
    machine.once();
    let told = machine.world.poll("bob");
    assert!(told.len() == 1 && told[0].contains("foreign_sender"), "{told:?}");
}

/// A script without a connector takes an alias for so long.
fn take(hub: &Hub, alias: &str, ttl: f64) {
    let session = format!("script-{alias}");
    let wish = json!({"node_id": "machine-b", "session_id": session, "alias": alias, "ttl": ttl});
    assert_eq!(ask(hub, "POST", "/register", "", &wish).0, 200);
}

#[test]
fn what_waits_below_the_cursor_is_pulled_once_a_connector_serves_the_alias() {
    let hub = Hub::with("log", &[]);
    let (a, b) = pair(&hub);
    take(&hub, "eve", 600.0);
    a.run("ann", &["send", "eve@machine-b", "for the script"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.once()["inbound"], 0, "it is the script's");
    b.world.register(&["eve"]);
    settle(&[&b, &a]);
    assert_eq!(b.world.poll("eve"), ["for the script"]);
    settle(&[&b, &a]);
    assert!(b.world.poll("eve").is_empty());
}

#[test]
fn dead_letters_of_a_relay_are_replayed_below_the_cursor_too() {
    let hub = Hub::with("log", &[]);
    let (a, b) = pair(&hub);
    take(&hub, "eve", 0.1);
    let until = std::time::Instant::now() + super::PATIENCE;
    let alive = || {
        let (_, list) = ask(&hub, "GET", "/list?include_dead=1", "", &Value::Null);
        let rows = list["peers"].as_array().expect("peers").clone();
        rows.iter().any(|row| row["alias"] == "eve" && row["alive"] == true)
    };
    while alive() {
        assert!(std::time::Instant::now() < until);
    }
    let mail = json!({"from_alias": "x", "to_alias": "eve@machine-b", "content": "too late",
        "message_id": "m-late"});
    let (status, answer) = ask(&hub, "POST", "/send", "", &mail);
    assert_eq!((status, &answer["error_code"]), (409, &json!("recipient_dead")));
    b.world.register(&["eve"]);
    settle(&[&b, &a]);
    assert!(b.world.poll("eve").is_empty());
    let url = hub.url();
    let relay = |args: &[&str]| {
        let words = [&["relay"], args, &["--json", "--relay-url", &url]].concat();
        run(b.world.c2c(&words))
    };
    relay(&["dead-letter", "replay", "m-none"]).refused("unknown_message");
    relay(&["dead-letter", "replay", "m-late", "--to", "nobody"]).refused("unknown_alias");
    assert_eq!(relay(&["dead-letter", "replay", "m-late"]).ok().json()["replayed"], 1);
    settle(&[&b]);
    assert_eq!(b.world.poll("eve"), ["too late"]);
    assert_eq!(relay(&["dead-letter"]).ok().json()["dead_letter"], json!([]));
    assert_eq!(relay(&["unbind", "eve@machine-b"]).ok().json()["removed"], true);
    assert_eq!(relay(&["unbind", "eve@machine-b"]).ok().json()["removed"], false);
}

#[test]
fn a_broadcast_that_is_said_again_reaches_nobody_twice() {
    let hub = Hub::with("log", &[]);
    for alias in ["ann", "bob", "eve"] {
        take(&hub, alias, 600.0);
    }
    let all = |content: &str| {
        let wish = json!({"from_alias": "ann", "content": content, "message_id": "all-1"});
        ask(&hub, "POST", "/send_all", "", &wish)
    };
    let inbox = |alias: &str| {
        let wish = json!({"node_id": "machine-b", "session_id": format!("script-{alias}")});
        contents(&ask(&hub, "POST", "/poll_inbox", "", &wish).1["messages"])
    };
    assert_eq!(all("once").1["delivered_to"], json!(["bob", "eve"]));
    assert_eq!(inbox("bob"), ["once"]);
    // Its answer was lost; meanwhile somebody came.
    take(&hub, "zoe", 600.0);
    assert_eq!(all("once").1["delivered_to"], json!(["bob", "eve", "zoe"]));
    assert!(inbox("bob").is_empty());
    assert_eq!((inbox("eve"), inbox("zoe")), (vec!["once".into()], vec!["once".into()]));
    assert_eq!(all("another").1["error_code"], "message_id_reused");
    let world = World::new();
    world.register(&["ann", "bob"]);
    for _ in 0..2 {
        world.run("ann", &["send-all", "hello", "--message-id", "b-1"]).ok();
    }
    world.run("ann", &["send-all", "other", "--message-id", "b-1"]).refused("message_id_reused");
    assert_eq!(world.poll("bob"), ["hello"]);
}

#[test]
fn what_a_node_refused_reaches_it_when_it_is_replayed_and_what_goes_elsewhere_is_closed() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    b.world.register(&["zoe", "joe"]);
    settle(&[&b, &a]);
    // The relay knows them; the machine has lost its root.
    std::fs::remove_dir_all(b.world.root()).expect("removed");
    b.world.register(&["bob"]);
    b.once();
    a.run("ann", &["send", "zoe@machine-b", "for zoe", "--message-id", "m-zoe"]).ok();
    a.run("ann", &["send", "joe@machine-b", "for joe", "--message-id", "m-joe"]).ok();
    settle(&[&a, &b]);
    let url = hub.url();
    let replay = |words: &[&str]| {
        let all = [&["relay", "dead-letter", "replay"], words, &["--json"]].concat();
        let mut command = b.world.c2c(&all);
        command.args(["--relay-url", &url, "--token", TOKEN]);
        run(command).ok().json()
    };
    let letters = || {
        let mut command = b.world.c2c(&["relay", "dead-letter", "--json"]);
        command.args(["--relay-url", &url, "--token", TOKEN]);
        run(command).ok().json()["dead_letter"].as_array().expect("letters").len()
    };
    assert_eq!(letters(), 2);
    b.world.register(&["zoe"]);
    settle(&[&b, &a]);
    assert_eq!(replay(&["m-zoe", "--to", "zoe@machine-b"])["replayed"], 1);
    // To another machine: its receipt closes it, and others beside it count, too.
    assert_eq!(replay(&["m-joe", "--to", "ann@machine-a"])["replayed"], 1);
    b.run("bob", &["send", "ann@machine-a", "beside it"]).ok();
    settle(&[&b, &a]);
    assert_eq!(b.world.poll("zoe"), ["for zoe"]);
    let came = a.world.poll("ann");
    assert!(came.contains(&"beside it".to_owned()), "{came:?}");
    settle(&[&a, &b]);
    assert_eq!(letters(), 0);
    assert_eq!(b.run("bob", &["health", "--json"]).ok().json()["outbox_depth"], 0);
    settle(&[&b, &a]);
    assert!(b.world.poll("zoe").is_empty());
}

#[test]
fn a_message_that_was_acked_elsewhere_was_not_shown_as_read() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    a.run("ann", &["send", "bob@machine-b", "hello", "--message-id", "m-1"]).ok();
    settle(&[&a, &b]);
    let shown = || a.run("ann", &["trace", "m-1", "--json"]).ok().json()[0]["shown"].clone();
    assert_eq!(shown(), false, "it is there, and nobody has looked");
    assert_eq!(b.world.poll("bob"), ["hello"]);
    settle(&[&b, &a]);
    assert_eq!(shown(), true);
}

#[test]
fn what_was_on_its_way_to_a_room_was_lost_when_it_was_deleted() {
    let hub = Hub::start("log");
    let (a, b) = pair(&hub);
    a.run("ann", &["rooms", "join", "pit"]).ok();
    a.once();
    b.run("bob", &["rooms", "join", "pit"]).ok();
    settle(&[&b, &a]);
    a.run("ann", &["rooms", "send", "pit", "last words"]).ok();
    a.run("ann", &["rooms", "delete", "pit", "--force"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["last words"]);
    assert_eq!(b.world.poll("bob"), [""; 0]);
}
