//! `c2c my-rooms`: list the rooms this session is in.

use clap::Args;

use super::context::{Context, Run};
use super::rooms;
use crate::error::Failure;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c my-rooms\n  c2c my-rooms --json")]
pub struct MyRooms {}

impl Run for MyRooms {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        rooms::list(context, true)
    }
}
