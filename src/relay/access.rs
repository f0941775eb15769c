//! Who may ask what?
//!
//! Without a token everybody may do everything, and credentials mean nothing. With one, the
//! operator's routes want the token, and the agents' routes a signature by the key that their alias
//! is bound to. The signature is checked first, then its time, then that its nonce is new.

use c2c_log_format::checksum::sha256;
use c2c_log_format::id::fold;

use super::answer::{Answer, Request, clock_skew};
use super::keyring::{Signer, texts};
use super::nonces::Nonces;
use crate::code::Code;
use crate::decide::Refusal;
use crate::limits::RELAY_KEYS_MAX;
use crate::state::{Binding, State, pair};
use crate::time;
use crate::wire::body::Proof;
use crate::wire::route::Access;
use crate::wire::sign::{
    self, Header, PROOF_WINDOW, PublicKey, REQUEST_WINDOW, SignError, SignedText, Window,
};

/// Who was found to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Anybody, or nobody in particular.
    Anybody,
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

    /// Whether the caller may speak as an alias.
    pub fn speaks_as(&self, alias: &str) -> Result<(), Refusal> {
        let Self::Peer { alias: own, .. } = self else { return Ok(()) };
        if fold(own) == fold(alias) {
            return Ok(());
        }
        let message = format!("the request is signed by '{own}', it cannot speak as '{alias}'");
        Err(Refusal::new(Code::SignatureInvalid, "from_alias", message))
    }

    /// Whether an alias of a node is the caller's.
    pub fn owns(&self, state: &State, alias: &str, node_id: &str) -> Result<(), Refusal> {
        let Self::Peer { key, .. } = self else { return Ok(()) };
        let mine = |row: &Binding| fold(&row.alias) == fold(alias) && row.public_key == *key;
        if state.bindings_of(node_id).iter().any(mine) {
            return Ok(());
        }
        let message = format!("'{alias}@{node_id}' belongs to another key");
        Err(Refusal::new(Code::SignatureInvalid, "session_id", message))
    }
}

/// What access is decided with.
pub struct Guard<'a> {
    pub state: &'a State,
    pub token: Option<&'a str>,
    pub nonces: &'a mut Nonces,
    pub now_us: u64,
    /// When this relay began to remember nonces.
    pub started_us: u64,
}

/// Equal, in a time that does not tell where they differ.
fn same(left: &str, right: &str) -> bool {
    let (left, right) = (sha256(left.as_bytes()), sha256(right.as_bytes()));
    left.iter().zip(right).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

fn unauthorized(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::Unauthorized, "", message)
}

const NEEDS_PEER: &str = "peer route requires Ed25519 auth";

