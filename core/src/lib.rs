//! The rules of c2c: state, decisions and views, as pure functions.
//!
//! [`decide::decide`] computes the events of a command from the state, the command and facts about
//! the outside world. [`state::State::apply`] computes the next state from an event. [`view`] has
//! the queries that every front end shares. Nothing here reads a file, a clock or the environment.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod address;
pub mod batch;
pub mod code;
pub mod command;
pub mod decide;
pub mod facts;
pub mod foreign;
pub mod ids;
pub mod limits;
pub mod older_relay;
pub mod rejection;
pub mod reply;
pub mod state;
pub mod time;
pub mod view;
