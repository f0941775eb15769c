//! Tests of the programs through their front ends, and of the source tree: the only binary of
//! integration tests.

mod cli;
mod clients;
mod fixtures;
mod harness;
mod liveness;
mod mcp;
#[cfg(feature = "relay")]
mod relay;
mod support;
mod tidy;
mod tool;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(&tests())
}

harness::tests! {
    modules: cli, clients, fixtures, liveness, mcp, #[cfg(feature = "relay")] relay, tidy, tool;
}
