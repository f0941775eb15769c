//! Commands around relay and connector: TLS, settings, services and receipts.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::{Machine, RelayProcess, TOKEN};
use crate::support::{World, contents, run};

fn fixture(name: &str) -> String {
    format!("{}/tests/relay/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn a_relay_serves_tls_and_clients_reject_an_untrusted_certificate() {
    let (cert, key) = (fixture("cert.pem"), fixture("key.pem"));
    let args = ["--token", TOKEN, "--tls-cert", &cert, "--tls-key", &key];
    let relay = RelayProcess::with("memory", &args);
    let url = relay.url().replace("http://", "https://");
    let world = World::new();
    world.register(&["ann"]);
    let connect = |more: &[&str]| {
        let words = ["relay", "connect", "--once", "--json", "--relay-url", &url];
        run(world.c2c(&[&words[..], more].concat()))
    };
    let ca = fixture("ca.pem");
    assert_eq!(connect(&["--ca-bundle", &ca]).ok().json()["registered"], 1);
    connect(&[]).fails_with("remote_unavailable");
    // Plain HTTP to a relay that serves TLS.
    run(world.c2c(&["relay", "status", "--relay-url", &relay.url()]))
        .fails_with("remote_unavailable");
    let args = ["relay", "serve", "--listen", "127.0.0.1:0", "--tls-cert", &key, "--tls-key", &key];
    world.run("x", &args).fails_with("invalid_argument");
}

/// A background process, killed when dropped.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn one_connector_serves_all_present_and_future_roots_of_a_user() {
    let relay = RelayProcess::start("log");
    let world = World::new();
    // Two directories outside of any repository share a root; two repositories have two roots.
    let at = |name: &str, alias: &str, words: &[&str]| {
        let here = world.path().join(name);
        std::fs::create_dir_all(here.join(".git")).expect("a repository");
        let mut command = world.c2c(words);
        command.env_remove("C2C_MCP_BROKER_ROOT").env("C2C_MCP_SESSION_ID", format!("s-{alias}"));
        command.current_dir(here);
        command
    };
    run(at("one", "ann", &["register", "--alias", "ann"])).ok();
    let url = relay.url();
    let words = ["relay", "connect", "--all", "--interval", "1", "--relay-url", &url];
    let mut connect = world.c2c(&words);
    connect.env_remove("C2C_MCP_BROKER_ROOT").stdout(Stdio::null()).stderr(Stdio::null());
    let _connector = Background(connect.spawn().expect("a connector"));
    run(at("two", "bob", &["register", "--alias", "bob"])).ok();
    let until = Instant::now() + Duration::from_secs(30);
    // The other root is another node, whose bare alias is known once it has registered.
    while run(at("one", "ann", &["send", "bob", "hello"])).status != 0 {
        assert!(Instant::now() < until, "bob is not known");
    }
    let wait = ["listen", "--once", "--take", "--timeout", "30", "--json"];
    let received = run(at("two", "bob", &wait)).ok();
    assert!(received.out.contains("hello"), "{}", received.out);
    assert!(received.out.contains("ann@"), "{}", received.out);
}

fn a_second_running_connector_is_rejected() {
    let relay = RelayProcess::start("memory");
    let mut machine = Machine::new(&relay, "machine-a");
    machine.world.register(&["ann"]);
    machine.start();
    let root = machine.world.root().join("connector.json");
    let until = Instant::now() + Duration::from_secs(30);
    while !root.exists() {
        assert!(Instant::now() < until, "the connector does not start");
        std::thread::yield_now();
    }
    let words = ["relay", "connect", "--relay-url", &relay.url(), "--token", TOKEN];
    run(machine.world.c2c(&words)).fails_with("connector_running");
    // A single round beside it is allowed.
    machine.once();
}

fn the_service_file_names_this_program_and_no_secret() {
    let world = World::new();
    let mut command = world.c2c(&["relay", "connect", "--install-service", "--json"]);
    command.env_remove("C2C_MCP_BROKER_ROOT");
    let done = run(command).ok().json();
    let path = done["path"].as_str().expect("a path");
    let unit = std::fs::read_to_string(path).expect("the unit");
    assert!(path.ends_with(".config/systemd/user/c2c-connect.service"), "{path}");
    assert!(unit.contains("/c2c\" relay connect --all\n"), "{unit}");
}

