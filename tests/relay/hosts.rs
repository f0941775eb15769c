//! Do the promises hold between hosts, over a network that delays, loses and parts?

use std::collections::HashMap;
use std::time::Duration;

use super::crash::{PEOPLE, chance, check};
use super::{Hub, Machine, Net};

const MESSAGES: usize = 1_000;

/// A thousand messages both ways, with everything that can happen to them.
fn holds(storage: &'static str, seed: u64) {
    let Some(net) = Net::make() else { return };
    let mut seed = seed;
    net.delay(Duration::from_millis(100));
    let mut hub = Hub::on(storage, &net);
    let mut machines = [Machine::on(&net, "a"), Machine::on(&net, "b")];
    for (machine, people) in machines.iter_mut().zip(PEOPLE) {
        machine.world.register(&people);
        machine.once();
        machine.start();
    }
    let mut lost = 0;
    let mut expected: HashMap<&str, Vec<String>> = HashMap::new();
    for at in 0..MESSAGES {
        let from = chance(&mut seed) as usize % 2;
        let (who, to) = (chance(&mut seed) as usize % 2, chance(&mut seed) as usize % 2);
        let (sender, recipient) = (PEOPLE[from][who], PEOPLE[1 - from][to]);
        let text = format!("{sender} {at}");
        let address = format!("{recipient}@{}", machines[1 - from].node);
        machines[from].run(sender, &["send", &address, &text]).ok();
        expected.entry(recipient).or_default().push(text);
        match at {
            100 => net.faults(5, None),
            300 => {
                lost += net.dropped();
                net.faults(0, Some("a"));
            }
            450 => {
                net.knock("a");
                assert!(net.dropped() > 0, "nobody was cut off");
                net.faults(5, None);
            }
            _ => {}
        }
        if at % 170 == 80 {
            hub.kill();
            hub.go_on();
        }
        if at % 130 == 60 {
            let which = chance(&mut seed) as usize % 2;
            machines[which].kill();
            machines[which].start();
        }
    }
    check(&machines, &mut expected, storage);
    assert!(lost + net.dropped() > 0, "nothing was lost");
    room(&machines);
}

/// Both join a room, and what one says the other hears, once.
fn room(machines: &[Machine; 2]) {
    machines[0].run("ann", &["rooms", "join", "den"]).ok();
    machines[0].once();
    machines[1].run("bob", &["rooms", "join", "den"]).ok();
    machines[1].once();
    let before = machines[1].peek("bob").len();
    machines[0].run("ann", &["rooms", "send", "den", "to all"]).ok();
    let texts = machines[1].wait_for("bob", before + 1);
    assert_eq!(texts.iter().filter(|text| *text == "to all").count(), 1);
}

#[test]
fn a_thousand_messages_between_hosts_with_a_log() {
    holds("log", 11);
}

#[test]
fn a_thousand_messages_between_hosts_with_sqlite() {
    holds("sqlite", 12);
}

#[test]
fn a_thousand_messages_between_hosts_with_a_relay_that_forgets() {
    holds("memory", 13);
}
