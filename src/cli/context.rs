//! The context of a command: shared options, broker root, broker and acting session.

use std::path::PathBuf;

use clap::{Args, Command};

use crate::broker::Broker;
use crate::env::actor;
use crate::env::root::{self, Root};
use crate::error::Failure;
use c2c_core::decide::Actor;

/// Options that every command accepts.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Common {
    /// Use this broker root instead of the one for the current directory
    #[arg(long, visible_alias = "root", value_name = "DIR")]
    pub(super) broker_root: Option<PathBuf>,
    /// Print one JSON value
    #[arg(long, short = 'j')]
    pub(super) json: bool,
    /// Act as this session
    #[arg(long, short = 's', value_name = "ID")]
    pub(super) session_id: Option<String>,
    /// Show times in UTC
    #[arg(long)]
    pub(super) utc: bool,
}

/// One command: its arguments and its implementation.
pub trait Run: Args {
    fn run(self, context: &mut Context) -> Result<(), Failure>;
}

/// State that every command works with.
pub struct Context {
    pub(super) common: Common,
    pub(super) root: Root,
    pub(super) broker: Broker,
    pub(super) actor: Actor,
    command_line: fn() -> Command,
}

impl Context {
    /// Resolves the root and the acting session. `command_line` builds the definition of the
    /// complete command line.
    pub(super) fn new(common: Common, command_line: fn() -> Command) -> Result<Self, Failure> {
        let directory = std::env::current_dir().ok();
        let actor = actor::resolve(common.session_id.as_deref(), directory.as_deref());
        let hint = actor::session_hint(&actor);
        let root =
            root::resolve(common.broker_root.as_deref(), directory.as_deref(), hint.as_slice())?;
        let broker = Broker::open_found(&root);
        Ok(Self { common, root, broker, actor, command_line })
    }

    /// Builds the definition of the complete command line, for completions and manual pages.
    pub(super) fn command_line(&self) -> Command {
        (self.command_line)()
    }
}
