//! Wake files ("doorbells"): empty files that the clients of idle sessions watch.
//!
//! Each session has its own file under the root. It is touched once the mail is on disk, for the
//! first unread message, and then not again for a while: some clients wait until the file has been
//! quiet before they react.

use std::fs::{self, File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use c2c_log_format::Payload;
use c2c_log_format::id::check_name;
use c2c_log_format::payload::Target;

use super::Broker;
use crate::legacy;
use crate::platform::clock;
use crate::platform::fs::{create_private_directory, give_to_owner_of, private_options};
use c2c_core::limits::{WAKE_FILE_RETENTION_S, WAKE_PAUSE_S_MIN};
use c2c_core::state::is_history;

/// Directory of the wake files under a broker root.
const DIRECTORY: &str = "doorbells";

/// A session to notify of mail, once that is on disk.
#[derive(Debug)]
pub(super) struct MailNotice {
    session_id: String,
    /// Whether no other mail is unread.
    is_first: bool,
}

/// # Wake files
impl Broker {
    fn wake_file(&self, session_id: &str) -> Option<PathBuf> {
        check_name(session_id).ok().map(|()| self.root.join(DIRECTORY).join(session_id))
    }

    /// Creates the wake file of a session and returns its path, for the client to watch.
    pub fn create_wake_file(&self, session_id: &str) -> io::Result<PathBuf> {
        if let Some(claim) = &self.claim {
            claim.record_all(&self.root);
        }
        legacy::create_or_check_root(&self.root).map_err(|_| io::ErrorKind::InvalidInput)?;
        let path = self.wake_file(session_id).ok_or(io::ErrorKind::InvalidInput)?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        create_private_directory(directory)?;
        let file = private_options().create(true).append(true).open(&path)?;
        give_to_owner_of(directory, &file)?;
        Ok(path)
    }

    /// The sessions to notify of these events. Must be called before the events are applied.
    pub(super) fn mail_notices(&self, events: &[Payload]) -> Vec<MailNotice> {
        let notifies = |event: &Payload| matches!(event, Payload::MessageSent(sent) if !sent.deferrable && !is_history(sent));
        if self.relay.is_some()
            || !events.iter().any(notifies)
            || !self.root.join(DIRECTORY).exists()
        {
            return Vec::new();
        }
        let now_us = clock::now_us();
        let mut notices = Vec::new();
        for event in events {
            let Payload::MessageSent(sent) = event else { continue };
            match &sent.target {
                _ if sent.deferrable || is_history(sent) => {}
                Target::Mailbox(mailbox) => notices.extend(self.mail_notice(mailbox, now_us)),
                Target::Room { room_id, skipped, .. } => {
                    let members =
                        self.state.members_of_room(room_id).into_iter().map(|(name, _)| name);
                    let recipients = members
                        .filter(|name| *name != sent.from_mailbox && !skipped.contains(name));
                    notices.extend(recipients.filter_map(|name| self.mail_notice(&name, now_us)));
                }
                Target::Outbox { .. } | Target::DeadLetter { .. } => {}
            }
        }
        notices
    }

    /// The notice for the session that holds a mailbox, unless it is on do-not-disturb.
    fn mail_notice(&self, mailbox: &str, now_us: u64) -> Option<MailNotice> {
        let row = self.state.mailboxes.get(mailbox).filter(|row| !row.is_dnd(now_us))?;
        let session_id = row.session?;
        // Deferrable mail has not caused a notice, so it does not count as earlier mail.
        let is_first = self.state.unread(mailbox).urgent_range().is_none();
        Some(MailNotice { session_id: session_id.into(), is_first })
    }

    /// Touches the wake files of these sessions. A session without a file is skipped, and errors are
    /// ignored: the mail is on disk already.
    pub(super) fn notify_of_mail(&self, notices: &[MailNotice]) {
        for notice in notices {
            if let Some(path) = self.wake_file(&notice.session_id) {
                let _ = touch(&path, notice.is_first);
            }
        }
    }

    /// Removes old wake files of sessions that are not registered.
    pub fn remove_old_wake_files(&self) {
        let now = UNIX_EPOCH + Duration::from_micros(clock::now_us());
        for entry in fs::read_dir(self.root.join(DIRECTORY)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let touched = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            let age =
                touched.and_then(|touched| now.duration_since(touched).ok()).unwrap_or_default();
            if self.state.sessions.get(&name).is_none() && age.as_secs() > WAKE_FILE_RETENTION_S {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Removes the wake files of sessions that these events end.
    pub(super) fn remove_wake_files(&self, events: &[Payload]) {
        for event in events {
            if let Payload::SessionEnded(fact) = event
                && let Some(path) = self.wake_file(&fact.session_id)
            {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Touches a wake file. Later mail touches it only after a pause since the last time.
fn touch(path: &Path, is_first: bool) -> io::Result<()> {
    let file = File::options().append(true).open(path)?;
    let now = UNIX_EPOCH + Duration::from_micros(clock::now_us());
    let touched = file.metadata()?.modified()?;
    let pause = Duration::from_secs(WAKE_PAUSE_S_MIN);
    if is_first || now.duration_since(touched).map_or(true, |since| since >= pause) {
        file.set_times(FileTimes::new().set_modified(now))?;
    }
    Ok(())
}
