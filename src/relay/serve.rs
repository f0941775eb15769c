//! How does the relay listen, and how does it stop?

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, ORIGIN, RETRY_AFTER,
};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::answer::{Answer, Request};
use super::memory;
use super::remote::Remote;
use super::service::Relay;
use super::writer::Service;
use crate::code::Code;
use crate::decide::Refusal;
use crate::diagnosis::note;
use crate::failure::Failure;
use crate::limits::{
    RELAY_CONNECTIONS_MAX, RELAY_HEAD_BYTES_MAX, RELAY_HEAD_WAIT_S, RELAY_HEADERS_MAX,
    RELAY_KNOWN_BYTES, RELAY_REQUEST_BYTES_MAX, RELAY_STRANGERS_BYTES,
};
use crate::log::LogError;

/// How long running requests have to end when the relay stops.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// How long a client may take to agree on a cipher.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// How long the body of a request may take.
const BODY_WAIT: Duration = Duration::from_secs(60);

/// How to listen.
#[derive(Debug, Clone)]
pub struct Listen {
    pub address: SocketAddr,
    /// How often leases that are over are ended; never, if not at all.
    pub gc_interval: Option<Duration>,
    pub verbose: bool,
    /// Whether no token is needed.
    pub open: bool,
    /// Whether it serves under any host name, too, without a token.
    pub any_name: bool,
    /// TLS ends here, with this certificate.
    pub tls: Option<Tls>,
}

/// A certificate and its key, ready for use.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads a chain of certificates and the key of the first, both PEM.
    pub fn read(certificates: &Path, key: &Path) -> Result<Self, Failure> {
        let wrong = |field: &'static str, path: &Path, why: String| {
            let message = format!("{}: {why}", path.display());
            Failure::from(Refusal::new(Code::InvalidArgument, field, message))
        };
        let chain = CertificateDer::pem_file_iter(certificates)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| wrong("tls_cert", certificates, e.to_string()))?;
        let secret =
            PrivateKeyDer::from_pem_file(key).map_err(|e| wrong("tls_key", key, e.to_string()))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
            .map_err(|e| wrong("tls_cert", certificates, e.to_string()))?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}

/// Serves until the process is told to stop. `ready` learns the address once it listens.
pub fn serve(
    listen: &Listen,
    relay: Relay,
    ready: &mut dyn FnMut(SocketAddr) -> Result<(), Failure>,
) -> Result<(), Failure> {
    memory::keep();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| LogError::io("start", "the runtime", e))?;
    let remote = relay.remote.clone();
    let (service, writer) = Service::start(relay)?;
    let served = runtime.block_on(run(listen, service, remote, ready));
    runtime.shutdown_timeout(STOP_WAIT);
    // The last clone of the service is gone: the writer has done what was asked, and ends.
    let _ = writer.join();
    served
}

