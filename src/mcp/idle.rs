//! How does a session hear of mail that its client shows only between steps, when there are none?
//!
//! Codex takes a turn for a thread from outside. Mail that its hooks have not shown within a few
//! seconds is announced that way, once; what is announced is never the mail.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use c2c_log_format::Sequence;

use super::push;
use crate::broker::Broker;
use crate::clock;
use crate::decide::Actor;
use crate::diagnosis::note;
use crate::failure::Failure;
use crate::limits::IDLE_S;
use crate::wake::{Codex, Nudge, Nudges, Waiting};

/// After a failed look, and at most between two looks at what may have been replaced.
const LOOK_SOON: Duration = Duration::from_secs(1);

/// Watches the mail of a thread from now on, until the process ends.
pub fn watch(root: &Path, actor: Actor) {
    let broker = Broker::open(root);
    let mut watch = Watch { broker, actor, seen: None, announced: 0, failures: Nudges::default() };
    let watching = move || loop {
        let pulse = watch.broker.pulse();
        match watch.nudge_if_due() {
            Ok(left) => watch.broker.wait(pulse, left),
            // The root is gone, or being replaced.
            Err(_) => thread::sleep(LOOK_SOON),
        }
    };
    // Without it mail waits for the next prompt.
    let _ = thread::Builder::new().name("idle".into()).spawn(watching);
}

/// The client that started this server, as it is now: its environment is not ours.
fn client() -> Codex {
    let parent = PathBuf::from(format!("/proc/{}", parent_id()));
    let is_codex = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        // One that was replaced since has no such file any more.
        path.is_file() && name.to_string_lossy().starts_with("codex")
    };
    let program = fs::read_link(parent.join("exe")).ok().filter(is_codex);
    let variables = fs::read(parent.join("environ")).unwrap_or_default();
    let named = |name: &str| {
        let mut rows = variables.split(|byte| *byte == 0);
        let value = rows.find_map(|row| row.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        Some((name.to_owned(), OsString::from_vec(value?.to_vec())))
    };
    Codex {
        program: program.unwrap_or_else(|| "codex".into()),
        places: ["CODEX_HOME", "CODEX_SQLITE_HOME"].into_iter().filter_map(named).collect(),
    }
}

struct Watch {
    broker: Broker,
    actor: Actor,
    /// When the oldest unread message was seen first.
    seen: Option<(Sequence, Instant)>,
    /// A turn is queued for everything up to here: Codex keeps it until the thread can take it.
    announced: Sequence,
    /// Pauses between turns that could not be queued.
    failures: Nudges,
}

impl Watch {
    /// Nudges if it is time; how long to sleep at most.
    fn nudge_if_due(&mut self) -> Result<Duration, Failure> {
        let now_us = clock::now_us();
        self.broker.look(&self.actor)?;
        let quiet = push::quiet_time(&self.broker, &self.actor);
        let mailbox = self.broker.own_mailbox(&self.actor);
        let Some(mailbox) = mailbox.filter(|row| !row.is_dnd(now_us)) else { return Ok(quiet) };
        let unread = self.broker.state().unread(&mailbox.name);
        let pressing = unread.pressing().filter(|(oldest, _)| *oldest > self.announced);
        let Some((oldest, newest)) = pressing else {
            self.seen = None;
            return Ok(quiet);
        };
        let since = match self.seen {
            Some((known, since)) if known == oldest => since,
            _ => Instant::now(),
        };
        self.seen = Some((oldest, since));
        let left = Duration::from_secs(IDLE_S).saturating_sub(since.elapsed());
        if !left.is_zero() {
            return Ok(left);
        }
        // Whatever is being shown at this moment needs no turn.
        if !self.broker.has_pressing_mail(&mailbox) {
            return Ok(LOOK_SOON);
        }
        if !self.failures.is_due(pressing, now_us) {
            return Ok(quiet.min(Duration::from_secs(IDLE_S)));
        }
        let (alias, session_id) = (mailbox.alias, self.actor.session_id.clone());
        let session_id = session_id.unwrap_or_default();
        let waiting = Waiting { alias, session_id, unread: unread.len() };
        match Nudge::Codex(client()).give(&waiting) {
            Ok(()) => {
                self.announced = newest;
                self.failures = Nudges::default();
            }
            Err(failure) => note(&format!("c2c: wake of {}: {}", waiting.alias, failure.message())),
        }
        Ok(quiet.min(Duration::from_secs(IDLE_S)))
    }
}
