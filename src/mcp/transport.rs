//! When has the client really got an answer?
//!
//! A tool handler only claims. Here, where bytes leave, the claim ends: acked once the answer was
//! written and the client either wrote again or emptied the pipe; given back when the write failed
//! or the client went away with the answer unread.

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{JsonRpcMessage, RequestId};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;

use super::serve::Shared;

/// Claims whose answers are on their way.
#[derive(Default)]
pub struct Outstanding {
    /// Not yet written: by request.
    waiting: HashMap<RequestId, String>,
    /// Written, perhaps not yet read.
    written: Vec<String>,
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

/// Bytes in the pipe to the client that it has not read; `None` if that cannot be known.
fn unread_bytes() -> Option<usize> {
    let mut unread: nix::libc::c_int = 0;
    let stdout = std::io::stdout().as_raw_fd();
    // SAFETY: FIONREAD writes one int through the pointer, which outlives the call.
    let done = unsafe { nix::libc::ioctl(stdout, nix::libc::FIONREAD, &mut unread) };
    (done == 0).then_some(unread.max(0) as usize)
}

/// A transport that ends claims.
pub struct Acking<T> {
    inner: T,
    claims: Claims,
    shared: Shared,
}

impl<T> Acking<T> {
    /// Wraps the transport that carries the bytes.
    pub fn new(inner: T, claims: Claims, shared: Shared) -> Self {
        Self { inner, claims, shared }
    }
}

/// Ends every claim whose answer was written.
fn end_written(claims: &Claims, shared: &Shared, read: bool) {
    let written = std::mem::take(&mut lock(claims).written);
    for claim in written {
        if read {
            shared.ack(&claim, "read by client");
        } else {
            shared.give_back(&claim, "disconnected");
        }
    }
}

/// Watches the pipe until the client has emptied it.
async fn until_read(claims: Claims, shared: Shared) {
    let mut nap_ms = 1;
    while !lock(&claims).written.is_empty() {
        if unread_bytes() == Some(0) {
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
            let claim = id.and_then(|id| lock(&claims).waiting.remove(&id));
            if let Some(claim) = claim {
                match &sent {
                    Ok(()) => {
                        lock(&claims).written.push(claim);
                        tokio::spawn(until_read(claims, shared));
                    }
                    Err(_) => shared.give_back(&claim, "output_failed"),
                }
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        let received = self.inner.receive().await;
        match &received {
            // A client that writes again has read what came before.
            Some(_) => end_written(&self.claims, &self.shared, true),
            None => {
                end_written(&self.claims, &self.shared, unread_bytes() == Some(0));
                let waiting = std::mem::take(&mut lock(&self.claims).waiting);
                for claim in waiting.into_values() {
                    self.shared.give_back(&claim, "disconnected");
                }
            }
        }
        received
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}
