//! Is a connector the same to its root whether the relay is in this process or behind HTTP?

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use c2c::connector::{
    Client, Connector, Credentials, Http, Incoming, Outgoing, Transport, Unreachable,
};
use c2c::identity::Identity;
use c2c::relay::{About, Relay, Request, Service};
use tokio::runtime::Runtime;

use super::crash::chance;
use super::{Hub, TOKEN};
use crate::support::{World, run};
use tempfile::TempDir;

/// A relay in this process, without a socket.
struct Inside {
    service: Service,
    runtime: Runtime,
    _dir: TempDir,
}

const INSIDE: &str = "http://relay.inside";

impl Inside {
    fn new() -> Self {
        let (broker, dir) = super::broker_inside();
        let about = About { storage: "memory", names: vec!["relay".into()], ..About::default() };
        let relay = Relay::new(broker, Some(TOKEN.into()), None, about, 0).expect("a relay");
        let (service, _writer) = Service::start(relay).expect("a thread");
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_time().build().expect("a runtime");
        Self { service, runtime, _dir: dir }
    }
}

impl Transport for Inside {
    fn base_url(&self) -> &str {
        INSIDE
    }

    fn ask(&self, request: &Outgoing) -> Result<Incoming, Unreachable> {
        let asked = Request {
            method: request.method.into(),
            target: request.target.clone(),
            authorization: request.authorization.clone(),
            base_url: INSIDE.into(),
            body: request.body.clone(),
            ..Request::default()
        };
        let answer = self.runtime.block_on(self.service.answer(asked, "127.0.0.1"));
        let (status, retry_after_s) = (answer.status, answer.retry_after_s);
        Ok(Incoming { status, retry_after_s, body: answer.body })
    }
}

/// Loses one answer of three: the relay has done what was asked.
struct Lossy {
    inner: Arc<dyn Transport>,
    seed: Mutex<u64>,
}

impl Transport for Lossy {
    fn base_url(&self) -> &str {
        self.inner.base_url()
    }

    fn ask(&self, request: &Outgoing) -> Result<Incoming, Unreachable> {
        let answer = self.inner.ask(request);
        if chance(&mut self.seed.lock().expect("a lock")).is_multiple_of(3) {
            return Err(Unreachable("the answer was lost".into()));
        }
        answer
    }
}

/// While it is on, gives the first answer once more to whoever pulls.
struct Stale {
    inner: Arc<dyn Transport>,
    kept: Mutex<Option<Incoming>>,
    on: AtomicBool,
}

impl Transport for Stale {
    fn base_url(&self) -> &str {
        self.inner.base_url()
    }

    fn ask(&self, request: &Outgoing) -> Result<Incoming, Unreachable> {
        if request.target != "/pull" || !self.on.load(Ordering::Relaxed) {
            return self.inner.ask(request);
        }
        let mut kept = self.kept.lock().expect("a lock");
        match &*kept {
            Some(answer) => Ok(answer.clone()),
            None => {
                let answer = self.inner.ask(request)?;
                *kept = Some(answer.clone());
                Ok(answer)
            }
        }
    }
}

/// Runs a test with each of the two, on each store.
fn with_each(test: &dyn Fn(&Arc<dyn Transport>)) {
    super::on_each_store(|| {
        let inside: Arc<dyn Transport> = Arc::new(Inside::new());
        test(&inside);
        let hub = Hub::start(super::store());
        let http: Arc<dyn Transport> = Arc::new(Http::new(&hub.url(), None).expect("a client"));
        test(&http);
    });
}

/// A root with one agent, and its connector.
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
    let client = Client::new(Arc::clone(transport), credentials);
    Connector::new(&world.root(), client, node, 300)
}

fn tick(connectors: &mut [&mut Connector]) {
    for _ in 0..3 {
        for connector in &mut *connectors {
            connector.tick().expect("a round");
        }
    }
}

#[test]
fn mail_goes_both_ways_and_a_room_is_one_room() {
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
        let came = a.poll("ann");
        assert!(came[0].contains("nobody@node-b"), "a refusal comes back: {came:?}");
        assert_eq!(came[1..], ["and back", "to all"]);
        tick(&mut [&mut at_a, &mut at_b]);
        assert!(a.poll("ann").is_empty() && b.poll("bob").is_empty());
    });
}

