//! An in-process relay with registered agents, and a valid request for each route.

use c2c::platform::clock;
use c2c::relay::protocol::response;
use c2c::relay::protocol::route::RouteSpec;
use c2c::relay::protocol::sign::{self, AuthorizationHeader, Moment, SecretKey};
use c2c::relay::protocol::{WireBatch, WireCursor, WireItem, batch::Compression, cursor::from_hex};
use c2c::relay::server::{
    AllowedKeys, RelayAnswer, RelayProfile, RelayRequest, RelayService, Step,
};
use c2c_log_format::Payload;
use c2c_log_format::payload::{MessageSent, Target};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::TOKEN;

pub const URL: &str = "http://relay.example:7331";
/// Log id of a node.
pub const LOG: [u8; 16] = [7; 16];

pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// A relay without a socket. Ann is on node `one` and bob on node `two`, each with a key.
pub struct InProcessRelay {
    pub relay: RelayService,
    nonces: u32,
    _dir: TempDir,
}

impl InProcessRelay {
    pub fn open(token: Option<&str>, allowed: Option<AllowedKeys>) -> Self {
        let (broker, dir) = super::broker_in_process();
        let about = RelayProfile {
            storage: "memory",
            names: vec!["relay".into()],
            ..RelayProfile::default()
        };
        let token = token.map(str::to_owned);
        let relay = RelayService::new(broker, token, allowed, about, 0).expect("a relay");
        Self { relay, nonces: 0, _dir: dir }
    }

    pub fn with_agents(token: Option<&str>) -> Self {
        let mut server = Self::open(token, None);
        for (alias, node, seed) in [("ann", "one", 1), ("bob", "two", 2), ("old", "three", 3)] {
            let answer = server.register(alias, node, &key(seed));
            assert_eq!(answer.status, 200, "{}", text(&answer));
        }
        // The alias of the third key is unbound.
        server.request("POST", "/admin/unbind", json!({ "alias": "old" }), &bearer(TOKEN));
        let joined = json!({ "alias": "ann", "room_id": "den" });
        server.signed("/join_room", &joined, "ann", 1);
        server
    }

    pub fn nonce(&mut self) -> String {
        self.nonces += 1;
        sign::encode(&u128::from(self.nonces).to_le_bytes())
    }

    pub fn register(&mut self, alias: &str, node: &str, key: &SecretKey) -> RelayAnswer {
        let body = self.registration(alias, node, key, 0);
        self.request("POST", "/register", body, "")
    }

    /// A registration with its proof, signed `ago_s` seconds ago.
    pub fn registration(&mut self, alias: &str, node: &str, key: &SecretKey, ago_s: i64) -> Value {
        let (ts, nonce) = (stamp(ago_s), self.nonce());
        let public = key.public().to_string();
        let moment = Moment { ts: &ts, nonce: &nonce };
        let text = sign::register(alias, URL, &public, moment).expect("a text");
        json!({
            "node_id": node, "session_id": format!("s-{alias}"), "alias": alias,
            "identity_pk": public, "signature": key.sign(&text), "nonce": nonce, "timestamp": ts,
        })
    }

    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        body: Value,
        authorization: &str,
    ) -> RelayAnswer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.send(method, target, body, authorization)
    }

    pub fn send(
        &mut self,
        method: &str,
        target: &str,
        body: Vec<u8>,
        authorization: &str,
    ) -> RelayAnswer {
        let request = RelayRequest {
            method: method.into(),
            target: target.into(),
            authorization: (!authorization.is_empty()).then(|| authorization.to_owned()),
            base_url: URL.into(),
            body,
        };
        match self.relay.answer(request, "127.0.0.1") {
            Step::Answer(answer) => answer,
            Step::Pending(_) => panic!("the request to {target} is pending"),
        }
    }

    /// The header of a request that was signed `ago_s` seconds ago.
    pub fn header(&mut self, call: &Call, alias: &str, key: &SecretKey, ago_s: i64) -> String {
        let seconds = clock::now_us() as i64 / 1_000_000 - ago_s;
        let (ts, nonce) = (format!("{seconds}.000000"), self.nonce());
        let (method, target, body) = (call.method, call.target.as_str(), call.body.as_slice());
        let request = sign::SignedRequest { method, target, body, ts: &ts, nonce: &nonce };
        let sig = key.sign(&request.text().expect("a text"));
        AuthorizationHeader { alias: alias.into(), ts, nonce, sig }.to_string()
    }

    pub fn signed(&mut self, target: &str, body: &Value, alias: &str, seed: u8) -> RelayAnswer {
        let body = body.to_string().into_bytes();
        let call = Call { method: "POST", target: target.into(), body };
        let header = self.header(&call, alias, &key(seed), 0);
        self.send("POST", target, call.body, &header)
    }
}

