//! What does each event change?

use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    ClaimAcked, ClaimReturned, InboxClaimed, MessageSent, MessagesDeadLettered, Origin, Payload,
    RoomCreated, RoomJoined, RoomLeft, RoomRange, SessionRegistered, Target,
};
use c2c_log_format::{Event, Sequence};

use super::swarm::departure;
use super::{
    Arrival, Claim, DeadLetter, Mailbox, Member, Meta, PAST, Pending, Queued, Room, RoomMessage,
    Session, State, pair, sequence_of,
};
use crate::limits::ROOM_HISTORY;

impl State {
    /// Applies one event as it lies in the log. Never fails: an unknown kind is counted.
    pub fn apply_event(&mut self, event: &Event<'_>, time_us: u64) {
        match Payload::decode(event.head.kind, event.payload) {
            Some(Ok(payload)) => self.apply(event.head.sequence, time_us, &payload),
            _ => {
                self.skipped += 1;
                self.upgrade_needed |= event.head.must_understand;
                self.head = event.head.sequence;
            }
        }
    }

    /// Applies one event.
    pub fn apply(&mut self, sequence: Sequence, time_us: u64, payload: &Payload) {
        self.head = sequence;
        match payload {
            Payload::SessionRegistered(fact) => self.registered(fact, time_us),
            Payload::AliasRenamed(fact) => self.renamed(&fact.mailbox, &fact.old, &fact.new),
            Payload::SessionHeartbeat(fact) => {
                self.sessions.update(&fact.session_id, |row| row.active_us = time_us);
            }
            Payload::SessionEnded(fact) => {
                self.sessions.remove(&fact.session_id);
                self.mailboxes.update(&fact.mailbox, |row| {
                    if row.session.as_ref() == Some(&fact.session_id) {
                        row.session = None;
                    }
                });
            }
            Payload::DndChanged(fact) => self.mailboxes.update(&fact.mailbox, |row| {
                row.dnd = fact.on;
                row.dnd_since_us = fact.on.then_some(time_us);
                row.dnd_until_us = fact.until_us;
            }),
            Payload::MessageSent(fact) => self.sent(sequence, time_us, fact),
            Payload::InboxClaimed(fact) => self.claimed(fact, time_us),
            Payload::ClaimAcked(fact) => self.acked(fact),
            Payload::ClaimReturned(fact) => self.returned(fact),
            Payload::AckRefused(_) => {}
            Payload::MessagesExpired(fact) => {
                for message in &fact.messages {
                    self.close(&fact.mailbox, *message);
                }
            }
            Payload::MessagesDeadLettered(fact) => self.dead_lettered(fact, time_us),
            Payload::DeadLettersReturned(fact) => {
                for message in &fact.messages {
                    let key = pair(&fact.mailbox, &message.to_be_bytes());
                    let arrival = self.take_letter(&fact.mailbox, *message);
                    // What waits goes on waiting: it is said again for a node that looks there only now.
                    if self.inbox.get(&key).is_some() {
                        continue;
                    }
                    if let Some(arrival) = &arrival {
                        let known = pair(&fold(&arrival.sender), arrival.message_id.as_bytes());
                        self.arrivals.put(known, (fact.mailbox.clone(), *message));
                    }
                    self.inbox.put(key, Pending { arrival, ..Pending::plain() });
                }
            }
            Payload::DeadLettersPurged(fact) => {
                let gone = |key: &[u8]| fact.messages.contains(&sequence_of(key));
                let letters = self.dead_letters.scan([]).into_iter();
                for (key, letter) in letters.filter(|(key, _)| gone(key)) {
                    self.dead_letters.remove(key);
                    self.forget_arrival(letter.arrival.as_ref());
                }
            }
            Payload::RoomCreated(fact) => self.room_created(sequence, fact, time_us),
            Payload::RoomJoined(fact) => self.joined(sequence, fact, time_us),
            Payload::RoomLeft(fact) => self.left(fact),
            Payload::RoomInvitation(fact) => self.rooms.update(fold(&fact.room_id), |row| {
                let before = row.is_shared();
                row.invited.retain(|alias| fold(alias) != fold(&fact.alias));
                if fact.invited {
                    row.invited.push(fact.alias.clone());
                }
                if row.is_shared() && !before {
                    row.open_since = sequence;
                }
            }),
            Payload::RoomVisibilityChanged(fact) => self.rooms.update(fold(&fact.room_id), |row| {
                let before = row.is_shared() || row.shared;
                row.visibility = fact.visibility.clone();
                // The relay knows another room of that name: this one is nobody else's any more.
                row.shared &= fact.origin.is_none() || fact.visibility != "local";
                if row.is_shared() && !before {
                    row.open_since = sequence;
                }
            }),
            Payload::RoomDeleted(fact) => self.room_deleted(sequence, &fold(&fact.room_id)),
            Payload::LegacyImported(fact) => {
                self.imported.put(format!("file {}", fact.file), fact.stamp.clone());
                for entry in &fact.entries {
                    self.imported.put(format!("entry {entry}"), String::new());
                }
            }
            Payload::RootMoved(fact) => {
                let moved_to = Some(fact.to.clone()).filter(|to| !to.is_empty());
                self.change_meta(|meta| meta.moved_to = moved_to);
            }
            Payload::LeaseRenewed(fact) => self.lease_renewed(fact, time_us),
            Payload::KeyBound(fact) => self.key_bound(fact, time_us),
            Payload::KeyUnbound(fact) => self.key_unbound(fact),
            Payload::CursorAdvanced(fact) => self.cursor_advanced(fact),
            Payload::MessagesRelayed(fact) => {
                for message in &fact.messages {
                    let relay = Some(fact.relay.clone());
                    self.outbox.update(message.to_be_bytes(), |row| row.relay = relay);
                }
            }
            Payload::ReceiptsRecorded(fact) => self.receipts_recorded(fact, time_us),
            Payload::RoomLabelled(fact) => self.labelled(fact),
            Payload::PeerSeen(fact) => self.peer_seen(fact, time_us),
        }
    }

