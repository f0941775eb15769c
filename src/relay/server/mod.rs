//! The relay server: a broker behind HTTP that connects machines through leases.
//!
//! Imports point one way. `request`, `answer`, `nonces`, `rate` and `rows` import no other file of
//! this directory. `core` holds what every route needs, `routes` implements the routes, `service`
//! turns one request into an answer, `writer` runs the service on its own thread, and `serve` with
//! `respond` connects the writer to HTTP.

mod access;
mod answer;
mod body_reader;
mod core;
mod exchange_log;
mod histories;
mod keyring;
mod mirror_usage;
mod nonces;
mod open;
mod rate;
mod remote;
mod request;
mod respond;
mod routes;
mod rows;
mod serve;
mod service;
mod tls;
mod writer;

pub use self::core::{AllowedKeys, RelayProfile};
pub use answer::RelayAnswer;
pub use keyring::VerifiedSigner;
pub use open::{RelayStorage, RelayStore, StoreLock, default_directory, open};
pub use remote::{RemoteBroker, RemoteBrokerMonitor};
pub use request::RelayRequest;
pub use serve::{ListenOptions, serve};
pub use service::{PendingRequest, Prepared, RelayService, Step};
pub use tls::Tls;
pub use writer::RelayHandle;
