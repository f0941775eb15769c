//! Regression tests of bugs between machines. See `docs/bugs.md`.

use serde_json::{Value, json};

use super::{Machine, RelayProcess, TOKEN, pair, request, settle};
use crate::support::{World, contents, run};

/// Sends a text through standard input.
fn send_text(machine: &Machine, who: &str, to: &str, text: &str) {
    let path = machine.world.path().join("text");
    std::fs::write(&path, text).expect("a text");
    let mut send = machine.world.c2c(&["send", to, "-"]);
    send.env("C2C_MCP_SESSION_ID", format!("s-{who}"));
    send.stdin(std::fs::File::open(path).expect("the text"));
    run(send).ok();
}

fn a_key_cannot_read_the_mail_of_another_key_on_its_node() {
    let relay = RelayProcess::start("log");
    let (_a, b) = pair(&relay);
    // A machine with another key and the node id of the second machine.
    let thief = Machine::new(&relay, "machine-b");
    thief.world.register(&["mallory"]);
    let tick = thief.once();
    assert_eq!(tick["errors"][0]["error_code"], "alias_identity_mismatch", "{tick}");
    b.once();
}

fn a_broadcast_larger_than_a_frame_is_delivered() {
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
    let received = world.poll("agent-2");
    assert_eq!(received.iter().map(String::len).collect::<Vec<_>>(), [text.len(), 5]);
}

fn retries_that_fill_a_batch_do_not_block_other_mail() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    send_text(&a, "ann", "zoe@nowhere", &"x".repeat(1_100_000));
    send_text(&a, "ann", "zoe@nowhere", &"x".repeat(1_100_000));
    a.once();
    a.once();
    a.run("ann", &["send", "bob@machine-b", "through"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["through"]);
    // The waiting mail leaves when its recipient connects.
    let c = Machine::new(&relay, "nowhere");
    c.world.register(&["zoe"]);
    c.once();
    settle(&[&a, &c]);
    assert_eq!(c.world.poll("zoe").len(), 2);
}

fn the_largest_message_of_escaped_characters_is_delivered() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    let text = "\u{1}".repeat(4 * 1024 * 1024);
    send_text(&a, "ann", "bob@machine-b", &text);
    a.run("ann", &["send", "bob@machine-b", "and a small one"]).ok();
    settle(&[&a, &b]);
    let received = b.world.poll("bob");
    assert_eq!(received.iter().map(String::len).collect::<Vec<_>>(), [text.len(), 15]);
}

fn a_room_with_more_than_a_thousand_members_can_be_pulled() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
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

fn a_room_of_a_stranger_does_not_open_a_private_room_of_the_same_name() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
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

fn messages_of_a_local_room_stay_local_after_it_becomes_public() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
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

fn remote_members_receive_messages_after_a_room_becomes_private() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    a.run("ann", &["rooms", "join", "den"]).ok();
    a.once();
    b.run("bob", &["rooms", "join", "den"]).ok();
    settle(&[&b, &a]);
    a.run("ann", &["rooms", "visibility", "den", "--set", "invite_only"]).ok();
    a.run("ann", &["rooms", "send", "den", "still here?"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.world.poll("bob"), ["still here?"]);
    // Strangers no longer see it.
    let listed = run(b.world.c2c(&[
        "relay",
        "rooms",
        "list",
        "--json",
        "--relay-url",
        &relay.url(),
        "--alias",
        "nobody",
    ]));
    assert_eq!(listed.ok().json()["rooms"], serde_json::json!([]));
}

fn a_saved_token_is_sent_only_to_its_own_url() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = format!("http://{}", listener.local_addr().expect("its address"));
    let world = World::new();
    world.run("x", &["relay", "setup", "--url", "http://127.0.0.1:1", "--token", "secret"]).ok();
    let received = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut buffer = [0; 4096];
        let read = std::io::Read::read(&mut stream, &mut buffer).expect("a request");
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    });
    world
        .run("x", &["relay", "gc", "--once", "--relay-url", &other])
        .fails_with("remote_unavailable");
    let received = received.join().expect("a request");
    assert!(received.starts_with("POST /gc") && !received.contains("secret"), "{received}");
}

