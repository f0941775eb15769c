//! A shared copy of the keys by alias, to check signatures outside the writer thread.
//!
//! Checking a signature costs more than the rest of a request. It happens before the request enters
//! the writer's queue; the writer then only checks that the key still belongs to the alias.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use c2c_log_format::id::fold;

use super::request::RelayRequest;
use crate::relay::protocol::sign::{
    AuthorizationHeader, PublicKey, SignError, SignedRequest, SignedText,
};
use c2c_core::ids::NodeId;
use c2c_core::limits::RELAY_KEYS_MAX;
use c2c_core::state::{Binding, State};

/// Keys by alias in lower case, each with a node where the alias is bound to it.
type Keys = HashMap<String, Vec<(PublicKey, NodeId)>>;

/// The keys as of the last refresh. Clones share them.
#[derive(Clone, Default)]
pub struct Keyring(Arc<RwLock<Keys>>);

/// The signer of a request whose signature is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSigner {
    pub header: AuthorizationHeader,
    pub key: String,
    /// A node where the alias belongs to the key.
    pub node_id: NodeId,
}

impl Keyring {
    /// Replaces the keys with those of the current state.
    pub fn update(&self, state: &State) {
        let mut keys = Keys::new();
        let mut bindings: Vec<Binding> =
            state.bindings.scan([]).into_iter().map(|(_, row)| row).collect();
        bindings.sort_by_key(|row| row.bound_us);
        for binding in bindings {
            if let Ok(key) = PublicKey::parse(&binding.public_key) {
                let known = keys.entry(fold(&binding.alias)).or_default();
                let is_new = !known.iter().any(|(other, _)| *other == key);
                if is_new && known.len() < RELAY_KEYS_MAX {
                    known.push((key, binding.node_id));
                }
            }
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Whether an `Authorization` header names an alias that has a key here. This proves nothing.
    pub fn knows(&self, authorization: &str) -> bool {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        AuthorizationHeader::parse(authorization)
            .is_ok_and(|header| keys.contains_key(&fold(&header.alias)))
    }

    /// The verified signer of a request; `None` if no key of the named alias signed it.
    pub fn signer(&self, request: &RelayRequest) -> Option<VerifiedSigner> {
        let header = request
            .authorization
            .as_deref()
            .filter(|text| AuthorizationHeader::is_claimed(text))?;
        let header = AuthorizationHeader::parse(header).ok()?;
        let candidates = {
            let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
            keys.get(&fold(&header.alias))?.clone()
        };
        let texts = signed_texts(request, &header).ok()?;
        let has_signed = |(key, _): &(PublicKey, NodeId)| {
            texts.iter().any(|text| key.verify(text, &header.sig).is_ok())
        };
        let (key, node_id) = candidates.into_iter().find(has_signed)?;
        Some(VerifiedSigner { header, key: key.to_string(), node_id })
    }
}

/// The texts that a client may have signed for a request.
pub fn signed_texts(
    request: &RelayRequest,
    header: &AuthorizationHeader,
) -> Result<Vec<SignedText>, SignError> {
    let text_with = |body: &[u8]| {
        let signed = SignedRequest {
            method: &request.method,
            target: &request.target,
            body,
            ts: &header.ts,
            nonce: &header.nonce,
        };
        signed.text()
    };
    let mut texts = vec![text_with(&request.body)?];
    if request.method == "GET" && !request.body.is_empty() {
        // One older generation sends a body with a GET and signs none.
        texts.push(text_with(b"")?);
    }
    Ok(texts)
}
