//! Who may ask what: every route with every credential, in both modes?

use c2c::clock;
use c2c::relay::{About, Allowed, Answer, Relay, Request, Step};
use c2c::wire::body;
use c2c::wire::route::{Access, Row, TABLE};
use c2c::wire::sign::{self, Header, Moment, SecretKey};
use c2c::wire::{Batch, Cursor, Item, batch::Compression, cursor::from_hex};
use c2c_log_format::Payload;
use c2c_log_format::payload::{MessageSent, Target};
use serde_json::{Value, json};

use super::TOKEN;
use tempfile::TempDir;

const URL: &str = "http://relay.example:7331";
/// Log of a node.
const LOG: [u8; 16] = [7; 16];

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// A relay without a socket, where ann is on one and bob on two, each with a key of its own.
struct Desk {
    relay: Relay,
    nonces: u32,
    _dir: TempDir,
}

impl Desk {
    fn open(token: Option<&str>, allowed: Option<Allowed>) -> Self {
        let (broker, dir) = super::broker_inside();
        let about = About { storage: "memory", names: vec!["relay".into()], ..About::default() };
        let token = token.map(str::to_owned);
        let relay = Relay::new(broker, token, allowed, about, 0).expect("a relay");
        Self { relay, nonces: 0, _dir: dir }
    }

    fn with_people(token: Option<&str>) -> Self {
        let mut desk = Self::open(token, None);
        for (alias, node, seed) in [("ann", "one", 1), ("bob", "two", 2), ("old", "three", 3)] {
            let answer = desk.register(alias, node, &key(seed));
            assert_eq!(answer.status, 200, "{}", text(&answer));
        }
        // What was bound to the third key is not any more.
        desk.ask("POST", "/admin/unbind", json!({ "alias": "old" }), &bearer(TOKEN));
        let joined = json!({ "alias": "ann", "room_id": "den" });
        desk.signed("/join_room", &joined, "ann", 1);
        desk
    }

    fn nonce(&mut self) -> String {
        self.nonces += 1;
        sign::encode(&u128::from(self.nonces).to_le_bytes())
    }

    fn register(&mut self, alias: &str, node: &str, key: &SecretKey) -> Answer {
        let body = self.registration(alias, node, key, 0);
        self.ask("POST", "/register", body, "")
    }

    /// A registration with its proof, made so many seconds ago.
    fn registration(&mut self, alias: &str, node: &str, key: &SecretKey, ago_s: i64) -> Value {
        let (ts, nonce) = (stamp(ago_s), self.nonce());
        let public = key.public().to_string();
        let moment = Moment { ts: &ts, nonce: &nonce };
        let text = sign::register(alias, URL, &public, moment).expect("a text");
        json!({
            "node_id": node, "session_id": format!("s-{alias}"), "alias": alias,
            "identity_pk": public, "signature": key.sign(&text), "nonce": nonce, "timestamp": ts,
        })
    }

    fn ask(&mut self, method: &str, target: &str, body: Value, authorization: &str) -> Answer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.send(method, target, body, authorization)
    }

    fn send(&mut self, method: &str, target: &str, body: Vec<u8>, authorization: &str) -> Answer {
        let request = Request {
            method: method.into(),
            target: target.into(),
            authorization: (!authorization.is_empty()).then(|| authorization.to_owned()),
            base_url: URL.into(),
            body,
            ..Request::default()
        };
        match self.relay.answer(request, "127.0.0.1") {
            Step::Answer(answer) => answer,
            Step::Wait(_) => panic!("{target} waits"),
        }
    }

    /// The header of a request that was signed so many seconds ago.
    fn header(&mut self, call: &Call, alias: &str, key: &SecretKey, ago_s: i64) -> String {
        let seconds = clock::now_us() as i64 / 1_000_000 - ago_s;
        let (ts, nonce) = (format!("{seconds}.000000"), self.nonce());
        let (method, target, body) = (call.method, call.target.as_str(), call.body.as_slice());
        let request = sign::Request { method, target, body, ts: &ts, nonce: &nonce };
        let sig = key.sign(&request.text().expect("a text"));
        Header { alias: alias.into(), ts, nonce, sig }.to_string()
    }

    fn signed(&mut self, target: &str, body: &Value, alias: &str, seed: u8) -> Answer {
        let body = body.to_string().into_bytes();
        let call = Call { method: "POST", target: target.into(), body };
        let header = self.header(&call, alias, &key(seed), 0);
        self.send("POST", target, call.body, &header)
    }
}

