//! How does the relay listen, and how does it stop?

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, RETRY_AFTER};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::answer::{Answer, Request};
use super::service::Relay;
use super::writer::Service;
use crate::code::Code;
use crate::decide::Refusal;
use crate::failure::Failure;
use crate::limits::{
    RELAY_CONNECTIONS_MAX, RELAY_HEAD_BYTES_MAX, RELAY_HEAD_WAIT_S, RELAY_HEADERS_MAX,
    RELAY_REQUEST_BYTES_MAX,
};
use crate::log::LogError;

/// How long running requests have to end when the relay stops.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// How long the body of a request may take.
const BODY_WAIT: Duration = Duration::from_secs(60);

/// How to listen.
#[derive(Debug, Clone)]
pub struct Listen {
    pub address: SocketAddr,
    /// How often leases that are over are ended; never, if not at all.
    pub gc_interval: Option<Duration>,
    pub verbose: bool,
}

/// Serves until the process is told to stop. `ready` learns the address once it listens.
pub fn serve(
    listen: &Listen,
    relay: Relay,
    ready: &mut dyn FnMut(SocketAddr) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| LogError::io("start", "the runtime", e))?;
    let (service, writer) = Service::start(relay)?;
    let served = runtime.block_on(run(listen, service, ready));
    runtime.shutdown_timeout(STOP_WAIT);
    // The last clone of the service is gone: the writer has done what was asked, and ends.
    let _ = writer.join();
    served
}

async fn run(
    listen: &Listen,
    service: Service,
    ready: &mut dyn FnMut(SocketAddr) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let bound = TcpListener::bind(listen.address).await;
    let name = listen.address.to_string();
    let listener = bound.map_err(|e| LogError::io("listen on", &name, e))?;
    let handler = |kind| signal(kind).map_err(|e| LogError::io("watch", "signals", e));
    let (mut term, mut int) =
        (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    ready(listener.local_addr().unwrap_or(listen.address))?;
    let mut tasks = JoinSet::new();
    let stop = watch::Sender::new(false);
    let room = Arc::new(Semaphore::new(RELAY_CONNECTIONS_MAX));
    let mut collect =
        tokio::time::interval(listen.gc_interval.unwrap_or(Duration::from_secs(3600)));
    collect.tick().await;
    loop {
        tokio::select! {
            accepted = accept(&listener, &room) => {
                let Some((stream, from, place)) = accepted else { continue };
                let (service, stop) = (service.clone(), stop.subscribe());
                let verbose = listen.verbose;
                tasks.spawn(async move {
                    connection(Client { service, from, verbose }, stream, stop).await;
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
    stop.send_replace(true);
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
            eprintln!("gc: {leases} leases ended, mail of {inboxes} kept as dead letters");
        }
        Err(failure) => eprintln!("gc: {}", failure.message()),
    }
}

/// Who is at the other end.
#[derive(Clone)]
struct Client {
    service: Service,
    from: SocketAddr,
    verbose: bool,
}

/// One client, request after request, until it goes or the relay stops.
async fn connection(client: Client, stream: TcpStream, mut stop: watch::Receiver<bool>) {
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
        base_url: format!("{}://{host}", scheme.as_deref().unwrap_or("http")).to_lowercase(),
        body: Vec::new(),
    };
    let what = format!("{} {}", asked.method, asked.target);
    let is_head = head.method == hyper::Method::HEAD;
    let answer = match read(body).await {
        Ok(body) => {
            asked.body = body;
            client.service.answer(asked, &client.from.ip().to_string()).await
        }
        Err(answer) => answer,
    };
    if client.verbose {
        let what: String = what.chars().flat_map(char::escape_default).take(200).collect();
        eprintln!("{} {} {what} {id}", client.from.ip(), answer.status);
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

/// The whole body, if it comes in time and is not too large. One that says so itself is not read.
async fn read(body: Incoming) -> Result<Vec<u8>, Answer> {
    if body.size_hint().lower() > RELAY_REQUEST_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let whole = Limited::new(body, RELAY_REQUEST_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_WAIT, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(_)) => Err(too_large()),
        Err(_) => Err(Refusal::new(Code::Timeout, "", "the request took too long").into()),
    }
}

fn too_large() -> Answer {
    let message = format!("the request was cut off, or is above {RELAY_REQUEST_BYTES_MAX} bytes");
    Refusal::new(Code::BodyTooLarge, "", message).into()
}