    fn registered(&mut self, fact: &SessionRegistered, time_us: u64) {
        self.superseded.remove(&fact.session_id);
        let before = self.sessions.get(&fact.session_id);
        let session = Session {
            session_id: fact.session_id.clone(),
            mailbox: fact.mailbox.clone(),
            node_id: fact.node_id.clone(),
            process: fact.process.clone(),
            client_type: fact.client_type.clone(),
            role: fact.role.clone(),
            cwd: fact.cwd.clone(),
            tmux_location: fact.tmux_location.clone(),
            registered_us: time_us,
            active_us: time_us,
            build: fact.build.clone(),
            imported: fact.imported_from.is_some(),
            lease: None,
        };
        // A session has one alias: whatever it held before is without a holder now.
        if let Some(other) = before.filter(|row| row.mailbox != fact.mailbox) {
            self.mailboxes.update(other.mailbox, |row| row.session = None);
        }
        self.sessions.put(&fact.session_id, session);
        let mut mailbox = self.mailboxes.get(&fact.mailbox).unwrap_or_else(|| Mailbox {
            name: fact.mailbox.clone(),
            alias: fact.alias.clone(),
            former: Vec::new(),
            session: None,
            lost_by: None,
            created_us: time_us,
            dnd: false,
            dnd_since_us: None,
            dnd_until_us: None,
            claim: None,
            node_id: None,
            replicated: false,
        });
        let holder = mailbox.session.replace(fact.session_id.clone());
        if let Some(lost) = holder.filter(|holder| *holder != fact.session_id) {
            self.sessions.remove(&lost);
            self.superseded.put(&lost, mailbox.name.clone());
            // Only the last one is remembered: a mailbox may change hands every day.
            if let Some(earlier) = mailbox.lost_by.replace(lost) {
                self.superseded.remove(earlier);
            }
        }
        // At a relay the key says which alias is whose.
        if mailbox.node_id.is_none() {
            self.aliases.put(fold(&mailbox.alias), mailbox.name.clone());
        }
        self.mailboxes.put(&fact.mailbox, mailbox);
    }

    fn renamed(&mut self, mailbox: &str, old: &str, new: &str) {
        self.aliases.remove(fold(old));
        self.aliases.put(fold(new), mailbox.to_owned());
        self.mailboxes.update(mailbox, |row| {
            row.former.retain(|alias| fold(alias) != fold(new));
            row.former.push(old.to_owned());
            row.alias = new.to_owned();
        });
        // Rooms name whom they belong to and who is invited by alias: that goes with the agent,
        // and whoever takes the old name gets none of it.
        let is_old = |alias: &str| fold(alias) == fold(old);
        for (key, room) in self.rooms.scan([]) {
            if is_old(&room.created_by) || room.invited.iter().any(|alias| is_old(alias)) {
                self.rooms.update(key, |row| {
                    let names = row.invited.iter_mut().chain([&mut row.created_by]);
                    names.filter(|alias| is_old(alias)).for_each(|alias| *alias = new.to_owned());
                });
            }
        }
    }

