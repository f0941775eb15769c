//! c2c: a message broker for AI coding agents. `docs/architecture.md` has the overview.
//!
//! To use c2c from a program, open a [`mailbox::AgentMailbox`]. The other modules are public so that the
//! binaries, tests and benches can use them; their interface is not stable. The command line, the MCP
//! tools and the log format are stable.
// Only `platform` and `log` have exceptions.
#![deny(unsafe_code)]

pub mod broker;
pub mod cli;
pub mod env;
pub mod error;
pub mod legacy;
pub mod log;
pub mod log_tool;
pub mod mailbox;
pub mod mcp;
pub mod platform;
pub mod present;
#[cfg(feature = "relay")]
pub mod relay;
pub mod setup;
pub mod store;
pub mod wake;
