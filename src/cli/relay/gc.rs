//! The `c2c relay gc` command.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::target::RelayTarget;
use super::text::lines_for_terminal;
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;
use crate::relay::protocol::response;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c relay gc --once          run once and exit\n  \
    c2c relay gc --interval 600  run every 10 minutes")]
pub struct RelayGc {
    /// Run once and exit
    #[arg(long)]
    once: bool,
    /// Time between two runs
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = output::parse_seconds)]
    interval: Duration,
    /// Show the expired leases
    #[arg(long, short = 'v')]
    verbose: bool,
    #[command(flatten)]
    target: RelayTarget,
}

impl Run for RelayGc {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, _) = self.target.client(context)?;
        loop {
            let collected: Result<response::GcResponse, Failure> =
                client.post("/gc", &json!({}), None).map_err(Failure::from);
            match collected {
                Ok(collected) => self.print(&collected, context.common.json)?,
                Err(failure) if self.once => return Err(failure),
                // The relay may respond next time.
                Err(failure) => output::note(&format!("gc: {}", failure.message())),
            }
            if self.once {
                return Ok(());
            }
            std::thread::sleep(self.interval.max(Duration::from_secs(1)));
        }
    }
}

impl RelayGc {
    fn print(&self, collected: &response::GcResponse, as_json: bool) -> Result<(), Failure> {
        if as_json {
            return output::print(&output::json_line(&json!({
                "ok": true,
                "expired_leases": collected.expired_leases,
                "pruned_inboxes": collected.pruned_inboxes,
            })));
        }
        let (leases, inboxes) = (collected.expired_leases.len(), collected.pruned_inboxes);
        let mut text = format!("gc: {leases} leases expired, {inboxes} inboxes pruned\n");
        if self.verbose {
            text.extend(collected.expired_leases.iter().map(|name| format!("  expired: {name}\n")));
        }
        output::print(&lines_for_terminal(&text))
    }
}
