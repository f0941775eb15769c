//! A connector over two transports: a relay in the same process, and HTTP.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use c2c::relay::client::{
    Connector, Credentials, HttpTransport, RelayClient, Transport, TransportRequest,
    TransportResponse, Unreachable,
};
use c2c::relay::keys::Identity;
use c2c::relay::server::{RelayHandle, RelayProfile, RelayRequest, RelayService};
use tokio::runtime::Runtime;

use super::{RelayProcess, TOKEN};
use crate::support::random::{Random, seed};
use crate::support::{World, run};
use tempfile::TempDir;

/// A relay in the process of the test, without a socket.
struct InProcess {
    service: RelayHandle,
    runtime: Runtime,
    _dir: TempDir,
}

const URL: &str = "http://relay.inside";

impl InProcess {
    fn new() -> Self {
        let (broker, dir) = super::broker_in_process();
        let about = RelayProfile {
            storage: "memory",
            names: vec!["relay".into()],
            ..RelayProfile::default()
        };
        let relay = RelayService::new(broker, Some(TOKEN.into()), None, about, 0).expect("a relay");
        let (service, _writer) = RelayHandle::start(relay).expect("a thread");
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_time().build().expect("a runtime");
        Self { service, runtime, _dir: dir }
    }
}

impl Transport for InProcess {
    fn base_url(&self) -> &str {
        URL
    }

    fn send(&self, request: &TransportRequest) -> Result<TransportResponse, Unreachable> {
        let relayed = RelayRequest {
            method: request.method.into(),
            target: request.target.clone(),
            authorization: request.authorization.clone(),
            base_url: URL.into(),
            body: request.body.clone(),
        };
        let answer = self.runtime.block_on(self.service.answer(relayed, "127.0.0.1"));
        let (status, retry_after_s) = (answer.status, answer.retry_after_s);
        Ok(TransportResponse { status, retry_after_s, body: answer.body })
    }
}

/// Loses one response of three, after the relay has processed the request.
struct Lossy {
    inner: Arc<dyn Transport>,
    random: Mutex<Random>,
}

impl Transport for Lossy {
    fn base_url(&self) -> &str {
        self.inner.base_url()
    }

    fn send(&self, request: &TransportRequest) -> Result<TransportResponse, Unreachable> {
        let answer = self.inner.send(request);
        if self.random.lock().expect("a lock").below(3) == 0 {
            let reason = "the response was lost".to_owned();
            return Err(Unreachable { reason, may_have_arrived: true });
        }
        answer
    }
}

/// While it is on, repeats its first response to every pull.
struct Stale {
    inner: Arc<dyn Transport>,
    first: Mutex<Option<TransportResponse>>,
    on: AtomicBool,
}

impl Transport for Stale {
    fn base_url(&self) -> &str {
        self.inner.base_url()
    }

    fn send(&self, request: &TransportRequest) -> Result<TransportResponse, Unreachable> {
        if request.target != "/pull" || !self.on.load(Ordering::Relaxed) {
            return self.inner.send(request);
        }
        let mut first = self.first.lock().expect("a lock");
        match &*first {
            Some(answer) => Ok(answer.clone()),
            None => {
                let answer = self.inner.send(request)?;
                *first = Some(answer.clone());
                Ok(answer)
            }
        }
    }
}

/// Runs a test with each transport, on each store.
fn with_each(test: &dyn Fn(&Arc<dyn Transport>)) {
    super::on_each_store(|| {
        let in_process: Arc<dyn Transport> = Arc::new(InProcess::new());
        test(&in_process);
        let relay = RelayProcess::start(super::store());
        let http: Arc<dyn Transport> =
            Arc::new(HttpTransport::new(&relay.url(), None).expect("a client"));
        test(&http);
    });
}

/// A root with one agent and its connector.
fn machine(transport: &Arc<dyn Transport>, node: &str, alias: &str) -> (World, Connector) {
    let world = World::new();
    world.register(&[alias]);
    let connector = connector(&world, transport, node);
    (world, connector)
}

fn connector(world: &World, transport: &Arc<dyn Transport>, node: &str) -> Connector {
    let identity = Identity::generate(1, node.into()).expect("a key");
    let credentials =
        Credentials { identity: Some(identity), key_file: None, token: Some(TOKEN.into()) };
    let client = RelayClient::new(Arc::clone(transport), credentials);
    Connector::new(&world.root(), client, node, 300)
}

fn tick(connectors: &mut [&mut Connector]) {
    for _ in 0..3 {
        for connector in &mut *connectors {
            connector.sync_once().expect("a round");
        }
    }
}

