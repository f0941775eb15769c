//! What can be asked without changing anything?

use std::collections::HashMap;

use c2c_log_format::checksum::name_hash;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{MessageSent, Target, mailbox_hash};
use c2c_log_format::{Payload, Sequence};

use super::rooms::Said;
use super::{Broker, liveness};
use crate::clock;
use crate::code::Code;
use crate::decide::{self, Actor, Liveness, Refusal};
use crate::failure::Failure;
use crate::limits::UNCONFIRMED_S;
use crate::log::Damaged;
use crate::mirror::{LegacyMessage, Views};
use crate::state::{Mailbox, RemotePeer, sequence_of};

/// One message with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub sequence: Sequence,
    pub sent: MessageSent,
    pub room_id: Option<String>,
    pub redelivered: bool,
    /// When it was taken out of the mailbox; only in a history.
    pub drained_us: Option<u64>,
}

/// One registered alias.
#[derive(Debug, Clone)]
pub struct Peer {
    pub mailbox: Mailbox,
    pub session: Option<crate::state::Session>,
    pub liveness: Liveness,
}

/// The life of one message.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    pub message: Option<Message>,
    pub hops: Vec<Hop>,
    /// Since when it waits for word from another machine.
    pub open_since_us: Option<u64>,
}

impl Trace {
    /// Whether nobody has said for long that it arrived, nor that it did not.
    pub fn is_unconfirmed(&self) -> bool {
        self.open_since_us.is_some_and(is_unconfirmed)
    }
}

fn is_unconfirmed(queued_us: u64) -> bool {
    clock::now_us().saturating_sub(queued_us) >= UNCONFIRMED_S * 1_000_000
}

/// One thing that happened to a message.
#[derive(Debug, Clone)]
pub struct Hop {
    pub sequence: Sequence,
    pub time_us: u64,
    pub what: String,
    pub who: String,
}

/// How a broker root is.
#[derive(Debug, Clone)]
pub struct Health {
    pub log_id: String,
    pub head: Sequence,
    pub durable: Sequence,
    pub log_bytes: u64,
    pub sessions: usize,
    pub alive: usize,
    pub dead: usize,
    pub unknown: usize,
    pub rooms: usize,
    pub dead_letters: usize,
    pub outbox: usize,
    pub outbox_oldest_us: Option<u64>,
    /// Of these, how many wait for so long that nobody can tell.
    pub unconfirmed: usize,
    /// What was said in rooms here and has not been at the relay yet.
    pub rooms_outbox: usize,
    /// Why the relay does not take what is pushed to it.
    pub outbox_waits: Option<String>,
    /// Aliases of this machine that another one has, too.
    pub conflicts: Vec<RemotePeer>,
    pub damage: Vec<Damaged>,
    pub quarantine: Vec<String>,
    /// The newest checkpoint cannot be read in full; answers come from the log then.
    pub checkpoint_damaged: bool,
    pub upgrade_needed: bool,
}

impl Health {
    /// Whether all of the log could be read, and nothing is set aside.
    pub fn is_whole(&self) -> bool {
        self.damage.is_empty() && self.quarantine.is_empty()
    }
}

impl Broker {
    /// The mailbox of the caller, if it has one.
    pub fn own_mailbox(&self, actor: &Actor) -> Option<Mailbox> {
        let actor = liveness::adopt(&self.state, actor);
        if let Some(session_id) = &actor.session_id {
            return self.state.mailbox_of_session(session_id);
        }
        let actor = crate::actor::complete(&actor);
        decide::mailbox_of_actor(&self.state, &actor, &liveness::of_session, &liveness::is_ancestor)
    }

    /// Whether the session of an actor is alive, by its process.
    pub fn is_alive(&self, actor: &Actor) -> bool {
        let session = actor.session_id.as_ref().and_then(|id| self.state.sessions.get(id));
        session.is_some_and(|session| liveness::of_session(&session) == Liveness::Alive)
    }

