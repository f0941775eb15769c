//! `c2c trace`: show a message's history.

use clap::Args;
use serde_json::{Value, json};

use super::context::{Context, Run};
use super::output;
use crate::error::Failure;
use crate::platform::clock;
use crate::present::envelope::for_terminal;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;
use c2c_core::view::MessageTrace;

/// Beginnings of the hop texts that prove that a message was shown.
const SHOWN: [&str; 3] = ["written", "read by client", "acked"];

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c trace 01a1ff4f-1851-7272-8213-3923367d9ce8")]
pub struct Trace {
    /// Id of the message
    message_id: String,
}

impl Run for Trace {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.refresh(&context.actor)?;
        let traces = context.broker.trace(&self.message_id)?;
        if traces.is_empty() {
            let message = format!("this log has no record of message '{}'", self.message_id);
            return Err(Rejection::new(Code::UnknownMessage, "message_id", message)
                .hint("check that this is the right broker root: c2c health")
                .into());
        }
        if context.common.json {
            let rows: Vec<_> = traces.iter().filter_map(trace_row).collect();
            return output::print_json(&json!(rows));
        }
        let utc = context.common.utc;
        output::print(&traces.iter().map(|trace| trace_text(trace, utc)).collect::<String>())
    }
}

fn is_shown(trace: &MessageTrace) -> bool {
    trace.hops.iter().any(|hop| SHOWN.iter().any(|level| hop.what.starts_with(level)))
}

fn trace_row(trace: &MessageTrace) -> Option<Value> {
    let sent = &trace.message.as_ref()?.sent;
    let hops = trace.hops.iter().map(|hop| {
        json!({
            "sequence": hop.sequence,
            "ts": clock::rfc3339(hop.time_us),
            "what": hop.what,
            "who": hop.who,
        })
    });
    Some(json!({
        "message_id": sent.message_id,
        "from_alias": sent.from,
        "to_alias": sent.to,
        "hops": hops.collect::<Vec<_>>(),
        "shown": is_shown(trace),
        "in_outbox": trace.open_since_us.is_some(),
        "unconfirmed": trace.is_unconfirmed(),
    }))
}

fn trace_text(trace: &MessageTrace, utc: bool) -> String {
    let Some(message) = &trace.message else { return String::new() };
    let sent = &message.sent;
    let title = format!("{} {} -> {}", sent.message_id, sent.from, sent.to);
    let mut text = format!("{}\n", for_terminal(&title));
    for hop in &trace.hops {
        let time = clock::human(hop.time_us, utc);
        let line = format!("  {:>8}  {time}  {}  {}", hop.sequence, hop.what, hop.who);
        text.push_str(&format!("{}\n", for_terminal(&line)));
    }
    if !is_shown(trace) {
        text.push_str("            no evidence that it was shown\n");
    }
    if let Some(since_us) = trace.open_since_us {
        let since = clock::human(since_us, utc);
        let status = if trace.is_unconfirmed() { "unconfirmed" } else { "pending" };
        text.push_str(&format!("            {status}: in the outbox since {since}\n"));
    }
    text
}
