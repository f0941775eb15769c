//! Execution and receipt of commands that end in a registration: register and rename.

use serde_json::json;

use super::context::Context;
use super::output;
use crate::error::Failure;
use c2c_core::command::Command;
use c2c_core::decide::Registered;

/// Runs a command that replies with a registration and prints the receipt, which begins with
/// `verb`.
pub fn register_and_print<C: Command<Reply = Registered>>(
    context: &mut Context,
    command: &C,
    verb: &str,
) -> Result<(), Failure> {
    let registered = context.broker.execute(command, &context.actor)?.reply;
    if context.common.json {
        let broker_id = context.broker.log_id()?.to_owned();
        let mut row = json!({
            "alias": registered.alias,
            "session_id": registered.session_id,
            "broker_id": broker_id,
            "redelivered": registered.redelivered,
        });
        if let Some(requested) = &registered.asked {
            row["asked"] = json!(requested);
        }
        return output::print_json(&row);
    }
    output::print(&format!("{}\n", receipt(&registered, verb)))
}

fn receipt(registered: &Registered, verb: &str) -> String {
    let mut line = format!("{verb} {} (session {})", registered.alias, registered.session_id);
    if let Some(requested) = &registered.asked {
        line.push_str(&format!("; '{requested}' is held by a live session"));
    }
    if registered.redelivered > 0 {
        line.push_str(&format!(" (redelivered {} dead letters)", registered.redelivered));
    }
    line
}
