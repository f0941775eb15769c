//! The broker and the identity of the client, shared by the handlers and the transport.

use c2c_log_format::payload::{AckLevel, ClaimReturnReason};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::broker::Broker;
use crate::env::actor;
use crate::env::root::{self, Root};
use crate::present::diagnostics::note;
use c2c_core::command;
use c2c_core::decide::Actor;
use c2c_core::ids::{Alias, SessionId};

/// The broker, and the actor for requests that name no session.
pub struct ClientSession {
    pub broker: Broker,
    pub actor: Actor,
    /// The last known alias of each session that this server acted for.
    aliases: HashMap<SessionId, Alias>,
}

impl ClientSession {
    /// Registers a session again under its last alias if the root does not know it any more: the root
    /// was removed, or a sweep ended the session.
    pub fn restore(&mut self, actor: &Actor) {
        let Some(session_id) = &actor.session_id else { return };
        let is_current = self.broker.refresh(actor).is_ok();
        let known = self.aliases.get(session_id).filter(|_| is_current);
        let state = self.broker.state();
        if let Some(alias) = known.filter(|_| state.mailbox_for_session(session_id).is_none())
            && state.lost_mailbox(session_id).is_none()
        {
            let command = command::Register { alias: Some(alias.clone()) };
            if let Err(failure) = self.broker.execute(&command, actor) {
                note(&format!("c2c: cannot register '{alias}' again: {}", failure.message()));
            }
        }
    }

    /// Remembers the alias of a session.
    pub fn remember(&mut self, actor: &Actor) {
        let Some(session_id) = &actor.session_id else { return };
        if let Some(mailbox) = self.broker.state().mailbox_for_session(session_id) {
            self.aliases.insert(session_id.clone(), mailbox.alias);
        }
    }
}

/// A handle to the one [`ClientSession`] of this server.
#[derive(Clone)]
pub struct SharedSession(Arc<Mutex<ClientSession>>);

impl SharedSession {
    /// Opens a root for a client.
    pub fn open(root: &Root, actor: Actor) -> Self {
        let (broker, aliases) = (Broker::open_found(root), HashMap::new());
        Self(Arc::new(Mutex::new(ClientSession { broker, actor, aliases })))
    }

    /// Changes to the root in which a hook of the client has registered the session, if that is not
    /// the root of the server's own directory.
    pub fn follow(&self, actor: &Actor) {
        let root = actor::session_hint(actor).and_then(root::of_session);
        let broker = &mut self.lock().broker;
        if let Some(root) = root.filter(|root| *root != broker.root()) {
            *broker = Broker::open(&root);
        }
    }

    /// Locks the session. The lock must not be held across an `await`.
    pub fn lock(&self) -> MutexGuard<'_, ClientSession> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current actor.
    pub fn actor(&self) -> Actor {
        self.lock().actor.clone()
    }

    /// Calls a function with the broker and the current actor.
    pub fn with<T>(&self, work: impl FnOnce(&mut Broker, &Actor) -> T) -> T {
        let session = &mut *self.lock();
        work(&mut session.broker, &session.actor)
    }

    /// Acknowledges a claim. After an error its messages are delivered again with the redelivery
    /// mark; they are not lost.
    pub fn ack(&self, claim: &str, level: AckLevel) {
        let session = &mut *self.lock();
        if let Err(failure) = session.broker.ack(&session.actor, claim, level) {
            note(&format!("c2c: cannot acknowledge claim {claim}: {}", failure.message()));
        }
    }

    /// Releases a claim whose messages were not shown.
    pub fn release(&self, claim: &str, reason: ClaimReturnReason) {
        let session = &mut *self.lock();
        if let Err(failure) = session.broker.release(&session.actor, claim, reason) {
            note(&format!("c2c: cannot release claim {claim}: {}", failure.message()));
        }
    }
}
