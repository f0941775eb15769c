//! What does each route do?

mod about;
mod lease;
mod message;
mod mirror;
mod replicate;
mod room;

pub use message::row;
pub use replicate::batch_of;

use std::cell::Cell;

use serde::de::DeserializeOwned;

use super::access::Caller;
use super::answer::{Answer, Request, bad_body};
use super::service::{Relay, nobody};
use crate::code::Code;
use crate::decide::{Actor, Batch, Refusal};
use crate::failure::Failure;
use crate::wire::body::{self, BodyError};
use crate::wire::route::{self, Route};

pub use lease::{asks_for_dead, collect};

/// One request that may go on.
pub struct Call<'a> {
    pub request: &'a Request,
    /// The batch that it brings, if somebody has read it already.
    pub batch: Cell<Option<Result<Batch, Refusal>>>,
    /// The name in the path.
    pub name: String,
    pub caller: Caller,
    /// Up to here there was nothing for it, when it looks again.
    pub seen: u64,
    /// Whether it waits no longer.
    pub last: bool,
    pub now_us: u64,
}

/// What was found for a request.
pub enum Found {
    Answer(Answer),
    /// Nothing up to here, and the caller waits.
    Nothing {
        seen: u64,
    },
}

type Done = Result<Answer, Answer>;

/// Does what was asked. An answer that grants nothing is an error here.
pub fn handle(relay: &mut Relay, route: Route, call: &Call<'_>) -> Result<Found, Answer> {
    let answer = match route {
        Route::Pull => return replicate::pull(relay, call),
        Route::PollInbox => return message::poll(relay, call),
        Route::Push => replicate::push(relay, call),
        Route::Landing => Ok(about::landing(relay)),
        Route::Health => about::health(relay, call),
        Route::Ready => about::ready(relay),
        Route::Metrics => about::metrics(relay),
        Route::Register => lease::register(relay, call),
        Route::RotateKey => lease::rotate(relay, call),
        Route::Heartbeat => lease::heartbeat(relay, call),
        Route::List => lease::list(relay, call),
        Route::Pubkey => lease::public_key(relay, call),
        Route::AdminUnbind => lease::unbind(relay, call),
        Route::Mirror => mirror::mirror(relay, call),
        Route::MirrorRead => mirror::read(relay, call),
        Route::AdminReplay => message::replay(relay, call),
        Route::Gc => lease::gc(relay),
        Route::Send => message::send(relay, call),
        Route::SendAll => message::send_all(relay, call),
        Route::PeekInbox => message::peek(relay, call),
        Route::DeadLetter => message::dead_letters(relay, call),
        Route::RemoteInbox => message::remote_inbox(relay, call),
        Route::JoinRoom => room::join(relay, call),
        Route::LeaveRoom => room::leave(relay, call),
        Route::SendRoom => room::send(relay, call),
        Route::RoomHistory => room::history(relay, call),
        Route::ListRooms => room::list(relay, call),
        Route::SetRoomVisibility => room::set_visibility(relay, call),
        Route::InviteRoom => room::invite(relay, call, true),
        Route::UninviteRoom => room::invite(relay, call, false),
    };
    answer.map(Found::Answer)
}

/// How long a request is willing to wait, seconds.
pub fn wait_s(request: &Request) -> f64 {
    #[derive(serde::Deserialize)]
    struct Willing {
        wait_s: Option<f64>,
    }
    let waits = route::find(&request.method, &request.target)
        .is_ok_and(|found| matches!(found.route, Route::Pull | Route::PollInbox));
    let willing = waits.then(|| body::parse::<Willing>(&request.body).ok()).flatten();
    willing.and_then(|willing| willing.wait_s).filter(|s| s.is_finite()).unwrap_or(0.0).max(0.0)
}

impl Call<'_> {
    /// The JSON body.
    fn body<T: DeserializeOwned>(&self) -> Result<T, Answer> {
        // Bodies of GET requests are tolerated, and mean nothing.
        let body = if self.request.method == "GET" { b"" } else { self.request.body.as_slice() };
        body::parse(body).map_err(malformed)
    }

    /// The caller as an alias.
    fn acting_as(&self, alias: &str) -> Result<Actor, Answer> {
        self.caller.speaks_as(alias)?;
        Ok(Actor { alias: Some(alias.to_owned()), key: self.caller.key(), ..nobody() })
    }
}

fn malformed(error: BodyError) -> Answer {
    bad_body(error).into()
}

/// A reply of another kind than the command's.
fn internal() -> Answer {
    Refusal::new(Code::Internal, "", "a reply of another kind").into()
}

/// A name that the relay does not know.
fn not_found(message: String) -> Answer {
    Refusal::new(Code::NotFound, "", message).into()
}

/// A refusal that was made somewhere below.
fn failed(failure: Failure) -> Answer {
    failure.into()
}