    /// Whether a mailbox has mail that is not being shown already and does not wait for a poll.
    pub fn has_pressing_mail(&self, mailbox: &Mailbox) -> bool {
        let shown = mailbox
            .claim
            .as_ref()
            .is_some_and(|claim| liveness::of(claim.process.as_ref()) != Liveness::Dead);
        !shown && self.state.unread(&mailbox.name).pressing().is_some()
    }

    /// The session of the client that runs this process, itself or by a shell; the one that was active
    /// last, if it has several.
    pub fn session_that_started_this(&self) -> Option<String> {
        let starters = liveness::starters();
        let rows = self.state.sessions.scan([]).into_iter();
        // A process of Codex runs many sessions: it says nothing about which of them this is.
        let ours = rows.filter(|(_, session)| {
            let process = session.process.as_ref();
            session.client_type.as_deref() != Some(decide::CODEX)
                && process.is_some_and(|process| starters.contains(&process.pid))
                && liveness::of(process) == Liveness::Alive
        });
        let last = ours.max_by_key(|(_, session)| session.active_us)?;
        String::from_utf8(last.0).ok()
    }

    /// The same for its mail: a session whose alias another one took over is told so.
    pub fn held_mailbox(&self, actor: &Actor) -> Result<Option<Mailbox>, Failure> {
        if let Some(session_id) = &liveness::adopt(&self.state, actor).session_id {
            decide::check_held(&self.state, session_id)?;
        }
        Ok(self.own_mailbox(actor))
    }

    /// Messages of the log by sequence, with their text. Unread ones carry their redelivery mark.
    pub fn messages(
        &mut self,
        wanted: &[(Sequence, Option<String>, bool)],
    ) -> Result<Vec<Message>, Failure> {
        let sequences: Vec<Sequence> = wanted.iter().map(|(sequence, ..)| *sequence).collect();
        let marks: HashMap<Sequence, (&Option<String>, bool)> =
            wanted.iter().map(|(sequence, room, again)| (*sequence, (room, *again))).collect();
        let mut found = Vec::with_capacity(sequences.len());
        let mut add = |sequence: Sequence, payload: Payload| {
            if let Payload::MessageSent(sent) = payload {
                let (room_id, redelivered) = marks
                    .get(&sequence)
                    .map_or((None, false), |(room, again)| (Option::clone(room), *again));
                found.push(Message { sequence, sent, room_id, redelivered, drained_us: None });
            }
        };
        for (sequence, payload, _) in &self.merged {
            if marks.contains_key(sequence) {
                add(*sequence, payload.clone());
            }
        }
        let logged: Vec<Sequence> = match self.merged.first() {
            Some((first, ..)) => sequences.iter().copied().filter(|at| at < first).collect(),
            None => sequences,
        };
        self.store.fetch(&logged, &mut |stored| {
            let head = stored.event.head;
            if let Some(Ok(payload)) = Payload::decode(head.kind, stored.event.payload) {
                add(head.sequence, payload);
            }
        })?;
        found.sort_unstable_by_key(|message| message.sequence);
        Ok(found)
    }

    /// Unread mail, not taken. Messages under an open claim are not shown; their number is.
    pub fn peek(&mut self, mailbox: &Mailbox) -> Result<(Vec<Message>, usize), Failure> {
        let now_us = clock::now_us();
        let held = mailbox
            .claim
            .as_ref()
            .filter(|claim| decide::claim_holds(claim, now_us, &liveness::of));
        let unread = self.state.unread(&mailbox.name).in_order();
        if held.is_some() {
            return Ok((Vec::new(), unread.len()));
        }
        let expired = mailbox.claim.as_ref();
        let shown_before =
            |sequence: Sequence| expired.is_some_and(|claim| claim.messages.contains(&sequence));
        let wanted: Vec<_> = unread
            .into_iter()
            .map(|(at, room, again)| (at, room, again || shown_before(at)))
            .collect();
        Ok((self.messages(&wanted)?, 0))
    }