fn flags_override_the_environment_which_overrides_the_file() {
    let relay = RelayProcess::start("memory");
    let world = World::new();
    let status = |envs: &[(&str, &str)], args: &[&str]| {
        let mut command = world.c2c(&[&["relay", "status"], args].concat());
        command.envs(envs.iter().copied());
        run(command)
    };
    status(&[], &[]).fails_with("invalid_argument");
    let saved = ["relay", "setup", "--url", "http://127.0.0.1:1", "--token", TOKEN, "--json"];
    let saved = world.run("x", &saved).ok().json();
    let path = saved["path"].as_str().expect("a path").to_owned();
    assert_eq!(path, world.root().join("relay.json").display().to_string());
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&path).expect("the file").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    assert!(!saved.to_string().contains(TOKEN), "a token is shown");
    status(&[], &[]).fails_with("remote_unavailable");
    let url = relay.url();
    status(&[("C2C_RELAY_URL", &url)], &[]).ok();
    status(&[("C2C_RELAY_URL", "http://127.0.0.1:2")], &["--relay-url", &url]).ok();
    let other = world.path().join("other.json");
    std::fs::write(&other, format!(r#"{{"url":"{url}"}}"#)).expect("another file");
    let named = other.display().to_string();
    status(&[("C2C_RELAY_CONFIG", &named)], &[]).ok();
    for bad in ["localhost:7331", "ftp://x", "http://", "http://x/y"] {
        status(&[], &["--relay-url", bad]).fails_with("invalid_argument");
    }
    let moved = ["relay", "setup", "--url", "http://127.0.0.1:3", "--show"];
    world.run("x", &moved[..4]).ok();
    let stored = std::fs::read_to_string(&path).expect("the file");
    assert!(!stored.contains(TOKEN), "the token of another relay is still there: {stored}");
    std::fs::write(&other, "{").expect("a broken file");
    status(&[("C2C_RELAY_CONFIG", &named)], &[]).fails_with("invalid_argument");
}

fn send_waits_for_the_requested_receipt_and_reports_a_bounce() {
    let relay = RelayProcess::start("log");
    let (mut a, mut b) = (Machine::new(&relay, "machine-a"), Machine::new(&relay, "machine-b"));
    a.world.register(&["ann"]);
    b.world.register(&["bob"]);
    b.once();
    a.once();
    a.start();
    let send = |to: &str, receipt: &str, seconds: &str| {
        a.run("ann", &["send", to, "text", "--wait-for", receipt, "--timeout", seconds, "--json"])
    };
    assert_eq!(send("bob@machine-b", "relayed", "30").ok().json()["relayed"], true);
    // No connector fetches the message yet.
    assert_eq!(send("bob@machine-b", "delivered", "0").status, 1);
    b.start();
    assert_eq!(send("bob@machine-b", "delivered", "30").ok().json()["delivered"], true);
    send("zoe@machine-b", "acked", "30").fails_with("unknown_alias");
    let rows = b.run("bob", &["poll-inbox", "--json"]).ok().json();
    let id = rows[0]["message_id"].as_str().expect("an id").to_owned();
    assert_eq!(contents(&rows), ["text"; 3]);
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let trace = a.run("ann", &["trace", &id]).ok().out;
        if ["relayed", "delivered", "acked"].iter().all(|word| trace.contains(word)) {
            break;
        }
        assert!(Instant::now() < until, "{trace}");
    }
}

fn receipts_and_health_say_why_mail_waits() {
    let mut relay = RelayProcess::start("log");
    let machine = Machine::new(&relay, "machine-a");
    machine.world.register(&["ann"]);
    let send = || machine.run("ann", &["send", "bob@far", "text", "--json"]).ok().json();
    let warning = |row: &serde_json::Value| row["warning"].as_str().unwrap_or_default().to_owned();
    assert!(warning(&send()).contains("no connector has run"));
    machine.once();
    assert_eq!(warning(&send()), "");
    relay.kill();
    let words =
        ["relay", "connect", "--once", "--relay-url", &relay.url(), "--node-id", "machine-a"];
    run(machine.world.c2c(&words)).fails_with("remote_unavailable");
    let row = send();
    assert_eq!(row["remote"], "remote_unavailable", "{row}");
    let setup = ["relay", "setup", "--url", &relay.url()];
    machine.run("ann", &setup).ok();
    let health = machine.run("ann", &["health"]).ok().out;
    assert!(health.contains("✗ Relay: relay UNREACHABLE"), "{health}");
    assert!(health.contains("Outbox: 3 waiting, the oldest since"), "{health}");
    relay.restart();
    let health = machine.run("ann", &["health"]).ok().out;
    assert!(health.contains(&format!("✓ Relay: {} (1 alive peers)", relay.url())), "{health}");
}

fn the_help_of_a_relay_lists_its_limits() {
    let help = World::new().run("x", &["relay", "serve", "--help"]).ok().out;
    // The help is wrapped and aligned.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for limit in c2c_core::limits::table::of_relay() {
        let row = format!("{} {}", limit.name.trim_start_matches("relay: "), limit.value);
        assert!(words(&help).contains(&row.replace('`', "")), "{row}: {help}");
    }
}

crate::harness::tests! {
    fast:
        the_help_of_a_relay_lists_its_limits,
        a_relay_serves_tls_and_clients_reject_an_untrusted_certificate,
        one_connector_serves_all_present_and_future_roots_of_a_user,
        a_second_running_connector_is_rejected,
        the_service_file_names_this_program_and_no_secret,
        flags_override_the_environment_which_overrides_the_file,
        send_waits_for_the_requested_receipt_and_reports_a_bounce,
        receipts_and_health_say_why_mail_waits;
}