    fn sent(&mut self, sequence: Sequence, time_us: u64, fact: &MessageSent) {
        self.change_meta(|meta| meta.messages += 1);
        match &fact.target {
            Target::Mailbox(mailbox) => {
                let arrival = self.arrival_of(sequence, mailbox, fact);
                if let Some(arrival) = &arrival {
                    let key = pair(&fold(&arrival.sender), arrival.message_id.as_bytes());
                    self.arrivals.put(key, (mailbox.clone(), sequence));
                }
                let pending = Pending {
                    expires_us: fact.expires_us,
                    deferrable: fact.deferrable,
                    bytes: fact.body.len() as u32,
                    arrival,
                    ..Pending::plain()
                };
                self.inbox.put(pair(mailbox, &sequence.to_be_bytes()), pending);
            }
            Target::Outbox { alias, host } => {
                let queued = Queued {
                    alias: alias.clone(),
                    host: host.clone(),
                    queued_us: time_us,
                    message_id: fact.message_id.clone(),
                    from: fact.from.clone(),
                    from_mailbox: fact.from_mailbox.clone(),
                    relay: None,
                };
                self.departures.put(departure(&fact.from, &fact.message_id), sequence);
                self.outbox.put(sequence.to_be_bytes(), queued);
            }
            Target::DeadLetter { mailbox, alias, reason } => {
                let letter = DeadLetter {
                    mailbox: mailbox.clone(),
                    alias: alias.clone(),
                    reason: reason.clone(),
                    at_us: time_us,
                    arrival: self.arrival_of(sequence, mailbox, fact),
                };
                self.dead_letters.put(pair(mailbox, &sequence.to_be_bytes()), letter);
            }
            Target::Room { room_id, label, skipped } => {
                if fact.source.as_deref() == Some(PAST) {
                    return;
                }
                let key = fold(room_id);
                let message = RoomMessage {
                    from_mailbox: fact.from_mailbox.clone(),
                    label: *label,
                    bytes: fact.body.len() as u32,
                };
                self.room_messages.put(pair(&key, &sequence.to_be_bytes()), message);
                self.rooms.update(&key, |row| {
                    row.head = sequence;
                    row.next_label = label.map_or(row.next_label, |at| row.next_label.max(at + 1));
                });
                for mailbox in skipped {
                    self.skip_member(&key, mailbox, sequence, time_us);
                }
                self.trim_room(&key, *label);
            }
        }
    }

    fn change_meta(&mut self, change: impl FnOnce(&mut Meta)) {
        if self.meta.get([]).is_none() {
            self.meta.put([], Meta::default());
        }
        self.meta.update([], change);
    }

    /// What the receipts of a message will say: of one from another log, and of any at a relay,
    /// where it goes on to another log.
    fn arrival_of(&self, at: Sequence, mailbox: &str, fact: &MessageSent) -> Option<Arrival> {
        let here = || Origin {
            log: String::new(),
            sequence: at,
            node: String::new(),
            digest: String::new(),
        };
        let relay = || self.mailboxes.get(mailbox).is_some_and(|row| row.node_id.is_some());
        let origin = fact.origin.clone().or_else(|| relay().then(here))?;
        Some(Arrival { message_id: fact.message_id.clone(), sender: fact.from.clone(), origin })
    }

    /// Forgets room messages that everybody has read, but for the last ones.
    pub(super) fn trim_room(&mut self, room: &str, label: Option<u64>) {
        // Looking costs a scan, so it is done now and then.
        if !label.is_some_and(|label| (label + 1).is_multiple_of(ROOM_HISTORY as u64)) {
            return;
        }
        let members = self.members_of(room).into_iter();
        // Members on other nodes read there.
        let here = members.filter(|(mailbox, _)| self.mailboxes.get(mailbox).is_some());
        let read = here.map(|(_, member)| member.cursor).min().unwrap_or(Sequence::MAX);
        let messages = self.room_messages_after(room, 0);
        let keep_from = messages.len().saturating_sub(ROOM_HISTORY);
        for (sequence, _) in messages.iter().take(keep_from).filter(|(at, _)| *at <= read) {
            self.room_messages.remove(pair(room, &sequence.to_be_bytes()));
        }
    }

