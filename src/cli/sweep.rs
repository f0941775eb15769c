//! `c2c sweep`: end sessions whose process has exited.

use clap::Args;

use super::context::{Context, Run};
use super::output;
use crate::error::Failure;
use crate::present::json_view;
use c2c_core::command;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c sweep --dry-run\n  c2c sweep")]
pub struct SweepArgs {
    /// Show the changes without making them
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Accepted for compatibility; has no effect
    #[arg(long, short = 'f')]
    force: bool,
}

impl SweepArgs {
    /// A sweep that changes nothing.
    pub fn dry_run() -> Self {
        Self { dry_run: true, force: false }
    }
}

impl Run for SweepArgs {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let plan = if self.dry_run {
            context.broker.plan_sweep(&context.actor)?
        } else {
            let plan = context.broker.execute(&command::Sweep, &context.actor)?.reply;
            context.broker.remove_old_wake_files();
            plan
        };
        if context.common.json {
            return output::print_json(&json_view::sweep(&plan));
        }
        let (sessions, messages) = (plan.dropped.len(), plan.preserved);
        let verb = if self.dry_run { "Would drop" } else { "Dropped" };
        output::print(&format!(
            "{verb} {sessions} registrations, {sessions} inboxes, {messages} messages preserved.\n"
        ))
    }
}