    /// The oldest of the unread mail, not taken: so many, until they hold so many bytes.
    pub fn peek_some(
        &mut self,
        mailbox: &Mailbox,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<Message>, Failure> {
        let mut unread = self.state.unread(&mailbox.name).in_order();
        unread.truncate(limit);
        let mut found = Vec::new();
        let mut bytes = 0;
        for chunk in unread.chunks(16) {
            if bytes >= max_bytes {
                break;
            }
            let messages = self.messages(chunk)?;
            bytes += messages.iter().map(|message| message.sent.body.len()).sum::<usize>();
            found.extend(messages);
        }
        Ok(found)
    }

    /// Whether a poll would find anything: decided without a lock.
    pub fn has_mail(&self, mailbox: &Mailbox) -> bool {
        mailbox.claim.is_some() || self.state.has_unread(&mailbox.name)
    }

    /// All aliases, in order.
    pub fn peers(&self) -> Vec<Peer> {
        let rows = self.state.mailboxes.scan([]).into_iter().map(|(_, mailbox)| {
            let session = self.state.holder(&mailbox);
            let liveness = session.as_ref().map_or(Liveness::Dead, liveness::of_session);
            Peer { mailbox, session, liveness }
        });
        rows.collect()
    }

    /// Direct messages that were shown to a mailbox's owner, newest first, each with the time of
    /// its ack. What expired or went to the dead letters was not shown and is not here.
    pub fn history(&mut self, mailbox: &Mailbox, limit: usize) -> Result<Vec<Message>, Failure> {
        let scope = mailbox_hash(&mailbox.name);
        let found = std::cell::RefCell::new(Shown::default());
        self.store.search(
            &|head| head.scope == scope,
            &mut |stored| {
                let head = stored.event.head;
                if let Some(Ok(payload)) = Payload::decode(head.kind, stored.event.payload) {
                    found.borrow_mut().see(&mailbox.name, head.sequence, stored.time_us, payload);
                }
            },
            // An ack comes after its message, so going back it is met first.
            &|| found.borrow().messages().count() >= limit,
        )?;
        let mut messages: Vec<Message> = found.into_inner().messages().collect();
        messages.sort_unstable_by_key(|message| std::cmp::Reverse(message.sequence));
        messages.truncate(limit);
        Ok(messages)
    }

    /// The life of a message: every event that mentions it.
    pub fn trace(&mut self, message_id: &str) -> Result<Vec<Trace>, Failure> {
        let hash = name_hash(message_id);
        let mut sent = Vec::new();
        self.store.find(&[hash], &mut |stored| {
            let head = stored.event.head;
            let payload = Payload::decode(head.kind, stored.event.payload);
            if let Some(Ok(Payload::MessageSent(message))) = payload
                && message.message_id == message_id
            {
                sent.push((head.sequence, stored.time_us, message));
            }
        })?;
        let mut traces = Vec::new();
        for (sequence, time_us, message) in sent {
            traces.push(self.trace_one(sequence, time_us, message)?);
        }
        Ok(traces)
    }

    fn trace_one(
        &mut self,
        sequence: Sequence,
        time_us: u64,
        sent: MessageSent,
    ) -> Result<Trace, Failure> {
        let accepted = Hop { sequence, time_us, what: "accepted".into(), who: sent.from.clone() };
        let mut hops = vec![accepted];
        let mut claims: Vec<String> = Vec::new();
        let room = match &sent.target {
            Target::Room { room_id, .. } => Some(room_id.clone()),
            _ => None,
        };
        let mut later = Vec::new();
        self.store.search(
            // Claims, acks, moves, relaying, receipts: the families that can mention a message.
            &|head| {
                let tells = (201..=208).contains(&head.kind) || (504..=506).contains(&head.kind);
                head.sequence > sequence && tells
            },
            &mut |stored| {
                let head = stored.event.head;
                if let Some(Ok(payload)) = Payload::decode(head.kind, stored.event.payload) {
                    later.push((head.sequence, stored.time_us, payload));
                }
            },
            &|| false,
        )?;
        later.sort_unstable_by_key(|(at, ..)| *at);
        for (at, time_us, payload) in later {
            let hop = mention(&payload, sequence, room.as_deref(), &mut claims);
            if let Some((what, who)) = hop.or_else(|| told(&payload, &sent)) {
                hops.push(Hop { sequence: at, time_us, what, who });
            }
        }
        let room_id = room;
        let message = Message { sequence, sent, room_id, redelivered: false, drained_us: None };
        let open = self.state.outbox.get(sequence.to_be_bytes());
        let open_since_us = open.map(|row| row.queued_us);
        Ok(Trace { message: Some(message), hops, open_since_us })
    }

    /// How this root is.
    pub fn health(&mut self) -> Result<Health, Failure> {
        let peers = self.peers();
        let count =
            |wanted| peers.iter().filter(|p| p.session.is_some() && p.liveness == wanted).count();
        let (log_bytes, quarantine) = self.store.size()?;
        let outbox = self.state.outbox.scan([]);
        Ok(Health {
            log_id: self.log_id()?.to_owned(),
            head: self.state.head,
            durable: self.store.durable(),
            log_bytes,
            sessions: peers.iter().filter(|peer| peer.session.is_some()).count(),
            alive: count(Liveness::Alive),
            dead: count(Liveness::Dead),
            unknown: count(Liveness::Unknown),
            rooms: self.state.rooms.scan([]).len(),
            dead_letters: self.state.dead_letters.scan([]).len(),
            outbox: outbox.len(),
            unconfirmed: outbox.iter().filter(|(_, row)| is_unconfirmed(row.queued_us)).count(),
            rooms_outbox: self.rooms_outbox(),
            outbox_waits: self.link().and_then(|link| link.waits),
            conflicts: self.conflicts(),
            outbox_oldest_us: outbox.iter().map(|(_, row)| row.queued_us).min(),
            damage: self.store.damage(),
            quarantine,
            checkpoint_damaged: self.store.checkpoint_damaged()?,
            upgrade_needed: self.state.upgrade_needed,
        })
    }

    /// Aliases of other machines, as the relay last said.
    pub fn peers_elsewhere(&self) -> Vec<RemotePeer> {
        let rows = self.state.peers.scan([]).into_iter().map(|(_, row)| row);
        rows.filter(|row| !row.gone).collect()
    }

    /// Those of them that have an alias of somebody here.
    fn conflicts(&self) -> Vec<RemotePeer> {
        let here = |row: &RemotePeer| {
            let mailbox = self.state.mailbox_of(&row.alias);
            mailbox.is_some_and(|mailbox| self.state.holder(&mailbox).is_some())
        };
        self.peers_elsewhere().into_iter().filter(here).collect()
    }

    /// Dead letters with their messages, oldest first.
    pub fn dead_letters(
        &mut self,
    ) -> Result<Vec<(crate::state::DeadLetter, Option<Message>)>, Failure> {
        let rows = self.state.dead_letters.scan([]);
        let wanted: Vec<_> = rows.iter().map(|(key, _)| (sequence_of(key), None, false)).collect();
        let messages = self.messages(&wanted)?;
        let with_text = rows.into_iter().map(|(key, letter)| {
            let at = sequence_of(&key);
            let found = messages.binary_search_by_key(&at, |message| message.sequence);
            (at, letter, found.ok().map(|index| messages[index].clone()))
        });
        let mut letters: Vec<_> = with_text.collect();
        letters.sort_by_key(|(at, ..)| *at);
        Ok(letters.into_iter().map(|(_, letter, message)| (letter, message)).collect())
    }

    /// Dead letters of a message id.
    pub fn letters_of(&mut self, message_id: &str) -> Result<Vec<Sequence>, Failure> {
        let letters = self.dead_letters()?.into_iter().filter_map(|(_, message)| message);
        let same = letters.filter(|message| message.sent.message_id == message_id);
        let found: Vec<Sequence> = same.map(|message| message.sequence).collect();
        if found.is_empty() {
            let message = format!("'{message_id}' is not among the dead letters");
            return Err(Refusal::new(Code::UnknownMessage, "message_id", message)
                .hint("c2c dead-letter list")
                .into());
        }
        Ok(found)
    }

    /// Everything that the older files would show.
    pub fn legacy_views(&mut self) -> Result<Views, Failure> {
        let mut views = Views { log_id: self.log_id()?.to_owned(), ..Views::default() };
        for peer in self.peers() {
            let unread = self.state.unread(&peer.mailbox.name).in_order();
            for message in self.messages(&unread)? {
                views.inbox.push(legacy(&message, &peer.mailbox));
            }
        }
        for (_, room) in self.state.rooms.scan([]) {
            for Said { message, .. } in self.room_history(&room.room_id, 0, 0)? {
                let row = serde_json::json!({
                    "ts": message.sent.sent_us as f64 / 1e6,
                    "from_alias": message.sent.from,
                    "content": message.sent.body,
                });
                let (sequence, room_id) = (message.sequence, message.room_id);
                views.rooms.push(LegacyMessage { sequence, mailbox: String::new(), room_id, row });
            }
        }
        for (key, queued) in self.state.outbox.scan([]) {
            for message in self.messages(&[(sequence_of(&key), None, false)])? {
                views.outbox.push(serde_json::json!({
                    "from_alias": message.sent.from,
                    "to_alias": message.sent.to,
                    "content": message.sent.body,
                    "message_id": message.sent.message_id,
                    "attempts": 0,
                    "enqueued_at": queued.queued_us as f64 / 1e6,
                }));
            }
        }
        for (letter, message) in self.dead_letters()? {
            let Some(message) = message else { continue };
            views.dead_letters.push(serde_json::json!({
                "deleted_at": letter.at_us as f64 / 1e6,
                "from_session_id": letter.mailbox,
                "reason": letter.reason,
                "message": legacy_row(&message, &letter.alias),
            }));
        }
        Ok(views)
    }
}

/// What of a mailbox was shown, pieced together from messages, claims and acks.
#[derive(Default)]
struct Shown {
    sent: Vec<(Sequence, MessageSent)>,
    claims: HashMap<String, Vec<Sequence>>,
    acks: HashMap<String, u64>,
}

impl Shown {
    fn see(&mut self, mailbox: &str, sequence: Sequence, time_us: u64, payload: Payload) {
        match payload {
            Payload::MessageSent(sent) if sent.target == Target::Mailbox(mailbox.to_owned()) => {
                self.sent.push((sequence, sent));
            }
            Payload::InboxClaimed(fact) if fact.mailbox == mailbox => {
                self.claims.insert(fact.claim, fact.messages);
            }
            Payload::ClaimAcked(fact) if fact.mailbox == mailbox => {
                self.acks.insert(fact.claim, time_us);
            }
            _ => {}
        }
    }

