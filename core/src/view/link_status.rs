//! Status of the link that mail for other machines takes.

/// Whether mail for other machines can leave a broker root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkStatus {
    /// No connector has run on this root.
    NeverConnected,
    /// Mail leaves immediately, or with the next sync.
    Open,
    /// The relay is of an older generation: mail leaves, and its delivery is not confirmed.
    Unconfirmed,
    /// The connector has ended.
    NoConnector,
    /// The relay does not respond.
    Unavailable {
        /// Microseconds since 1970 UTC.
        since_us: u64,
        /// The latest error of the connector.
        error: String,
    },
}
