//! How does a session that does nothing hear of mail?
//!
//! By an empty file of its own under the root, which its client watches. It is touched once the mail
//! is on disk, for the first message that nobody has read; then not again for a while, because a
//! client that is rung all the time waits for quiet.

use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use c2c_log_format::Payload;
use c2c_log_format::id::check_name;
use c2c_log_format::payload::Target;

use super::Broker;
use crate::clock;
use crate::limits::{DOORBELL_S, WAKE_PAUSE_S_MIN};
use crate::mirror;

/// Directory of the doorbells under a broker root.
const DIRECTORY: &str = "doorbells";

/// A session to tell of mail, once that is on disk.
#[derive(Debug)]
pub(super) struct Ring {
    session_id: String,
    /// Nothing else waits for it.
    first: bool,
}

impl Broker {
    fn doorbell(&self, session_id: &str) -> Option<PathBuf> {
        check_name(session_id).ok().map(|()| self.root.join(DIRECTORY).join(session_id))
    }

    /// Makes the doorbell of a session; the file for its client to watch.
    pub fn hang_doorbell(&self, session_id: &str) -> io::Result<PathBuf> {
        mirror::check_root(&self.root).map_err(|_| io::ErrorKind::InvalidInput)?;
        let path = self.doorbell(session_id).ok_or(io::ErrorKind::InvalidInput)?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        Ok(path)
    }

    /// Who is to be told of these events; to be asked before they are applied.
    pub(super) fn rings(&self, events: &[Payload]) -> Vec<Ring> {
        let sends =
            |event: &Payload| matches!(event, Payload::MessageSent(sent) if !sent.deferrable);
        if self.relay.is_some() || !events.iter().any(sends) || !self.root.join(DIRECTORY).exists()
        {
            return Vec::new();
        }
        let now_us = clock::now_us();
        let ring = |name: &str| {
            let mailbox = self.state.mailboxes.get(name).filter(|row| !row.is_dnd(now_us))?;
            let session_id = mailbox.session?;
            // What may wait has rung for nobody.
            Some(Ring { session_id, first: self.state.unread(name).pressing().is_none() })
        };
        let mut rings = Vec::new();
        for event in events {
            let Payload::MessageSent(sent) = event else { continue };
            match &sent.target {
                _ if sent.deferrable => {}
                Target::Mailbox(mailbox) => rings.extend(ring(mailbox)),
                Target::Room { room_id, skipped, .. } => {
                    let members = self.state.members_of(room_id).into_iter().map(|(name, _)| name);
                    let others = members
                        .filter(|name| *name != sent.from_mailbox && !skipped.contains(name));
                    rings.extend(others.filter_map(|name| ring(&name)));
                }
                Target::Outbox { .. } | Target::DeadLetter { .. } => {}
            }
        }
        rings
    }

    /// Rings. Who has no doorbell is not told, and what goes wrong fails nobody.
    pub(super) fn ring(&self, rings: &[Ring]) {
        for ring in rings {
            if let Some(path) = self.doorbell(&ring.session_id) {
                let _ = touch(&path, ring.first);
            }
        }
    }

    /// Takes away doorbells of sessions that never registered and have not rung for long.
    pub fn take_down_old_doorbells(&self) {
        let now = UNIX_EPOCH + Duration::from_micros(clock::now_us());
        for entry in fs::read_dir(self.root.join(DIRECTORY)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let rang = entry.metadata().and_then(|found| found.modified()).ok();
            let age = rang.and_then(|rang| now.duration_since(rang).ok()).unwrap_or_default();
            if self.state.sessions.get(&name).is_none() && age.as_secs() > DOORBELL_S {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Takes away doorbells of sessions that are no more.
    pub(super) fn take_down_doorbells(&self, events: &[Payload]) {
        for event in events {
            if let Payload::SessionEnded(fact) = event
                && let Some(path) = self.doorbell(&fact.session_id)
            {
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn touch(path: &Path, first: bool) -> io::Result<()> {
    let file = File::options().append(true).open(path)?;
    let now = UNIX_EPOCH + Duration::from_micros(clock::now_us());
    let rang = file.metadata()?.modified()?;
    let pause = Duration::from_secs(WAKE_PAUSE_S_MIN);
    if first || now.duration_since(rang).map_or(true, |since| since >= pause) {
        file.set_times(FileTimes::new().set_modified(now))?;
    }
    Ok(())
}
