//! One HTTP request, read in full.

/// An HTTP request without its connection: the listener and the tests build it alike.
#[derive(Debug, Clone, Default)]
pub struct RelayRequest {
    pub method: String,
    /// Path and query as in the request line.
    pub target: String,
    /// Value of the `Authorization` header.
    pub authorization: Option<String>,
    /// Scheme and host that the client used, in lower case, without a path.
    pub base_url: String,
    pub body: Vec<u8>,
}

impl RelayRequest {
    /// The query, without its question mark.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The host that the client used, without its port; `None` if the client named none.
    pub fn host(&self) -> Option<&str> {
        let host = self.base_url.split("://").nth(1).unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
        (!host.is_empty()).then_some(host)
    }
}
