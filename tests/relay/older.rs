//! A connector with a relay of the older generation, and the change to replication.

use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;

use super::older_proxy::{OlderProxy, Then, When};
use super::{Machine, RelayProcess, TOKEN};
use crate::support::{World, contents, run};

/// Routes that a connector uses with an older relay.
const ROUTES: [&str; 8] = [
    "/health",
    "/register",
    "/list",
    "/join_room",
    "/send",
    "/send_room",
    "/peek_inbox",
    "/poll_inbox",
];

/// Begin of the report that an answer with mail is lost. It is sent when the relay may have removed
/// mail without an answer, whether or not there was more than what had been read before.
const LOST: &str = "Mail for you may be lost";

/// A relay behind a proxy, and two machines that know nothing else.
struct Swarm {
    relay: RelayProcess,
    proxy: Arc<OlderProxy>,
    a: Machine,
    b: Machine,
}

impl Swarm {
    fn new(storage: &'static str) -> Self {
        Self::with(RelayProcess::start(storage))
    }

    fn with(relay: RelayProcess) -> Self {
        let proxy = Arc::new(OlderProxy::start(relay.address()));
        let machine = |node: &str| Machine::at(&proxy.url(), node);
        let (a, b) = (machine("machine-a"), machine("machine-b"));
        a.world.register(&["ann"]);
        b.world.register(&["bob"]);
        let swarm = Self { relay, proxy, a, b };
        swarm.settle();
        swarm
    }

    /// Both agents are in room `den`.
    fn in_room(self) -> Self {
        self.a.run("ann", &["rooms", "join", "den"]).ok();
        self.b.run("bob", &["rooms", "join", "den"]).ok();
        self.settle();
        self
    }

    fn settle(&self) {
        super::settle(&[&self.a, &self.b]);
    }

    /// Sends a text in both directions, to each agent and to the room.
    fn send_all_ways(&self, text: &str) {
        self.a.run("ann", &["send", "bob@machine-b", &format!("{text} to bob")]).ok();
        self.b.run("bob", &["send", "ann@machine-a", &format!("{text} to ann")]).ok();
        self.a.run("ann", &["rooms", "send", "den", &format!("{text} by ann")]).ok();
        self.b.run("bob", &["rooms", "send", "den", &format!("{text} by bob")]).ok();
    }

    /// Asserts that each agent received exactly what [`Swarm::send_all_ways`] sent for each text.
    fn check(&self, texts: &[String], what: &str) {
        for (machine, who, other) in [(&self.a, "ann", "bob"), (&self.b, "bob", "ann")] {
            let mut received = contents(&Value::Array(machine.peek(who)));
            received.retain(|text| !text.starts_with(LOST));
            let mut expected = Vec::new();
            for text in texts {
                expected.push(format!("{text} to {who}"));
                expected.push(format!("{text} by {other}"));
            }
            received.sort();
            expected.sort();
            assert_eq!(received, expected, "{what}: {who}");
        }
    }
}

fn trace(machine: &Machine, who: &str, id: &str) -> String {
    machine.run(who, &["trace", id]).ok().out
}

fn send(machine: &Machine, who: &str, to: &str, text: &str) -> String {
    let receipt = machine.run(who, &["send", to, text, "--json"]).ok().json();
    receipt["message_id"].as_str().expect("an id").to_owned()
}

fn direct_messages_and_rooms_pass_both_ways() {
    let swarm = Swarm::new("memory").in_room();
    swarm.send_all_ways("hello");
    swarm.settle();
    swarm.check(&["hello".into()], "an older relay");
    for path in ["/push", "/pull"] {
        assert!(swarm.proxy.requests(path).is_empty(), "{path}");
    }
    let rows = swarm.b.peek("bob");
    let from: Vec<&str> = rows.iter().filter_map(|row| row["from_alias"].as_str()).collect();
    assert_eq!(from, ["ann@machine-a"; 2], "the list of agents names the node");
    let peers = swarm.a.run("ann", &["list", "--json"]).ok().json().to_string();
    assert!(peers.contains("machine-b"), "{peers}");
    // The bare alias of a remote agent is enough.
    swarm.a.run("ann", &["send", "bob", "by alias"]).ok();
    swarm.b.run("bob", &["send", "ann@127.0.0.1", "by the name of the relay"]).ok();
    swarm.settle();
    assert!(contents(&Value::Array(swarm.b.peek("bob"))).contains(&"by alias".to_owned()));
    let to_ann = contents(&Value::Array(swarm.a.peek("ann")));
    assert!(to_ann.contains(&"by the name of the relay".to_owned()), "{to_ann:?}");
}