#[test]
fn lost_answers_lose_and_double_nothing() {
    with_each(&|transport| {
        let lossy: Arc<dyn Transport> =
            Arc::new(Lossy { inner: Arc::clone(transport), seed: Mutex::new(7) });
        let (a, mut at_a) = machine(&lossy, "node-a", "ann");
        let (b, mut at_b) = machine(&lossy, "node-b", "bob");
        let sent: Vec<String> = (0..12).map(|number| format!("message {number}")).collect();
        for text in &sent {
            a.run("ann", &["send", "bob@node-b", text]).ok();
            // Some rounds fail half-way.
            let _ = (at_a.tick(), at_b.tick());
        }
        for _ in 0..60 {
            let _ = (at_a.tick(), at_b.tick());
        }
        assert_eq!(b.poll("bob"), sent);
        let health = a.run("ann", &["health", "--json"]).ok().json();
        assert_eq!(health["outbox_depth"], 0, "every receipt has come back");
    });
}

#[test]
fn what_comes_wakes_a_connector_that_waits() {
    with_each(&|transport| {
        let (a, mut at_a) = machine(transport, "node-a", "ann");
        let (b, mut at_b) = machine(transport, "node-b", "bob");
        tick(&mut [&mut at_a, &mut at_b]);
        let stop = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            // Without the wake, mail would come with the next round, an hour later.
            scope.spawn(|| at_b.follow(Duration::from_secs(3600), &stop, &|_| {}));
            a.run("ann", &["send", "bob@node-b", "now"]).ok();
            at_a.tick().expect("a round");
            let listen = ["listen", "--take", "--once", "--timeout", "50", "-s", "s-bob"];
            let heard = run(b.c2c(&listen)).ok();
            assert!(heard.out.contains("now"), "{}", heard.out);
            stop.store(true, Ordering::Relaxed);
            // Something to say, so that both threads look whether they should stop.
            a.run("ann", &["send", "bob@node-b", "stop"]).ok();
            at_a.tick().expect("a round");
            b.run("bob", &["send", "ann@node-a", "stop"]).ok();
        });
    });
}

#[test]
fn another_key_is_refused_the_same_way() {
    with_each(&|transport| {
        let (a, mut at_a) = machine(transport, "node-a", "ann");
        at_a.tick().expect("a round");
        let mut other = connector(&a, transport, "node-a");
        let refused = other.tick().map(|tick| tick.errors).unwrap_or_else(|e| vec![e]);
        let codes: Vec<&str> = refused.iter().map(|failure| failure.code().name()).collect();
        assert!(codes.contains(&"alias_identity_mismatch"), "{codes:?}");
    });
}

#[test]
fn an_answer_to_another_question_is_refused_and_changes_nothing() {
    let inside: Arc<dyn Transport> = Arc::new(Inside::new());
    let (a, mut at_a) = machine(&inside, "node-a", "ann");
    let (kept, on) = (Mutex::new(None), AtomicBool::new(false));
    let stale = Arc::new(Stale { inner: Arc::clone(&inside), kept, on });
    let through: Arc<dyn Transport> = stale.clone();
    let (b, mut at_b) = machine(&through, "node-b", "bob");
    tick(&mut [&mut at_a, &mut at_b]);
    a.run("ann", &["send", "bob@node-b", "one"]).ok();
    tick(&mut [&mut at_a]);
    stale.on.store(true, Ordering::Relaxed);
    let refused = at_b.tick().expect_err("the first answer comes a second time");
    assert_eq!(refused.code().name(), "batch_invalid");
    let seen = b.run("bob", &["peek-inbox", "--json"]).ok().json();
    assert_eq!(crate::support::contents(&seen), ["one"]);
    stale.on.store(false, Ordering::Relaxed);
    a.run("ann", &["send", "bob@node-b", "two"]).ok();
    tick(&mut [&mut at_a, &mut at_b]);
    assert_eq!(b.poll("bob"), ["one", "two"]);
}
