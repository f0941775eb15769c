//! `c2c whoami`: show this session's alias and id.

use clap::Args;
use serde_json::json;

use super::context::{Context, Run};
use super::output;
use crate::error::Failure;
use c2c_core::address::Address;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c whoami\n  c2c whoami --json")]
pub struct Whoami {}

impl Run for Whoami {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.refresh(&context.actor)?;
        let Some(mailbox) = context.broker.held_mailbox(&context.actor)? else {
            return Err(not_registered(context));
        };
        let session_id = mailbox.session.clone().unwrap_or_default();
        if context.common.json {
            let node_id = crate::env::actor::complete(&context.actor, &context.root.path).node_id;
            let broker_id = context.broker.log_id()?.to_owned();
            return output::print_json(&json!({
                "session_id": session_id,
                "alias": mailbox.alias,
                "canonical_alias": Address::on(&mailbox.alias, &node_id).to_string(),
                "former_aliases": mailbox.former,
                "broker_root": context.root.path,
                "broker_root_reason": context.root.reason,
                "broker_id": broker_id,
            }));
        }
        output::print(&format!("alias:      {}\nsession_id: {session_id}\n", mailbox.alias))
    }
}

fn not_registered(context: &Context) -> Failure {
    let actor =
        crate::broker::liveness::without_accidental_session(context.broker.state(), &context.actor);
    let hint = match &actor.session_id {
        Some(id) => {
            format!("session '{id}' has no alias yet: c2c register --alias NAME")
        }
        None => "run c2c register --alias NAME, or set C2C_MCP_SESSION_ID".to_owned(),
    };
    Rejection::new(Code::NotRegistered, "session_id", "this session is not registered")
        .hint(hint)
        .into()
}
