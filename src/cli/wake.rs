//! `c2c wake`: a session that does nothing is nudged when it has mail.

use std::time::{Duration, Instant};

use clap::Args;

use super::{Context, Run, output};
use crate::broker::Broker;
use crate::clock;
use crate::code::Code;
use crate::decide::{Actor, Refusal};
use crate::failure::Failure;
use crate::wake::{Codex, Nudge, Nudges, Terminal, Waiting};

/// Even without a message it looks again: a nudge may be due once more.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Args)]
#[command(
    after_help = "A nudge never holds a message: whoever is woken reads it with poll_inbox.\n\
    A COMMAND finds C2C_WAKE_ALIAS, C2C_WAKE_SESSION, C2C_WAKE_UNREAD and C2C_WAKE_TEXT in its environment."
)]
pub struct Wake {
    /// Whose mail to watch [default: this session's]
    #[arg(long, short = 'a', value_name = "ALIAS")]
    alias: Option<String>,
    /// Type into this pane of tmux
    #[arg(long, value_name = "PANE", group = "way")]
    tmux: Option<String>,
    /// Queue a turn in the Codex thread that has the alias
    #[arg(long, group = "way")]
    codex: bool,
    /// Run this by the shell
    #[arg(long, value_name = "COMMAND", group = "way")]
    command: Option<String>,
    /// End after the first nudge
    #[arg(long, short = '1', conflicts_with = "program")]
    once: bool,
    /// End after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = output::seconds, conflicts_with = "program")]
    timeout: Option<Duration>,
    /// Type into PROGRAM only when nothing was typed or shown for this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = output::seconds, default_value = "2")]
    quiet: Duration,
    /// Run this program in a terminal, and type into it
    #[arg(last = true, value_name = "PROGRAM", group = "way")]
    program: Vec<String>,
}

impl Run for Wake {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let mut watch = Watch::begin(self.alias.clone(), context)?;
        if let Some((program, words)) = self.program.split_first() {
            let terminal = Terminal::start(program, words).map_err(|e| {
                let message = format!("{}: {e}", program.escape_default());
                Refusal::new(Code::InvalidArgument, "program", message)
            })?;
            let broker = &mut context.broker;
            // Trouble with the root must not end the program in the terminal.
            let mut is_due = || watch.is_due(broker).ok().flatten().is_some();
            let status = terminal.run(self.quiet, &mut is_due).map_err(Failure::Output)?;
            return ended(status);
        }
        let nudge = match (self.tmux, self.codex, self.command) {
            (Some(pane), ..) => Nudge::Tmux(pane),
            (_, true, _) => Nudge::Codex(Codex::default()),
            (.., Some(command)) => Nudge::Shell(command),
            _ => return Err(output::usage("say how: --tmux, --codex, --command, or -- PROGRAM")),
        };
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let pulse = context.broker.pulse();
            if let Some(waiting) = watch.is_due(&mut context.broker)? {
                let given = nudge.give(&waiting);
                match &given {
                    Ok(()) => output::note(&format!("woke {}", waiting.alias)),
                    // The next one comes after its pause, as if this one had not helped.
                    Err(failure) => output::note(&format!("c2c wake: {}", failure.message())),
                }
                if self.once {
                    return given;
                }
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(());
            }
            context.broker.wait(pulse, left.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN));
        }
    }
}

/// Ends as the program did.
fn ended(status: std::process::ExitStatus) -> Result<(), Failure> {
    match status.code() {
        Some(0) => Ok(()),
        code => std::process::exit(code.unwrap_or(1)),
    }
}

/// The mail of one alias, as it waits.
struct Watch {
    alias: String,
    actor: Actor,
    nudges: Nudges,
}

impl Watch {
    fn begin(alias: Option<String>, context: &mut Context) -> Result<Self, Failure> {
        context.broker.look(&context.actor)?;
        let own = context.broker.own_mailbox(&context.actor).map(|mailbox| mailbox.alias);
        let alias = alias.or(own).ok_or_else(|| {
            Refusal::new(Code::NotRegistered, "alias", "this session has no alias to watch")
                .hint("name one: --alias ALIAS")
        })?;
        c2c_log_format::id::check_alias(&alias)
            .map_err(|e| Refusal::new(Code::InvalidAlias, "alias", format!("alias {e}")))?;
        Ok(Self { alias, actor: context.actor.clone(), nudges: Nudges::default() })
    }

    /// Who is to be nudged, if it is due. An alias that nobody has yet has no mail.
    fn is_due(&mut self, broker: &mut Broker) -> Result<Option<Waiting>, Failure> {
        broker.look(&self.actor)?;
        let now_us = clock::now_us();
        let Some(mailbox) = broker.state().mailbox_of(&self.alias) else { return Ok(None) };
        let unread = broker.state().unread(&mailbox.name);
        // What may wait does not wake, and who wants quiet is left alone.
        let pressing = unread.pressing().filter(|_| !mailbox.is_dnd(now_us));
        Ok(self.nudges.is_due(pressing, now_us).then(|| Waiting {
            alias: mailbox.alias.clone(),
            session_id: mailbox.session.clone().unwrap_or_default(),
            unread: unread.len(),
        }))
    }
}
