//! When has the client really got an answer?
//!
//! A tool handler only claims. Here, where bytes leave, the claim ends: acked once the answer was
//! written and the client has emptied the pipe or socket; given back when the write failed, or when
//! the client cancelled the request or went away with the answer unread.

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use rmcp::RoleServer;
use rmcp::model::{
    ClientNotification, ClientRequest, GetMeta, JsonRpcMessage, ProtocolVersion, RequestId,
};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;

use super::serve::Shared;

/// Claims whose answers are on their way.
#[derive(Default)]
pub struct Outstanding {
    /// Not yet written: by request.
    waiting: HashMap<RequestId, String>,
    /// Written, perhaps not yet read.
    written: Vec<(RequestId, String)>,
    /// The client closed its socket with something unread in it.
    reset: bool,
}

/// What the handlers and the transport share.
pub type Claims = Arc<Mutex<Outstanding>>;

/// Notes that the answer to a request carries a claim.
pub fn expect(claims: &Claims, request: RequestId, claim: String) {
    lock(claims).waiting.insert(request, claim);
}

fn lock(claims: &Claims) -> std::sync::MutexGuard<'_, Outstanding> {
    claims.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the client has read all that was written; `None` if that cannot be known.
fn all_read(claims: &Claims) -> Option<bool> {
    let stdout = std::io::stdout();
    let is_socket = getsockopt(&stdout, sockopt::SockType).is_ok();
    // A pipe counts what is in it, a socket what it has sent and nobody has taken.
    let request = if is_socket { nix::libc::TIOCOUTQ } else { nix::libc::FIONREAD };
    let mut unread: nix::libc::c_int = 0;
    // SAFETY: both requests write one int through the pointer, which outlives the call.
    let done = unsafe { nix::libc::ioctl(stdout.as_raw_fd(), request, &mut unread) };
    // A socket that is closed with something unread is emptied, too, but says so first, and once.
    if is_socket && getsockopt(&stdout, sockopt::SocketError) != Ok(0) {
        lock(claims).reset = true;
    }
    (done == 0).then(|| unread == 0 && !lock(claims).reset)
}

/// A transport that ends claims.
pub struct Acking<T> {
    inner: T,
    claims: Claims,
    shared: Shared,
    /// The client has begun a session; before that, only requests are for the service.
    begun: bool,
}

impl<T> Acking<T> {
    /// Wraps the transport that carries the bytes.
    pub fn new(inner: T, claims: Claims, shared: Shared) -> Self {
        Self { inner, claims, shared, begun: false }
    }
}

/// Ends every claim whose answer was written.
fn end_written(claims: &Claims, shared: &Shared, read: bool) {
    let written = std::mem::take(&mut lock(claims).written);
    for (_, claim) in written {
        if read {
            shared.ack(&claim, "read by client");
        } else {
            shared.give_back(&claim, "disconnected");
        }
    }
}

/// Gives back what a request has claimed: the client will drop its answer.
fn cancel(claims: &Claims, shared: &Shared, request: &RequestId) {
    let claim = {
        let mut outstanding = lock(claims);
        let written = outstanding.written.iter().position(|(id, _)| id == request);
        match written {
            Some(index) => Some(outstanding.written.swap_remove(index).1),
            None => outstanding.waiting.remove(request),
        }
    };
    if let Some(claim) = claim {
        shared.give_back(&claim, "cancelled");
    }
}

/// Whether the service leaves its bootstrap with this request: an `initialize`, or a call that
/// carries all that `initialize` would have said.
fn begins(request: &ClientRequest) -> bool {
    match request {
        ClientRequest::InitializeRequest(_) => true,
        ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_) => false,
        other => other.get_meta().missing_required_keys(&ProtocolVersion::V_2026_07_28).is_empty(),
    }
}

/// Watches the pipe until the client has emptied it.
async fn until_read(claims: Claims, shared: Shared) {
    let mut nap_ms = 1;
    while !lock(&claims).written.is_empty() {
        if all_read(&claims) == Some(true) {
            end_written(&claims, &shared, true);
            return;
        }
        tokio::time::sleep(Duration::from_millis(nap_ms)).await;
        nap_ms = (nap_ms * 2).min(500);
    }
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for Acking<T> {
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
        let (claims, shared) = (Arc::clone(&self.claims), self.shared.clone());
        async move {
            let sent = sending.await;
            let claim = id.and_then(|id| lock(&claims).waiting.remove_entry(&id));
            if let Some((id, claim)) = claim {
                match &sent {
                    Ok(()) => {
                        lock(&claims).written.push((id, claim));
                        tokio::spawn(until_read(claims, shared));
                    }
                    Err(_) => shared.give_back(&claim, "output_failed"),
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
                        cancel(&self.claims, &self.shared, request);
                    }
                    // A client that writes again has read what came before, unless the pipe knows
                    // better: requests may come several at a time.
                    if all_read(&self.claims) != Some(false) {
                        end_written(&self.claims, &self.shared, true);
                    }
                    match message {
                        JsonRpcMessage::Request(request) => self.begun |= begins(&request.request),
                        // The service would end on it.
                        _ if !self.begun => continue,
                        _ => {}
                    }
                }
                None => {
                    let read = all_read(&self.claims) == Some(true);
                    end_written(&self.claims, &self.shared, read);
                }
            }
            return received;
        }
    }

    /// Comes after the last answer, which may be written when the input has ended already.
    async fn close(&mut self) -> Result<(), Self::Error> {
        let read = all_read(&self.claims) == Some(true);
        end_written(&self.claims, &self.shared, read);
        let waiting = std::mem::take(&mut lock(&self.claims).waiting);
        for claim in waiting.into_values() {
            self.shared.give_back(&claim, "disconnected");
        }
        self.inner.close().await
    }
}
