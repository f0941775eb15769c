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
    check(&mut machines, &mut expected, storage);
    assert!(lost + net.dropped() > 0, "nothing was lost");
    room(&machines);
}

/// All join a room, and what each says all others hear, once, here and there.
fn room(machines: &[Machine; 2]) {
    for (machine, people) in machines.iter().zip(PEOPLE) {
        for who in people {
            machine.run(who, &["rooms", "join", "den"]).ok();
        }
        machine.once();
    }
    machines.iter().for_each(|machine| drop(machine.once()));
    let all = || machines.iter().zip(PEOPLE);
    let before: HashMap<&str, usize> = all()
        .flat_map(|(machine, people)| people.map(|who| (who, machine.peek(who).len())))
        .collect();
    for (machine, people) in all() {
        for who in people {
            machine.run(who, &["rooms", "send", "den", &format!("to all from {who}")]).ok();
        }
    }
    for (machine, people) in all() {
        for who in people {
            let texts = machine.wait_for(who, before[who] + 3);
            for from in PEOPLE.as_flattened() {
                let text = format!("to all from {from}");
                let heard = texts.iter().filter(|one| **one == text).count();
                assert_eq!(heard, usize::from(*from != who), "{who} of {from}");
            }
        }
    }
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
