//! Mail and rooms between network namespaces that delay, lose and cut traffic.

use std::collections::HashMap;
use std::time::Duration;

use super::crash::{AGENTS, check, send_one};
use super::{Machine, Net, RelayProcess};
use crate::support::random::{Random, seed};

const MESSAGES: usize = 1_000;

/// Sends a thousand messages both ways, with delays, losses, a cut, kills and restarts.
fn messages_arrive(storage: &'static str, default: u64) {
    let net = Net::create();
    let mut random = Random::new(seed("relay::hosts", default));
    net.delay(Duration::from_millis(100));
    let mut relay = RelayProcess::on(storage, &net);
    let mut machines = [Machine::on(&net, "a"), Machine::on(&net, "b")];
    for (machine, agents) in machines.iter_mut().zip(AGENTS) {
        machine.world.register(&agents);
        machine.once();
        machine.start();
    }
    let mut lost = 0;
    let mut expected: HashMap<&str, Vec<String>> = HashMap::new();
    for at in 0..MESSAGES {
        send_one(&machines, &mut random, at, &mut expected);
        match at {
            100 => net.faults(5, None),
            300 => {
                lost += net.dropped();
                net.faults(0, Some("a"));
            }
            450 => {
                net.knock("a");
                assert!(net.dropped() > 0, "the cut dropped no packet");
                net.faults(5, None);
            }
            _ => {}
        }
        if at % 170 == 80 {
            relay.kill();
            relay.restart();
        }
        if at % 130 == 60 {
            let which = random.below(2);
            machines[which].kill();
            machines[which].start();
        }
    }
    check(&mut machines, &mut expected, storage);
    assert!(lost + net.dropped() > 0, "nothing was lost");
    room(&machines);
}

/// All agents join a room; each receives every message of the others once.
fn room(machines: &[Machine; 2]) {
    for (machine, agents) in machines.iter().zip(AGENTS) {
        for who in agents {
            machine.run(who, &["rooms", "join", "den"]).ok();
        }
        machine.once();
    }
    machines.iter().for_each(|machine| drop(machine.once()));
    let all = || machines.iter().zip(AGENTS);
    let before: HashMap<&str, usize> = all()
        .flat_map(|(machine, agents)| agents.map(|who| (who, machine.peek(who).len())))
        .collect();
    for (machine, agents) in all() {
        for who in agents {
            machine.run(who, &["rooms", "send", "den", &format!("to all from {who}")]).ok();
        }
    }
    for (machine, agents) in all() {
        for who in agents {
            let texts = machine.wait_for(who, before[who] + 3);
            for from in AGENTS.as_flattened() {
                let text = format!("to all from {from}");
                let copies = texts.iter().filter(|one| **one == text).count();
                assert_eq!(copies, usize::from(*from != who), "{who} of {from}");
            }
        }
    }
}

fn a_thousand_messages_between_hosts_arrive_with_a_log() {
    messages_arrive("log", 11);
}

fn a_thousand_messages_between_hosts_arrive_with_sqlite() {
    messages_arrive("sqlite", 12);
}

fn a_thousand_messages_between_hosts_arrive_with_a_memory_store() {
    messages_arrive("memory", 13);
}

crate::harness::tests! {
    slow:
        a_thousand_messages_between_hosts_arrive_with_a_log,
        a_thousand_messages_between_hosts_arrive_with_sqlite,
        a_thousand_messages_between_hosts_arrive_with_a_memory_store;
}
