//! Access control: what each request must prove.
//!
//! Without a token the relay ignores credentials and allows everything. With one, admin routes need
//! the token, and peer routes a signature by the key that the alias is bound to. The guard checks the
//! signature first, then its time, then that its nonce is new.

use c2c_log_format::checksum::sha256;
use c2c_log_format::id::fold;

use super::answer::{RelayAnswer, clock_skew};
use super::keyring::{VerifiedSigner, signed_texts};
use super::nonces::NonceCache;
use super::request::RelayRequest;
use crate::relay::protocol::request::Proof;
use crate::relay::protocol::route::Access;
use crate::relay::protocol::sign::{
    self, AuthorizationHeader, PROOF_WINDOW, PublicKey, REQUEST_WINDOW, SignError, SignedText,
    SigningWindow,
};
use c2c_core::code::Code;
use c2c_core::decide::Rejection;
use c2c_core::limits::RELAY_KEYS_MAX;
use c2c_core::state::{Binding, State, compound_key};
use c2c_core::time;

/// The authenticated sender of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A client without credentials, or any client where credentials are ignored.
    Anonymous,
    /// The operator.
    Operator,
    /// The holder of a key, under an alias that is bound to it.
    Peer { alias: String, key: String },
}

impl Caller {
    /// The key, where credentials count.
    pub fn key(&self) -> Option<String> {
        match self {
            Self::Peer { key, .. } => Some(key.clone()),
            _ => None,
        }
    }

    /// Rejects a peer that acts as an alias other than its own.
    pub fn check_acts_as(&self, alias: &str) -> Result<(), Rejection> {
        let Self::Peer { alias: own, .. } = self else { return Ok(()) };
        if fold(own) == fold(alias) {
            return Ok(());
        }
        let message = format!("the request is signed by '{own}' and cannot act as '{alias}'");
        Err(Rejection::new(Code::SignatureInvalid, "from_alias", message))
    }

    /// Rejects a peer whose key does not own an alias of a node.
    pub fn check_owns(&self, state: &State, alias: &str, node_id: &str) -> Result<(), Rejection> {
        let Self::Peer { key, .. } = self else { return Ok(()) };
        let is_own = |row: &Binding| fold(&row.alias) == fold(alias) && row.public_key == *key;
        if state.bindings_for_node(node_id).iter().any(is_own) {
            return Ok(());
        }
        let message = format!("'{alias}@{node_id}' belongs to another key");
        Err(Rejection::new(Code::SignatureInvalid, "session_id", message))
    }
}

/// The check of credentials at one moment.
pub struct AccessGuard<'a> {
    pub state: &'a State,
    pub token: Option<&'a str>,
    pub nonces: &'a mut NonceCache,
    pub now_us: u64,
    /// When this relay began to record nonces.
    pub started_us: u64,
}

