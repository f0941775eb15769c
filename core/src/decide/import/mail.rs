//! Import of direct messages: unread, queued, delivered, and undeliverable ones.

use c2c_log_format::Payload;
use c2c_log_format::payload::{
    DeadLetterReason, LegacyDelivered, LegacyDetails, SessionEndReason, Target,
};

use super::owners::{alias_part, room_part};
use super::{Import, message_sent, sender_name};
use crate::address::Address;
use crate::foreign::{ForeignDeadLetter, ForeignDelivery, ForeignFile, ForeignMessage};

impl Import<'_> {
    /// Imports an inbox or the outbox.
    pub(super) fn mail(&mut self, file: &ForeignFile, rows: &[ForeignMessage]) -> Vec<String> {
        let mut entries = Vec::new();
        for row in rows {
            let key = self.key(row);
            if !self.is_new(&key) || entries.contains(&key) {
                continue;
            }
            entries.push(key);
            if let Some(text_key) = &row.text_key {
                let name = format!("row {text_key}");
                entries.push(format!("{name} {}", self.next_number(&name, &entries)));
            }
            self.message(file, row);
        }
        entries
    }

    /// The key of a row of an inbox. Rows without a time may be equal to rows that the older version
    /// has delivered since their import, and are counted after those.
    fn key(&self, row: &ForeignMessage) -> String {
        if row.message_id.is_some() {
            return row.key.clone();
        }
        let drained = row.text_key.as_ref().filter(|_| row.sent_us.is_none());
        let drained = drained.map_or(0, |key| self.next_number(&format!("drained {key}"), &[]));
        format!("{} {}", row.key, row.ordinal + drained)
    }

    fn message(&mut self, file: &ForeignFile, row: &ForeignMessage) {
        let Some(target) = self.target(file, row) else { return };
        let mailbox = match &target {
            Target::Mailbox(mailbox) => mailbox.clone(),
            _ => String::new(),
        };
        self.sent(row, target);
        self.reply.messages += 1;
        let room_id = row.session_id.as_ref().and_then(|_| self.room_of(file, &row.to));
        self.record_details(LegacyDetails { mailbox, room_id, ..LegacyDetails::default() });
    }

    fn target(&mut self, file: &ForeignFile, row: &ForeignMessage) -> Option<Target> {
        let to = Address::parse(&row.to);
        let target = match (&row.session_id, to.host()) {
            (None, Some(host)) => {
                Target::Outbox { alias: to.alias().to_owned(), host: host.to_owned() }
            }
            (None, None) => match self.state.mailbox_for_alias(&row.to) {
                Some(mailbox) => Target::Mailbox(mailbox.name),
                None => Target::Outbox { alias: row.to.clone(), host: "relay".into() },
            },
            (Some(session_id), _) => Target::Mailbox(self.inbox_mailbox(file, session_id, row)?),
        };
        Some(target)
    }

    fn sent(&mut self, row: &ForeignMessage, target: Target) {
        let from = self.state.mailbox_for_alias(&row.from);
        let from_mailbox = from.map_or_else(String::new, |row| row.name);
        self.record(Payload::MessageSent(message_sent(row, target, from_mailbox, self.facts)));
    }

    /// The room of a row that is addressed to `alias#room`, under its name in this log.
    fn room_of(&self, file: &ForeignFile, to: &str) -> Option<String> {
        let room_id = room_part(to)?;
        Some(self.room_here(file, room_id).unwrap_or_else(|| room_id.to_owned()))
    }

    /// Imports dead letters. A row of an inbox that the log has and the older version gave up since
    /// stays where it is.
    pub(super) fn dead_letters(
        &mut self,
        file: &ForeignFile,
        rows: &[ForeignDeadLetter],
    ) -> Vec<String> {
        let mut entries = Vec::new();
        for row in rows {
            let key = self.key(&row.message);
            if !self.is_new(&key) || entries.contains(&key) {
                continue;
            }
            entries.push(key);
            let inbox_key = format!("{} {}", row.inbox_key, row.message.ordinal);
            if row.message.session_id.is_none() || self.is_new(&inbox_key) {
                self.dead_letter(file, row);
            }
        }
        entries
    }

    fn dead_letter(&mut self, file: &ForeignFile, row: &ForeignDeadLetter) {
        let ForeignDeadLetter { message, reason, at_us, .. } = row;
        let to = Address::parse(&message.to);
        let alias = alias_part(&message.to);
        let session_id = message.session_id.as_deref();
        let mailbox = match to.host() {
            Some(_) => None,
            None => self.former_mailbox(file, alias, session_id),
        };
        let mailbox = mailbox.unwrap_or_default();
        // The older version records no reason after a sweep, and delivers again on registration.
        let swept = DeadLetterReason::from(SessionEndReason::Sweep.as_str());
        let target = Target::DeadLetter {
            mailbox: mailbox.clone(),
            alias: alias.unwrap_or(&message.to).to_owned(),
            reason: reason.clone().map_or(swept, DeadLetterReason::from),
        };
        self.sent(message, target);
        self.reply.dead_letters += 1;
        self.record_details(LegacyDetails {
            mailbox,
            room_id: self.room_of(file, &message.to),
            session_id: message.session_id.clone().map(Into::into),
            at_us: *at_us,
        });
    }

    /// Imports delivered messages as history. A row of an inbox that the log has and the older
    /// version has delivered since is not imported again.
    pub(super) fn delivered(
        &mut self,
        file: &ForeignFile,
        rows: &[ForeignDelivery],
    ) -> Vec<String> {
        let mut entries = Vec::new();
        for row in rows {
            let ForeignDelivery { message, drained_us, surface } = row;
            if self.was_unread(message, &mut entries) {
                continue;
            }
            let alias = alias_part(&message.to);
            let mailbox = self.former_mailbox(file, alias, message.session_id.as_deref());
            let Some(mailbox) = mailbox else { continue };
            let message_id = message.message_id.clone();
            self.reply.delivered += 1;
            self.record(Payload::LegacyDelivered(LegacyDelivered {
                message_id: message_id.map_or_else(|| (self.facts.mint)(), String::from),
                mailbox,
                session_id: message.session_id.clone().map(String::from).unwrap_or_default(),
                from: sender_name(&message.from),
                to: self.to_here(file, &message.to),
                body: message.body.clone().into(),
                drained_us: drained_us.unwrap_or(self.facts.now_us),
                surface: surface.clone(),
                deferrable: message.deferrable,
            }));
        }
        entries
    }

    /// Whether the log has imported this message while it was unread. Of equal rows without an id,
    /// each counts once.
    fn was_unread(&self, message: &ForeignMessage, entries: &mut Vec<String>) -> bool {
        let Some(text_key) = &message.text_key else { return !self.is_new(&message.key) };
        let drained = format!("drained {text_key}");
        let number = self.next_number(&drained, entries);
        let was_unread = !self.is_new(&format!("row {text_key} {number}"));
        if was_unread {
            entries.push(format!("{drained} {number}"));
        }
        was_unread
    }

    /// The recipient of a row, with the room under its name in this log.
    fn to_here(&self, file: &ForeignFile, to: &str) -> String {
        match (to.split_once('#'), self.room_of(file, to)) {
            (Some((alias, _)), Some(room_id)) => format!("{alias}#{room_id}"),
            _ => to.to_owned(),
        }
    }
}