fn two_agents_of_a_machine_each_receive_a_room_message_once_and_in_order() {
    let swarm = Swarm::new("memory").in_room();
    swarm.a.world.register(&["amy"]);
    swarm.a.run("amy", &["rooms", "join", "den"]).ok();
    swarm.settle();
    for round in ["one", "two"] {
        swarm.a.run("ann", &["rooms", "send", "den", &format!("{round} by ann")]).ok();
        swarm.settle();
        swarm.b.run("bob", &["rooms", "send", "den", &format!("{round} by bob")]).ok();
        swarm.settle();
    }
    let expected = ["one by ann", "one by bob", "two by ann", "two by bob"];
    assert_eq!(contents(&Value::Array(swarm.a.peek("amy"))), expected);
    let history = swarm.a.run("amy", &["rooms", "history", "den", "--json"]).ok().json();
    assert_eq!(contents(&history), expected);
    assert_eq!(contents(&Value::Array(swarm.b.peek("bob"))), ["one by ann", "two by ann"]);
}

fn a_room_that_is_not_public_is_not_shared() {
    let swarm = Swarm::new("memory");
    swarm.a.run("ann", &["rooms", "create", "vault", "--visibility", "invite_only"]).ok();
    swarm.a.run("ann", &["rooms", "join", "vault"]).ok();
    swarm.a.run("ann", &["rooms", "send", "vault", "secret"]).ok();
    swarm.settle();
    assert!(swarm.proxy.requests("/join_room").is_empty());
    assert!(swarm.proxy.requests("/send_room").is_empty());
}

fn a_member_that_leaves_receives_no_more_and_may_return() {
    let swarm = Swarm::new("memory").in_room();
    swarm.b.run("bob", &["rooms", "leave", "den"]).ok();
    swarm.settle();
    swarm.a.run("ann", &["rooms", "send", "den", "without bob"]).ok();
    swarm.settle();
    assert!(swarm.b.peek("bob").is_empty());
    swarm.b.run("bob", &["rooms", "join", "den"]).ok();
    swarm.settle();
    swarm.a.run("ann", &["rooms", "send", "den", "with bob"]).ok();
    swarm.settle();
    assert_eq!(contents(&Value::Array(swarm.b.peek("bob"))), ["with bob"]);
}

fn receipts_and_status_name_what_an_older_relay_does_not_promise() {
    let swarm = Swarm::new("memory");
    let receipt = swarm.a.run("ann", &["send", "bob", "hello", "--json"]).ok().json();
    assert!(receipt["warning"].as_str().is_some_and(|text| text.contains("no delivery")));
    let id = receipt["message_id"].as_str().expect("an id");
    swarm.settle();
    let steps = trace(&swarm.a, "ann", id);
    assert!(steps.contains("relayed") && steps.contains("unconfirmed"), "{steps}");
    let health = swarm.a.run("ann", &["health", "--json"]).ok().json();
    assert_eq!((&health["outbox_depth"], &health["possibly_lost"]), (&0.into(), &0.into()));
    let url = swarm.proxy.url();
    let status = ["relay", "status", "--relay-url", &url];
    let text = swarm.a.run("ann", &status).ok().out;
    assert!(text.contains("generation: older") && text.contains("limit: "), "{text}");
    let json = swarm.a.run("ann", &[&status[..], &["--json"]].concat()).ok().json();
    assert_eq!(json["older"], true);
    let wait = ["send", "bob", "again", "--wait-for", "delivered", "--timeout", "20"];
    let mut waiting = swarm.a.world.c2c(&[&wait[..], &["-s", "s-ann"]].concat());
    waiting.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = waiting.spawn().expect("a sender");
    let until = Instant::now() + super::PATIENCE;
    while swarm.proxy.requests("/send").len() < 2 {
        assert!(Instant::now() < until, "the message is not sent");
        swarm.a.once();
    }
    let output = child.wait_with_output().expect("its end");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("outcome_unknown"));
}

