//! `c2c ack`: acknowledge a manual claim.

use c2c_log_format::payload::AckLevel;
use clap::Args;
use serde_json::json;

use super::context::{Context, Run};
use super::output;
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c poll-inbox --manual      prints the id of the claim\n  \
    c2c ack CLAIM")]
pub struct Ack {
    /// Id of the claim, as printed by `poll-inbox --manual`
    claim: String,
}

impl Run for Ack {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.ack(&context.actor, &self.claim, AckLevel::AckedByAgent)?;
        if context.common.json {
            return output::print_json(&json!({ "ok": true, "claim": self.claim }));
        }
        output::print(&format!("acked {}\n", self.claim))
    }
}
