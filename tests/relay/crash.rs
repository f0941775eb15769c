//! Is every accepted message delivered exactly once, in order, whatever is killed in between?

use std::collections::HashMap;

use super::{Hub, Machine};

const MESSAGES: usize = 120;
/// Who is on which machine.
pub const PEOPLE: [[&str; 2]; 2] = [["ann", "amy"], ["bob", "ben"]];

/// Numbers that look random and are the same each time.
pub fn chance(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// Two machines send to each other while the relay and the connectors are killed and come back.
fn survives(storage: &'static str, seed: u64) {
    let mut seed = seed;
    let mut hub = Hub::start(storage);
    let mut machines = [Machine::new(&hub, "machine-a"), Machine::new(&hub, "machine-b")];
    machines[0].world.register(&["ann", "amy"]);
    machines[1].world.register(&["bob", "ben"]);
    for machine in &mut machines {
        machine.once();
        machine.start();
    }
    let mut expected: HashMap<&str, Vec<String>> = HashMap::new();
    for at in 0..MESSAGES {
        let from = chance(&mut seed) as usize % 2;
        let (who, to) = (chance(&mut seed) as usize % 2, chance(&mut seed) as usize % 2);
        let (sender, recipient) = (PEOPLE[from][who], PEOPLE[1 - from][to]);
        let text = format!("{sender} {at}");
        let address = format!("{recipient}@{}", machines[1 - from].node);
        machines[from].run(sender, &["send", &address, &text]).ok();
        expected.entry(recipient).or_default().push(text);
        match chance(&mut seed) % 24 {
            0 => {
                hub.kill();
                hub.go_on();
            }
            1 | 2 => {
                let which = chance(&mut seed) as usize % 2;
                machines[which].kill();
                machines[which].start();
            }
            _ => {}
        }
    }
    check(&mut machines, &mut expected, storage);
}

/// What each agent was sent is in its mailbox once, in the order of each sender, and stays so: nothing
/// waits any more, nothing came back, and what is still on its way is no second copy.
pub fn check(machines: &mut [Machine; 2], expected: &mut HashMap<&str, Vec<String>>, what: &str) {
    let sizes: HashMap<&str, usize> =
        expected.iter().map(|(who, texts)| (*who, texts.len())).collect();
    arrived(machines, expected, what);
    machines.iter_mut().for_each(Machine::kill);
    for _ in 0..3 {
        machines.iter().for_each(|machine| drop(machine.once()));
    }
    for (node, machine) in machines.iter().enumerate() {
        for who in PEOPLE[node] {
            let here = machine.peek(who).len();
            assert_eq!(here, sizes.get(who).copied().unwrap_or_default(), "{what}: for {who}");
        }
        let health = machine.run(PEOPLE[node][0], &["health", "--json"]).ok().json();
        assert_eq!((&health["outbox_depth"], &health["dead_letters"]), (&0.into(), &0.into()));
    }
    machines.iter_mut().for_each(Machine::start);
}

fn arrived(machines: &[Machine; 2], expected: &mut HashMap<&str, Vec<String>>, what: &str) {
    for (node, machine) in machines.iter().enumerate() {
        for who in PEOPLE[node] {
            let wanted = expected.remove(who).unwrap_or_default();
            let came = machine.wait_for(who, wanted.len());
            for sender in PEOPLE[1 - node] {
                let of = |texts: &[String]| -> Vec<String> {
                    let mine = |text: &&String| text.split(' ').next() == Some(sender);
                    texts.iter().filter(mine).cloned().collect()
                };
                assert_eq!(of(&came), of(&wanted), "{what}: {sender} to {who}");
            }
        }
    }
}

#[test]
fn nothing_is_lost_or_doubled_with_a_log() {
    survives("log", 1);
}

#[test]
fn nothing_is_lost_or_doubled_with_sqlite() {
    survives("sqlite", 2);
}

#[test]
fn nothing_is_lost_or_doubled_when_the_relay_forgets_everything() {
    survives("memory", 3);
}
