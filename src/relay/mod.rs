//! How do machines reach each other? A broker behind HTTP, with leases instead of processes.

mod access;
mod answer;
mod handle;
mod histories;
mod keyring;
mod memory;
mod nonces;
mod open;
mod rate;
mod remote;
mod serve;
mod service;
mod writer;

pub use answer::{Answer, Request};
pub use keyring::Signer;
pub use open::{Storage, Store, default_directory, open};
pub use remote::{Remote, RemoteBroker};
pub use serve::{Listen, Tls, serve};
pub use service::{About, Allowed, Relay, Step, Wait};
pub use writer::Service;
