//! Sweep: ends the sessions whose process is dead.

use c2c_log_format::payload::{
    DeadLetterReason, MessagesDeadLettered, RoomLeaveReason, RoomLeft, SessionEndReason,
};
use c2c_log_format::{Payload, Sequence};

use super::acting::session_ended;
use crate::facts::{Facts, Liveness};
use crate::ids::Alias;
use crate::reply::{Decision, DroppedSession, EvictedMember, SweepPlan};
use crate::state::{State, compound_key, second_name_in_key};

/// What a sweep would do, without doing it.
pub fn plan_sweep(state: &State, facts: &Facts<'_>) -> SweepPlan {
    plan(state, facts).0
}

pub(super) fn sweep(state: &State, facts: &Facts<'_>) -> Decision<SweepPlan> {
    let (plan, events) = plan(state, facts);
    Decision::durable(events, plan)
}

/// Ends each session whose process is dead. Its unread mail moves to the dead letters and returns
/// when the alias registers again. A session without evidence of a process stays.
fn plan(state: &State, facts: &Facts<'_>) -> (SweepPlan, Vec<Payload>) {
    let mut plan = SweepPlan::default();
    let mut events = Vec::new();
    for (_, session) in state.sessions.scan([]) {
        if facts.alive(&session) != Liveness::Dead {
            continue;
        }
        let alias =
            state.mailboxes.get(&session.mailbox).map_or_else(Alias::default, |row| row.alias);
        events.push(session_ended(&session.session_id, &session.mailbox, SessionEndReason::Sweep));
        for (key, ()) in state.memberships.scan(compound_key(&session.mailbox, &[])) {
            let room_id = second_name_in_key(&key);
            plan.evicted
                .push(EvictedMember { room_id: room_id.clone().into(), alias: alias.clone() });
            events.push(Payload::RoomLeft(RoomLeft {
                room_id,
                mailbox: session.mailbox.clone(),
                reason: RoomLeaveReason::Sweep,
                origin: None,
            }));
        }
        let unread = state.unread(&session.mailbox).in_order();
        let messages: Vec<Sequence> = unread.iter().map(|message| message.sequence).collect();
        plan.preserved += messages.len();
        if !messages.is_empty() {
            events.push(Payload::MessagesDeadLettered(MessagesDeadLettered {
                mailbox: session.mailbox,
                alias: alias.clone().into(),
                messages,
                reason: DeadLetterReason::Sweep,
            }));
        }
        plan.dropped.push(DroppedSession { session_id: session.session_id, alias });
    }
    (plan, events)
}