    fn claimed(&mut self, fact: &InboxClaimed, time_us: u64) {
        let claim = Claim {
            id: fact.claim.clone(),
            messages: fact.messages.clone(),
            rooms: fact.rooms.clone(),
            left: Vec::new(),
            process: fact.process.clone(),
            surface: fact.surface.clone(),
            manual: fact.manual,
            until_us: fact.until_us,
            claimed_us: time_us,
        };
        self.mailboxes.update(&fact.mailbox, |row| row.claim = Some(claim));
    }

    fn take_claim(&mut self, mailbox: &str, id: &str) -> Option<Claim> {
        let mut row = self.mailboxes.get(mailbox)?;
        let claim = row.claim.take_if(|claim| claim.id == id)?;
        self.mailboxes.put(mailbox, row);
        Some(claim)
    }

    fn acked(&mut self, fact: &ClaimAcked) {
        let Some(claim) = self.take_claim(&fact.mailbox, &fact.claim) else { return };
        for message in &claim.messages {
            self.close(&fact.mailbox, *message);
        }
        for key in self.left_while_claimed(&fact.mailbox, &claim) {
            self.inbox.remove(key);
        }
        for range in &claim.rooms {
            let key = pair(&fold(&range.room_id), fact.mailbox.as_bytes());
            self.members.update(key, |row| row.cursor = row.cursor.max(range.upto));
        }
    }

    fn returned(&mut self, fact: &ClaimReturned) {
        let Some(claim) = self.take_claim(&fact.mailbox, &fact.claim) else { return };
        for message in &claim.messages {
            let key = pair(&fact.mailbox, &message.to_be_bytes());
            self.inbox.update(key, |row| row.redelivered = true);
        }
        for key in self.left_while_claimed(&fact.mailbox, &claim) {
            self.inbox.update(key, |row| row.redelivered = true);
        }
        for range in &claim.rooms {
            let key = pair(&fold(&range.room_id), fact.mailbox.as_bytes());
            self.members.update(key, |row| row.redelivered_to = row.redelivered_to.max(range.upto));
        }
    }

    /// Keys of claimed room messages whose room was left in the meantime.
    fn left_while_claimed(&self, mailbox: &str, claim: &Claim) -> Vec<Vec<u8>> {
        if claim.left.is_empty() {
            return Vec::new();
        }
        let rows = self.inbox.scan(pair(mailbox, &[])).into_iter();
        let claimed = rows.filter(|(key, row)| {
            let of = |range: &RoomRange| {
                row.room.as_deref() == Some(&fold(&range.room_id)) && sequence_of(key) <= range.upto
            };
            claim.left.iter().any(of)
        });
        claimed.map(|(key, _)| key).collect()
    }

    fn dead_lettered(&mut self, fact: &MessagesDeadLettered, time_us: u64) {
        for message in &fact.messages {
            let key = pair(&fact.mailbox, &message.to_be_bytes());
            let arrival = self.inbox.get(&key).and_then(|row| row.arrival);
            self.inbox.remove(&key);
            self.close_departure(*message);
            let letter = DeadLetter {
                mailbox: fact.mailbox.clone(),
                alias: fact.alias.clone(),
                reason: fact.reason.clone(),
                at_us: time_us,
                arrival,
            };
            self.dead_letters.put(key, letter);
        }
    }

    /// A message was seen, or lost its use.
    pub(super) fn close(&mut self, mailbox: &str, sequence: Sequence) {
        let key = pair(mailbox, &sequence.to_be_bytes());
        let arrival = self.inbox.get(&key).and_then(|row| row.arrival);
        self.forget_arrival(arrival.as_ref());
        self.inbox.remove(key);
    }

    fn forget_arrival(&mut self, arrival: Option<&Arrival>) {
        if let Some(arrival) = arrival {
            self.arrivals.remove(pair(&fold(&arrival.sender), arrival.message_id.as_bytes()));
        }
    }

    /// Takes a dead letter off the list: that of the mailbox, or one that goes to another now.
    fn take_letter(&mut self, mailbox: &str, sequence: Sequence) -> Option<Arrival> {
        let own = pair(mailbox, &sequence.to_be_bytes());
        let rows = self.dead_letters.scan([]).into_iter().map(|(key, _)| key);
        let key = match self.dead_letters.get(&own) {
            Some(_) => own,
            None => rows.into_iter().find(|key| sequence_of(key) == sequence)?,
        };
        let letter = self.dead_letters.get(&key);
        self.dead_letters.remove(key);
        letter?.arrival
    }