async fn run(
    listen: &Listen,
    service: Service,
    remote: Option<Remote>,
    ready: &mut dyn FnMut(SocketAddr) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let bound = TcpListener::bind(listen.address).await;
    let listener = bound.map_err(|e| {
        let message = format!("cannot listen on {}: {e}", listen.address);
        Refusal::new(Code::InvalidArgument, "listen", message)
            .hint("is there a relay already? else name another address with --listen")
    })?;
    let handler = |kind| signal(kind).map_err(|e| LogError::io("watch", "signals", e));
    let (mut term, mut int) =
        (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    ready(listener.local_addr().unwrap_or(listen.address))?;
    let visits = remote.map(|remote| tokio::spawn(async move { remote.keep_visiting().await }));
    let mut tasks = JoinSet::new();
    let stop = watch::Sender::new(false);
    let room = Arc::new(Semaphore::new(RELAY_CONNECTIONS_MAX));
    let reader = Reader::new();
    let mut collect =
        tokio::time::interval(listen.gc_interval.unwrap_or(Duration::from_secs(3600)));
    collect.tick().await;
    loop {
        tokio::select! {
            accepted = accept(&listener, &room) => {
                let Some((stream, from, place)) = accepted else { continue };
                let (service, stop) = (service.clone(), stop.subscribe());
                let (verbose, tls) = (listen.verbose, listen.tls.clone());
                let scheme = if tls.is_some() { "https" } else { "http" };
                let (open, any_name) = (listen.open, listen.any_name);
                let reader = reader.clone();
                let client =
                    Client { service, from, verbose, scheme, open, any_name, reader };
                tasks.spawn(async move {
                    match tls {
                        None => connection(client, stream, stop).await,
                        Some(Tls(acceptor)) => {
                            // Whoever cannot agree on a cipher in time is nobody.
                            let agreed = tokio::time::timeout(HANDSHAKE_WAIT, acceptor.accept(stream));
                            if let Ok(Ok(stream)) = agreed.await {
                                connection(client, stream, stop).await;
                            }
                        }
                    }
                    drop(place);
                });
            }
            _ = collect.tick(), if listen.gc_interval.is_some() => {
                tasks.spawn(collect_leases(service.clone()));
            }
            Some(_) = tasks.join_next() => {}
            _ = term.recv() => break,
            _ = int.recv() => break,
        }
    }
    drop(listener);
    if let Some(visits) = visits {
        visits.abort();
    }
    stop.send_replace(true);
    service.stop();
    let ended = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_WAIT, ended).await;
    Ok(())
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// The next connection, once there is room for it: more wait in the system's own queue.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<Accepted> {
    let place = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, from)) => {
            let _ = stream.set_nodelay(true);
            Some((stream, from, place))
        }
        Err(_) => {
            // No descriptor left, for one: those who are here go on, and some will leave.
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn collect_leases(service: Service) {
    match service.collect().await {
        Ok(collected) if collected.expired.is_empty() => {}
        Ok(collected) => {
            let (leases, inboxes) = (collected.expired.len(), collected.pruned);
            note(&format!("gc: {leases} leases ended, mail of {inboxes} kept as dead letters"));
        }
        Err(failure) => note(&format!("gc: {}", failure.message())),
    }
}

/// Who is at the other end.
#[derive(Clone)]
struct Client {
    service: Service,
    from: SocketAddr,
    verbose: bool,
    /// As the client called, unless a proxy says otherwise.
    scheme: &'static str,
    /// Whether no token is needed.
    open: bool,
    /// Whether any host name is fine all the same.
    any_name: bool,
    reader: Reader,
}

/// One client, request after request, until it goes or the relay stops.
async fn connection<S>(client: Client, stream: S, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = service_fn(move |request| respond(client.clone(), request));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(RELAY_HEAD_WAIT_S))
        .max_headers(RELAY_HEADERS_MAX)
        .max_buf_size(RELAY_HEAD_BYTES_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Header by which an answer and a line of diagnosis are found together.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

async fn respond(
    client: Client,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let id = uuid::Uuid::now_v7().to_string();
    let (head, body) = request.into_parts();
    let text = |name: HeaderName| {
        let value = head.headers.get(name);
        value.and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let scheme = text(HeaderName::from_static("x-forwarded-proto"));
    let host = text(HOST).unwrap_or_default();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let mut asked = Request {
        method: head.method.as_str().to_owned(),
        target,
        authorization: text(AUTHORIZATION),
        base_url: format!("{}://{host}", scheme.as_deref().unwrap_or(client.scheme)).to_lowercase(),
        ..Request::default()
    };
    let what = format!("{} {}", asked.method, asked.target);
    let is_head = head.method == hyper::Method::HEAD;
    let named = if client.any_name { "" } else { host.as_str() };
    let foreign = client.open && from_a_page(&head.headers, named);
    let known = client.service.knows(asked.authorization.as_deref());
    let answer = match client.reader.read(body, known).await {
        _ if foreign => page_refused(),
        Ok(body) => {
            asked.body = body;
            client.service.answer(asked, &client.from.ip().to_string()).await
        }
        Err(answer) => answer,
    };
    if client.verbose {
        let what: String = what.chars().flat_map(char::escape_default).take(200).collect();
        note(&format!("{} {} {what} {id}", client.from.ip(), answer.status));
    }
    let mut response = hyper::Response::builder()
        .status(answer.status)
        .header(CONTENT_TYPE, answer.content_type)
        .header(REQUEST_ID, id);
    if let Some(seconds) = answer.retry_after_s {
        response = response.header(RETRY_AFTER, seconds);
    }
    let body = if is_head { Vec::new() } else { answer.body };
    // A status from the table and plain headers: there is no way to fail.
    Ok(response.body(Full::new(Bytes::from(body))).unwrap_or_default())
}

/// Whether a web page may have made a request: browsers say so, and a page that had a name of its own
/// lead here uses that name. Where no token is needed, a page could speak to agents.
fn from_a_page(headers: &HeaderMap, host: &str) -> bool {
    let cross = headers.get("sec-fetch-site").is_some_and(|site| site != "none");
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let plain = name.is_empty() || name == "localhost" || name.parse::<IpAddr>().is_ok();
    headers.contains_key(ORIGIN) || cross || !plain
}

fn page_refused() -> Answer {
    let message = "without a token no web page is served, and no host name but localhost";
    Refusal::new(Code::Forbidden, "", message).hint("start the relay with --token").into()
}

/// Memory for bodies that are being read: strangers share a part of their own.
#[derive(Clone)]
struct Reader {
    strangers: Arc<Semaphore>,
    known: Arc<Semaphore>,
}

impl Reader {
    fn new() -> Self {
        let kib = |bytes: usize| Arc::new(Semaphore::new(bytes / 1024));
        Self { strangers: kib(RELAY_STRANGERS_BYTES), known: kib(RELAY_KNOWN_BYTES) }
    }

    /// The whole body, if it comes in time and is not too large. One that says so itself is not read.
    async fn read(&self, body: Incoming, known: bool) -> Result<Vec<u8>, Answer> {
        let hint = body.size_hint();
        if hint.lower() > RELAY_REQUEST_BYTES_MAX as u64 {
            return Err(too_large());
        }
        let most = hint.upper().map_or(RELAY_REQUEST_BYTES_MAX, |bytes| bytes as usize);
        let all = if known { &self.known } else { &self.strangers };
        let late = || Answer::from(Refusal::new(Code::Timeout, "", "the request took too long"));
        let whole = async {
            // Small ones cost no more than the connection itself.
            let kib = (most / 1024) as u32;
            let _place = if kib > 64 { all.acquire_many(kib).await.ok() } else { None };
            Limited::new(body, most.min(RELAY_REQUEST_BYTES_MAX)).collect().await
        };
        match tokio::time::timeout(BODY_WAIT, whole).await {
            Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
            Ok(Err(_)) => Err(too_large()),
            Err(_) => Err(late()),
        }
    }
}

fn too_large() -> Answer {
    let message = format!("the request was cut off, or is above {RELAY_REQUEST_BYTES_MAX} bytes");
    Refusal::new(Code::BodyTooLarge, "", message).into()
}
