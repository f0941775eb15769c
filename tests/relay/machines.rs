//! Mail between agents on different machines.

use super::{Machine, RelayProcess, pair};
use crate::support::contents;

const STORES: [&str; 3] = ["memory", "log", "sqlite"];

fn a_message_and_its_reply_are_delivered_between_machines() {
    for storage in STORES {
        let relay = RelayProcess::start(storage);
        let (a, b) = pair(&relay);
        a.run("ann", &["send", "bob@machine-b", "hello"]).ok();
        assert_eq!(a.once()["forwarded"], 1, "{storage}");
        assert_eq!(b.once()["inbound"], 1, "{storage}");
        let rows = b.run("bob", &["poll-inbox", "--json"]).ok().json();
        assert_eq!(contents(&rows), ["hello"]);
        let shown = rows[0]["from_alias"].as_str().expect("a sender").to_owned();
        assert_eq!(shown, "ann@machine-a");
        b.run("bob", &["send", &shown, "and back"]).ok();
        b.once();
        a.once();
        assert_eq!(a.world.poll("ann"), ["and back"]);
        // The receipts have arrived: nothing waits, is dead or is delivered twice.
        b.once();
        for machine in [&a, &b] {
            machine.once();
            let health = machine.run("ann", &["health", "--json"]).ok().json();
            assert_eq!((&health["outbox_depth"], &health["dead_letters"]), (&0.into(), &0.into()));
        }
        assert_eq!(b.world.poll("bob"), [""; 0]);
    }
}

fn a_bare_alias_and_the_name_of_the_relay_reach_the_other_machine() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    a.once();
    for (to, text) in [("bob", "bare"), ("bob@relay", "by the relay"), ("bob@machine-a", "own")] {
        a.run("ann", &["send", to, text]).ok();
    }
    a.once();
    b.once();
    assert_eq!(b.world.poll("bob"), ["bare", "by the relay", "own"]);
}

fn mail_for_an_alias_that_a_node_lacks_bounces_and_reaches_no_other_node() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    let c = Machine::new(&relay, "machine-c");
    c.world.register(&["cyd"]);
    c.once();
    a.run("ann", &["send", "bob@machine-c", "for nobody"]).ok();
    a.once();
    b.once();
    c.once();
    assert_eq!(b.world.poll("bob"), [""; 0]);
    let bounces = a.world.poll("ann");
    assert_eq!(bounces.len(), 1);
    let bounce = &bounces[0];
    assert!(bounce.contains("unknown_alias") && bounce.contains("bob@machine-c"), "{bounce}");
    let letters = a.run("ann", &["dead-letter", "--json"]).ok().json();
    assert_eq!(letters.as_array().map(Vec::len), Some(1));
}

fn two_nodes_may_have_the_same_alias() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    let c = Machine::new(&relay, "machine-c");
    c.world.register(&["bob"]);
    c.once();
    a.once();
    a.run("ann", &["send", "bob@machine-c", "to the second"]).ok();
    a.run("ann", &["send", "bob@machine-b", "to the first"]).ok();
    a.run("ann", &["send", "bob@relay", "to the bare one"]).ok();
    a.once();
    b.once();
    c.once();
    assert_eq!(b.world.poll("bob"), ["to the first", "to the bare one"]);
    assert_eq!(c.world.poll("bob"), ["to the second"]);
}

fn a_message_for_a_host_that_connects_later_waits_for_it() {
    let relay = RelayProcess::start("log");
    let (a, _b) = pair(&relay);
    a.run("ann", &["send", "cyd@machine-c", "early"]).ok();
    let tick = a.once();
    assert_eq!((&tick["forwarded"], &tick["bounced"]), (&0.into(), &0.into()), "{tick}");
    let c = Machine::new(&relay, "machine-c");
    c.world.register(&["cyd"]);
    c.once();
    a.once();
    c.once();
    assert_eq!(c.world.poll("cyd"), ["early"]);
}

fn a_room_has_one_history_on_all_machines() {
    let relay = RelayProcess::start("log");
    let (a, b) = pair(&relay);
    a.run("ann", &["rooms", "join", "den"]).ok();
    a.once();
    b.run("bob", &["rooms", "join", "den"]).ok();
    for machine in [&b, &a, &b] {
        machine.once();
    }
    a.run("ann", &["rooms", "send", "den", "one"]).ok();
    b.run("bob", &["rooms", "send", "den", "two"]).ok();
    for machine in [&a, &b, &a] {
        machine.once();
    }
    assert_eq!(a.world.poll("ann"), ["two"]);
    assert_eq!(b.world.poll("bob"), ["one"]);
    let history = |machine: &Machine, who: &str| {
        let rows = machine.run(who, &["rooms", "history", "den", "--json"]).ok().json();
        contents(&rows)
    };
    // In the order in which they reached the relay.
    assert_eq!(history(&a, "ann"), ["one", "two"]);
    assert_eq!(history(&b, "bob"), ["one", "two"]);
}

fn running_connectors_deliver_mail_immediately() {
    let relay = RelayProcess::start("log");
    let (mut a, mut b) = pair(&relay);
    a.start();
    b.start();
    for at in 0..20 {
        a.run("ann", &["send", "bob@machine-b", &format!("m{at}")]).ok();
    }
    let texts = b.wait_for("bob", 20);
    assert_eq!(texts, (0..20).map(|at| format!("m{at}")).collect::<Vec<_>>());
    let cyd = "cyd";
    b.world.register(&[cyd]);
    b.run(cyd, &["send", "ann@machine-a", "from a new one"]).ok();
    assert_eq!(a.wait_for("ann", 1), ["from a new one"]);
}

crate::harness::tests! {
    fast:
        a_message_and_its_reply_are_delivered_between_machines,
        a_bare_alias_and_the_name_of_the_relay_reach_the_other_machine,
        mail_for_an_alias_that_a_node_lacks_bounces_and_reaches_no_other_node,
        two_nodes_may_have_the_same_alias,
        a_message_for_a_host_that_connects_later_waits_for_it,
        a_room_has_one_history_on_all_machines,
        running_connectors_deliver_mail_immediately;
}
