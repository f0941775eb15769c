//! The routes of the relay: one handler for each.

mod about;
mod call;
mod lease;
mod message;
mod mirror;
mod replicate;
mod room;

pub use call::{Call, RouteOutcome};
pub use lease::{collect_leases, requests_expired_leases};
pub use replicate::decode_batch;

use super::answer::RelayAnswer;
use super::core::RelayCore;
use super::request::RelayRequest;
use crate::relay::protocol::json;
use crate::relay::protocol::route::Route;

/// Runs the handler of a route. An error answer is an `Err`.
pub fn handle(
    relay: &mut RelayCore,
    route: Route,
    call: &Call<'_>,
) -> Result<RouteOutcome, RelayAnswer> {
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
        Route::DeadLetter => message::dead_letters(relay),
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
    answer.map(RouteOutcome::Answer)
}

/// The `wait_s` of a request body: how long the client is willing to wait, seconds, never negative.
pub fn requested_wait_s(request: &RelayRequest) -> f64 {
    #[derive(serde::Deserialize)]
    struct WaitOption {
        wait_s: Option<f64>,
    }
    let option = json::parse::<WaitOption>(&request.body).ok();
    option.and_then(|option| option.wait_s).filter(|s| s.is_finite()).unwrap_or(0.0).max(0.0)
}
