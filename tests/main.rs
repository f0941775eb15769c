//! Do the programs keep their promises? The only integration-test binary.

mod cli;
mod clients;
mod fixtures;
mod liveness;
mod mcp;
mod model;
#[cfg(feature = "relay")]
mod relay;
mod support;
mod swarm;
mod tidy;
mod tool;
