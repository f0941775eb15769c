//! Access to the routes: every route with every credential, with and without a token.

use c2c::platform::clock;
use c2c::relay::protocol::route::{Access, RouteSpec, TABLE};
use c2c::relay::protocol::sign::{self, Moment, SecretKey};
use c2c::relay::protocol::{WireBatch, WireItem};
use c2c::relay::server::{AllowedKeys, RelayAnswer};
use serde_json::{Value, json};

use super::TOKEN;
use super::in_process::{Call, InProcessRelay, LOG, batch, bearer, call, code, key, stamp, text};

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

/// Sends a request with one of the credentials.
fn ask(server: &mut InProcessRelay, row: &RouteSpec, credential: &str) -> RelayAnswer {
    let call = call(row, &mut server.relay);
    let header = match credential {
        "none" => String::new(),
        "wrong token" => bearer("another"),
        "right token" => bearer(TOKEN),
        "malformed" => "Ed25519 alias=ann,ts=1".into(),
        "bad signature" => {
            let other =
                Call { body: b"{\"other\":1}".to_vec(), target: call.target.clone(), ..call };
            server.header(&other, "ann", &key(1), 0)
        }
        "expired" => server.header(&call, "ann", &key(1), 31),
        "future" => server.header(&call, "ann", &key(1), -7),
        // Signed by bob under the alias ann.
        "foreign key" => server.header(&call, "ann", &key(2), 0),
        "revoked" => server.header(&call, "old", &key(3), 0),
        "foreign alias" => server.header(&call, "bob", &key(2), 0),
        _ => server.header(&call, "ann", &key(1), 0),
    };
    if credential == "replayed" {
        server.send(call.method, &call.target, call.body.clone(), &header);
    }
    server.send(call.method, &call.target, call.body, &header)
}

