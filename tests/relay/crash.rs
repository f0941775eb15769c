//! Kills of relays and connectors: every accepted message is delivered once and in order.

use std::collections::HashMap;

use super::{Machine, RelayProcess};
use crate::support::random::{Random, seed};

const MESSAGES: usize = 120;
/// The agents of each machine.
pub const AGENTS: [[&str; 2]; 2] = [["ann", "amy"], ["bob", "ben"]];

/// Two machines send to each other while the relay and the connectors are killed and restarted.
fn survives(storage: &'static str, default: u64) {
    let mut random = Random::new(seed("relay::crash", default));
    let mut relay = RelayProcess::start(storage);
    let mut machines = [Machine::new(&relay, "machine-a"), Machine::new(&relay, "machine-b")];
    machines[0].world.register(&["ann", "amy"]);
    machines[1].world.register(&["bob", "ben"]);
    for machine in &mut machines {
        machine.once();
        machine.start();
    }
    let mut expected: HashMap<&str, Vec<String>> = HashMap::new();
    for at in 0..MESSAGES {
        send_one(&machines, &mut random, at, &mut expected);
        match random.below(24) {
            0 => {
                relay.kill();
                relay.restart();
            }
            1 | 2 => {
                let which = random.below(2);
                machines[which].kill();
                machines[which].start();
            }
            _ => {}
        }
    }
    check(&mut machines, &mut expected, storage);
}

/// Sends message number `at` from a random agent to a random agent of the other machine.
pub fn send_one(
    machines: &[Machine; 2],
    random: &mut Random,
    at: usize,
    expected: &mut HashMap<&str, Vec<String>>,
) {
    let from = random.below(2);
    let (who, to) = (random.below(2), random.below(2));
    let (sender, recipient) = (AGENTS[from][who], AGENTS[1 - from][to]);
    let text = format!("{sender} {at}");
    let address = format!("{recipient}@{}", machines[1 - from].node);
    machines[from].run(sender, &["send", &address, &text]).ok();
    expected.entry(recipient).or_default().push(text);
}

/// Asserts that each mailbox contains every message once, in the order of its sender, and that
/// nothing waits, has bounced, or arrives a second time.
pub fn check(machines: &mut [Machine; 2], expected: &mut HashMap<&str, Vec<String>>, what: &str) {
    let sizes: HashMap<&str, usize> =
        expected.iter().map(|(who, texts)| (*who, texts.len())).collect();
    check_mailboxes(machines, expected, what);
    machines.iter_mut().for_each(Machine::kill);
    for _ in 0..3 {
        machines.iter().for_each(|machine| drop(machine.once()));
    }
    for (node, machine) in machines.iter().enumerate() {
        for who in AGENTS[node] {
            let here = machine.peek(who).len();
            assert_eq!(here, sizes.get(who).copied().unwrap_or_default(), "{what}: for {who}");
        }
        let health = machine.run(AGENTS[node][0], &["health", "--json"]).ok().json();
        assert_eq!((&health["outbox_depth"], &health["dead_letters"]), (&0.into(), &0.into()));
    }
    machines.iter_mut().for_each(Machine::start);
}

fn check_mailboxes(machines: &[Machine; 2], expected: &mut HashMap<&str, Vec<String>>, what: &str) {
    for (node, machine) in machines.iter().enumerate() {
        for who in AGENTS[node] {
            let sent = expected.remove(who).unwrap_or_default();
            let received = machine.wait_for(who, sent.len());
            for sender in AGENTS[1 - node] {
                let of = |texts: &[String]| -> Vec<String> {
                    let is_own = |text: &&String| text.split(' ').next() == Some(sender);
                    texts.iter().filter(is_own).cloned().collect()
                };
                assert_eq!(of(&received), of(&sent), "{what}: {sender} to {who}");
            }
        }
    }
}

fn kills_lose_and_duplicate_nothing_with_a_log() {
    survives("log", 1);
}

fn kills_lose_and_duplicate_nothing_with_sqlite() {
    survives("sqlite", 2);
}

fn kills_lose_and_duplicate_nothing_with_a_memory_store() {
    survives("memory", 3);
}

crate::harness::tests! {
    slow:
        kills_lose_and_duplicate_nothing_with_a_log,
        kills_lose_and_duplicate_nothing_with_sqlite,
        kills_lose_and_duplicate_nothing_with_a_memory_store;
}
