//! The `c2c wake` command, which wakes an idle session when mail arrives.

use std::io::IsTerminal;
use std::time::Duration;

use c2c_log_format::payload::Process;
use clap::Args;

use super::context::{Context, Run};
use super::output;
use crate::broker::{Broker, WakeMethod};
use crate::error::Failure;
use crate::platform::clock;
use crate::wake::{
    CodexCommand, MailSource, NudgeMethod, NudgeOutcome, NudgeSchedule, Reason, Terminal, TmuxPane,
    WaitingSession,
};
use c2c_core::code::Code;
use c2c_core::decide::{Actor, Rejection, check_alias};

#[derive(Args)]
#[command(
    after_help = "A nudge never contains a message: the woken session reads its mail itself.\n\
    COMMAND gets C2C_WAKE_ALIAS, C2C_WAKE_SESSION, C2C_WAKE_UNREAD and C2C_WAKE_TEXT in its environment.\n\n\
    Examples:\n  \
    c2c wake --alias gem --tmux agents:0.1  type into a tmux pane\n  \
    c2c wake --alias gem -- gemini          run gemini and type into it\n  \
    c2c wake --alias cod --codex            queue a turn in a Codex thread"
)]
pub struct Wake {
    /// Alias whose mail to watch [default: the alias of this session]
    #[arg(long, short = 'a', value_name = "ALIAS")]
    alias: Option<String>,
    /// Type into this tmux pane
    #[arg(long, value_name = "PANE", group = "method")]
    tmux: Option<String>,
    /// Queue a turn in the Codex thread that has the alias
    #[arg(long, group = "method")]
    codex: bool,
    /// Run this command in a shell
    #[arg(long, value_name = "COMMAND", group = "method")]
    command: Option<String>,
    /// Exit after the first nudge
    #[arg(long, short = '1', conflicts_with = "program")]
    once: bool,
    /// Exit after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = output::parse_seconds, conflicts_with = "program")]
    timeout: Option<Duration>,
    /// Type into PROGRAM only after this many seconds without input or output
    #[arg(long, value_name = "SECONDS", value_parser = output::parse_seconds, default_value = "2")]
    quiet: Duration,
    /// Run this program in a terminal and type into it
    #[arg(last = true, value_name = "PROGRAM", group = "method")]
    program: Vec<String>,
}

/// A method that this process itself starts for each nudge.
enum Method {
    Tmux(TmuxPane),
    Program(NudgeMethod),
}

impl Method {
    /// Nudges once. Fails if the session was not woken.
    fn nudge(
        &mut self,
        watch: &MailWatch,
        broker: &Broker,
        waiting: &WaitingSession,
    ) -> Result<(), Failure> {
        match self {
            Self::Program(program) => program.send(waiting),
            Self::Tmux(pane) => {
                let outcome = pane.nudge(watch.registered(broker))?;
                watch.record(broker, WakeMethod::Tmux, &outcome);
                match outcome {
                    NudgeOutcome::Woke => Ok(()),
                    NudgeOutcome::NotWoken(reason) => {
                        Err(Rejection::new(Code::NotWoken, "tmux", reason.to_string())
                            .hint(hint_for(&reason))
                            .into())
                    }
                }
            }
        }
    }
}

/// What the user can do about a nudge that woke nobody.
fn hint_for(reason: &Reason) -> &'static str {
    match reason {
        Reason::Shell(_) | Reason::ShellPrompt | Reason::OtherProgram(_) | Reason::Ended => {
            "start the agent in this pane, or name its pane"
        }
        Reason::Draft | Reason::PersonTyping | Reason::Changed => {
            "submit or clear the input line; the next nudge follows after a pause"
        }
        Reason::Dialog => "answer the dialog; the next nudge follows after a pause",
        Reason::Mode(_) => "leave that mode with q",
        Reason::Synchronized => "turn it off: tmux set-option -w synchronize-panes off",
        Reason::PaneGone | Reason::Hidden | Reason::NotShown | Reason::NotSubmitted => {
            "check that the pane shows the input line of the agent"
        }
    }
}