fn mail_and_room_messages_are_delivered_both_ways() {
    with_each(&|transport| {
        let (a, mut at_a) = machine(transport, "node-a", "ann");
        let (b, mut at_b) = machine(transport, "node-b", "bob");
        tick(&mut [&mut at_a, &mut at_b]);
        a.run("ann", &["send", "bob@node-b", "hello"]).ok();
        a.run("ann", &["send", "nobody@node-b", "lost"]).ok();
        a.run("ann", &["rooms", "join", "den"]).ok();
        b.run("bob", &["rooms", "join", "den"]).ok();
        tick(&mut [&mut at_a, &mut at_b]);
        assert_eq!(b.poll("bob"), ["hello"]);
        b.run("bob", &["send", "ann@node-a", "and back"]).ok();
        b.run("bob", &["rooms", "send", "den", "to all"]).ok();
        tick(&mut [&mut at_a, &mut at_b]);
        let received = a.poll("ann");
        assert!(received[0].contains("nobody@node-b"), "the bounce arrives: {received:?}");
        assert_eq!(received[1..], ["and back", "to all"]);
        tick(&mut [&mut at_a, &mut at_b]);
        assert!(a.poll("ann").is_empty() && b.poll("bob").is_empty());
    });
}

fn lost_responses_lose_and_duplicate_nothing() {
    with_each(&|transport| {
        let random = Mutex::new(Random::new(seed("relay::transport", 7)));
        let lossy: Arc<dyn Transport> = Arc::new(Lossy { inner: Arc::clone(transport), random });
        let (a, mut at_a) = machine(&lossy, "node-a", "ann");
        let (b, mut at_b) = machine(&lossy, "node-b", "bob");
        let sent: Vec<String> = (0..12).map(|number| format!("message {number}")).collect();
        for text in &sent {
            a.run("ann", &["send", "bob@node-b", text]).ok();
            // Some rounds fail.
            let _ = (at_a.sync_once(), at_b.sync_once());
        }
        for _ in 0..60 {
            let _ = (at_a.sync_once(), at_b.sync_once());
        }
        assert_eq!(b.poll("bob"), sent);
        let health = a.run("ann", &["health", "--json"]).ok().json();
        assert_eq!(health["outbox_depth"], 0, "every receipt has arrived");
    });
}

fn arriving_mail_wakes_a_waiting_connector() {
    with_each(&|transport| {
        let (a, mut at_a) = machine(transport, "node-a", "ann");
        let (b, mut at_b) = machine(transport, "node-b", "bob");
        tick(&mut [&mut at_a, &mut at_b]);
        let stop = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            // Without a wake-up, mail would arrive with the next round, an hour later.
            scope.spawn(|| at_b.run(Duration::from_secs(3600), &stop, &|_| {}));
            a.run("ann", &["send", "bob@node-b", "now"]).ok();
            at_a.sync_once().expect("a round");
            let listen = ["listen", "--take", "--once", "--timeout", "50", "-s", "s-bob"];
            let received = run(b.c2c(&listen)).ok();
            assert!(received.out.contains("now"), "{}", received.out);
            stop.store(true, Ordering::Relaxed);
            // An event for each thread, so that both check whether to stop.
            a.run("ann", &["send", "bob@node-b", "stop"]).ok();
            at_a.sync_once().expect("a round");
            b.run("bob", &["send", "ann@node-a", "stop"]).ok();
        });
    });
}

fn another_key_is_rejected_over_each_transport() {
    with_each(&|transport| {
        let (a, mut at_a) = machine(transport, "node-a", "ann");
        at_a.sync_once().expect("a round");
        let mut other = connector(&a, transport, "node-a");
        let refused = other.sync_once().map(|tick| tick.errors).unwrap_or_else(|e| vec![e]);
        let codes: Vec<&str> = refused.iter().map(|failure| failure.code().name()).collect();
        assert!(codes.contains(&"alias_identity_mismatch"), "{codes:?}");
    });
}

fn a_response_to_another_request_is_rejected_and_changes_nothing() {
    let in_process: Arc<dyn Transport> = Arc::new(InProcess::new());
    let (a, mut at_a) = machine(&in_process, "node-a", "ann");
    let (first, on) = (Mutex::new(None), AtomicBool::new(false));
    let stale = Arc::new(Stale { inner: Arc::clone(&in_process), first, on });
    let through: Arc<dyn Transport> = stale.clone();
    let (b, mut at_b) = machine(&through, "node-b", "bob");
    tick(&mut [&mut at_a, &mut at_b]);
    a.run("ann", &["send", "bob@node-b", "one"]).ok();
    tick(&mut [&mut at_a]);
    stale.on.store(true, Ordering::Relaxed);
    let refused = at_b.sync_once().expect_err("the first response is repeated");
    assert_eq!(refused.code().name(), "batch_invalid");
    let seen = b.run("bob", &["peek-inbox", "--json"]).ok().json();
    assert_eq!(crate::support::contents(&seen), ["one"]);
    stale.on.store(false, Ordering::Relaxed);
    a.run("ann", &["send", "bob@node-b", "two"]).ok();
    tick(&mut [&mut at_a, &mut at_b]);
    assert_eq!(b.poll("bob"), ["one", "two"]);
}

crate::harness::tests! {
    fast:
        arriving_mail_wakes_a_waiting_connector,
        another_key_is_rejected_over_each_transport,
        a_response_to_another_request_is_rejected_and_changes_nothing;
    slow:
        lost_responses_lose_and_duplicate_nothing,
        mail_and_room_messages_are_delivered_both_ways;
}