/// Routes that act for an alias: a valid signature of bob does not act for ann.
const ACTING_FOR_ALIAS: [&str; 16] = [
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

fn expected(row: &RouteSpec, credential: &str) -> Vec<u16> {
    match (row.access, credential) {
        (Access::Public, _) => vec![200],
        (Access::Admin, "right token") if row.path.starts_with("/remote_inbox") => vec![404],
        (Access::Admin, "right token") => vec![200],
        (Access::Admin, _) => vec![401],
        // The proof belongs into the body, which has none here. An empty key rotation is malformed.
        (Access::BodyProof, _) if row.path == "/register" => vec![401],
        (Access::BodyProof, _) => vec![400],
        // This relay stores no files, and so no copies of logs.
        (_, "good") if row.path.starts_with("/mirror") => vec![404],
        (_, "good") => vec![200],
        (_, "foreign alias") if ACTING_FOR_ALIAS.contains(&row.path) => vec![403, 409],
        (_, "foreign alias") => vec![200],
        _ => vec![401],
    }
}

fn every_route_checks_every_credential_if_a_token_is_set() {
    super::on_each_store_if_slow(|| {
        for row in TABLE {
            for credential in CREDENTIALS {
                let mut server = InProcessRelay::with_agents(Some(TOKEN));
                let answer = ask(&mut server, row, credential);
                let allowed = expected(row, credential);
                let (path, body) = (row.path, text(&answer));
                assert!(
                    allowed.contains(&answer.status),
                    "{path} {credential}: {} {body}",
                    answer.status
                );
            }
        }
    });
}

fn every_route_admits_every_credential_if_no_token_is_set() {
    super::on_each_store_if_slow(|| {
        for row in TABLE {
            for credential in CREDENTIALS {
                let mut server = InProcessRelay::with_agents(None);
                let answer = ask(&mut server, row, credential);
                // Every caller is admitted, but the request must still be valid.
                let status = match (row.path, credential) {
                    ("/rotate_key", _) => 400,
                    // No key is bound, and no remote broker is polled.
                    ("/pubkey/<alias>" | "/remote_inbox/<session_id>", _) => 404,
                    ("/mirror" | "/mirror_read", _) => 404,
                    ("/push", "replayed") => 409,
                    _ => 200,
                };
                let body = text(&answer);
                assert_eq!(answer.status, status, "{} {credential}: {body}", row.path);
            }
        }
    });
}

fn an_unknown_path_reveals_nothing_to_strangers() {
    let mut server = InProcessRelay::with_agents(Some(TOKEN));
    assert_eq!(server.request("GET", "/nowhere", Value::Null, "").status, 401);
    assert_eq!(server.signed("/nowhere", &json!({}), "ann", 1).status, 404);
    assert_eq!(server.signed("/heartbeat", &json!({}), "ann", 1).status, 400);
    let mut open = InProcessRelay::with_agents(None);
    assert_eq!(open.request("GET", "/nowhere", Value::Null, "").status, 404);
    assert_eq!(open.request("GET", "/send", Value::Null, "").status, 405);
}

fn expired_peers_are_listed_only_for_the_operator_by_query_or_body() {
    super::on_each_store(|| {
        let mut server = InProcessRelay::with_agents(Some(TOKEN));
        let dead = json!({ "include_dead": true });
        assert_eq!(server.signed("/list", &dead, "ann", 1).status, 401);
        assert_eq!(server.request("POST", "/list", dead.clone(), &bearer(TOKEN)).status, 200);
        assert_eq!(server.request("POST", "/list", dead.clone(), "").status, 401);
        assert_eq!(server.signed("/list", &json!({}), "ann", 1).status, 200);
        assert_eq!(
            server.request("GET", "/list?include_dead=1", Value::Null, &bearer(TOKEN)).status,
            200
        );
        assert_eq!(server.request("GET", "/list?include_dead=1", Value::Null, "").status, 401);
    });
}

fn a_key_proof_is_valid_once_within_its_window_and_for_its_alias() {
    super::on_each_store(|| {
        let fresh = || InProcessRelay::with_agents(Some(TOKEN));
        let cases: [(&str, i64, &str, &str); 3] = [
            ("in time", 0, "", ""),
            ("expired", 121, "timestamp_out_of_window", ""),
            ("future", -32, "timestamp_out_of_window", ""),
        ];
        for (what, ago_s, rejected, _) in cases {
            let mut server = fresh();
            let body = server.registration("cyd", "four", &key(4), ago_s);
            assert_eq!(code(&server.request("POST", "/register", body, "")), rejected, "{what}");
        }
        let mut server = fresh();
        let body = server.registration("cyd", "four", &key(4), 0);
        assert_eq!(server.request("POST", "/register", body.clone(), "").status, 200);
        assert_eq!(code(&server.request("POST", "/register", body.clone(), "")), "nonce_replay");
        for (field, value) in [("alias", "dee"), ("nonce", "AAAAAAAAAAAAAAAAAAAAAA")] {
            let mut changed = body.clone();
            changed[field] = json!(value);
            assert_eq!(
                code(&server.request("POST", "/register", changed, "")),
                "signature_invalid",
                "{field}"
            );
        }
        let mut partial = body.clone();
        partial.as_object_mut().expect("an object").remove("signature");
        assert_eq!(code(&server.request("POST", "/register", partial, "")), "missing_proof_field");
        // The alias of another key, on the same node and on another node.
        assert_eq!(code(&server.register("ann", "one", &key(4))), "alias_identity_mismatch");
        assert_eq!(code(&server.register("ann", "four", &key(4))), "alias_conflict");
        // Any alias on a node of another key, or on a node named like the relay.
        assert_eq!(code(&server.register("eve", "two", &key(4))), "alias_identity_mismatch");
        assert_eq!(code(&server.register("eve", "relay", &key(4))), "invalid_argument");
    });
}

fn a_rejected_registration_does_not_affect_the_others_of_its_request() {
    super::on_each_store(|| {
        let mut server = InProcessRelay::with_agents(Some(TOKEN));
        let rows: Vec<Value> = [("ann", "four"), ("cyd", "four"), ("dee", "four")]
            .map(|(alias, node)| {
                let mut row = server.registration(alias, node, &key(4), 0);
                row["replicated"] = json!(alias != "ann");
                row
            })
            .to_vec();
        let answer = server.request("POST", "/register", json!({ "registrations": rows }), "");
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let codes: Vec<&Value> = (0..3).map(|at| &body["results"][at]["error_code"]).collect();
        assert_eq!(codes, [&json!("alias_conflict"), &Value::Null, &Value::Null], "{body}");
        // One request may not contain two keys or two nodes.
        for (node, seed) in [("five", 4), ("four", 5)] {
            let mixed = [("eve", "four", 4), ("fay", node, seed)]
                .map(|(alias, node, seed)| server.registration(alias, node, &key(seed), 0));
            let answer = server.request("POST", "/register", json!({ "registrations": mixed }), "");
            assert_eq!(code(&answer), "bad_request");
        }
    });
}

fn a_weak_key_is_rejected_at_registration() {
    let mut server = InProcessRelay::with_agents(Some(TOKEN));
    let mut body = server.registration("cyd", "one", &key(4), 0);
    // The neutral element: anyone can sign for it.
    let mut weak = [0; 32];
    weak[0] = 1;
    body["identity_pk"] = json!(sign::encode(&weak));
    body["signature"] = json!(sign::encode(&[0; 64]));
    assert_eq!(code(&server.request("POST", "/register", body, "")), "signature_invalid");
}

fn only_listed_keys_are_admitted_if_a_list_is_configured() {
    super::on_each_store(|| {
        let listed = AllowedKeys::from([("ann".to_owned(), key(1).public().to_string())]);
        let mut server = InProcessRelay::open(Some(TOKEN), Some(listed));
        assert_eq!(server.register("ann", "one", &key(1)).status, 200);
        assert_eq!(code(&server.register("ann", "two", &key(2))), "alias_not_allowed");
        assert_eq!(code(&server.register("bob", "one", &key(1))), "alias_not_allowed");
    });
}

fn a_batch_may_contain_only_senders_of_the_pushing_key() {
    super::on_each_store(|| {
        let mut server = InProcessRelay::with_agents(Some(TOKEN));
        let push =
            |server: &mut InProcessRelay, node: &str, body: Vec<u8>, alias: &str, seed: u8| {
                let target = format!("/push?node_id={node}");
                let call = Call { method: "POST", target: target.clone(), body };
                let header = server.header(&call, alias, &key(seed), 0);
                server.send("POST", &target, call.body, &header)
            };
        // Bob's key for the node of ann, then an unknown node.
        let foreign = push(&mut server, "one", batch(LOG, "bob", "ann@one"), "bob", 2);
        assert_eq!(code(&foreign), "foreign_sender");
        let nobody = push(&mut server, "nine", batch(LOG, "ann", "bob@two"), "ann", 1);
        assert_eq!(code(&nobody), "foreign_sender");
        let good = push(&mut server, "one", batch(LOG, "ann", "bob@two"), "ann", 1);
        assert_eq!(good.status, 200, "{}", text(&good));
        // The log now belongs to ann.
        let taken = push(&mut server, "two", batch(LOG, "bob", "ann@one"), "bob", 2);
        assert_eq!(taken.status, 409, "{}", text(&taken));
        let again = push(&mut server, "one", batch(LOG, "ann", "bob@two"), "ann", 1);
        assert_eq!(code(&again), "cursor_diverged");
        let garbage = push(&mut server, "one", b"not a batch".to_vec(), "ann", 1);
        assert_eq!((garbage.status, code(&garbage)), (400, "batch_invalid".into()));
    });
}

fn a_pull_returns_only_events_for_the_node_of_the_caller() {
    super::on_each_store(|| {
        let mut server = InProcessRelay::with_agents(Some(TOKEN));
        let row = TABLE.iter().find(|row| row.path == "/pull").expect("a route");
        let sent = json!({ "from_alias": "ann", "to_alias": "bob", "content": "for bob" });
        assert_eq!(server.signed("/send", &sent, "ann", 1).status, 200);
        let body = call(row, &mut server.relay).body;
        let mut foreign: Value = serde_json::from_slice(&body).expect("a body");
        foreign["node_id"] = json!("two");
        assert_eq!(code(&server.signed("/pull", &foreign, "ann", 1)), "foreign_sender");
        let own = server.signed(
            "/pull",
            &json!(serde_json::from_slice::<Value>(&body).expect("a body")),
            "ann",
            1,
        );
        let batch = WireBatch::decode(&own.body).expect("a batch");
        let payload = |item: &WireItem| String::from_utf8_lossy(&item.payload).into_owned();
        assert!(batch.items().iter().all(|item| !payload(item).contains("for bob")));
    });
}

fn room_operations_may_be_signed_inside_the_body() {
    super::on_each_store(|| {
        let mut server = InProcessRelay::with_agents(Some(TOKEN));
        let proof = |server: &mut InProcessRelay, op, room: &str, alias: &str, key: &SecretKey| {
            let (ts, nonce, public) = (stamp(0), server.nonce(), key.public().to_string());
            let moment = Moment { ts: &ts, nonce: &nonce };
            let text = sign::room_op(op, room, alias, &public, moment).expect("a text");
            json!({ "alias": alias, "room_id": room, "identity_pk": public, "sig": key.sign(&text),
                "nonce": nonce, "ts": ts })
        };
        let good = proof(&mut server, sign::RoomOp::Join, "den", "bob", &key(2));
        assert_eq!(server.request("POST", "/join_room", good.clone(), "").status, 200);
        assert_eq!(code(&server.request("POST", "/join_room", good.clone(), "")), "nonce_replay");
        assert_eq!(code(&server.request("POST", "/leave_room", good, "")), "signature_invalid");
        // A valid signature by a key that does not own the alias.
        let foreign = proof(&mut server, sign::RoomOp::Leave, "den", "ann", &key(2));
        assert_eq!(
            code(&server.request("POST", "/leave_room", foreign, "")),
            "alias_identity_mismatch"
        );
        let (ts, nonce, public) = (stamp(0), server.nonce(), key(2).public().to_string());
        let moment = Moment { ts: &ts, nonce: &nonce };
        let text = sign::room_send("den", "bob", &public, "none", "hello", moment).expect("a text");
        let envelope = json!({ "ct": sign::encode(b"hello"), "enc": "none", "sender_pk": public,
            "sig": key(2).sign(&text), "ts": ts, "nonce": nonce });
        let body = |content: &str| json!({ "from_alias": "bob", "room_id": "den", "content": content, "envelope": envelope });
        assert_eq!(code(&server.request("POST", "/send_room", body("other"), "")), "bad_request");
        assert_eq!(server.request("POST", "/send_room", body("hello"), "").status, 200);
    });
}

fn a_get_may_be_signed_with_or_without_the_body() {
    let mut server = InProcessRelay::with_agents(Some(TOKEN));
    for signed in [b"{}".to_vec(), Vec::new()] {
        let call = Call { method: "GET", target: "/list".into(), body: signed };
        let header = server.header(&call, "ann", &key(1), 0);
        assert_eq!(server.send("GET", "/list", b"{}".to_vec(), &header).status, 200);
    }
}

fn a_timestamp_outside_the_window_is_answered_with_the_server_time() {
    let mut server = InProcessRelay::with_agents(Some(TOKEN));
    let call = Call { method: "GET", target: "/list".into(), body: Vec::new() };
    let header = server.header(&call, "ann", &key(1), 3 * 3600);
    let answer = server.send("GET", "/list", Vec::new(), &header);
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(body["error_code"], "timestamp_out_of_window");
    let server_time = body["server_time"].as_f64().expect("a time");
    assert!((server_time - clock::now_us() as f64 / 1e6).abs() < 60.0);
}

crate::harness::tests! {
    fast:
        every_route_checks_every_credential_if_a_token_is_set,
        every_route_admits_every_credential_if_no_token_is_set,
        an_unknown_path_reveals_nothing_to_strangers,
        expired_peers_are_listed_only_for_the_operator_by_query_or_body,
        a_key_proof_is_valid_once_within_its_window_and_for_its_alias,
        a_rejected_registration_does_not_affect_the_others_of_its_request,
        a_weak_key_is_rejected_at_registration,
        only_listed_keys_are_admitted_if_a_list_is_configured,
        a_batch_may_contain_only_senders_of_the_pushing_key,
        a_pull_returns_only_events_for_the_node_of_the_caller,
        room_operations_may_be_signed_inside_the_body,
        a_get_may_be_signed_with_or_without_the_body,
        a_timestamp_outside_the_window_is_answered_with_the_server_time;
}
