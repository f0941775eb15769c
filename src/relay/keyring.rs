//! Which keys may sign as an alias, known to those who do not own the log?
//!
//! Checking a signature costs more than all the rest of a request. It is done before the writer's
//! turn; the writer then only looks whether the key still belongs to the alias.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use c2c_log_format::id::fold;

use super::answer::Request;
use crate::limits::RELAY_KEYS_MAX;
use crate::state::{Binding, State};
use crate::wire::sign::{Header, PublicKey, Request as Signed, SignError, SignedText};

/// Keys by alias in lower case, each with a node that it is bound on.
type Keys = HashMap<String, Vec<(PublicKey, String)>>;

/// Keys, as of a little while ago.
#[derive(Clone, Default)]
pub struct Keyring(Arc<RwLock<Keys>>);

/// Who signed a request, as its header says and a key proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    pub header: Header,
    pub key: String,
    /// A node on which the alias belongs to the key.
    pub node_id: String,
}

impl Keyring {
    /// Takes over what the log says now.
    pub fn update(&self, state: &State) {
        let mut keys = Keys::new();
        let mut rows: Vec<Binding> =
            state.bindings.scan([]).into_iter().map(|(_, row)| row).collect();
        rows.sort_by_key(|row| row.bound_us);
        for row in rows {
            if let Ok(key) = PublicKey::parse(&row.public_key) {
                let known = keys.entry(fold(&row.alias)).or_default();
                let is_new = !known.iter().any(|(other, _)| *other == key);
                if is_new && known.len() < RELAY_KEYS_MAX {
                    known.push((key, row.node_id));
                }
            }
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Whether a header names an alias that has a key here; nothing is proven by that.
    pub fn knows(&self, authorization: &str) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Header::parse(authorization).is_ok_and(|header| known.contains_key(&fold(&header.alias)))
    }

    /// Who signed a request, if it is signed by a key that is known here.
    pub fn signer(&self, request: &Request) -> Option<Signer> {
        let header = request.authorization.as_deref().filter(|text| Header::is_claimed(text))?;
        let header = Header::parse(header).ok()?;
        let keys = {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            known.get(&fold(&header.alias))?.clone()
        };
        let texts = texts(request, &header).ok()?;
        let holds = |(key, _): &(PublicKey, String)| {
            texts.iter().any(|text| key.verify(text, &header.sig).is_ok())
        };
        let (key, node_id) = keys.into_iter().find(holds)?;
        Some(Signer { header, key: key.to_string(), node_id })
    }
}

/// What may have been signed for a request.
pub fn texts(request: &Request, header: &Header) -> Result<Vec<SignedText>, SignError> {
    let text = |body: &[u8]| {
        let (method, target) = (request.method.as_str(), request.target.as_str());
        let (ts, nonce) = (header.ts.as_str(), header.nonce.as_str());
        Signed { method, target, body, ts, nonce }.text()
    };
    let mut texts = vec![text(&request.body)?];
    if request.method == "GET" && !request.body.is_empty() {
        // One older generation signs no body although it sends one with a GET.
        texts.push(text(b"")?);
    }
    Ok(texts)
}
