//! The broker and the identity of the client, shared by the handlers and the transport.

use c2c_log_format::payload::{AckLevel, ClaimReturnReason};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::broker::Broker;
use crate::env::root::Root;
use crate::present::diagnostics::note;
use c2c_core::decide::Actor;

/// The broker, and the actor for requests that name no session.
pub struct ClientSession {
    pub broker: Broker,
    pub actor: Actor,
}

/// A handle to the one [`ClientSession`] of this server.
#[derive(Clone)]
pub struct SharedSession(Arc<Mutex<ClientSession>>);

impl SharedSession {
    /// Opens a root for a client.
    pub fn open(root: &Root, actor: Actor) -> Self {
        Self(Arc::new(Mutex::new(ClientSession { broker: Broker::open_found(root), actor })))
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
