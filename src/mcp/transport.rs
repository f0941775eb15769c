//! A transport that acknowledges claims when the client has read the answers.
//!
//! A tool handler only claims messages. The transport sees the bytes leave and ends the claim: it
//! acknowledges once the answer was written and the client has emptied the pipe or socket, and
//! releases when the write failed, the client cancelled the request, or the client disconnected with
//! the answer unread.

use c2c_log_format::payload::{AckLevel, ClaimReturnReason};
use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{
    ClientNotification, ClientRequest, GetMeta, JsonRpcMessage, ProtocolVersion, RequestId,
};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;

use super::shared::SharedSession;
use crate::platform::socket::output_status;

/// First and longest pause between two checks whether the client has read an answer, milliseconds.
const READ_CHECK_MS_MIN: u64 = 1;
const READ_CHECK_MS_MAX: u64 = 500;

/// Claims whose answers the client has not read yet.
#[derive(Default)]
struct UnreadClaims {
    /// Claims of answers that were not written yet, by request.
    waiting: HashMap<RequestId, String>,
    /// Claims of answers that were written.
    written: Vec<(RequestId, String)>,
    /// Whether the client closed its socket with unread bytes in it.
    was_reset: bool,
}

/// The claims in progress, shared by the handlers and the transport.
#[derive(Clone, Default)]
pub struct ClaimTracker(Arc<Mutex<UnreadClaims>>);

impl ClaimTracker {
    fn lock(&self) -> MutexGuard<'_, UnreadClaims> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the answer to a request carries a claim.
    pub fn expect(&self, request: RequestId, claim: String) {
        self.lock().waiting.insert(request, claim);
    }

    /// Whether the client has read everything that was written; `None` if the kernel does not say.
    fn is_all_read(&self) -> Option<bool> {
        let status = output_status(&std::io::stdout());
        let mut claims = self.lock();
        // The socket reports a reset only once, so it is remembered.
        claims.was_reset |= status.was_reset;
        status.is_drained.map(|is_drained| is_drained && !claims.was_reset)
    }

    fn has_written(&self) -> bool {
        !self.lock().written.is_empty()
    }

    /// Ends every claim whose answer was written.
    fn end_written(&self, session: &SharedSession, is_read: bool) {
        let written = std::mem::take(&mut self.lock().written);
        for (_, claim) in written {
            if is_read {
                session.ack(&claim, AckLevel::ReadByClient);
            } else {
                session.release(&claim, ClaimReturnReason::Disconnected);
            }
        }
    }

    /// Releases the claim of a cancelled request: the client discards its answer.
    fn cancel(&self, session: &SharedSession, request: &RequestId) {
        let claim = {
            let mut claims = self.lock();
            let written = claims.written.iter().position(|(id, _)| id == request);
            match written {
                Some(index) => Some(claims.written.swap_remove(index).1),
                None => claims.waiting.remove(request),
            }
        };
        if let Some(claim) = claim {
            session.release(&claim, ClaimReturnReason::Cancelled);
        }
    }

    /// Waits until the client has read what was written, and acknowledges it.
    async fn ack_when_read(self, session: SharedSession) {
        let mut pause_ms = READ_CHECK_MS_MIN;
        while self.has_written() {
            if self.is_all_read() == Some(true) {
                self.end_written(&session, true);
                return;
            }
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            pause_ms = (pause_ms * 2).min(READ_CHECK_MS_MAX);
        }
    }
}

/// A transport that ends claims.
pub struct AckingTransport<T> {
    inner: T,
    claims: ClaimTracker,
    session: SharedSession,
    /// Whether the client has begun a session. Before that, the service accepts only requests.
    has_begun: bool,
}

impl<T> AckingTransport<T> {
    /// Wraps the transport that carries the bytes.
    pub fn new(inner: T, claims: ClaimTracker, session: SharedSession) -> Self {
        Self { inner, claims, session, has_begun: false }
    }
}

/// Whether a request begins the session: an `initialize`, or a call that carries all that
/// `initialize` would.
fn begins_session(request: &ClientRequest) -> bool {
    match request {
        ClientRequest::InitializeRequest(_) => true,
        ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_) => false,
        other => other.get_meta().missing_required_keys(&ProtocolVersion::V_2026_07_28).is_empty(),
    }
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for AckingTransport<T> {
    type Error = T::Error;

    fn name() -> Cow<'static, str> {
        T::name()
    }

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let id = match &item {
            JsonRpcMessage::Response(response) => Some(response.id.clone()),
            _ => None,
        };
        let sending = self.inner.send(item);
        let (claims, session) = (self.claims.clone(), self.session.clone());
        async move {
            let sent = sending.await;
            let claim = id.and_then(|id| claims.lock().waiting.remove_entry(&id));
            if let Some((id, claim)) = claim {
                match &sent {
                    Ok(()) => {
                        claims.lock().written.push((id, claim));
                        tokio::spawn(claims.ack_when_read(session));
                    }
                    Err(_) => session.release(&claim, ClaimReturnReason::OutputFailed),
                }
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            let received = self.inner.receive().await;
            match &received {
                Some(message) => {
                    if let JsonRpcMessage::Notification(notification) = message
                        && let ClientNotification::CancelledNotification(cancelled) =
                            &notification.notification
                        && let Some(request) = &cancelled.params.request_id
                    {
                        self.claims.cancel(&self.session, request);
                    }
                    // A client that writes again has read the earlier answers, unless the pipe shows
                    // otherwise: a client may send several requests at a time.
                    if self.claims.is_all_read() != Some(false) {
                        self.claims.end_written(&self.session, true);
                    }
                    match message {
                        JsonRpcMessage::Request(request) => {
                            self.has_begun |= begins_session(&request.request);
                        }
                        // The service would end on any other message before the session begins.
                        _ if !self.has_begun => continue,
                        _ => {}
                    }
                }
                None => {
                    let is_read = self.claims.is_all_read() == Some(true);
                    self.claims.end_written(&self.session, is_read);
                }
            }
            return received;
        }
    }

    /// Ends the remaining claims. Called after the last answer, which may be written after the input
    /// has ended.
    async fn close(&mut self) -> Result<(), Self::Error> {
        let is_read = self.claims.is_all_read() == Some(true);
        self.claims.end_written(&self.session, is_read);
        let waiting = std::mem::take(&mut self.claims.lock().waiting);
        for claim in waiting.into_values() {
            self.session.release(&claim, ClaimReturnReason::Disconnected);
        }
        self.inner.close().await
    }
}
