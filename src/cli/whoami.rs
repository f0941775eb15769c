//! `c2c whoami`: show this session's alias and id.

use clap::Args;
use serde_json::json;

use super::context::{Context, Run};
use super::output;
use crate::error::Failure;
use c2c_core::address::Address;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c whoami\n  c2c whoami --json")]
pub struct Whoami {}

impl Run for Whoami {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.refresh(&context.actor)?;
        let mailbox = context.own_mailbox()?;
        let own = || context.actor.session_id.as_ref().map(ToString::to_string);
        let session_id = mailbox.session.clone().map(Into::into).or_else(own).unwrap_or_default();
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