impl Guard<'_> {
    /// Decides whether a request may go on, and as whom. A route whose body holds the proof goes on
    /// as anybody.
    pub fn check(&mut self, request: &Request, access: Access) -> Result<Caller, Answer> {
        let Some(token) = self.token else { return Ok(Caller::Anybody) };
        let header = request.authorization.as_deref().unwrap_or_default();
        let signed = Header::is_claimed(header);
        match access {
            Access::BodyProof => Ok(Caller::Anybody),
            // A signature shows more here, and a bad one nothing.
            Access::Public if signed => Ok(self.peer(request, header).unwrap_or(Caller::Anybody)),
            Access::Public => Ok(Caller::Anybody),
            Access::PeerOrProof if !signed => Ok(Caller::Anybody),
            Access::Admin => match header.strip_prefix("Bearer ") {
                Some(given) if same(given.trim(), token) => Ok(Caller::Operator),
                Some(_) => Err(unauthorized("the Bearer token is wrong").into()),
                None => Err(unauthorized("admin routes require Bearer token")
                    .hint("pass --token or --token-file, or set C2C_RELAY_TOKEN")
                    .into()),
            },
            _ if !signed => Err(unauthorized(NEEDS_PEER)
                .hint("c2c relay identity init, then c2c relay register")
                .into()),
            _ => self.peer(request, header),
        }
    }

    fn peer(&mut self, request: &Request, header: &str) -> Result<Caller, Answer> {
        let denied = |e: SignError| Answer::from(unauthorized(format!("{NEEDS_PEER}: {e}")));
        let header = Header::parse(header).map_err(denied)?;
        // Checked before this turn came: then only whether it still counts is open.
        let known = request.signer.as_ref().filter(|signer| signer.header == header);
        let key = match known.filter(|signer| self.still_counts(signer)) {
            Some(signer) => Some(signer.key.clone()),
            None => {
                let texts = texts(request, &header).map_err(denied)?;
                let holds = |key: &String| {
                    let key = PublicKey::parse(key).ok();
                    let signs = |text| key.is_some_and(|key| key.verify(text, &header.sig).is_ok());
                    texts.iter().any(signs)
                };
                self.keys_of(&header.alias).into_iter().find(holds)
            }
        };
        let Some(key) = key else {
            let message =
                format!("{NEEDS_PEER}: not signed by a key that '{}' has here", header.alias);
            return Err(unauthorized(message).hint("c2c relay register").into());
        };
        self.fresh(&header.ts, &header.nonce, REQUEST_WINDOW)?;
        Ok(Caller::Peer { alias: header.alias, key })
    }

    fn still_counts(&self, signer: &Signer) -> bool {
        let place = pair(&fold(&signer.node_id), fold(&signer.header.alias).as_bytes());
        self.state.bindings.get(place).is_some_and(|row| row.public_key == signer.key)
    }

    /// The keys of an alias, on whichever node: those that had it first.
    fn keys_of(&self, alias: &str) -> Vec<String> {
        let rows = self.state.bindings.scan([]).into_iter().map(|(_, row)| row);
        let mut rows: Vec<Binding> = rows.filter(|row| fold(&row.alias) == fold(alias)).collect();
        rows.sort_by_key(|row| row.bound_us);
        let mut keys: Vec<String> = rows.into_iter().map(|row| row.public_key).collect();
        keys.dedup();
        keys.truncate(RELAY_KEYS_MAX);
        keys
    }

    /// Whether something was signed lately and is used for the first time.
    fn fresh(&mut self, ts: &str, nonce: &str, window: Window) -> Result<(), Answer> {
        if let Err(error) = window.check(ts, self.now_us) {
            return Err(clock_skew(error.to_string(), self.now_us));
        }
        // Proofs name whole seconds.
        let second_us = self.started_us / 1_000_000 * 1_000_000;
        if time::parse(ts).is_some_and(|then_us| then_us < second_us) {
            let message = "signed before this relay started";
            return Err(clock_skew(message.into(), self.now_us));
        }
        if sign::decode::<16>("the nonce", nonce).is_err() {
            let message = "a nonce is 16 bytes in base64url";
            return Err(Refusal::new(Code::BadRequest, "nonce", message).into());
        }
        if self.nonces.take(nonce, window.nonce_s, self.now_us) {
            return Ok(());
        }
        Err(Refusal::new(Code::NonceReplayed, "nonce", "this nonce was used before").into())
    }

    /// The key that a proof inside a body shows. Without a token it means nothing.
    pub fn proven(
        &mut self,
        proof: &Proof<'_>,
        text: Result<SignedText, SignError>,
    ) -> Result<Option<String>, Answer> {
        if self.token.is_none() {
            return Ok(None);
        }
        let invalid =
            |e: SignError| Answer::from(Refusal::new(Code::SignatureInvalid, "", e.to_string()));
        let key = PublicKey::parse(proof.key).map_err(invalid)?;
        key.verify(&text.map_err(invalid)?, proof.sig).map_err(invalid)?;
        self.fresh(proof.moment.ts, proof.moment.nonce, PROOF_WINDOW)?;
        Ok(Some(key.to_string()))
    }

    /// Refuses whoever shows nothing where something is needed.
    pub fn need_proof<T>(&self, proof: Option<T>) -> Result<Option<T>, Answer> {
        if proof.is_none() && self.token.is_some() {
            return Err(unauthorized(NEEDS_PEER)
                .hint("c2c relay identity init, then c2c relay register")
                .into());
        }
        Ok(proof)
    }
}
