//! TLS for the listener.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::Failure;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// A certificate and its key, ready for use.
#[derive(Clone)]
pub struct Tls(pub(super) TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads a certificate chain and the key of its first certificate, both PEM.
    pub fn read(certificates: &Path, key: &Path) -> Result<Self, Failure> {
        let invalid = |field: &'static str, path: &Path, reason: String| {
            let message = format!("{}: {reason}", path.display());
            Failure::from(Rejection::new(Code::InvalidArgument, field, message))
        };
        let chain = CertificateDer::pem_file_iter(certificates)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| invalid("tls_cert", certificates, e.to_string()))?;
        let secret = PrivateKeyDer::from_pem_file(key)
            .map_err(|e| invalid("tls_key", key, e.to_string()))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
            .map_err(|e| invalid("tls_cert", certificates, e.to_string()))?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}
