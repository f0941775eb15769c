//! The listener: accepts connections, serves HTTP, and stops on a signal.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::body_reader::BodyReader;
use super::remote::RemoteBrokerMonitor;
use super::respond::{ConnectionContext, respond};
use super::service::RelayService;
use super::tls::Tls;
use super::writer::RelayHandle;
use crate::error::Failure;
use crate::platform::memory;
use crate::platform::signal::StopSignals;
use crate::present::diagnostics::note;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;
use c2c_core::limits::{
    RELAY_CONNECTIONS_MAX, RELAY_HEAD_BYTES_MAX, RELAY_HEAD_WAIT_S, RELAY_HEADERS_MAX,
};

/// Time for running requests to end when the relay stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// Period of the lease timer when the collection of leases is off; its ticks are then ignored.
const UNUSED_PERIOD: Duration = Duration::from_secs(3600);

/// How to listen.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    pub address: SocketAddr,
    /// Interval between collections of expired leases; `None` turns them off.
    pub gc_interval: Option<Duration>,
    /// Whether each request is reported on standard error.
    pub verbose: bool,
    /// Whether the relay has no token.
    pub is_open: bool,
    /// Whether a relay without a token accepts any host name.
    pub accepts_any_host: bool,
    /// Certificate and key, if the relay itself serves TLS.
    pub tls: Option<Tls>,
}

/// Serves until the process receives SIGTERM or SIGINT. Calls `ready` with the bound address once the
/// relay listens.
pub fn serve(
    listen: &ListenOptions,
    relay: RelayService,
    ready: &mut dyn FnMut(SocketAddr) -> Result<(), Failure>,
) -> Result<(), Failure> {
    memory::retain_freed_memory();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::io("start", "the runtime", e))?;
    let remote = relay.remote();
    let (handle, writer) = RelayHandle::start(relay)?;
    let served = runtime.block_on(run(listen, handle, remote, ready));
    runtime.shutdown_timeout(STOP_TIMEOUT);
    // The last handle is dropped by now, so the writer finishes its queue and ends.
    let _ = writer.join();
    if served.is_ok() {
        tracing::info!("relay stopped");
    }
    served
}

async fn run(
    listen: &ListenOptions,
    relay: RelayHandle,
    remote: Option<RemoteBrokerMonitor>,
    ready: &mut dyn FnMut(SocketAddr) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let listener = bind(listen.address).await?;
    let mut signals = StopSignals::install().map_err(|e| Failure::io("watch", "signals", e))?;
    let address = listener.local_addr().unwrap_or(listen.address);
    ready(address)?;
    let (tls, requires_token) = (listen.tls.is_some(), !listen.is_open);
    tracing::info!(%address, tls, requires_token, "relay started");
    let monitor = remote.map(|remote| tokio::spawn(async move { remote.run().await }));
    let mut tasks = JoinSet::new();
    let stop = watch::Sender::new(false);
    let slots = Arc::new(Semaphore::new(RELAY_CONNECTIONS_MAX));
    let reader = BodyReader::new();
    let mut lease_timer = tokio::time::interval(listen.gc_interval.unwrap_or(UNUSED_PERIOD));
    lease_timer.tick().await;
    loop {
        tokio::select! {
            accepted = accept(&listener, &slots) => {
                let Some(accepted) = accepted else { continue };
                let context = ConnectionContext {
                    relay: relay.clone(),
                    client: accepted.client,
                    verbose: listen.verbose,
                    scheme: if listen.tls.is_some() { "https" } else { "http" },
                    is_open: listen.is_open,
                    accepts_any_host: listen.accepts_any_host,
                    reader: reader.clone(),
                };
                tasks.spawn(connection(context, accepted, listen.tls.clone(), stop.subscribe()));
            }
            _ = lease_timer.tick(), if listen.gc_interval.is_some() => {
                tasks.spawn(collect_leases(relay.clone()));
            }
            Some(_) = tasks.join_next() => {}
            () = signals.received() => break,
        }
    }
    tracing::info!("relay stopping");
    drop(listener);
    if let Some(monitor) = monitor {
        monitor.abort();
    }
    stop.send_replace(true);
    relay.stop();
    let all_ended = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_TIMEOUT, all_ended).await;
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Rejection> {
    TcpListener::bind(address).await.map_err(|e| {
        let message = format!("cannot listen on {address}: {e}");
        Rejection::new(Code::InvalidArgument, "listen", message)
            .hint("if another relay uses this address, choose another with --listen")
    })
}

/// An accepted connection.
struct Accepted {
    stream: TcpStream,
    client: SocketAddr,
    /// The connection's share of the connection limit.
    slot: OwnedSemaphorePermit,
}

/// Accepts the next connection when the number of connections allows it. Further clients wait in the
/// system's queue.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<Accepted> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, client)) => {
            let _ = stream.set_nodelay(true);
            Some(Accepted { stream, client, slot })
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            // For example, no file descriptor is free. Open connections continue, and some will end.
            tokio::time::sleep(ACCEPT_RETRY).await;
            None
        }
    }
}

async fn collect_leases(relay: RelayHandle) {
    match relay.collect_leases().await {
        Ok(collected) if collected.expired.is_empty() => {}
        Ok(collected) => {
            let (leases, inboxes) = (collected.expired.len(), collected.pruned);
            tracing::info!(leases, inboxes, "expired leases removed");
            note(&format!(
                "gc: {leases} leases expired, mail of {inboxes} inboxes moved to dead letters"
            ));
        }
        Err(failure) => {
            let code = failure.code().name();
            tracing::error!(code, error = %failure, "lease collection failed");
            note(&format!("gc: {}", failure.message()));
        }
    }
}

/// Serves one connection, after the TLS handshake if there is one.
async fn connection(
    context: ConnectionContext,
    accepted: Accepted,
    tls: Option<Tls>,
    stop: watch::Receiver<bool>,
) {
    let Accepted { stream, client, slot } = accepted;
    match tls {
        None => serve_http(context, stream, stop).await,
        Some(Tls(acceptor)) => {
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
            match handshake.await {
                Ok(Ok(stream)) => serve_http(context, stream, stop).await,
                // The client is dropped.
                Ok(Err(error)) => tracing::debug!(%client, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%client, "TLS handshake timed out"),
            }
        }
    }
    drop(slot);
}

/// Serves the requests of one client until it disconnects or the relay stops.
async fn serve_http<S>(context: ConnectionContext, stream: S, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let client = context.client;
    let service = service_fn(move |request| respond(context.clone(), request));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(RELAY_HEAD_WAIT_S))
        .max_headers(RELAY_HEADERS_MAX)
        .max_buf_size(RELAY_HEAD_BYTES_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%client, %error, "connection ended with an error");
            }
            return;
        }
        _ = stop.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