    fn messages(&self) -> impl Iterator<Item = Message> {
        let mut drained: HashMap<Sequence, u64> = HashMap::new();
        for (claim, time_us) in &self.acks {
            let messages = self.claims.get(claim).into_iter().flatten();
            drained.extend(messages.map(|sequence| (*sequence, *time_us)));
        }
        self.sent.iter().filter_map(move |(sequence, sent)| {
            Some(Message {
                sequence: *sequence,
                sent: sent.clone(),
                room_id: None,
                redelivered: false,
                drained_us: Some(*drained.get(sequence)?),
            })
        })
    }
}

fn legacy_row(message: &Message, to: &str) -> serde_json::Value {
    serde_json::json!({
        "from_alias": message.sent.from,
        "to_alias": to,
        "content": message.sent.body,
        "ts": message.sent.sent_us as f64 / 1e6,
        "message_id": message.sent.message_id,
    })
}

fn legacy(message: &Message, mailbox: &Mailbox) -> LegacyMessage {
    let to = match &message.room_id {
        Some(room_id) => format!("{}#{room_id}", mailbox.alias),
        None => mailbox.alias.clone(),
    };
    LegacyMessage {
        sequence: message.sequence,
        mailbox: mailbox.name.clone(),
        room_id: message.room_id.clone(),
        row: legacy_row(message, &to),
    }
}

/// What a receipt from another log says about a message.
fn told(payload: &Payload, sent: &MessageSent) -> Option<(String, String)> {
    let Payload::ReceiptsRecorded(fact) = payload else { return None };
    let from = |address: &str| fold(address.split('@').next().unwrap_or_default());
    let about = |receipt: &&c2c_log_format::payload::Receipt| {
        receipt.message_id == sent.message_id && from(&receipt.sender) == from(&sent.from)
    };
    let receipt = fact.receipts.iter().find(about)?;
    let what = match &receipt.code {
        Some(code) => format!("{}: {code}", receipt.level),
        None => receipt.level.clone(),
    };
    Some((what, receipt.by.clone()))
}

/// What an event says about the message at `sequence`.
fn mention(
    payload: &Payload,
    sequence: Sequence,
    room: Option<&str>,
    claims: &mut Vec<String>,
) -> Option<(String, String)> {
    match payload {
        Payload::InboxClaimed(fact) => {
            let in_room = |range: &c2c_log_format::payload::RoomRange| {
                Some(range.room_id.as_str()) == room && range.upto >= sequence
            };
            if !fact.messages.contains(&sequence) && !fact.rooms.iter().any(in_room) {
                return None;
            }
            claims.push(fact.claim.clone());
            Some((format!("claimed by {}", fact.surface), fact.mailbox.clone()))
        }
        Payload::ClaimAcked(fact) if claims.contains(&fact.claim) => {
            claims.retain(|claim| *claim != fact.claim);
            Some((fact.level.clone(), fact.mailbox.clone()))
        }
        Payload::ClaimReturned(fact) if claims.contains(&fact.claim) => {
            Some((format!("returned: {}", fact.reason), fact.mailbox.clone()))
        }
        Payload::AckRefused(fact) if claims.contains(&fact.claim) => {
            Some(("late ack refused".into(), fact.mailbox.clone()))
        }
        Payload::MessagesExpired(fact) if fact.messages.contains(&sequence) => {
            Some(("expired unread".into(), fact.mailbox.clone()))
        }
        Payload::MessagesDeadLettered(fact) if fact.messages.contains(&sequence) => {
            Some((format!("dead letter: {}", fact.reason), fact.mailbox.clone()))
        }
        Payload::DeadLettersReturned(fact) if fact.messages.contains(&sequence) => {
            Some(("redelivered from the dead letters".into(), fact.mailbox.clone()))
        }
        Payload::DeadLettersPurged(fact) if fact.messages.contains(&sequence) => {
            Some(("struck from the dead letters".into(), String::new()))
        }
        Payload::RoomLabelled(fact) => {
            let (_, label) = fact.labels.iter().find(|(at, _)| *at == sequence)?;
            Some(("relayed".into(), format!("as message {label} of {}", fact.room_id)))
        }
        Payload::MessagesRelayed(fact) if fact.messages.contains(&sequence) => {
            let what = if fact.relay.is_empty() { "lost by the relay" } else { "relayed" };
            Some((what.into(), fact.relay.clone()))
        }
        _ => None,
    }
}
