//! The `c2c relay restore` command.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::target::{RelayTarget, node_id, signing_alias};
use crate::broker::Broker;
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;
use crate::relay::client;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c relay restore --node-id laptop --alias ann --broker-root /new/root")]
pub struct RelayRestore {
    /// Id of the log to restore [default: the most recently extended one]
    #[arg(long, value_name = "LOG_ID")]
    log: Option<String>,
    /// Alias of the lost node that signs the requests
    #[arg(long, value_name = "ALIAS")]
    alias: Option<String>,
    #[command(flatten)]
    target: RelayTarget,
}

impl Run for RelayRestore {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, settings) = self.target.client(context)?;
        let alias = signing_alias(self.alias.as_deref(), &client, context)?;
        let alias = alias.ok_or_else(|| {
            let message = "no alias to sign the requests with";
            Rejection::new(Code::InvalidArgument, "alias", message)
                .hint("pass an alias that this key owned on the node: --alias ALIAS")
        })?;
        let node = node_id(&settings, context);
        let root = context.broker.root().to_owned();
        let restored = client::restore(&client, &node, &alias, self.log.as_deref(), &root)?;
        let mut broker = Broker::open(&root);
        broker.refresh(&context.actor)?;
        let new_log = broker.log_id()?.to_owned();
        let events = broker.state().head;
        let damaged = broker.health()?.damage.len().max(restored.broken);
        if context.common.json {
            output::print_json(&json!({
                "ok": damaged == 0,
                "broker_root": root,
                "node_id": node,
                "log": restored.log,
                "new_log": new_log,
                "segments": restored.segments,
                "bytes": restored.bytes,
                "events": events,
                "damaged_ranges": damaged,
            }))?;
        } else {
            output::print(&format!(
                "restored {}: {events} events in {} segments, {} bytes\n\
                 copy of log {}; it continues under the log id {new_log}\n",
                root.display(),
                restored.segments,
                restored.bytes,
                restored.log
            ))?;
        }
        check_damage(damaged, &root)
    }
}

/// Fails if the copy is damaged. Everything else was restored and can be used.
fn check_damage(damaged: usize, root: &Path) -> Result<(), Failure> {
    if damaged == 0 {
        return Ok(());
    }
    let message =
        format!("the copy has {damaged} damaged ranges; everything readable was restored");
    Err(Failure::AlreadyReported(
        Rejection::new(Code::Corrupt, "log", message)
            .hint(format!("list the damage: c2c-log verify {}", root.display())),
    ))
}
