//! Administrative events: import of legacy files and relocation of the root.

use c2c_log_format::Sequence;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{LegacyDetails, LegacyImported, RootMoved};

use crate::ids::RoomId;
use crate::state::State;
use crate::state::keys::compound_key;
use crate::state::rows::{LegacyLetter, Totals};

impl State {
    pub(super) fn legacy_imported(&mut self, event: &LegacyImported) {
        self.imported.put(format!("file {}", event.file), event.stamp.clone());
        for entry in &event.entries {
            self.imported.put(format!("entry {entry}"), String::new());
        }
    }

    /// Completes the row that the event before `sequence` created.
    pub(super) fn legacy_details(&mut self, sequence: Sequence, event: &LegacyDetails) {
        let LegacyDetails { mailbox, room_id, session_id, at_us } = event;
        let before = sequence.saturating_sub(1);
        let room = room_id.as_deref().map(fold).map(RoomId::from);
        let message = compound_key(mailbox, &before.to_be_bytes());
        if self.inbox.get(&message).is_some() {
            return self.inbox.update(message, |row| row.room = room);
        }
        if self.dead_letters.get(&message).is_some() {
            return self.dead_letters.update(message, |row| {
                row.at_us = at_us.unwrap_or(row.at_us);
                row.legacy =
                    Some(LegacyLetter { session_id: session_id.clone().map(Into::into), room });
            });
        }
        let Some(at_us) = *at_us else { return };
        if let Some(room) = room {
            let member = compound_key(&room, mailbox.as_bytes());
            return self.members.update(member, |row| {
                if row.since == before {
                    row.joined_us = at_us;
                }
            });
        }
        let session = self.mailboxes.get(mailbox).and_then(|row| row.session);
        if let Some(session) = session {
            self.sessions.update(&*session, |row| row.registered_us = at_us);
        }
    }

    pub(super) fn root_moved(&mut self, event: &RootMoved) {
        let moved_to = Some(event.to.clone()).filter(|to| !to.is_empty());
        self.change_meta(|meta| meta.moved_to = moved_to);
    }

    pub(super) fn change_meta(&mut self, change: impl FnOnce(&mut Totals)) {
        let mut meta = self.meta.get([]).unwrap_or_default();
        change(&mut meta);
        self.meta.put([], meta);
    }
}