    /// Of a room that is there: the relay says whose it is, and for whom.
    fn room_created(&mut self, sequence: Sequence, fact: &RoomCreated, time_us: u64) {
        let new = || Room {
            open_since: sequence,
            room_id: fact.room_id.clone(),
            visibility: String::new(),
            created_by: String::new(),
            created_us: time_us,
            invited: Vec::new(),
            head: sequence,
            next_label: 1,
            shared: false,
        };
        let key = fold(&fact.room_id);
        let row = self.rooms.get(&key).unwrap_or_else(new);
        self.rooms.put(
            key,
            Room {
                visibility: fact.visibility.clone(),
                created_by: fact.created_by.clone(),
                invited: fact.invited.clone(),
                ..row
            },
        );
    }

    fn joined(&mut self, sequence: Sequence, fact: &RoomJoined, time_us: u64) {
        let room = fold(&fact.room_id);
        let cursor = self.rooms.get(&room).map_or(0, |row| row.head);
        let (since, of) = (sequence, fact.of.clone());
        let member = Member { joined_us: time_us, since, cursor, redelivered_to: 0, of };
        self.members.put(pair(&room, fact.mailbox.as_bytes()), member);
        self.memberships.put(pair(&fact.mailbox, room.as_bytes()), ());
    }

    /// What the leaver had not read becomes mail of its own.
    fn left(&mut self, fact: &RoomLeft) {
        let room = fold(&fact.room_id);
        self.detach(&room, &fact.mailbox, Sequence::MAX);
        self.members.remove(pair(&room, fact.mailbox.as_bytes()));
        self.memberships.remove(pair(&fact.mailbox, room.as_bytes()));
    }

    /// Room messages before a sequence that a member has not read become direct mail.
    fn detach(&mut self, room: &str, mailbox: &str, before: Sequence) {
        let Some(member) = self.members.get(pair(room, mailbox.as_bytes())) else { return };
        // Members on other nodes have their mail there.
        if self.mailboxes.get(mailbox).is_none_or(|row| row.replicated) {
            return;
        }
        self.mailboxes.update(mailbox, |row| {
            if let Some(claim) = &mut row.claim {
                claim.leave(room);
            }
        });
        let unread = self.room_messages_after(room, member.cursor);
        for (sequence, message) in unread.into_iter().take_while(|(at, _)| *at < before) {
            if message.from_mailbox != mailbox {
                let pending = Pending {
                    redelivered: sequence <= member.redelivered_to,
                    room: Some(room.to_owned()),
                    bytes: message.bytes,
                    ..Pending::plain()
                };
                self.inbox.put(pair(mailbox, &sequence.to_be_bytes()), pending);
            }
        }
    }

    /// A room message that is not for one member: a dead letter, and nothing else of it.
    fn skip_member(&mut self, room: &str, mailbox: &str, sequence: Sequence, time_us: u64) {
        self.detach(room, mailbox, sequence);
        self.members.update(pair(room, mailbox.as_bytes()), |row| row.cursor = sequence);
        let letter = DeadLetter {
            mailbox: mailbox.to_owned(),
            alias: self.mailboxes.get(mailbox).map_or_else(String::new, |row| row.alias),
            reason: "recipient_dead".into(),
            at_us: time_us,
            arrival: None,
        };
        self.dead_letters.put(pair(mailbox, &sequence.to_be_bytes()), letter);
    }

    fn room_deleted(&mut self, sequence: Sequence, room: &str) {
        self.note_deleted_room(sequence, room);
        for (mailbox, _) in self.members_of(room) {
            let (room_id, reason, origin) = (room.into(), "deleted".into(), None);
            self.left(&RoomLeft { room_id, mailbox, reason, origin });
        }
        for (sequence, _) in self.room_messages_after(room, 0) {
            self.room_messages.remove(pair(room, &sequence.to_be_bytes()));
        }
        self.rooms.remove(room);
    }
}

impl Claim {
    /// The member left the room: what was claimed there is direct mail from now on.
    fn leave(&mut self, room: &str) {
        let gone = |range: &RoomRange| fold(&range.room_id) == room;
        self.left.extend(self.rooms.iter().filter(|range| gone(range)).cloned());
        self.rooms.retain(|range| !gone(range));
    }
}

impl Pending {
    /// Never shown, never expiring.
    pub fn plain() -> Self {
        Self {
            redelivered: false,
            expires_us: None,
            deferrable: false,
            room: None,
            bytes: 0,
            arrival: None,
        }
    }
}
