//! Who may ask what?
//!
//! Without a token everybody may do everything, and credentials mean nothing. With one, the
//! operator's routes want the token, and the agents' routes a signature by the key that their alias
//! is bound to. The signature is checked first, then its time, then that its nonce is new.

use c2c_log_format::checksum::sha256;
use c2c_log_format::id::fold;

use super::answer::{Answer, Request, clock_skew};
use super::nonces::Nonces;
use crate::code::Code;
use crate::decide::Refusal;
use crate::state::{Binding, State};
use crate::wire::body::Proof;
use crate::wire::route::Access;
use crate::wire::sign::{
    Header, PROOF_WINDOW, PublicKey, REQUEST_WINDOW, Request as Signed, SignError, SignedText,
    Window,
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
        let text = |body: &[u8]| {
            let (method, target) = (request.method.as_str(), request.target.as_str());
            let (ts, nonce) = (header.ts.as_str(), header.nonce.as_str());
            Signed { method, target, body, ts, nonce }.text()
        };
        let mut texts = vec![text(&request.body).map_err(denied)?];
        if request.method == "GET" && !request.body.is_empty() {
            // One older generation signs no body although it sends one with a GET.
            texts.push(text(b"").map_err(denied)?);
        }
        let rows = self.state.bindings.scan([]).into_iter().map(|(_, row)| row);
        let mine = rows.filter(|row| fold(&row.alias) == fold(&header.alias));
        let mut keys: Vec<String> = mine.map(|row| row.public_key).collect();
        keys.sort_unstable();
        keys.dedup();
        let holds = |key: &String| {
            let key = PublicKey::parse(key).ok();
            key.is_some_and(|key| texts.iter().any(|text| key.verify(text, &header.sig).is_ok()))
        };
        let Some(key) = keys.into_iter().find(holds) else {
            let message =
                format!("{NEEDS_PEER}: not signed by a key that '{}' has here", header.alias);
            return Err(unauthorized(message).hint("c2c relay register").into());
        };
        self.fresh(&header.ts, &header.nonce, REQUEST_WINDOW)?;
        Ok(Caller::Peer { alias: header.alias, key })
    }

    /// Whether something was signed lately and is used for the first time.
    fn fresh(&mut self, ts: &str, nonce: &str, window: Window) -> Result<(), Answer> {
        if let Err(error) = window.check(ts, self.now_us) {
            return Err(clock_skew(error.to_string(), self.now_us));
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
