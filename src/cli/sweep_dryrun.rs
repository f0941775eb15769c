//! `c2c sweep-dryrun`: show what a sweep would do.

use clap::Args;

use super::context::{Context, Run};
use super::sweep::SweepArgs;
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c sweep-dryrun")]
pub struct SweepDryRun {}

impl Run for SweepDryRun {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        SweepArgs::dry_run().run(context)
    }
}
