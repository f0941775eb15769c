//! How does one request become an answer?
//!
//! A value without a socket: the listener and the tests call it alike. What it answers may be told
//! only when its group is on disk; see [`super::writer`].

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

use super::access::{Caller, Guard};
use super::answer::{Answer, Request, problem_of};
use super::handle::{self, Call};
use super::histories::Histories;
use super::keyring::Keyring;
use super::nonces::Nonces;
use super::rate::Rates;
use super::remote::Remote;
use crate::broker::Broker;
use crate::clock;
use crate::code::Code;
use crate::decide::{self, Actor, Command, Refusal};
use crate::failure::Failure;
use crate::limits::RELAY_WAIT_S_MAX;
use crate::wire::body::Problem;
use crate::wire::route::{self, Access, NoRoute, Route};

/// What a relay says of itself.
#[derive(Debug, Clone, Default)]
pub struct About {
    pub storage: &'static str,
    pub persist_dir: Option<String>,
    /// Names that mean this relay in an address; the first is how it signs.
    pub names: Vec<String>,
    /// Bytes of the copies that machines may keep here; none with 0.
    pub mirror_bytes_max: u64,
}

/// Keys that are admitted, by alias in lower case.
pub type Allowed = BTreeMap<String, String>;

/// A relay.
pub struct Relay {
    pub(super) broker: Broker,
    pub(super) nonces: Nonces,
    rates: Rates,
    pub(super) token: Option<String>,
    pub(super) about: About,
    /// What was said in rooms, for those who read it without the relay.
    histories: Option<Histories>,
    /// A broker that is read over SSH.
    pub(super) remote: Option<Remote>,
    /// When the keys were shared last, as the broker counts.
    shared: Option<u64>,
    /// What was signed before may have been used before: nobody remembers.
    started_us: u64,
    /// Batches that were taken in; see [`Self::free_spent`].
    pub(super) spent: Vec<Command>,
}

/// What comes of a request now.
pub enum Step {
    Answer(Answer),
    /// There is nothing yet, and the caller is willing to wait.
    Wait(Box<Wait>),
}

/// A request that waits for something to happen.
pub struct Wait {
    pub request: Request,
    caller: Caller,
    /// Up to here there was nothing for it.
    pub seen: u64,
    /// Until when it waits.
    pub until_us: u64,
}

/// An actor without session: for what nobody does.
pub fn nobody() -> Actor {
    Actor { node_id: String::from("relay"), ..Actor::default() }
}

impl Relay {
    /// A relay on a broker.
    pub fn new(
        broker: Broker,
        token: Option<String>,
        allowed: Option<Allowed>,
        about: About,
        requests_per_s: u32,
    ) -> Result<Self, Failure> {
        let allowed = allowed.filter(|_| token.is_some());
        let mut broker =
            broker.relay(decide::Relay { names: about.names.clone(), allowed, called: None });
        broker.look(&nobody())?;
        if broker.state().head == 0 {
            // Whoever connects must learn which log this is, so there is one from the start.
            broker.execute(&Command::Move { to: String::new() }, &nobody())?;
        }
        broker.remember_ids()?;
        let (nonces, rates) = (Nonces::default(), Rates::new(requests_per_s));
        let (histories, remote, shared) = (None, None, None);
        let (started_us, spent) = (clock::now_us(), Vec::new());
        Ok(Self {
            broker,
            nonces,
            rates,
            token,
            about,
            histories,
            remote,
            shared,
            started_us,
            spent,
        })
    }

    /// Keeps what is said in rooms readable in a directory, and loads what is there.
    pub fn with_histories(mut self, directory: &Path) -> Result<Self, Failure> {
        self.histories = Some(Histories::open(directory, &mut self.broker)?);
        Ok(self)
    }

    /// Something was said in a room.
    pub(super) fn note_said(&mut self) {
        if let Some(histories) = &mut self.histories {
            histories.note();
        }
    }

    /// Writes what was said in rooms, now that it is on disk.
    pub fn write_histories(&mut self) {
        if let Some(histories) = &mut self.histories {
            histories.write(&mut self.broker);
        }
    }

    /// Shows the inboxes of a broker that is read over SSH.
    pub fn with_remote(self, remote: Remote) -> Self {
        Self { remote: Some(remote), ..self }
    }

    /// Answers one request; `from` is the address that it came from.
    pub fn answer(&mut self, request: Request, from: &str) -> Step {
        match self.admit(&request, from) {
            Ok(caller) => {
                let seen = 0;
                let wait_us = handle::wait_s(&request).min(RELAY_WAIT_S_MAX as f64) * 1e6;
                let until_us = clock::now_us() + wait_us as u64;
                self.go_on(Box::new(Wait { request, caller, seen, until_us }))
            }
            Err(answer) => Step::Answer(answer),
        }
    }

