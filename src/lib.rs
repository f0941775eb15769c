//! c2c: a message broker for AI coding agents. See `docs/architecture.md` for the map.
//!
//! The library is public so that the binaries, tests and benches can reach it; its interface is not
//! stable. Stable are the command line, the MCP tools and the log format.

pub mod actor;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod code;
#[cfg(feature = "relay")]
pub mod connector;
pub mod decide;
pub mod diagnosis;
pub mod envelope;
pub mod failure;
pub mod files;
#[cfg(feature = "relay")]
pub mod identity;
pub mod limits;
pub mod log;
pub mod log_tool;
pub mod mcp;
pub mod mirror;
#[cfg(feature = "relay")]
pub mod relay;
#[cfg(feature = "relay")]
pub mod replication;
pub mod root;
pub mod setup;
pub mod shape;
pub mod state;
pub mod store;
pub mod time;
pub mod wake;
#[cfg(feature = "relay")]
pub mod wire;
