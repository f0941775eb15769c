//! What is in a log? The operator's tool: it reads files and, but for `repair` and `import`,
//! writes none.

mod archive;
mod files;
mod inspect;
mod render;
mod repair;
mod state;
mod stats;
mod transfer;
mod verify;

use crate::diagnosis::note;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Exit status: what was found.
pub const CLEAN: u8 = 0;
pub const TORN: u8 = 1;
pub const CORRUPT: u8 = 2;
pub const UNREADABLE: u8 = 3;

/// Inspects, verifies and replays the event log of a c2c broker
#[derive(Parser)]
#[command(name = "c2c-log", version)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

/// Which log.
#[derive(Args, Clone)]
pub struct Place {
    /// Broker root, log directory, or a relay's SQLite file; without it, the root for this directory
    root: Option<PathBuf>,
    /// Broker root, spelt as for c2c
    #[arg(long, value_name = "DIR", conflicts_with = "root")]
    broker_root: Option<PathBuf>,
}

#[derive(Subcommand)]
enum What {
    /// Show events
    Inspect(inspect::Inspect),
    /// Check every byte: checksums, chain, sequences, and checkpoints against a replay
    Verify(verify::Verify),
    /// Count events by kind and alias, over time
    Stats(stats::Stats),
    /// Tell the whole life of one message
    Trace(state::Trace),
    /// What was known at a sequence or a time: who was registered, what was pending
    State(state::StateAt),
    /// Set damage aside and go on
    Repair(repair::Repair),
    /// Move old segments away; all that is pending stays
    Archive(archive::Archive),
    /// Write all events as JSON lines
    Export(transfer::Export),
    /// Read such lines into a new, empty root
    Import(transfer::Import),
}

/// Why a command could not do its work.
pub enum Trouble {
    /// Nothing to read, or not readable.
    Unreadable(String),
    /// The reader of our output is gone: no failure.
    OutputClosed,
}

/// How a command ends.
pub type Ended = Result<u8, Trouble>;

/// Runs a command line, the program's name first; answers with the exit status.
pub fn main(words: impl IntoIterator<Item = std::ffi::OsString>) -> u8 {
    let ended = match Cli::parse_from(words).what {
        What::Inspect(command) => command.run(),
        What::Verify(command) => command.run(),
        What::Stats(command) => command.run(),
        What::Trace(command) => command.run(),
        What::State(command) => command.run(),
        What::Repair(command) => command.run(),
        What::Archive(command) => command.run(),
        What::Export(command) => command.run(),
        What::Import(command) => command.run(),
    };
    match ended {
        Ok(status) => status,
        Err(Trouble::OutputClosed) => CLEAN,
        Err(Trouble::Unreadable(message)) => {
            note(&format!("error: {message}"));
            UNREADABLE
        }
    }
}
