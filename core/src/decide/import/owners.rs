//! The mailboxes of imported rows, and the registrations that create them.

use c2c_log_format::Payload;
use c2c_log_format::id::{check_alias, check_name};
use c2c_log_format::payload::{LegacyDetails, SessionEndReason, SessionEnded, SessionRegistered};

use super::super::alias::new_mailbox;
use super::Import;
use crate::foreign::{ForeignFile, ForeignMessage, ForeignSession};
use crate::state::Mailbox;

impl Import<'_> {
    /// Imports the sessions of a registry.
    pub(super) fn registry(&mut self, file: &ForeignFile, rows: &[ForeignSession]) -> Vec<String> {
        let mut entries = Vec::new();
        for row in rows.iter().filter(|row| self.is_new(&row.key)).collect::<Vec<_>>() {
            entries.push(row.key.clone());
            if let Some(mailbox) = self.session(file, row) {
                self.reply.sessions += 1;
                let at_us = row.registered_us;
                self.record_details(LegacyDetails { mailbox, at_us, ..LegacyDetails::default() });
            }
        }
        entries
    }

    /// Registers an older session and returns its mailbox; `None` if its names are invalid or the
    /// alias is in use.
    fn session(&mut self, file: &ForeignFile, row: &ForeignSession) -> Option<String> {
        if check_name(&row.session_id).is_err() || check_alias(&row.alias).is_err() {
            return None;
        }
        let existing = self.state.mailbox_for_alias(&row.alias);
        // The log has newer information about an alias that has registered itself.
        if existing.as_ref().is_some_and(|mailbox| mailbox.session.is_some()) {
            return None;
        }
        let mailbox = existing.map_or_else(|| new_mailbox(&self.state, &row.alias), |row| row.name);
        self.record(Payload::SessionRegistered(SessionRegistered {
            process: row.process.clone(),
            client_type: row.client_type.clone(),
            role: row.role.clone(),
            cwd: row.cwd.clone(),
            imported_from: Some(file.path()),
            ..SessionRegistered::new(
                row.session_id.clone(),
                row.alias.clone(),
                mailbox.clone(),
                self.facts.actor.node_id.clone(),
            )
        }));
        Some(mailbox)
    }

    /// The mailbox of an inbox. An inbox without a row in the registry belongs to the session that
    /// the file is named after.
    pub(super) fn inbox_mailbox(
        &mut self,
        file: &ForeignFile,
        session_id: &str,
        row: &ForeignMessage,
    ) -> Option<String> {
        if let Some(mailbox) = self.state.mailbox_for_session(session_id) {
            return Some(mailbox.name);
        }
        let owner = owner(alias_part(&row.to).unwrap_or(session_id), session_id);
        let registered = self.session(file, &owner);
        registered.or_else(|| Some(self.state.mailbox_for_alias(&owner.alias)?.name))
    }

    /// The mailbox of an agent that the older version still names, although it may have left. An
    /// agent without a mailbox gets one, and no session.
    pub(super) fn former_mailbox(
        &mut self,
        file: &ForeignFile,
        alias: Option<&str>,
        session_id: Option<&str>,
    ) -> Option<String> {
        let by_session = |import: &Self| import.state.mailbox_for_session(session_id?);
        let by_alias = |import: &Self| import.state.mailbox_for_alias(alias?);
        if let Some(Mailbox { name, .. }) = by_alias(self).or_else(|| by_session(self)) {
            return Some(name);
        }
        let alias = alias?;
        let is_free = |id: &&str| check_name(id).is_ok() && self.state.sessions.get(id).is_none();
        let session_id = session_id.into_iter().chain([alias]).find(is_free)?;
        let mailbox = self.session(file, &owner(alias, session_id))?;
        self.record(Payload::SessionEnded(SessionEnded {
            session_id: session_id.to_owned(),
            mailbox: mailbox.clone(),
            reason: SessionEndReason::Sweep,
        }));
        Some(mailbox)
    }
}

/// The alias in the recipient of an older row, which is `alias` or `alias#room`; `None` if it is
/// invalid.
pub(super) fn alias_part(to: &str) -> Option<&str> {
    to.split('#').next().filter(|alias| check_alias(alias).is_ok())
}

/// The room in the recipient of an older row.
pub(super) fn room_part(to: &str) -> Option<&str> {
    to.split_once('#').map(|(_, room)| room).filter(|room| check_name(room).is_ok())
}

fn owner(alias: &str, session_id: &str) -> ForeignSession {
    ForeignSession {
        key: String::new(),
        session_id: session_id.into(),
        alias: alias.into(),
        process: None,
        client_type: None,
        role: None,
        cwd: None,
        registered_us: None,
    }
}
