//! One request to one answer: rate limit, credentials, route, answer or wait.
//!
//! A value without a socket: the listener and the tests call it alike. An answer may be sent only
//! after its group is on disk; see [`super::writer`].

use std::path::Path;

use super::access::Caller;
use super::answer::{RelayAnswer, problem_of};
use super::core::{AllowedKeys, RelayCore, RelayProfile, system_actor};
use super::histories::RoomHistories;
use super::keyring::{Keyring, VerifiedSigner};
use super::open::StoreLock;
use super::rate::RateLimiter;
use super::remote::RemoteBrokerMonitor;
use super::request::RelayRequest;
use super::routes::{self, Call, RouteOutcome};
use crate::broker::Broker;
use crate::error::Failure;
use crate::platform::clock;
use crate::relay::protocol::response::ErrorResponse;
use crate::relay::protocol::route::{self, Access, NoRoute, Route};
use c2c_core::code::Code;
use c2c_core::decide::{Batch, Collected, Rejection};
use c2c_core::limits::RELAY_WAIT_S_MAX;

/// A request with everything that is worked out before the writer's turn.
pub struct Prepared {
    pub request: RelayRequest,
    /// The route of the request, resolved once.
    pub route: Result<route::RouteMatch, NoRoute>,
    /// The verified signer, if a key that is known here signed the request.
    pub signer: Option<VerifiedSigner>,
    /// The decoded batch of a push, if it was decoded before the writer's turn.
    pub batch: Option<Result<Batch, Rejection>>,
}

impl From<RelayRequest> for Prepared {
    /// Resolves the route; leaves the signature and the batch to the writer.
    fn from(request: RelayRequest) -> Self {
        let route = route::find(&request.method, &request.target);
        Self { request, route, signer: None, batch: None }
    }
}

impl Prepared {
    /// Whether the request is for one of these routes.
    pub fn is_for(&self, routes: &[Route]) -> bool {
        self.route.as_ref().is_ok_and(|found| routes.contains(&found.route))
    }
}

/// The result of one attempt to answer a request.
pub enum Step {
    Answer(RelayAnswer),
    /// The answer would be empty, and the client is willing to wait.
    Pending(Box<PendingRequest>),
}

/// A request that waits for new events.
pub struct PendingRequest {
    prepared: Prepared,
    caller: Caller,
    /// The log up to this sequence holds nothing for the request.
    pub seen: u64,
    /// When the wait ends.
    pub until_us: u64,
}

/// A relay without its network.
pub struct RelayService {
    core: RelayCore,
    limiter: RateLimiter,
    /// Room histories as files, if the operator named a directory.
    histories: Option<RoomHistories>,
    /// The broker's count of key changes at the last refresh of the keyring.
    keyring_version: Option<u64>,
    /// Held while the relay serves its store.
    _lock: Option<StoreLock>,
}

impl RelayService {
    /// Turns a broker into a relay. `requests_per_s` limits each identity; 0 for no limit.
    pub fn new(
        broker: Broker,
        token: Option<String>,
        allowed: Option<AllowedKeys>,
        profile: RelayProfile,
        requests_per_s: u32,
    ) -> Result<Self, Failure> {
        Ok(Self {
            core: RelayCore::new(broker, token, allowed, profile)?,
            limiter: RateLimiter::new(requests_per_s),
            histories: None,
            keyring_version: None,
            _lock: None,
        })
    }

    /// Imports the room histories of a directory, and keeps them up to date from now on.
    pub fn with_histories(mut self, directory: &Path) -> Result<Self, Failure> {
        self.histories = Some(RoomHistories::open(directory, &mut self.core.broker)?);
        Ok(self)
    }

    /// Holds the lock of the store for as long as the relay serves it.
    pub fn with_lock(mut self, lock: StoreLock) -> Self {
        self._lock = Some(lock);
        self
    }

    /// Serves the inboxes of a broker that is read over SSH.
    pub fn with_remote(mut self, remote: RemoteBrokerMonitor) -> Self {
        self.core.remote = Some(remote);
        self
    }

    /// The broker that is read over SSH, if any.
    pub(super) fn remote(&self) -> Option<RemoteBrokerMonitor> {
        self.core.remote.clone()
    }

    /// Answers one request. `client_address` is the IP address of the connection.
    pub fn answer(&mut self, request: impl Into<Prepared>, client_address: &str) -> Step {
        let prepared = request.into();
        match self.admit(&prepared, client_address) {
            Ok(caller) => {
                let wait_us = wait_s(&prepared).min(RELAY_WAIT_S_MAX as f64) * 1e6;
                let until_us = clock::now_us() + wait_us as u64;
                self.resume(Box::new(PendingRequest { prepared, caller, seen: 0, until_us }))
            }
            Err(answer) => Step::Answer(answer),
        }
    }

