//! How does a session hear of mail that its client shows only between steps, when there are none?
//!
//! Codex takes a turn for a thread from outside. Mail that its hooks have not shown within a few
//! seconds is announced that way; what is announced is never the mail.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::clock;
use crate::decide::Actor;
use crate::limits::{IDLE_S, WAKE_PAUSE_S_MAX};
use crate::wake::{Codex, Nudge, Nudges, Waiting};

/// Watches the mail of a thread from now on, until the process ends.
pub fn watch(root: &Path, actor: Actor) {
    let root = root.to_owned();
    let watching = move || {
        let nudge = Nudge::Codex(client());
        let mut watch = Watch { broker: Broker::open(&root), actor, seen: None };
        let mut nudges = Nudges::default();
        loop {
            let pulse = watch.broker.pulse();
            let left = watch.nudge_if_due(&nudge, &mut nudges);
            watch.broker.wait(pulse, left);
        }
    };
    // Without it mail waits for the next prompt.
    let _ = thread::Builder::new().name("idle".into()).spawn(watching);
}

/// The client that started this server: its environment is not ours.
fn client() -> Codex {
    let parent = PathBuf::from(format!("/proc/{}", parent_id()));
    let program = fs::read_link(parent.join("exe")).ok().filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("codex"))
    });
    let variables = fs::read(parent.join("environ")).unwrap_or_default();
    let home = variables.split(|byte| *byte == 0).find_map(|row| row.strip_prefix(b"CODEX_HOME="));
    Codex {
        program: program.unwrap_or_else(|| "codex".into()),
        home: home.map(|path| std::ffi::OsString::from_vec(path.to_vec()).into()),
    }
}

struct Watch {
    broker: Broker,
    actor: Actor,
    /// When the oldest unread message was seen first.
    seen: Option<(u64, Instant)>,
}

impl Watch {
    /// Nudges if it is time; how long to sleep at most.
    fn nudge_if_due(&mut self, nudge: &Nudge, nudges: &mut Nudges) -> Duration {
        let (now_us, idle) = (clock::now_us(), Duration::from_secs(IDLE_S));
        let waiting = self.waiting(now_us);
        let pressing = waiting.as_ref().map(|(_, pressing)| *pressing);
        self.seen = pressing.map(|(oldest, _)| match self.seen {
            Some((known, since)) if known == oldest => (known, since),
            _ => (oldest, Instant::now()),
        });
        let Some((waiting, (_, since))) = waiting.map(|(who, _)| who).zip(self.seen) else {
            nudges.is_due(None, now_us);
            return Duration::from_secs(WAKE_PAUSE_S_MAX);
        };
        if since.elapsed() < idle {
            return idle - since.elapsed();
        }
        if nudges.is_due(pressing, now_us)
            && let Err(failure) = nudge.give(&waiting)
        {
            eprintln!("c2c: wake of {}: {}", waiting.alias, failure.message());
        }
        let next_us = nudges.next_us().unwrap_or_default();
        Duration::from_micros(next_us.saturating_sub(now_us)).max(idle)
    }

    /// Who has mail that does not wait for the next poll, and which.
    fn waiting(&mut self, now_us: u64) -> Option<(Waiting, (u64, u64))> {
        self.broker.look(&self.actor).ok()?;
        let mailbox = self.broker.own_mailbox(&self.actor).filter(|row| !row.is_dnd(now_us))?;
        let unread = self.broker.state().unread(&mailbox.name);
        let waiting = Waiting {
            alias: mailbox.alias.clone(),
            session_id: self.actor.session_id.clone()?,
            unread: unread.len(),
        };
        Some((waiting, unread.pressing()?))
    }
}