impl Run for Wake {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let mut watch = MailWatch::start(self.alias.clone(), context)?;
        if let Some((program, arguments)) = self.program.split_first() {
            let terminal = Terminal::start(program, arguments).map_err(|e| {
                let message = format!("{}: {e}", program.escape_default());
                Rejection::new(Code::InvalidArgument, "program", message)
            })?;
            let mut mail = TerminalMail { watch, broker: &mut context.broker };
            let status = terminal.run(self.quiet, &mut mail)?;
            return exit_like(status);
        }
        let mut method = match (self.tmux, self.codex, self.command) {
            (Some(pane), ..) => Method::Tmux(TmuxPane::new(pane)),
            (_, true, _) => Method::Program(NudgeMethod::Codex(CodexCommand::default())),
            (.., Some(command)) => Method::Program(NudgeMethod::Shell(command)),
            _ => return Err(output::usage_error("no --tmux, --codex, --command or -- PROGRAM")),
        };
        let deadline = self.timeout.map(|timeout| clock::monotonic() + timeout);
        context.broker.wait_until(deadline, |broker| {
            if let Some(waiting) = watch.is_due(broker)? {
                let result = method.nudge(&watch, broker, &waiting);
                match &result {
                    Ok(()) => output::note(&format!("woke {}", waiting.alias)),
                    // The next nudge follows after the usual pause.
                    Err(failure) => output::note(&not_woken(&waiting.alias, failure)),
                }
                if self.once {
                    return result.map(Some);
                }
            }
            Ok(None)
        })?;
        Ok(())
    }
}

/// The line about a nudge that failed.
fn not_woken(alias: &str, failure: &Failure) -> String {
    format!("not_woken {alias}: {}", failure.message())
}

/// The mail of the agent in the terminal that this process runs.
struct TerminalMail<'a> {
    watch: MailWatch,
    broker: &'a mut Broker,
}

impl MailSource for TerminalMail<'_> {
    fn is_due(&mut self) -> bool {
        // An error of the root must not end the program in the terminal.
        self.watch.is_due(self.broker).ok().flatten().is_some()
    }

    fn registered(&self) -> Option<Process> {
        self.watch.registered(self.broker)
    }

    fn report(&mut self, outcome: &NudgeOutcome) {
        self.watch.record(self.broker, WakeMethod::Terminal, outcome);
        // The program has the user's terminal.
        if !std::io::stderr().is_terminal() {
            let alias = &self.watch.alias;
            match outcome {
                NudgeOutcome::Woke => output::note(&format!("woke {alias}")),
                NudgeOutcome::NotWoken(reason) => {
                    output::note(&format!("not_woken {alias}: {reason}"));
                }
            }
        }
    }
}

/// Exits with the status of the program.
fn exit_like(status: std::process::ExitStatus) -> Result<(), Failure> {
    match status.code() {
        Some(0) => Ok(()),
        code => std::process::exit(code.unwrap_or(1)),
    }
}

/// The unread mail of one alias, and the nudges for it.
struct MailWatch {
    alias: String,
    actor: Actor,
    nudges: NudgeSchedule,
}

impl MailWatch {
    fn start(alias: Option<String>, context: &mut Context) -> Result<Self, Failure> {
        context.broker.refresh(&context.actor)?;
        let own = context.broker.own_mailbox(&context.actor).map(|mailbox| mailbox.alias.into());
        let alias = alias.or(own).ok_or_else(|| {
            Rejection::new(Code::NotRegistered, "alias", "this session has no alias to watch")
                .hint("pass --alias ALIAS")
        })?;
        check_alias("alias", &alias)?;
        Ok(Self { alias, actor: context.actor.clone(), nudges: NudgeSchedule::default() })
    }

    /// Returns the session to nudge if a nudge is due. An alias that is not registered has no mail.
    fn is_due(&mut self, broker: &mut Broker) -> Result<Option<WaitingSession>, Failure> {
        broker.refresh(&self.actor)?;
        let now_us = clock::now_us();
        let Some(mailbox) = broker.state().mailbox_for_alias(&self.alias) else { return Ok(None) };
        let unread = broker.state().unread(&mailbox.name);
        // Deferrable mail does not wake a session, and do-not-disturb holds all nudges.
        let pressing = unread.urgent_range().filter(|_| !mailbox.is_dnd(now_us));
        Ok(self.nudges.is_due(pressing, now_us).then(|| WaitingSession {
            alias: mailbox.alias.clone().into(),
            session_id: mailbox.session.clone().unwrap_or_default().into(),
            unread: unread.len(),
        }))
    }

    /// The process that registered the alias; `None` without evidence.
    fn registered(&self, broker: &Broker) -> Option<Process> {
        let mailbox = broker.state().mailbox_for_alias(&self.alias)?;
        broker.state().holder(&mailbox)?.process
    }

    /// Records a nudge. A root that cannot be written loses the record and nothing else.
    fn record(&self, broker: &Broker, by: WakeMethod, outcome: &NudgeOutcome) {
        let Some(mailbox) = broker.state().mailbox_for_alias(&self.alias) else { return };
        let outcome = match outcome {
            NudgeOutcome::Woke => Ok(()),
            NudgeOutcome::NotWoken(reason) => Err(reason.to_string()),
        };
        let _ = broker.record_wake(&mailbox.name, by, clock::now_us(), outcome);
    }
}
