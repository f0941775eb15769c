//! The last nudges of an agent, as `list` and `status` show them.

use serde_json::{Map, Value, json};

use crate::broker::{Broker, FailedWake, ProvenWake};
use crate::platform::clock;
use crate::present::envelope::for_terminal;
use c2c_core::view::AgentView;

/// Adds the key `wake` to the row of an agent that `c2c wake` has nudged.
pub fn add_to(row: &mut Value, broker: &Broker, agent: &AgentView) {
    let record = broker.wake_record(&agent.mailbox.name);
    let mut wake = Map::new();
    if let Some(ProvenWake { at_us, by }) = record.proven {
        wake.insert("woken_at".into(), json!(clock::rfc3339(at_us)));
        wake.insert("woken_by".into(), json!(by.name()));
    }
    if let Some(FailedWake { at_us, by, reason }) = record.failed {
        wake.insert("not_woken_at".into(), json!(clock::rfc3339(at_us)));
        wake.insert("not_woken_by".into(), json!(by.name()));
        wake.insert("reason".into(), json!(reason));
    }
    if !wake.is_empty() {
        row["wake"] = Value::Object(wake);
    }
}

/// The column about nudges in the row of an agent; empty if there was none.
pub fn column(broker: &Broker, agent: &AgentView) -> String {
    let record = broker.wake_record(&agent.mailbox.name);
    let mut text = String::new();
    if let Some(ProvenWake { at_us, by }) = record.proven {
        text.push_str(&format!("  woken {} by {}", clock::human(at_us, false), by.name()));
    }
    if let Some(FailedWake { at_us, reason, .. }) = record.failed {
        let at = clock::human(at_us, false);
        text.push_str(&format!("  not_woken {at}: {}", for_terminal(&reason)));
    }
    text
}
