//! Command-line arguments that name a log.

use std::path::{Path, PathBuf};

use clap::Args;

/// Names the log that a command works on.
#[derive(Args, Clone)]
pub struct LogLocation {
    /// Read this broker root, log directory, or relay SQLite file [default: the root for this directory]
    root: Option<PathBuf>,
    /// Read this broker root (same option as in c2c)
    #[arg(long, value_name = "DIR", conflicts_with = "root")]
    broker_root: Option<PathBuf>,
}

impl LogLocation {
    /// The path given on the command line.
    pub fn path(&self) -> Option<&Path> {
        self.root.as_deref().or(self.broker_root.as_deref())
    }
}
