//! Decisions: which events follow from a command, or why it is rejected.
//!
//! Pure functions: `state + command + facts -> events + reply`, or a [`Rejection`]. Time, liveness,
//! identity and new ids are part of the [`Facts`].

mod acting;
mod address;
mod alias;
mod broadcast;
mod commands;
mod dead_letters;
mod import;
mod inbox;
mod invitation;
mod membership;
mod replication;
mod room;
mod send;
mod session;
mod sweep;

use crate::code::Code;
use crate::state::State;

pub use crate::address::host_name;
pub use crate::batch::{Batch, Item, Outcome, Position, Pushed, Received, RequestAnswer};
pub use crate::command::{Command, LeaseRenewal, LeaseRequest, Send};
pub use crate::facts::{
    Actor, Facts, Liveness, RelayFacts, SessionSource, claim_holds, mailbox_liveness,
    session_liveness,
};
pub use crate::foreign::{
    ForeignDeadLetter, ForeignDelivery, ForeignFile, ForeignMember, ForeignMessage, ForeignRoom,
    ForeignRows, ForeignSession,
};
pub use crate::rejection::{
    Rejection, check_addressed_alias, check_alias, check_host, check_message_id, check_room_id,
    check_session_id,
};
pub use crate::reply::{
    BroadcastReply, Claimed, Collected, Decision, ExpiredLease, ImportReply, Leased,
    RecipientState, Registered, RoomReply, Sent, Skipped, SweepPlan,
};
pub use acting::{check_not_superseded, find_own_mailbox, not_registered};
pub use alias::CODEX;
pub use broadcast::part_ids;
pub use import::IMPORT_SOURCE;
pub use membership::{invitation_of_key, invited_key, may_see_room};
pub use replication::outgoing::OutgoingEvents;
pub use replication::served::{REPLAY_SOURCE, events_for_node, returned_mail, room_backfill};
pub use sweep::plan_sweep;

/// Decides one command: the events to append and the reply, or why the command is rejected.
pub fn decide<C: Command>(
    state: &State,
    command: &C,
    facts: &Facts<'_>,
) -> Result<Decision<C::Reply>, Rejection> {
    check_not_moved(state, command.opens_moved_root())?;
    command.decide_on(state, facts)
}

/// A root that has moved accepts no command except the one that opens it at its new location.
fn check_not_moved(state: &State, opens_root: bool) -> Result<(), Rejection> {
    match state.meta.get([]).and_then(|meta| meta.moved_to) {
        Some(to) if !opens_root => {
            let message = format!("the broker root was moved to {to}");
            Err(Rejection::new(Code::BrokerMoved, "broker_root", message).hint("use that root"))
        }
        _ => Ok(()),
    }
}
