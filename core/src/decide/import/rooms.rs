//! Import of rooms: rights, members and history.
//!
//! The log records under which name it has a room of an older root. Two rooms of one name become
//! one only if every agent may read both.

use c2c_log_format::Payload;
use c2c_log_format::id::{check_alias, fold};
use c2c_log_format::payload::{
    LegacyDetails, MessageSent, RoomCreated, RoomInvitation, RoomJoined, RoomVisibility,
    RoomVisibilityChanged, Target,
};

use super::super::alias::numbered_aliases;
use super::{Import, imported, message_sent};
use crate::foreign::{ForeignFile, ForeignMember, ForeignMessage, ForeignRoom};
use crate::state::{BACKFILL_SOURCE, Room, compound_key};

impl Import<'_> {
    /// The name in this log of a room of the older root; `None` if it was not imported.
    pub(super) fn room_here(&self, file: &ForeignFile, room_id: &str) -> Option<String> {
        self.state.imported.get(format!("file {}", room_path(file, room_id)))
    }

    /// Imports a room, or rights that the older version has granted or withdrawn since.
    pub(super) fn room(&mut self, file: &ForeignFile, older: &ForeignRoom) -> Vec<String> {
        if let Some(room_id) = self.room_here(file, &older.room_id) {
            self.change_rights(&room_id, older);
            return Vec::new();
        }
        let room_id = match older.is_export {
            true => older.room_id.to_string(),
            false => self.free_room_id(older),
        };
        if !older.is_export && self.state.rooms.get(fold(&room_id)).is_none() {
            self.reply.rooms += 1;
            let is_alias = check_alias(&older.created_by).is_ok();
            let created_by = Some(older.created_by.clone()).filter(|_| is_alias);
            self.record(Payload::RoomCreated(RoomCreated {
                room_id: room_id.clone(),
                created_by: created_by.unwrap_or_default(),
                visibility: older.visibility.clone(),
                invited: older.invited.clone(),
            }));
        }
        self.record(imported(room_path(file, &older.room_id), room_id, Vec::new()));
        Vec::new()
    }

    /// A room of this log that the older room can become: of the same name, or with a number if an
    /// agent that may read one of the two may not read the other.
    fn free_room_id(&self, older: &ForeignRoom) -> String {
        let is_open = |visibility: &RoomVisibility| *visibility != RoomVisibility::InviteOnly;
        let fits = |room_id: &str| {
            let room = self.state.rooms.get(fold(room_id));
            let fits = |room: Room| is_open(&room.visibility) && is_open(&older.visibility);
            room.is_none_or(fits)
        };
        let same = older.room_id.to_string();
        let mut names = std::iter::once(same.clone()).chain(numbered_aliases(&older.room_id));
        names.find(|name| fits(name)).unwrap_or(same)
    }

    /// Rights that the older version has changed since the import. Invitations are added, and a room
    /// may become invite-only; nothing is opened that this log keeps closed.
    fn change_rights(&mut self, room_id: &str, older: &ForeignRoom) {
        let room = self.state.rooms.get(fold(room_id)).filter(|_| !older.is_export);
        let Some(room) = room else { return };
        let is_invited = |alias: &String| room.invited.iter().any(|row| fold(row) == fold(alias));
        for alias in older.invited.iter().filter(|alias| !is_invited(alias)) {
            self.record(Payload::RoomInvitation(RoomInvitation {
                room_id: fold(room_id),
                alias: alias.clone(),
                invited: true,
                origin: None,
            }));
        }
        let closes = older.visibility == RoomVisibility::InviteOnly;
        if closes && room.visibility != RoomVisibility::InviteOnly {
            self.record(Payload::RoomVisibilityChanged(RoomVisibilityChanged {
                room_id: fold(room_id),
                visibility: RoomVisibility::InviteOnly,
                origin: None,
            }));
        }
    }

    /// Imports the members of a room. A row that was imported is skipped, also if the member has
    /// left since.
    pub(super) fn members(
        &mut self,
        file: &ForeignFile,
        room_id: &str,
        rows: &[ForeignMember],
    ) -> Vec<String> {
        let Some(room_id) = self.room_in_use(file, room_id) else { return Vec::new() };
        let mut entries = Vec::new();
        for row in rows.iter().filter(|row| self.is_new(&row.key)).collect::<Vec<_>>() {
            entries.push(row.key.clone());
            let alias = Some(&*row.alias).filter(|alias| check_alias(alias).is_ok());
            let mailbox = self.former_mailbox(file, alias, row.session_id.as_deref());
            let Some(mailbox) = mailbox else { continue };
            let member = compound_key(&fold(&room_id), mailbox.as_bytes());
            if self.state.members.get(member).is_some() {
                continue;
            }
            self.reply.members += 1;
            self.record(Payload::RoomJoined(RoomJoined {
                room_id: fold(&room_id),
                mailbox: mailbox.clone(),
                of: None,
                origin: None,
            }));
            self.record_details(LegacyDetails {
                mailbox,
                room_id: Some(room_id.clone()),
                session_id: None,
                at_us: row.joined_us,
            });
        }
        entries
    }

    /// Imports lines of a room's history. They are unread for no member: the older version has put
    /// a copy into each inbox.
    pub(super) fn room_history(
        &mut self,
        file: &ForeignFile,
        room_id: &str,
        lines: &[ForeignMessage],
    ) -> Vec<String> {
        let room_id = self.room_in_use(file, room_id);
        let room = room_id.and_then(|room_id| self.state.rooms.get(fold(&room_id)));
        let Some(room) = room else { return Vec::new() };
        for (row, label) in lines.iter().zip(room.next_label..) {
            self.reply.room_messages += 1;
            let row = ForeignMessage { to: room.room_id.to_string(), ..row.clone() };
            self.room_message(&room.room_id, &row, label, BACKFILL_SOURCE);
        }
        Vec::new()
    }

    /// The name of an imported room in this log, unless it was deleted since.
    fn room_in_use(&self, file: &ForeignFile, room_id: &str) -> Option<String> {
        let room_id = self.room_here(file, room_id)?;
        self.state.rooms.get(fold(&room_id)).map(|_| room_id)
    }

    /// Imports the history of an older relay, and creates the room if it does not exist.
    pub(super) fn relay_history(
        &mut self,
        room_id: &str,
        messages: &[ForeignMessage],
    ) -> Vec<String> {
        let room = self.state.rooms.get(fold(room_id));
        if room.is_none() {
            self.record(Payload::RoomCreated(RoomCreated {
                room_id: room_id.to_owned(),
                created_by: String::new(),
                visibility: RoomVisibility::Public,
                invited: Vec::new(),
            }));
        }
        let first_label = room.map_or(1, |room| room.next_label);
        for (row, label) in messages.iter().zip(first_label..) {
            self.reply.room_messages += 1;
            self.room_message(room_id, row, label, super::IMPORT_SOURCE);
        }
        Vec::new()
    }

    fn room_message(&mut self, room_id: &str, row: &ForeignMessage, label: u64, source: &str) {
        let room_id = fold(room_id);
        let target = Target::Room { room_id, label: Some(label), skipped: Vec::new() };
        let sent = message_sent(row, target, String::new(), self.facts);
        let source = Some(source.to_owned());
        self.record(Payload::MessageSent(MessageSent { source, ..sent }));
    }
}

/// The name under which the log records a room of an older root.
fn room_path(file: &ForeignFile, room_id: &str) -> String {
    format!("{}rooms/{room_id}", file.origin)
}