fn mail_for_an_unknown_alias_or_another_node_returns_to_its_sender() {
    let swarm = Swarm::new("memory");
    for to in ["nobody@machine-b", "bob@machine-c"] {
        let id = send(&swarm.a, "ann", to, "hello");
        let report = swarm.a.once();
        assert_eq!(report["bounced"], 1, "{to}: {report}");
        assert!(trace(&swarm.a, "ann", &id).contains("unknown_alias"), "{to}");
    }
    assert_eq!(swarm.a.peek("ann").len(), 2, "ann is informed");
}

/// Starts one round of a connector that is killed at a request.
fn killed_at(machine: &Machine, proxy: &OlderProxy, path: &'static str, when: When) {
    let child: Arc<Mutex<Option<Child>>> = Arc::default();
    let victim = Arc::clone(&child);
    proxy.at(path, when, Then::Cut, move || {
        let mut victim = victim.lock().expect("a connector");
        if let Some(mut child) = victim.take() {
            child.kill().expect("a kill");
            child.wait().expect("its end");
        }
    });
    // The lock is held until the child is known.
    let mut slot = child.lock().expect("a slot");
    let mut command = machine.connect(&["--once"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut connector = command.spawn().expect("a connector");
    let mut output = connector.stdout.take().expect("piped");
    *slot = Some(connector);
    drop(slot);
    // The output ends with the process, killed or not.
    output.read_to_end(&mut Vec::new()).expect("its end");
    if let Some(mut connector) = child.lock().expect("a slot").take() {
        connector.wait().expect("its end");
    }
    proxy.clear();
}

fn a_kill_of_the_connector_at_any_step_loses_and_doubles_nothing() {
    let swarm = Swarm::new("memory").in_room();
    let mut texts = Vec::new();
    for path in ROUTES {
        for when in [When::Before, When::After] {
            let text = format!("{path} {when:?}");
            swarm.send_all_ways(&text);
            // One machine sends first, so that there is mail for the other.
            swarm.b.once();
            killed_at(&swarm.a, &swarm.proxy, path, when);
            killed_at(&swarm.b, &swarm.proxy, path, when);
            swarm.settle();
            texts.push(text);
            swarm.check(&texts, &format!("{path} {when:?}"));
        }
    }
}

fn a_kill_of_the_relay_at_any_step_loses_and_doubles_nothing() {
    let Swarm { relay, proxy, a, b } = Swarm::new("log").in_room();
    let relay = Arc::new(Mutex::new(relay));
    let mut texts = Vec::new();
    for path in ROUTES {
        for when in [When::Before, When::After] {
            let text = format!("{path} {when:?}");
            let swarm = (&a, &b);
            for (machine, who, to) in
                [(swarm.0, "ann", "bob@machine-b"), (swarm.1, "bob", "ann@machine-a")]
            {
                let other = to.split('@').next().expect("an alias");
                machine.run(who, &["send", to, &format!("{text} to {other}")]).ok();
                machine.run(who, &["rooms", "send", "den", &format!("{text} by {who}")]).ok();
            }
            b.once();
            for machine in [&a, &b] {
                let victim = Arc::clone(&relay);
                proxy.at(path, when, Then::Cut, move || {
                    let mut relay = victim.lock().expect("a relay");
                    relay.kill();
                    relay.restart();
                });
                let _ = run(machine.connect(&["--once"]));
                proxy.clear();
            }
            super::settle(&[&a, &b]);
            texts.push(text);
        }
    }
    let relay = Arc::into_inner(relay).expect("the relay").into_inner().expect("a relay");
    Swarm { relay, proxy, a, b }.check(&texts, "kills of the relay");
}

fn mail_is_recorded_before_the_relay_is_asked_to_remove_it() {
    let swarm = Swarm::new("memory");
    send(&swarm.a, "ann", "bob@machine-b", "hello");
    swarm.a.once();
    killed_at(&swarm.b, &swarm.proxy, "/poll_inbox", When::Before);
    assert_eq!(contents(&Value::Array(swarm.b.peek("bob"))), ["hello"]);
    // Nothing was lost, because the relay still has it.
    swarm.settle();
    assert_eq!(swarm.b.peek("bob").len(), 1);
    let health = swarm.b.run("bob", &["health", "--json"]).ok().json();
    assert_eq!(health["possibly_lost"], 0);
}

/// Sends a message to bob without a connector, as a script does.
fn script_send(relay: &str, world: &World, text: &str) {
    let args = ["relay", "dm", "send", "bob", text, "--alias", "cat"];
    let mut command = world.c2c(&args);
    command.args(["--relay-url", relay, "--token", TOKEN]);
    run(command).ok();
}

fn mail_in_an_answer_that_is_lost_is_reported_as_possibly_lost() {
    let swarm = Swarm::new("memory");
    let url = swarm.relay.url();
    let script = Arc::new(World::new());
    let mut register = script.c2c(&["relay", "register", "--alias", "cat"]);
    register.args(["--relay-url", &url, "--token", TOKEN]);
    run(register).ok();
    send(&swarm.a, "ann", "bob@machine-b", "hello");
    swarm.a.once();
    // A message arrives between the reading and the removal, and the answer to the latter is cut.
    let (at, by) = (url.clone(), Arc::clone(&script));
    swarm.proxy.at("/poll_inbox", When::Before, Then::Continue, move || {
        script_send(&at, &by, "too late");
    });
    swarm.proxy.at("/poll_inbox", When::After, Then::Cut, || {});
    run(swarm.b.connect(&["--once"])).fails_with("remote_unavailable");
    assert!(swarm.proxy.is_done());
    let report = swarm.b.once();
    assert!(report["errors"].to_string().contains("outcome_unknown"), "{report}");
    let rows = contents(&Value::Array(swarm.b.peek("bob")));
    assert_eq!(rows[0], "hello");
    assert!(rows[1].contains("may be lost"), "{rows:?}");
    let health = swarm.b.run("bob", &["health", "--json"]).ok().json();
    assert_eq!(health["possibly_lost"], 1);
    let status = ["relay", "status", "--relay-url", &swarm.proxy.url()];
    assert!(swarm.b.run("bob", &status).ok().out.contains("possibly lost"));
    // It is reported once, and what arrives next is received.
    script_send(&url, &script, "in time");
    let report = swarm.b.once();
    assert_eq!(report["errors"].as_array().map(Vec::len), Some(0), "{report}");
    assert_eq!(swarm.b.peek("bob").len(), 3);
}

fn a_send_without_an_answer_is_repeated_and_what_is_unknown_is_reported() {
    let swarm = Swarm::new("memory");
    let id = send(&swarm.a, "ann", "bob@machine-b", "once");
    swarm.proxy.at("/send", When::After, Then::Cut, || {});
    run(swarm.a.connect(&["--once"])).fails_with("remote_unavailable");
    swarm.settle();
    assert_eq!(contents(&Value::Array(swarm.b.peek("bob"))), ["once"]);
    let steps = trace(&swarm.a, "ann", &id);
    assert!(!steps.contains("outcome_unknown"), "the relay knew the id: {steps}");

    let swarm = Swarm::with(RelayProcess::with("memory", &["--rate-limit", "0"]));
    swarm.proxy.forget_ids();
    let id = send(&swarm.a, "ann", "bob@machine-b", "twice");
    swarm.proxy.at("/send", When::After, Then::Cut, || {});
    run(swarm.a.connect(&["--once"])).fails_with("remote_unavailable");
    swarm.settle();
    assert_eq!(contents(&Value::Array(swarm.b.peek("bob"))), ["twice", "twice"]);
    let steps = trace(&swarm.a, "ann", &id);
    assert!(steps.contains("unconfirmed: outcome_unknown"), "{steps}");
}

fn a_relay_that_has_replicated_is_not_joined_in_the_older_way() {
    let swarm = Swarm::new("memory");
    swarm.proxy.hide(false);
    swarm.settle();
    swarm.proxy.hide(true);
    send(&swarm.a, "ann", "bob@machine-b", "not to an older relay");
    let before = swarm.proxy.requests("/send").len();
    let failed = run(swarm.a.connect(&["--once"])).fails_with("upgrade_needed");
    assert!(failed.err.contains(&swarm.proxy.url()), "{}", failed.err);
    assert_eq!(swarm.proxy.requests("/send").len(), before);
    swarm.proxy.hide(false);
    swarm.settle();
    assert_eq!(contents(&Value::Array(swarm.b.peek("bob"))), ["not to an older relay"]);
}

fn an_updated_relay_is_used_for_replication_in_the_middle_of_traffic() {
    let mut swarm = Swarm::new("log").in_room();
    swarm.a.start();
    swarm.b.start();
    let texts: Vec<String> = (0..12).map(|number| format!("message {number}")).collect();
    for (at, text) in texts.iter().enumerate() {
        if at == 6 {
            swarm.proxy.hide(false);
        }
        swarm.send_all_ways(text);
    }
    for (machine, who) in [(&swarm.a, "ann"), (&swarm.b, "bob")] {
        machine.wait_for(who, 2 * texts.len());
    }
    swarm.proxy.wait_for("/pull", 2);
    swarm.a.kill();
    swarm.b.kill();
    swarm.send_all_ways("last");
    swarm.settle();
    let texts = [texts, vec!["last".into()]].concat();
    swarm.check(&texts, "the change to replication");
    for (machine, who) in [(&swarm.a, "ann"), (&swarm.b, "bob")] {
        let health = machine.run(who, &["health", "--json"]).ok().json();
        assert_eq!(health["outbox_depth"], 0, "{who}");
        assert_eq!(health["dead_letters"], 0, "{who}");
    }
}

fn requests_that_were_open_at_the_change_are_not_doubled() {
    for (path, when) in [
        ("/send", When::Before),
        ("/send", When::After),
        ("/send_room", When::After),
        ("/poll_inbox", When::Before),
        ("/poll_inbox", When::After),
    ] {
        let swarm = Swarm::new("log").in_room();
        let text = format!("{path} {when:?}");
        swarm.send_all_ways(&text);
        swarm.b.once();
        killed_at(&swarm.a, &swarm.proxy, path, when);
        swarm.proxy.hide(false);
        swarm.settle();
        swarm.check(std::slice::from_ref(&text), &text);
        let health = swarm.a.run("ann", &["health", "--json"]).ok().json();
        let is_lost = (path, when) == ("/poll_inbox", When::After);
        assert_eq!(health["possibly_lost"], u64::from(is_lost), "{text}");
    }
}

fn an_older_relay_that_lost_everything_gets_sessions_and_members_again() {
    let mut swarm = Swarm::new("memory").in_room();
    swarm.a.start();
    swarm.b.start();
    swarm.send_all_ways("before");
    for (machine, who) in [(&swarm.a, "ann"), (&swarm.b, "bob")] {
        machine.wait_for(who, 2);
    }
    let joins = swarm.proxy.requests("/join_room").len();
    swarm.relay.kill();
    swarm.relay.restart();
    swarm.proxy.wait_for("/join_room", joins + 2);
    swarm.send_all_ways("after");
    for (machine, who) in [(&swarm.a, "ann"), (&swarm.b, "bob")] {
        machine.wait_for(who, 4);
    }
    swarm.check(&["before".into(), "after".into()], "a relay that lost everything");
}

fn a_message_waits_while_an_older_relay_limits_requests() {
    let swarm = Swarm::new("memory");
    let id = send(&swarm.a, "ann", "bob@machine-b", "patience");
    swarm.proxy.at("/send", When::Before, Then::Limit, || {});
    let report = swarm.a.once();
    assert_eq!((&report["failed"], &report["bounced"]), (&1.into(), &0.into()), "{report}");
    swarm.settle();
    assert_eq!(contents(&Value::Array(swarm.b.peek("bob"))), ["patience"]);
    let steps = trace(&swarm.a, "ann", &id);
    assert!(!steps.contains("outcome_unknown"), "{steps}");
}

crate::harness::tests! {
    fast:
        direct_messages_and_rooms_pass_both_ways,
        two_agents_of_a_machine_each_receive_a_room_message_once_and_in_order,
        a_room_that_is_not_public_is_not_shared,
        a_member_that_leaves_receives_no_more_and_may_return,
        receipts_and_status_name_what_an_older_relay_does_not_promise,
        mail_for_an_unknown_alias_or_another_node_returns_to_its_sender,
        mail_is_recorded_before_the_relay_is_asked_to_remove_it,
        mail_in_an_answer_that_is_lost_is_reported_as_possibly_lost,
        a_send_without_an_answer_is_repeated_and_what_is_unknown_is_reported,
        a_relay_that_has_replicated_is_not_joined_in_the_older_way,
        a_message_waits_while_an_older_relay_limits_requests;
    slow:
        a_kill_of_the_connector_at_any_step_loses_and_doubles_nothing,
        a_kill_of_the_relay_at_any_step_loses_and_doubles_nothing,
        requests_that_were_open_at_the_change_are_not_doubled,
        an_older_relay_that_lost_everything_gets_sessions_and_members_again,
        an_updated_relay_is_used_for_replication_in_the_middle_of_traffic;
}
