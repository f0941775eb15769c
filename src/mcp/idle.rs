//! Waking an idle Codex thread that has mail.
//!
//! Codex shows mail only between the steps of a turn, through its hooks. Codex also accepts a turn for
//! a thread from outside. Mail that the hooks have not shown within a few seconds is announced with
//! such a turn, once. The announcement never contains the mail.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use c2c_log_format::Sequence;

use super::resources;
use crate::broker::{Broker, CancelFlag, Check};
use crate::env::{CODEX_HOME, CODEX_SQLITE_HOME};
use crate::error::Failure;
use crate::platform::clock;
use crate::platform::process;
use crate::present::diagnostics::note;
use crate::wake::{CodexCommand, NudgeMethod, NudgeSchedule, WaitingSession};
use c2c_core::decide::Actor;
use c2c_core::limits::IDLE_NOTICE_AFTER_S;

/// Pause after a failed check, and before mail that is being shown is checked again.
const RECHECK_SOON: Duration = Duration::from_secs(1);

/// Variables that locate the files of a Codex installation.
const CODEX_VARIABLES: [&str; 2] = [CODEX_HOME.name, CODEX_SQLITE_HOME.name];

/// Watches the mail of a Codex thread on a separate thread, until the process ends.
pub fn watch(root: &Path, actor: Actor) {
    let mut broker = Broker::open(root);
    let mut watch =
        MailWatch { actor, first_seen: None, announced: 0, failures: NudgeSchedule::default() };
    let watching = move || {
        broker.wait_with(None, &CancelFlag::default(), |broker| {
            // An error: the root is missing or is being replaced.
            let pause = watch.nudge_if_due(broker).unwrap_or(RECHECK_SOON);
            Ok(Check::<Infallible>::Again(pause))
        })
    };
    // If no thread can be started, mail waits for the next prompt.
    let _ = thread::Builder::new().name("idle".into()).spawn(watching);
}

/// The Codex that started this server. Its environment may differ from the one of this process.
fn parent_codex() -> CodexCommand {
    let parent = process::parent_pid();
    let is_codex = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("codex"))
    };
    CodexCommand {
        program: process::executable(parent).filter(is_codex).unwrap_or_else(|| "codex".into()),
        variables: process::environment(parent, &CODEX_VARIABLES),
    }
}

struct MailWatch {
    actor: Actor,
    /// The oldest unread message, and when it was first seen.
    first_seen: Option<(Sequence, Instant)>,
    /// A turn is queued for all mail up to this sequence; Codex keeps it until the thread is free.
    announced: Sequence,
    /// Pauses after turns that could not be queued.
    failures: NudgeSchedule,
}

impl MailWatch {
    /// Queues a turn if one is due, and returns how long to sleep at most.
    fn nudge_if_due(&mut self, broker: &mut Broker) -> Result<Duration, Failure> {
        let now_us = clock::now_us();
        broker.refresh(&self.actor)?;
        let pause = resources::next_wakeup(broker, &self.actor);
        let mailbox = broker.own_mailbox(&self.actor);
        let Some(mailbox) = mailbox.filter(|row| !row.is_dnd(now_us)) else { return Ok(pause) };
        let unread = broker.state().unread(&mailbox.name);
        let pressing = unread.urgent_range().filter(|(oldest, _)| *oldest > self.announced);
        let Some((oldest, newest)) = pressing else {
            self.first_seen = None;
            return Ok(pause);
        };
        let since = match self.first_seen {
            Some((sequence, since)) if sequence == oldest => since,
            _ => clock::monotonic(),
        };
        self.first_seen = Some((oldest, since));
        let left = Duration::from_secs(IDLE_NOTICE_AFTER_S).saturating_sub(clock::since(since));
        if !left.is_zero() {
            return Ok(left);
        }
        // Mail that is being shown at this moment needs no turn.
        if !broker.has_pressing_mail(&mailbox) {
            return Ok(RECHECK_SOON);
        }
        if !self.failures.is_due(pressing, now_us) {
            return Ok(pause.min(Duration::from_secs(IDLE_NOTICE_AFTER_S)));
        }
        let waiting = WaitingSession {
            alias: mailbox.alias.into(),
            session_id: self.actor.session_id.clone().unwrap_or_default().into(),
            unread: unread.len(),
        };
        match NudgeMethod::Codex(parent_codex()).send(&waiting) {
            Ok(()) => {
                self.announced = newest;
                self.failures = NudgeSchedule::default();
            }
            Err(failure) => {
                note(&format!("c2c: cannot wake {}: {}", waiting.alias, failure.message()));
            }
        }
        Ok(pause.min(Duration::from_secs(IDLE_NOTICE_AFTER_S)))
    }
}