fn stamp(ago_s: i64) -> String {
    let now_us = clock::now_us() as i64 - ago_s * 1_000_000;
    c2c::time::rfc3339_seconds(now_us as u64)
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["error_code"].as_str().unwrap_or_default().to_owned()
}

/// One request as ann would make it.
struct Call {
    method: &'static str,
    target: String,
    body: Vec<u8>,
}

fn letter(from: &str, to: &str) -> Payload {
    let (alias, host) = to.split_once('@').expect("an address");
    Payload::MessageSent(MessageSent {
        message_id: format!("m-{from}-{alias}"),
        from: from.into(),
        from_mailbox: from.into(),
        to: to.into(),
        body: "text".into(),
        sent_us: 5,
        target: Target::Outbox { alias: alias.into(), host: host.into() },
        tag: None,
        reply_to: None,
        expires_us: None,
        deferrable: false,
        source: None,
        origin: None,
    })
}

fn batch(log: [u8; 16], from: &str, to: &str) -> Vec<u8> {
    let mut batch = Batch::after(Cursor::start(log));
    let item = Item::new(log, 1, 7, &letter(from, to));
    let place = item.origin();
    batch.push(item, place);
    batch.encode(Compression::None).expect("a batch")
}

/// A request of each route that is granted to whoever may make it.
fn call(row: &Row, relay: &mut Relay) -> Call {
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
            let health =
                Request { method: "GET".into(), target: "/health".into(), ..Request::default() };
            let Step::Answer(health) = relay.answer(health, "") else { panic!("health") };
            let health =
                body::read::<body::Health>(&health.body).expect("health").expect("granted");
            let log = from_hex(&health.relay_id.expect("a log")).expect("an id");
            let own = c2c_log_format::id::hex(&LOG);
            json!({ "node_id": "one", "log": own, "cursor": Cursor::start(log) })
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

const CREDENTIALS: [&str; 12] = [
    "none",
    "wrong token",
    "right token",
    "malformed",
    "bad signature",
    "replayed",
    "expired",
    "future",
    "foreign key",
    "foreign alias",
    "revoked",
    "good",
];

/// Makes a request with one of the credentials.
fn ask(desk: &mut Desk, row: &Row, credential: &str) -> Answer {
    let call = call(row, &mut desk.relay);
    let header = match credential {
        "none" => String::new(),
        "wrong token" => bearer("another"),
        "right token" => bearer(TOKEN),
        "malformed" => "Ed25519 alias=ann,ts=1".into(),
        "bad signature" => {
            let other =
                Call { body: b"{\"other\":1}".to_vec(), target: call.target.clone(), ..call };
            desk.header(&other, "ann", &key(1), 0)
        }
        "expired" => desk.header(&call, "ann", &key(1), 31),
        "future" => desk.header(&call, "ann", &key(1), -7),
        // Signed by bob, who says that he is ann.
        "foreign key" => desk.header(&call, "ann", &key(2), 0),
        "revoked" => desk.header(&call, "old", &key(3), 0),
        "foreign alias" => desk.header(&call, "bob", &key(2), 0),
        _ => desk.header(&call, "ann", &key(1), 0),
    };
    if credential == "replayed" {
        desk.send(call.method, &call.target, call.body.clone(), &header);
    }
    desk.send(call.method, &call.target, call.body, &header)
}

/// Routes that act for somebody: bob's good signature does not serve for ann.
const FOR_SOMEBODY: [&str; 16] = [
    "/mirror",
    "/mirror_read",
    "/heartbeat",
    "/send",
    "/send_all",
    "/poll_inbox",
    "/peek_inbox",
    "/join_room",
    "/leave_room",
    "/send_room",
    "/set_room_visibility",
    "/invite_room",
    "/uninvite_room",
    "/push",
    "/pull",
    "/register",
];

fn expected(row: &Row, credential: &str) -> Vec<u16> {
    match (row.access, credential) {
        (Access::Public, _) => vec![200],
        (Access::Admin, "right token") if row.path.starts_with("/remote_inbox") => vec![404],
        (Access::Admin, "right token") => vec![200],
        (Access::Admin, _) => vec![401],
        // Its own proof is in the body, and there is none here; a statement of nobody is malformed.
        (Access::BodyProof, _) if row.path == "/register" => vec![401],
        (Access::BodyProof, _) => vec![400],
        // This relay keeps nothing, and so no copies.
        (_, "good") if row.path.starts_with("/mirror") => vec![404],
        (_, "good") => vec![200],
        (_, "foreign alias") if FOR_SOMEBODY.contains(&row.path) => vec![403, 409],
        (_, "foreign alias") => vec![200],
        _ => vec![401],
    }
}

#[test]
fn every_route_with_every_credential_where_a_token_is_set() {
    super::on_each_store(|| {
        for row in TABLE {
            for credential in CREDENTIALS {
                let mut desk = Desk::with_people(Some(TOKEN));
                let answer = ask(&mut desk, row, credential);
                let wanted = expected(row, credential);
                let (path, said) = (row.path, text(&answer));
                assert!(
                    wanted.contains(&answer.status),
                    "{path} {credential}: {} {said}",
                    answer.status
                );
            }
        }
    });
}

#[test]
fn every_route_with_every_credential_where_none_is() {
    super::on_each_store(|| {
        for row in TABLE {
            for credential in CREDENTIALS {
                let mut desk = Desk::with_people(None);
                let answer = ask(&mut desk, row, credential);
                // Nobody is kept out; what is asked must make sense all the same.
                let wanted = match (row.path, credential) {
                    ("/rotate_key", _) => 400,
                    // No key counts here, and no broker is polled.
                    ("/pubkey/<alias>" | "/remote_inbox/<session_id>", _) => 404,
                    ("/mirror" | "/mirror_read", _) => 404,
                    ("/push", "replayed") => 409,
                    _ => 200,
                };
                let said = text(&answer);
                assert_eq!(answer.status, wanted, "{} {credential}: {said}", row.path);
            }
        }
    });
}

#[test]
fn an_unknown_path_tells_strangers_nothing() {
    let mut desk = Desk::with_people(Some(TOKEN));
    assert_eq!(desk.ask("GET", "/nowhere", Value::Null, "").status, 401);
    assert_eq!(desk.signed("/nowhere", &json!({}), "ann", 1).status, 404);
    assert_eq!(desk.signed("/heartbeat", &json!({}), "ann", 1).status, 400);
    let mut open = Desk::with_people(None);
    assert_eq!(open.ask("GET", "/nowhere", Value::Null, "").status, 404);
    assert_eq!(open.ask("GET", "/send", Value::Null, "").status, 405);
}

#[test]
fn dead_peers_are_for_the_operator_by_query_and_by_body() {
    super::on_each_store(|| {
        let mut desk = Desk::with_people(Some(TOKEN));
        let dead = json!({ "include_dead": true });
        assert_eq!(desk.signed("/list", &dead, "ann", 1).status, 401);
        assert_eq!(desk.ask("POST", "/list", dead.clone(), &bearer(TOKEN)).status, 200);
        assert_eq!(desk.ask("POST", "/list", dead.clone(), "").status, 401);
        assert_eq!(desk.signed("/list", &json!({}), "ann", 1).status, 200);
        assert_eq!(
            desk.ask("GET", "/list?include_dead=1", Value::Null, &bearer(TOKEN)).status,
            200
        );
        assert_eq!(desk.ask("GET", "/list?include_dead=1", Value::Null, "").status, 401);
    });
}

#[test]
fn a_proof_of_a_key_counts_once_in_time_and_for_its_alias() {
    super::on_each_store(|| {
        let fresh = || Desk::with_people(Some(TOKEN));
        let cases: [(&str, i64, &str, &str); 3] = [
            ("in time", 0, "", ""),
            ("expired", 121, "timestamp_out_of_window", ""),
            ("future", -32, "timestamp_out_of_window", ""),
        ];
        for (what, ago_s, refused, _) in cases {
            let mut desk = fresh();
            let body = desk.registration("cyd", "four", &key(4), ago_s);
            assert_eq!(code(&desk.ask("POST", "/register", body, "")), refused, "{what}");
        }
        let mut desk = fresh();
        let body = desk.registration("cyd", "four", &key(4), 0);
        assert_eq!(desk.ask("POST", "/register", body.clone(), "").status, 200);
        assert_eq!(code(&desk.ask("POST", "/register", body.clone(), "")), "nonce_replay");
        for (field, value) in [("alias", "dee"), ("nonce", "AAAAAAAAAAAAAAAAAAAAAA")] {
            let mut changed = body.clone();
            changed[field] = json!(value);
            assert_eq!(
                code(&desk.ask("POST", "/register", changed, "")),
                "signature_invalid",
                "{field}"
            );
        }
        let mut partial = body.clone();
        partial.as_object_mut().expect("an object").remove("signature");
        assert_eq!(code(&desk.ask("POST", "/register", partial, "")), "missing_proof_field");
        // Somebody else's alias, on the same node and on another.
        assert_eq!(code(&desk.register("ann", "one", &key(4))), "alias_identity_mismatch");
        assert_eq!(code(&desk.register("ann", "four", &key(4))), "alias_conflict");
        // Nor anything else on a node of another key, or under the name of the relay.
        assert_eq!(code(&desk.register("eve", "two", &key(4))), "alias_identity_mismatch");
        assert_eq!(code(&desk.register("eve", "relay", &key(4))), "invalid_argument");
    });
}

#[test]
fn everybody_of_a_node_registers_at_once_and_one_refusal_keeps_no_other_out() {
    super::on_each_store(|| {
        let mut desk = Desk::with_people(Some(TOKEN));
        let rows: Vec<Value> = [("ann", "four"), ("cyd", "four"), ("dee", "four")]
            .map(|(alias, node)| {
                let mut row = desk.registration(alias, node, &key(4), 0);
                row["replicated"] = json!(alias != "ann");
                row
            })
            .to_vec();
        let answer = desk.ask("POST", "/register", json!({ "registrations": rows }), "");
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let codes: Vec<&Value> = (0..3).map(|at| &body["results"][at]["error_code"]).collect();
        assert_eq!(codes, [&json!("alias_conflict"), &Value::Null, &Value::Null], "{body}");
        // Two keys, or two nodes, are two requests.
        for (node, seed) in [("five", 4), ("four", 5)] {
            let mixed = [("eve", "four", 4), ("fay", node, seed)]
                .map(|(alias, node, seed)| desk.registration(alias, node, &key(seed), 0));
            let answer = desk.ask("POST", "/register", json!({ "registrations": mixed }), "");
            assert_eq!(code(&answer), "bad_request");
        }
    });
}

#[test]
fn a_weak_key_is_refused_at_registration() {
    let mut desk = Desk::with_people(Some(TOKEN));
    let mut body = desk.registration("cyd", "one", &key(4), 0);
    // The neutral element: everybody can sign for it.
    let mut weak = [0; 32];
    weak[0] = 1;
    body["identity_pk"] = json!(sign::encode(&weak));
    body["signature"] = json!(sign::encode(&[0; 64]));
    assert_eq!(code(&desk.ask("POST", "/register", body, "")), "signature_invalid");
}

#[test]
fn only_listed_keys_are_admitted_where_there_is_a_list() {
    super::on_each_store(|| {
        let listed = Allowed::from([("ann".to_owned(), key(1).public().to_string())]);
        let mut desk = Desk::open(Some(TOKEN), Some(listed));
        assert_eq!(desk.register("ann", "one", &key(1)).status, 200);
        assert_eq!(code(&desk.register("ann", "two", &key(2))), "alias_not_allowed");
        assert_eq!(code(&desk.register("bob", "one", &key(1))), "alias_not_allowed");
    });
}

#[test]
fn a_batch_speaks_for_the_pushing_key_only() {
    super::on_each_store(|| {
        let mut desk = Desk::with_people(Some(TOKEN));
        let push = |desk: &mut Desk, node: &str, body: Vec<u8>, alias: &str, seed: u8| {
            let target = format!("/push?node_id={node}");
            let call = Call { method: "POST", target: target.clone(), body };
            let header = desk.header(&call, alias, &key(seed), 0);
            desk.send("POST", &target, call.body, &header)
        };
        // Bob's key for ann's node; ann's own node with bob as the sender; a node of nobody.
        let foreign = push(&mut desk, "one", batch(LOG, "bob", "ann@one"), "bob", 2);
        assert_eq!(code(&foreign), "foreign_sender");
        let nobody = push(&mut desk, "nine", batch(LOG, "ann", "bob@two"), "ann", 1);
        assert_eq!(code(&nobody), "foreign_sender");
        let good = push(&mut desk, "one", batch(LOG, "ann", "bob@two"), "ann", 1);
        assert_eq!(good.status, 200, "{}", text(&good));
        // The log is ann's now.
        let taken = push(&mut desk, "two", batch(LOG, "bob", "ann@one"), "bob", 2);
        assert_eq!(taken.status, 409, "{}", text(&taken));
        let again = push(&mut desk, "one", batch(LOG, "ann", "bob@two"), "ann", 1);
        assert_eq!(code(&again), "cursor_diverged");
        let garbage = push(&mut desk, "one", b"not a batch".to_vec(), "ann", 1);
        assert_eq!((garbage.status, code(&garbage)), (400, "batch_invalid".into()));
    });
}

#[test]
fn a_pull_gives_only_what_is_for_the_callers_node() {
    super::on_each_store(|| {
        let mut desk = Desk::with_people(Some(TOKEN));
        let row = TABLE.iter().find(|row| row.path == "/pull").expect("a route");
        let sent = json!({ "from_alias": "ann", "to_alias": "bob", "content": "for bob" });
        assert_eq!(desk.signed("/send", &sent, "ann", 1).status, 200);
        let body = call(row, &mut desk.relay).body;
        let mut wish: Value = serde_json::from_slice(&body).expect("a body");
        wish["node_id"] = json!("two");
        assert_eq!(code(&desk.signed("/pull", &wish, "ann", 1)), "foreign_sender");
        let own = desk.signed(
            "/pull",
            &json!(serde_json::from_slice::<Value>(&body).expect("a body")),
            "ann",
            1,
        );
        let batch = Batch::decode(&own.body).expect("a batch");
        let said = |item: &Item| String::from_utf8_lossy(&item.payload).into_owned();
        assert!(batch.items().iter().all(|item| !said(item).contains("for bob")));
    });
}

#[test]
fn room_operations_may_be_signed_inside_the_body() {
    super::on_each_store(|| {
        let mut desk = Desk::with_people(Some(TOKEN));
        let proof = |desk: &mut Desk, op, room: &str, alias: &str, key: &SecretKey| {
            let (ts, nonce, public) = (stamp(0), desk.nonce(), key.public().to_string());
            let moment = Moment { ts: &ts, nonce: &nonce };
            let text = sign::room_op(op, room, alias, &public, moment).expect("a text");
            json!({ "alias": alias, "room_id": room, "identity_pk": public, "sig": key.sign(&text),
                "nonce": nonce, "ts": ts })
        };
        let good = proof(&mut desk, sign::RoomOp::Join, "den", "bob", &key(2));
        assert_eq!(desk.ask("POST", "/join_room", good.clone(), "").status, 200);
        assert_eq!(code(&desk.ask("POST", "/join_room", good.clone(), "")), "nonce_replay");
        assert_eq!(code(&desk.ask("POST", "/leave_room", good, "")), "signature_invalid");
        // A good signature by a key that the alias does not belong to.
        let foreign = proof(&mut desk, sign::RoomOp::Leave, "den", "ann", &key(2));
        assert_eq!(code(&desk.ask("POST", "/leave_room", foreign, "")), "alias_identity_mismatch");
        let (ts, nonce, public) = (stamp(0), desk.nonce(), key(2).public().to_string());
        let moment = Moment { ts: &ts, nonce: &nonce };
        let text = sign::room_send("den", "bob", &public, "none", "hello", moment).expect("a text");
        let envelope = json!({ "ct": sign::encode(b"hello"), "enc": "none", "sender_pk": public,
            "sig": key(2).sign(&text), "ts": ts, "nonce": nonce });
        let said = |content: &str| json!({ "from_alias": "bob", "room_id": "den", "content": content, "envelope": envelope });
        assert_eq!(code(&desk.ask("POST", "/send_room", said("other"), "")), "bad_request");
        assert_eq!(desk.ask("POST", "/send_room", said("hello"), "").status, 200);
    });
}

#[test]
fn a_get_may_be_signed_with_the_body_or_without() {
    let mut desk = Desk::with_people(Some(TOKEN));
    for signed in [b"{}".to_vec(), Vec::new()] {
        let call = Call { method: "GET", target: "/list".into(), body: signed };
        let header = desk.header(&call, "ann", &key(1), 0);
        assert_eq!(desk.send("GET", "/list", b"{}".to_vec(), &header).status, 200);
    }
}

#[test]
fn a_clock_that_is_off_is_told_the_time() {
    let mut desk = Desk::with_people(Some(TOKEN));
    let call = Call { method: "GET", target: "/list".into(), body: Vec::new() };
    let header = desk.header(&call, "ann", &key(1), 3 * 3600);
    let answer = desk.send("GET", "/list", Vec::new(), &header);
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(body["error_code"], "timestamp_out_of_window");
    let there = body["server_time"].as_f64().expect("a time");
    assert!((there - clock::now_us() as f64 / 1e6).abs() < 60.0);
}
