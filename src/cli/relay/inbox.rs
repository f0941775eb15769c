//! Taking mail from a relay without a connector.

use serde_json::json;

use crate::cli::context::Context;
use crate::cli::output;
use crate::error::Failure;
use crate::platform::clock;
use crate::present::envelope::for_terminal;
use crate::relay::client::RelayClient;
use crate::relay::protocol::request;
use crate::relay::protocol::response;

/// The session of an alias that uses the relay only through the command line.
pub fn session_id(alias: &str) -> String {
    format!("cli-{alias}")
}

/// The alias of such a session.
pub fn alias_of(session_id: &str) -> Option<&str> {
    session_id.strip_prefix("cli-")
}

/// Takes all mail of a session. Confirms a batch only after it was printed.
pub fn take_mail(
    client: &RelayClient,
    node: &str,
    session: &str,
    alias: &str,
    context: &Context,
) -> Result<(), Failure> {
    let mut confirm = None;
    let mut count = 0;
    loop {
        let request = request::PollRequest {
            node_id: node.to_owned(),
            session_id: session.to_owned(),
            drain_id: Some(uuid::Uuid::now_v7().to_string()),
            confirm: confirm.take(),
            ..request::PollRequest::default()
        };
        let inbox: response::PollResponse = client.post("/poll_inbox", &request, Some(alias))?;
        if context.common.json {
            if count == 0 || !inbox.messages.is_empty() {
                output::print(&output::json_line(
                    &json!({ "ok": true, "messages": inbox.messages }),
                ))?;
            }
        } else {
            let rows = inbox.messages.iter().map(|row| {
                let when = clock::human(row.ts.us, context.common.utc);
                let (from, body) = (for_terminal(&row.from_alias), for_terminal(&row.content));
                format!("[{when}] {from}: {body}\n")
            });
            output::print(&rows.collect::<String>())?;
        }
        count += inbox.messages.len();
        if inbox.messages.is_empty() {
            break;
        }
        confirm = inbox.drain_id;
    }
    if count == 0 && !context.common.json {
        return output::print("(no messages)\n");
    }
    Ok(())
}