    /// Looks again for a request that waits.
    pub fn go_on(&mut self, mut wait: Box<Wait>) -> Step {
        let now_us = clock::now_us();
        let found = match route::find(&wait.request.method, &wait.request.target) {
            Ok(found) => found,
            Err(error) => return Step::Answer(no_route(error, &wait.request)),
        };
        if let Err(failure) = self.broker.look(&nobody()) {
            return Step::Answer(failure.into());
        }
        let batch = Cell::new(wait.request.batch.take());
        let call = Call {
            request: &wait.request,
            batch,
            name: found.parameter,
            caller: wait.caller.clone(),
            seen: wait.seen,
            last: now_us >= wait.until_us,
            now_us,
        };
        // The host of the URL in use means the relay, for whoever uses it.
        let host = call.request.base_url.split("://").nth(1).unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        self.broker.called((!host.is_empty()).then(|| host.to_owned()));
        match handle::handle(self, found.route, &call) {
            Ok(handle::Found::Answer(answer)) => Step::Answer(answer),
            Ok(handle::Found::Nothing { seen }) => {
                wait.seen = seen;
                Step::Wait(wait)
            }
            Err(answer) => Step::Answer(answer),
        }
    }

    /// Decides whether a request may go on, and as whom.
    fn admit(&mut self, request: &Request, from: &str) -> Result<Caller, Answer> {
        let now_us = clock::now_us();
        let found = route::find(&request.method, &request.target);
        // Who has shown a key is counted by it, everybody else by address and before any work.
        let watched = |found: &route::Found| matches!(found.route, Route::Health | Route::Ready);
        if self.token.is_some() && !found.as_ref().is_ok_and(watched) {
            let who = request.signer.as_ref().map_or(from, |signer| signer.key.as_str());
            self.rates.take(who, now_us).map_err(too_many)?;
        }
        self.broker.look(&nobody())?;
        // What is not there is nobody's business who shows no credentials.
        let access = found.as_ref().map_or(NoRoute::ACCESS, |found| match found.route {
            // The body may ask for what only the operator is shown, as the query may.
            Route::List if handle::asks_for_dead(request) => Access::Admin,
            _ => found.access,
        });
        let caller = self.guard(now_us).check(request, access)?;
        found.map(|_| caller).map_err(|error| no_route(error, request))
    }

    /// What access is decided with.
    pub(super) fn guard(&mut self, now_us: u64) -> Guard<'_> {
        let state = self.broker.state();
        let (token, nonces) = (self.token.as_deref(), &mut self.nonces);
        Guard { state, token, nonces, now_us, started_us: self.started_us }
    }

    /// Ends leases that are over.
    pub fn collect(&mut self) -> Result<decide::Collected, Failure> {
        handle::collect(&mut self.broker)
    }

    /// Opens a group: nothing that is answered from here on may be told before it is committed.
    pub fn begin_group(&mut self) {
        self.broker.begin_group();
    }

    /// Waits for the disk.
    pub fn commit_group(&mut self) -> Result<(), Failure> {
        self.broker.commit_group()
    }

    /// Gives back the memory of what was done, now that it is answered.
    pub fn free_spent(&mut self) {
        self.spent.clear();
        self.broker.free_spent();
    }

    /// Tells which keys count now, if that has changed.
    pub fn share_keys(&mut self, keys: &Keyring) {
        let now = self.broker.key_changes();
        if self.token.is_some() && self.shared != Some(now) {
            keys.update(self.broker.state());
            self.shared = Some(now);
        }
    }

    /// The last sequence of the log.
    pub fn head(&self) -> u64 {
        self.broker.state().head
    }
}

fn too_many(retry_after_s: f64) -> Answer {
    let refusal = Refusal::new(Code::RateLimited, "", "too many requests from this identity");
    let problem = Problem { retry_after: Some(retry_after_s), ..problem_of(&refusal) };
    Answer::problem(&problem, 429)
}

fn no_route(error: NoRoute, request: &Request) -> Answer {
    let path = request.target.split('?').next().unwrap_or_default();
    let refusal = match error {
        NoRoute::Path => Refusal::new(Code::NotFound, "", format!("unknown endpoint: {path}")),
        NoRoute::Method(methods) => {
            let message = format!("{path} takes {}", methods.join(" or "));
            Refusal::new(Code::MethodNotAllowed, "", message)
        }
    };
    refusal.into()
}