pub fn stamp(ago_s: i64) -> String {
    let now_us = clock::now_us() as i64 - ago_s * 1_000_000;
    c2c_core::time::rfc3339_seconds(now_us as u64)
}

pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

pub fn text(answer: &RelayAnswer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

pub fn code(answer: &RelayAnswer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["error_code"].as_str().unwrap_or_default().to_owned()
}

/// One request as ann would send it.
pub struct Call {
    pub method: &'static str,
    pub target: String,
    pub body: Vec<u8>,
}

pub fn message(from: &str, to: &str) -> Payload {
    let (alias, host) = to.split_once('@').expect("an address");
    Payload::MessageSent(MessageSent {
        from_mailbox: from.into(),
        sent_us: 5,
        ..MessageSent::new(
            format!("m-{from}-{alias}"),
            from,
            to,
            Target::Outbox { alias: alias.into(), host: host.into() },
            "text",
        )
    })
}

pub fn batch(log: [u8; 16], from: &str, to: &str) -> Vec<u8> {
    let mut batch = WireBatch::after(WireCursor::start(log));
    let item = WireItem::new(log, 1, 7, &message(from, to));
    let place = item.origin();
    batch.push(item, place);
    batch.encode(Compression::None).expect("a batch")
}

/// A valid request for a route.
pub fn call(row: &RouteSpec, relay: &mut RelayService) -> Call {
    let method = row.methods[0];
    let room = json!({ "alias": "ann", "room_id": "den" });
    let body = match row.path {
        "/register" => json!({ "node_id": "one", "session_id": "s-x", "alias": "ann" }),
        "/heartbeat" | "/poll_inbox" | "/peek_inbox" => {
            json!({ "node_id": "one", "session_id": "s-ann" })
        }
        "/send" => json!({ "from_alias": "ann", "to_alias": "bob", "content": "text" }),
        "/send_all" => json!({ "from_alias": "ann", "content": "text" }),
        "/join_room" | "/leave_room" => room,
        "/set_room_visibility" => {
            json!({ "alias": "ann", "room_id": "den", "visibility": "invite" })
        }
        "/invite_room" | "/uninvite_room" => {
            let invitee = key(2).public().to_string();
            json!({ "alias": "ann", "room_id": "den", "invitee_pk": invitee, "invitee": "bob@two" })
        }
        "/send_room" => json!({ "from_alias": "ann", "room_id": "den", "content": "text" }),
        "/room_history" => json!({ "room_id": "den" }),
        "/admin/unbind" => json!({ "alias": "old" }),
        "/pull" => {
            let health = RelayRequest {
                method: "GET".into(),
                target: "/health".into(),
                ..RelayRequest::default()
            };
            let Step::Answer(health) = relay.answer(health, "") else { panic!("health") };
            let health = response::decode::<response::HealthResponse>(&health.body)
                .expect("health")
                .expect("granted");
            let log = from_hex(&health.relay_id.expect("a log")).expect("an id");
            let own = c2c_log_format::id::hex(&LOG);
            json!({ "node_id": "one", "log": own, "cursor": WireCursor::start(log) })
        }
        _ => Value::Null,
    };
    let target = row.path.replace("<alias>", "ann").replace("<session_id>", "s-ann");
    let (target, body) = match row.path {
        "/push" => ("/push?node_id=one".into(), batch(LOG, "ann", "bob@two")),
        "/mirror" => ("/mirror?node_id=one".into(), Vec::new()),
        "/mirror_read" => {
            let log = c2c_log_format::id::hex(&LOG);
            let query = format!("log={log}&node_id=one&offset=0&segment=1");
            (format!("/mirror_read?{query}"), Vec::new())
        }
        _ if body.is_null() => (target, Vec::new()),
        _ => (target, body.to_string().into_bytes()),
    };
    Call { method, target, body }
}
