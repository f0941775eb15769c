//! The context of a command: shared options, broker root, broker and acting session.

use std::path::PathBuf;

use clap::{Args, Command};

use crate::broker::Broker;
use crate::env::actor;
use crate::env::root::{self, Root};
use crate::error::Failure;
use crate::present::diagnostics::note;
use c2c_core::code::Code;
use c2c_core::decide::{self, Actor, Rejection};
use c2c_core::state::Mailbox;

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

    /// Fails with `bad_root` if the root does not exist.
    pub(super) fn check_root_exists(&self) -> Result<(), Failure> {
        if self.root.path.is_dir() {
            return Ok(());
        }
        let message = format!("the broker root {} does not exist", self.root.path.display());
        Err(Rejection::new(Code::BadRoot, "broker_root", message)
            .hint("check the path, or list the roots: c2c list --everywhere")
            .into())
    }

    /// The mailbox that the command acts for. The broker must be up to date.
    pub(super) fn own_mailbox(&mut self) -> Result<Mailbox, Failure> {
        let held = self.broker.held_mailbox(&self.actor);
        held.map_err(|failure| self.with_root(failure))
    }

    /// The failure of a caller without a mailbox, with the root and the session that it names.
    pub(super) fn with_root(&self, failure: Failure) -> Failure {
        let has_general_hint = failure.hint() == decide::not_registered().hint;
        if failure.code() != Code::NotRegistered || !has_general_hint {
            return failure;
        }
        let root = self.root.path.display();
        let hint = "register an alias: c2c register --alias NAME";
        let (message, hint) = match &self.actor.session_id {
            Some(id) => (format!("session '{id}' is not registered in {root}"), hint.to_owned()),
            None => (
                format!("no session is named, and none is registered for this user in {root}"),
                format!("{hint}; or name a session: --session-id ID"),
            ),
        };
        Rejection::new(Code::NotRegistered, "session_id", message).hint(hint).into()
    }

    /// Prints what the caller should know about the identity that the command acted under.
    pub(super) fn report_identity(&self) {
        let note_about = |text: &str| note(&format!("note: {text}"));
        if self.broker.acts_as_user(&self.actor)
            && let (Some(id), Some(user)) = (&self.actor.session_id, &self.actor.fallback_alias)
            && self.broker.state().mailbox_for_alias(user).is_some()
        {
            note_about(&format!(
                "the client's session '{id}' is not registered here; acting as '{user}'. \
                 To register it: c2c register --alias NAME"
            ));
        } else if let Some(text) = self.broker.identity_note(&self.actor) {
            note_about(&text);
        }
    }

    /// Builds the definition of the complete command line, for completions and manual pages.
    pub(super) fn command_line(&self) -> Command {
        (self.command_line)()
    }
}
