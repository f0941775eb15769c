//! The connector: replicates one broker root with a relay.
//!
//! A connector registers the agents of its root with the relay, pushes the events that leave the
//! log, and pulls the events addressed to it. It stores nothing outside the log. A crash makes it
//! repeat a step, and every step can be repeated safely.

mod backoff;
pub mod config;
mod heartbeat;
mod mirror;
mod older;
mod progress;
mod pull;
mod push;
mod relay_client;
mod restore;
mod run;
mod state;
mod transport;

pub use backoff::Backoff;
pub use heartbeat::HeartbeatStats;
pub use pull::PullStats;
pub use push::PushStats;
pub use relay_client::{Credentials, RelayClient, RequestError, RequestProgress};
pub use restore::{Restored, restore};
pub use run::SyncReport;
pub use state::{Connector, RelayInfo};
pub use transport::{HttpTransport, Transport, TransportRequest, TransportResponse, Unreachable};
