//! `c2c relay restore`.

use clap::Args;
use serde_json::json;

use super::{Target, node_id, speaker};
use crate::cli::{Context, Run, output};
use crate::code::Code;
use crate::connector;
use crate::decide::Refusal;
use crate::failure::Failure;

#[derive(Args)]
pub struct Restore {
    /// Log to restore; the one that grew last when left out
    #[arg(long, value_name = "LOG_ID")]
    log: Option<String>,
    /// Alias of that node to ask as
    #[arg(long, value_name = "ALIAS")]
    alias: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl Run for Restore {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, settings) = self.target.client(context)?;
        let alias = speaker(self.alias.as_deref(), &client, context)?;
        let alias = alias.ok_or_else(|| {
            let refusal = Refusal::new(Code::InvalidArgument, "alias", "nobody to ask as");
            Failure::from(refusal.hint("pass --alias, one that this key had on that node"))
        })?;
        let (node, root) = (node_id(&settings), context.broker.root().to_owned());
        let restored = connector::restore(&client, &node, &alias, self.log.as_deref(), &root)?;
        let mut broker = crate::broker::Broker::open(&root);
        broker.look(&context.actor)?;
        let (new, events) = (broker.log_id()?.to_owned(), broker.state().head);
        let damaged = broker.health()?.damage.len().max(restored.broken);
        if context.common.json {
            output::say_json(&json!({
                "ok": damaged == 0,
                "broker_root": root,
                "node_id": node,
                "log": restored.log,
                "new_log": new,
                "segments": restored.segments,
                "bytes": restored.bytes,
                "events": events,
                "damaged_ranges": damaged,
            }))?;
            return broken(damaged);
        }
        let mut text = format!(
            "restored {}: {events} events in {} segments, {} bytes\n",
            root.display(),
            restored.segments,
            restored.bytes
        );
        text.push_str(&format!("copy of log {}, goes on as {new}\n", restored.log));
        output::say(&text)?;
        broken(damaged)
    }
}

/// The rest is there and can be used; that something is missing must not pass for success.
fn broken(damaged: usize) -> Result<(), Failure> {
    if damaged == 0 {
        return Ok(());
    }
    let message = format!("the copy has {damaged} damaged ranges; what could be read is restored");
    Err(Failure::Told(Refusal::new(Code::Corrupt, "log", message).hint("c2c-log verify")))
}
