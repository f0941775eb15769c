//! Read models: answers to queries, computed from a state and the events handed in.
//!
//! Pure: no file, no clock and no process is read here. The caller supplies the time, the liveness
//! predicates and the events from the log.

pub mod agents;
pub mod dead_letters;
pub mod health;
pub mod history;
pub mod inbox;
mod link_status;
pub mod rooms;
#[cfg(test)]
mod tests;
pub mod trace;
mod types;

pub use health::{DamagedRange, HealthView};
pub use link_status::LinkStatus;
pub use types::{
    AgentView, DeadLetterView, LoggedEvent, MessageTrace, MessageView, RoomMemberView,
    RoomMessageView, RoomView, SessionLiveness, TraceStep,
};