/// Compares two secrets in a time that does not depend on where they differ.
fn secrets_match(left: &str, right: &str) -> bool {
    let (left, right) = (sha256(left.as_bytes()), sha256(right.as_bytes()));
    left.iter().zip(right).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

fn unauthorized(message: impl Into<String>) -> Rejection {
    Rejection::new(Code::Unauthorized, "", message)
}

/// The rejection of a request that needs a signature and has none.
fn unsigned() -> Rejection {
    unauthorized(NEEDS_PEER).hint("run c2c relay identity init, then c2c relay register")
}

const NEEDS_PEER: &str = "peer route requires Ed25519 auth";

impl AccessGuard<'_> {
    /// Authenticates a request for a route with the given access. `signer` is the signer that was
    /// verified before the request was queued, if any. A route whose body holds the proof yields
    /// [`Caller::Anonymous`]; its handler checks the proof.
    pub fn check(
        &mut self,
        request: &RelayRequest,
        signer: Option<&VerifiedSigner>,
        access: Access,
    ) -> Result<Caller, RelayAnswer> {
        let Some(token) = self.token else { return Ok(Caller::Anonymous) };
        let header = request.authorization.as_deref().unwrap_or_default();
        let is_signed = AuthorizationHeader::is_claimed(header);
        match access {
            Access::BodyProof => Ok(Caller::Anonymous),
            // On a public route a good signature shows more, and a bad one changes nothing.
            Access::Public if is_signed => {
                Ok(self.peer(request, signer, header).unwrap_or(Caller::Anonymous))
            }
            Access::Public => Ok(Caller::Anonymous),
            Access::PeerOrProof if !is_signed => Ok(Caller::Anonymous),
            Access::Admin => match header.strip_prefix("Bearer ") {
                Some(given) if secrets_match(given.trim(), token) => Ok(Caller::Operator),
                Some(_) => Err(unauthorized("the Bearer token is wrong").into()),
                None => Err(unauthorized("admin routes require Bearer token")
                    .hint("pass --token or --token-file, or set C2C_RELAY_TOKEN")
                    .into()),
            },
            _ if !is_signed => Err(unsigned().into()),
            _ => self.peer(request, signer, header),
        }
    }

    /// Authenticates the signer of a request.
    fn peer(
        &mut self,
        request: &RelayRequest,
        signer: Option<&VerifiedSigner>,
        header: &str,
    ) -> Result<Caller, RelayAnswer> {
        let denied = |e: SignError| RelayAnswer::from(unauthorized(format!("{NEEDS_PEER}: {e}")));
        let header = AuthorizationHeader::parse(header).map_err(denied)?;
        // A signature that was verified earlier is not verified again, only that its key still counts.
        let verified = signer.filter(|signer| signer.header == header);
        let key = match verified.filter(|signer| self.is_still_bound(signer)) {
            Some(signer) => Some(signer.key.clone()),
            None => {
                let texts = signed_texts(request, &header).map_err(denied)?;
                let has_signed = |key: &String| {
                    let key = PublicKey::parse(key).ok();
                    let verifies =
                        |text| key.is_some_and(|key| key.verify(text, &header.sig).is_ok());
                    texts.iter().any(verifies)
                };
                self.keys_of(&header.alias).into_iter().find(has_signed)
            }
        };
        let Some(key) = key else {
            let message =
                format!("{NEEDS_PEER}: the signature matches no key of '{}'", header.alias);
            return Err(unauthorized(message).hint("run c2c relay register").into());
        };
        self.check_fresh(&header.ts, &header.nonce, REQUEST_WINDOW)?;
        Ok(Caller::Peer { alias: header.alias, key })
    }

    fn is_still_bound(&self, signer: &VerifiedSigner) -> bool {
        let binding = compound_key(&fold(&signer.node_id), fold(&signer.header.alias).as_bytes());
        self.state.bindings.get(binding).is_some_and(|row| row.public_key == signer.key)
    }

    /// The keys of an alias on all nodes, the earliest first.
    fn keys_of(&self, alias: &str) -> Vec<String> {
        let rows = self.state.bindings.scan([]).into_iter().map(|(_, row)| row);
        let mut rows: Vec<Binding> = rows.filter(|row| fold(&row.alias) == fold(alias)).collect();
        rows.sort_by_key(|row| row.bound_us);
        let mut keys: Vec<String> = rows.into_iter().map(|row| row.public_key).collect();
        keys.dedup();
        keys.truncate(RELAY_KEYS_MAX);
        keys
    }

    /// Rejects a signature outside its time window, and a nonce that was used before.
    fn check_fresh(
        &mut self,
        ts: &str,
        nonce: &str,
        window: SigningWindow,
    ) -> Result<(), RelayAnswer> {
        if let Err(error) = window.check(ts, self.now_us) {
            return Err(clock_skew(error.to_string(), self.now_us));
        }
        // Proofs carry whole seconds.
        let started_second_us = self.started_us / 1_000_000 * 1_000_000;
        if time::parse(ts).is_some_and(|signed_us| signed_us < started_second_us) {
            let message = "the signature is older than the start of this relay";
            return Err(clock_skew(message.into(), self.now_us));
        }
        if sign::decode::<16>("the nonce", nonce).is_err() {
            let message = "the nonce must be 16 bytes in base64url";
            return Err(Rejection::new(Code::BadRequest, "nonce", message).into());
        }
        if self.nonces.take(nonce, window.nonce_s, self.now_us) {
            return Ok(());
        }
        Err(Rejection::new(Code::NonceReplay, "nonce", "this nonce was already used").into())
    }

    /// The key that a proof in a request body proves. `None` without a token: the relay then ignores
    /// credentials.
    pub fn proven_key(
        &mut self,
        proof: &Proof<'_>,
        text: Result<SignedText, SignError>,
    ) -> Result<Option<String>, RelayAnswer> {
        if self.token.is_none() {
            return Ok(None);
        }
        let invalid = |e: SignError| {
            RelayAnswer::from(Rejection::new(Code::SignatureInvalid, "", e.to_string()))
        };
        let key = PublicKey::parse(proof.key).map_err(invalid)?;
        key.verify(&text.map_err(invalid)?, proof.sig).map_err(invalid)?;
        self.check_fresh(proof.moment.ts, proof.moment.nonce, PROOF_WINDOW)?;
        Ok(Some(key.to_string()))
    }

    /// Rejects a missing proof where credentials count.
    pub fn require_proof<T>(&self, proof: Option<T>) -> Result<Option<T>, RelayAnswer> {
        if proof.is_none() && self.token.is_some() {
            return Err(unsigned().into());
        }
        Ok(proof)
    }
}
