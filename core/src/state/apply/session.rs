//! Session events: registration, renaming, heartbeats, do-not-disturb and the end of a session.

use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    AliasRenamed, DndChanged, SessionEnded, SessionHeartbeat, SessionRegistered,
};

use crate::state::State;
use crate::state::rows::{Mailbox, Session};

impl State {
    pub(super) fn session_registered(&mut self, event: &SessionRegistered, time_us: u64) {
        self.superseded.remove(&event.session_id);
        // A session has one alias, so a mailbox that it held before loses its holder.
        let before = self.sessions.get(&event.session_id);
        if let Some(other) = before.filter(|row| row.mailbox != event.mailbox) {
            self.mailboxes.update(other.mailbox, |row| row.session = None);
        }
        self.sessions.put(&event.session_id, new_session(event, time_us));
        let mut mailbox = self.mailboxes.get(&event.mailbox).unwrap_or_else(|| {
            Mailbox::new(event.mailbox.clone(), event.alias.clone().into(), time_us)
        });
        let holder = mailbox.session.replace(event.session_id.clone().into());
        if let Some(lost) = holder.filter(|holder| *holder != event.session_id) {
            self.sessions.remove(&lost);
            self.superseded.put(&lost, mailbox.name.clone());
            // Remember only the last session that lost the mailbox: it may change hands every day.
            if let Some(earlier) = mailbox.lost_by.replace(lost) {
                self.superseded.remove(earlier);
            }
        }
        // At a relay, the key bindings decide which mailbox an alias names.
        if mailbox.node_id.is_none() {
            self.aliases.put(fold(&mailbox.alias), mailbox.name.clone());
        }
        self.mailboxes.put(&event.mailbox, mailbox);
    }

    pub(super) fn alias_renamed(&mut self, event: &AliasRenamed) {
        let AliasRenamed { mailbox, old, new } = event;
        self.aliases.remove(fold(old));
        self.aliases.put(fold(new), mailbox.clone());
        self.mailboxes.update(mailbox, |row| {
            row.former.retain(|alias| fold(alias) != fold(new));
            row.former.push(old.as_str().into());
            row.alias = new.as_str().into();
        });
        // Rooms store their owner and their invited agents by alias. These rights stay with the
        // agent and do not pass to the next holder of the old alias.
        let is_old = |alias: &str| fold(alias) == fold(old);
        for (key, room) in self.rooms.scan([]) {
            if is_old(&room.created_by) || room.invited.iter().any(|alias| is_old(alias)) {
                self.rooms.update(key, |row| {
                    let names = row.invited.iter_mut().chain([&mut row.created_by]);
                    names.filter(|alias| is_old(alias)).for_each(|alias| *alias = new.clone());
                });
            }
        }
    }

    pub(super) fn session_heartbeat(&mut self, event: &SessionHeartbeat, time_us: u64) {
        self.sessions.update(&event.session_id, |row| row.active_us = time_us);
    }

    pub(super) fn session_ended(&mut self, event: &SessionEnded) {
        self.sessions.remove(&event.session_id);
        self.mailboxes.update(&event.mailbox, |row| {
            if row.session.as_deref() == Some(event.session_id.as_str()) {
                row.session = None;
            }
        });
    }

    pub(super) fn dnd_changed(&mut self, event: &DndChanged, time_us: u64) {
        self.mailboxes.update(&event.mailbox, |row| {
            row.dnd = event.on;
            row.dnd_since_us = event.on.then_some(time_us);
            row.dnd_until_us = event.until_us;
        });
    }
}

fn new_session(event: &SessionRegistered, time_us: u64) -> Session {
    Session {
        session_id: event.session_id.clone().into(),
        mailbox: event.mailbox.clone(),
        node_id: event.node_id.clone().into(),
        process: event.process.clone(),
        client_type: event.client_type.clone(),
        role: event.role.clone(),
        cwd: event.cwd.clone(),
        tmux_location: event.tmux_location.clone(),
        registered_us: time_us,
        active_us: time_us,
        build: event.build.clone(),
        imported: event.imported_from.is_some(),
        lease: None,
    }
}
