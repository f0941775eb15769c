//! Tests of the rules: a model of one broker, and a swarm of nodes and a relay without sockets.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "only the rules are pure: their tests read variables and print"
)]

mod model;
mod random;
mod swarm;
