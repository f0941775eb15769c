//! `c2c-log`, the operator's tool for the event log.
//!
//! Only `repair`, `archive` and `import` write files.

mod archive;
mod exit;
mod files;
mod filter;
mod inspect;
mod location;
mod render;
mod repair;
mod state;
mod stats;
mod trace;
mod transfer;
mod verify;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use crate::present::diagnostics::note;
use exit::{CLEAN, FAILED, ToolError};

/// Inspect, verify and replay the event log of a c2c broker
#[derive(Parser)]
#[command(name = "c2c-log", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: ToolCommand,
}

const EXAMPLES: &str = "\
Examples:
  c2c-log inspect -n 20              show the last 20 events
  c2c-log verify                     check the log of this directory's root
  c2c-log trace MESSAGE_ID           show a message's history
  c2c-log COMMAND --help             show the options and examples of a command";

#[derive(Subcommand)]
enum ToolCommand {
    /// Show events
    Inspect(inspect::InspectArgs),
    /// Check every byte: checksums, chain, sequences, and checkpoints against a replay
    Verify(verify::VerifyArgs),
    /// Count events by kind and sender, and over time
    Stats(stats::StatsArgs),
    /// Show a message's history
    Trace(trace::TraceArgs),
    /// Show agents, rooms and pending mail at a sequence or time
    State(state::StateArgs),
    /// Accept damage and continue in a new segment
    Repair(repair::RepairArgs),
    /// Move old segments out of the log, except those with pending messages
    Archive(archive::ArchiveArgs),
    /// Write events as JSON lines
    Export(transfer::ExportArgs),
    /// Create a log from exported JSON lines
    Import(transfer::ImportArgs),
}

/// Runs a command line, which starts with the program name; returns the exit status.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let result = match Cli::parse_from(arguments).command {
        ToolCommand::Inspect(command) => command.run(),
        ToolCommand::Verify(command) => command.run(),
        ToolCommand::Stats(command) => command.run(),
        ToolCommand::Trace(command) => command.run(),
        ToolCommand::State(command) => command.run(),
        ToolCommand::Repair(command) => command.run(),
        ToolCommand::Archive(command) => command.run(),
        ToolCommand::Export(command) => command.run(),
        ToolCommand::Import(command) => command.run(),
    };
    match result {
        Ok(status) => status,
        Err(ToolError::OutputClosed) => CLEAN,
        Err(ToolError::Failed(message)) => {
            note(&format!("error: {message}"));
            FAILED
        }
    }
}