    /// Tries to answer an admitted request, for the first time or after a wait.
    pub fn resume(&mut self, mut pending: Box<PendingRequest>) -> Step {
        let now_us = clock::now_us();
        let batch = pending.prepared.batch.take();
        let request = &pending.prepared.request;
        let found = match &pending.prepared.route {
            Ok(found) => found,
            Err(error) => return Step::Answer(no_route(*error, request)),
        };
        if let Err(failure) = self.core.broker.refresh(&system_actor()) {
            return Step::Answer(failure.into());
        }
        let call = Call {
            request,
            batch: batch.into(),
            name: &found.parameter,
            caller: &pending.caller,
            seen: pending.seen,
            is_last: now_us >= pending.until_us,
            now_us,
        };
        // The host name that the client used is an alias of this relay, for this client.
        self.core.broker.set_requested_host(request.host().map(str::to_owned));
        match routes::handle(&mut self.core, found.route, &call) {
            Ok(RouteOutcome::Answer(answer)) | Err(answer) => Step::Answer(answer),
            Ok(RouteOutcome::Pending { seen }) => {
                pending.seen = seen;
                Step::Pending(pending)
            }
        }
    }

    /// Applies the rate limit and checks credentials.
    fn admit(&mut self, prepared: &Prepared, client_address: &str) -> Result<Caller, RelayAnswer> {
        let now_us = clock::now_us();
        let Prepared { request, route, signer, .. } = prepared;
        // The limit is by key if the signature is verified, else by address, and comes before any work.
        if self.core.token.is_some() && !prepared.is_for(&[Route::Health, Route::Ready]) {
            let identity = signer.as_ref().map_or(client_address, |signer| signer.key.as_str());
            self.limiter.take(identity, now_us).map_err(rate_limited)?;
        }
        self.core.broker.refresh(&system_actor())?;
        // A client without credentials does not learn which paths exist.
        let access = route.as_ref().map_or(NoRoute::ACCESS, |found| match found.route {
            // The body, like the query, may request expired leases, which only the operator sees.
            Route::List if routes::requests_expired_leases(request) => Access::Admin,
            _ => found.access,
        });
        let caller = self.core.guard(now_us).check(request, signer.as_ref(), access)?;
        match route {
            Ok(_) => Ok(caller),
            Err(error) => Err(no_route(*error, request)),
        }
    }

    /// Ends expired leases.
    pub fn collect_leases(&mut self) -> Result<Collected, Failure> {
        routes::collect_leases(&mut self.core.broker)
    }

    /// Opens a group: answers from here on must wait for [`Self::commit_group`].
    pub fn begin_group(&mut self) {
        self.core.broker.begin_group();
    }

    /// Waits until everything of the group is on disk.
    pub fn commit_group(&mut self) -> Result<(), Failure> {
        self.core.broker.commit_group()
    }

    /// Writes the new room messages, which are on disk in the log, to the history files.
    pub fn write_histories(&mut self) {
        if let Some(histories) = &mut self.histories {
            let has_messages = self.core.take_room_messages();
            histories.write(&mut self.core.broker, has_messages);
        }
    }

    /// Frees what the last group received and wrote. Runs after the answers are sent, because it is
    /// slow for a large batch.
    pub fn drop_committed(&mut self) {
        self.core.received.clear();
        self.core.broker.drop_committed_events();
    }

    /// Publishes the current keys, if they changed.
    pub fn refresh_keyring(&mut self, keys: &Keyring) {
        let version = self.core.broker.key_changes();
        if self.core.token.is_some() && self.keyring_version != Some(version) {
            keys.update(self.core.broker.state());
            self.keyring_version = Some(version);
        }
    }

    /// Whether a checkpoint is due.
    pub(super) fn checkpoint_due(&self) -> bool {
        self.core.broker.checkpoint_due()
    }

    /// Starts the checkpoint that is due, while no request is waiting.
    pub(super) fn checkpoint_while_idle(&mut self) {
        self.core.broker.checkpoint_in_background_if_due(true);
    }

    /// Writes the checkpoint that is due before the process ends, so that the next start reads less.
    pub(super) fn checkpoint_at_end(&mut self) {
        self.core.broker.checkpoint_at_end();
    }

    /// The last sequence of the log.
    pub fn head(&self) -> u64 {
        self.core.head()
    }
}

/// How long the client is willing to wait for new events, seconds.
fn wait_s(prepared: &Prepared) -> f64 {
    if prepared.is_for(&[Route::Pull, Route::PollInbox]) {
        routes::requested_wait_s(&prepared.request)
    } else {
        0.0
    }
}

fn rate_limited(retry_after_s: f64) -> RelayAnswer {
    let rejection =
        Rejection::new(Code::RateLimitExceeded, "", "too many requests from this identity");
    let problem = ErrorResponse { retry_after: Some(retry_after_s), ..problem_of(&rejection) };
    RelayAnswer::problem(&problem, 429)
}

fn no_route(error: NoRoute, request: &RelayRequest) -> RelayAnswer {
    let path = request.path();
    let rejection = match error {
        NoRoute::Path => Rejection::new(Code::NotFound, "", format!("unknown endpoint: {path}")),
        NoRoute::Method(methods) => {
            let message = format!("{path} accepts {} only", methods.join(" or "));
            Rejection::new(Code::MethodNotAllowed, "", message)
        }
    };
    rejection.into()
}