fn requests_of_web_pages_are_rejected_by_a_relay_without_a_token() {
    let relay = RelayProcess::with("memory", &[]);
    let ask = |headers: &str| {
        let mut stream = std::net::TcpStream::connect(relay.address()).expect("a connection");
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

fn an_unlisted_alias_does_not_keep_its_node_out() {
    let key = World::new();
    let made = key.run("x", &["relay", "identity", "init", "--json"]).ok().json();
    let public = made["public_key"].as_str().expect("a key").to_owned();
    let list = key.path().join("allowed.json");
    std::fs::write(&list, format!(r#"{{"ann":"{public}"}}"#)).expect("a list");
    let list = list.display().to_string();
    let relay = RelayProcess::with("memory", &["--token", TOKEN, "--allowed-identities", &list]);
    let machine = Machine::in_world(key, &relay, "machine-a");
    machine.world.register(&["ann", "bob"]);
    let tick = machine.once();
    assert_eq!((&tick["registered"], &tick["failed"]), (&1.into(), &1.into()), "{tick}");
    assert_eq!(tick["errors"][0]["error_code"], "alias_not_allowed");
    // Sending does not admit the alias either.
    machine.run("bob", &["send", "ann@relay", "let me in"]).ok();
    machine.once();
    let bounces = machine.world.poll("bob");
    assert!(bounces.len() == 1 && bounces[0].contains("foreign_sender"), "{bounces:?}");
}

/// Registers a script without a connector under an alias, for `ttl` seconds.
fn register_script(relay: &RelayProcess, alias: &str, ttl: f64) {
    let session = format!("script-{alias}");
    let body = json!({"node_id": "machine-b", "session_id": session, "alias": alias, "ttl": ttl});
    assert_eq!(request(relay, "POST", "/register", "", &body).0, 200);
}

fn mail_below_the_cursor_is_pulled_once_a_connector_serves_the_alias() {
    let relay = RelayProcess::with("log", &[]);
    let (a, b) = pair(&relay);
    register_script(&relay, "eve", 600.0);
    a.run("ann", &["send", "eve@machine-b", "for the script"]).ok();
    settle(&[&a, &b]);
    assert_eq!(b.once()["inbound"], 0, "the mail belongs to the script");
    b.world.register(&["eve"]);
    settle(&[&b, &a]);
    assert_eq!(b.world.poll("eve"), ["for the script"]);
    settle(&[&b, &a]);
    assert!(b.world.poll("eve").is_empty());
}

fn dead_letters_below_the_cursor_can_be_replayed() {
    let relay = RelayProcess::with("log", &[]);
    let (a, b) = pair(&relay);
    register_script(&relay, "eve", 0.1);
    let until = std::time::Instant::now() + super::PATIENCE;
    let alive = || {
        let (_, list) = request(&relay, "GET", "/list?include_dead=1", "", &Value::Null);
        let rows = list["peers"].as_array().expect("peers").clone();
        rows.iter().any(|row| row["alias"] == "eve" && row["alive"] == true)
    };
    while alive() {
        assert!(std::time::Instant::now() < until);
    }
    let mail = json!({"from_alias": "x", "to_alias": "eve@machine-b", "content": "too late",
        "message_id": "m-late"});
    let (status, answer) = request(&relay, "POST", "/send", "", &mail);
    assert_eq!((status, &answer["error_code"]), (409, &json!("recipient_dead")));
    b.world.register(&["eve"]);
    settle(&[&b, &a]);
    assert!(b.world.poll("eve").is_empty());
    let url = relay.url();
    let relay_command = |args: &[&str]| {
        let words = [&["relay"], args, &["--json", "--relay-url", &url]].concat();
        run(b.world.c2c(&words))
    };
    relay_command(&["dead-letter", "replay", "m-none"]).fails_with("unknown_message");
    relay_command(&["dead-letter", "replay", "m-late", "--to", "nobody"])
        .fails_with("unknown_alias");
    assert_eq!(relay_command(&["dead-letter", "replay", "m-late"]).ok().json()["replayed"], 1);
    settle(&[&b]);
    assert_eq!(b.world.poll("eve"), ["too late"]);
    assert_eq!(relay_command(&["dead-letter"]).ok().json()["dead_letter"], json!([]));
    assert_eq!(relay_command(&["unbind", "eve@machine-b"]).ok().json()["removed"], true);
    assert_eq!(relay_command(&["unbind", "eve@machine-b"]).ok().json()["removed"], false);
}

fn a_repeated_broadcast_reaches_no_recipient_twice() {
    let relay = RelayProcess::with("log", &[]);
    for alias in ["ann", "bob", "eve"] {
        register_script(&relay, alias, 600.0);
    }
    let all = |content: &str| {
        let body = json!({"from_alias": "ann", "content": content, "message_id": "all-1"});
        request(&relay, "POST", "/send_all", "", &body)
    };
    let inbox = |alias: &str| {
        let body = json!({"node_id": "machine-b", "session_id": format!("script-{alias}")});
        contents(&request(&relay, "POST", "/poll_inbox", "", &body).1["messages"])
    };
    assert_eq!(all("once").1["delivered_to"], json!(["bob", "eve"]));
    assert_eq!(inbox("bob"), ["once"]);
    // The response was lost; meanwhile another agent registered.
    register_script(&relay, "zoe", 600.0);
    assert_eq!(all("once").1["delivered_to"], json!(["bob", "eve", "zoe"]));
    assert!(inbox("bob").is_empty());
    assert_eq!((inbox("eve"), inbox("zoe")), (vec!["once".into()], vec!["once".into()]));
    assert_eq!(all("another").1["error_code"], "message_id_reused");
    let world = World::new();
    world.register(&["ann", "bob"]);
    for _ in 0..2 {
        world.run("ann", &["send-all", "hello", "--message-id", "b-1"]).ok();
    }
    world.run("ann", &["send-all", "other", "--message-id", "b-1"]).fails_with("message_id_reused");
    assert_eq!(world.poll("bob"), ["hello"]);
}

fn a_replayed_dead_letter_is_delivered_and_closed() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    b.world.register(&["zoe", "joe"]);
    settle(&[&b, &a]);
    // The relay knows both aliases, but the machine has lost its root.
    std::fs::remove_dir_all(b.world.root()).expect("removed");
    b.world.register(&["bob"]);
    b.once();
    a.run("ann", &["send", "zoe@machine-b", "for zoe", "--message-id", "m-zoe"]).ok();
    a.run("ann", &["send", "joe@machine-b", "for joe", "--message-id", "m-joe"]).ok();
    settle(&[&a, &b]);
    let url = relay.url();
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
    // To another machine: the receipt closes the letter, and other mail arrives with it.
    assert_eq!(replay(&["m-joe", "--to", "ann@machine-a"])["replayed"], 1);
    b.run("bob", &["send", "ann@machine-a", "beside it"]).ok();
    settle(&[&b, &a]);
    assert_eq!(b.world.poll("zoe"), ["for zoe"]);
    let received = a.world.poll("ann");
    assert!(received.contains(&"beside it".to_owned()), "{received:?}");
    settle(&[&a, &b]);
    assert_eq!(letters(), 0);
    assert_eq!(b.run("bob", &["health", "--json"]).ok().json()["outbox_depth"], 0);
    settle(&[&b, &a]);
    assert!(b.world.poll("zoe").is_empty());
}

fn a_trace_shows_an_ack_on_another_machine() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    a.run("ann", &["send", "bob@machine-b", "hello", "--message-id", "m-1"]).ok();
    settle(&[&a, &b]);
    let shown = || a.run("ann", &["trace", "m-1", "--json"]).ok().json()[0]["shown"].clone();
    assert_eq!(shown(), false, "delivered, and not read yet");
    assert_eq!(b.world.poll("bob"), ["hello"]);
    settle(&[&b, &a]);
    assert_eq!(shown(), true);
}

fn messages_sent_before_a_room_is_deleted_are_delivered() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
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

crate::harness::tests! {
    fast:
        a_key_cannot_read_the_mail_of_another_key_on_its_node,
        a_room_of_a_stranger_does_not_open_a_private_room_of_the_same_name,
        messages_of_a_local_room_stay_local_after_it_becomes_public,
        remote_members_receive_messages_after_a_room_becomes_private,
        a_saved_token_is_sent_only_to_its_own_url,
        requests_of_web_pages_are_rejected_by_a_relay_without_a_token,
        an_unlisted_alias_does_not_keep_its_node_out,
        mail_below_the_cursor_is_pulled_once_a_connector_serves_the_alias,
        a_repeated_broadcast_reaches_no_recipient_twice,
        a_replayed_dead_letter_is_delivered_and_closed,
        a_trace_shows_an_ack_on_another_machine,
        messages_sent_before_a_room_is_deleted_are_delivered;
    slow:
        a_room_with_more_than_a_thousand_members_can_be_pulled,
        the_largest_message_of_escaped_characters_is_delivered,
        a_broadcast_larger_than_a_frame_is_delivered,
        dead_letters_below_the_cursor_can_be_replayed,
        retries_that_fill_a_batch_do_not_block_other_mail;
}
