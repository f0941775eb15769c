//! `c2c-log` on the SQLite file of a relay.

use std::fs;
use std::path::PathBuf;

use c2c::broker::{Broker, DeliveryOptions};
use c2c::log::Durability;
use c2c::store::{EventStore, SqliteStore};
use c2c_core::command;
use c2c_core::decide::{Actor, Send};
use c2c_log_format::Payload;
use c2c_log_format::payload::{MessageSent, SessionRegistered, Target};
use rusqlite::Connection;

use crate::support::{Outcome, World, run};

fn registered(alias: &str) -> Payload {
    Payload::SessionRegistered(SessionRegistered::new(format!("s-{alias}"), alias, alias, "n"))
}

fn sent(id: &str) -> Payload {
    Payload::MessageSent(MessageSent {
        from_mailbox: "alice".into(),
        sent_us: 1_770_000_000_000_000,
        ..MessageSent::new(
            id,
            "alice",
            "bob",
            Target::Mailbox("bob".into()),
            format!("text of {id}"),
        )
    })
}

/// A file with two registrations in one batch and five messages.
fn relay(world: &World) -> PathBuf {
    let path = world.path().join("relay.db");
    let mut store = SqliteStore::open(&path);
    let mut put = |head, batch: &[Payload]| {
        store
            .append(head, batch, 1_770_000_000_000_000 + head, Durability::Promised)
            .expect("appended")
            .last
    };
    let mut head = put(0, &[registered("alice"), registered("bob")]);
    for number in 1..=5 {
        head = put(head, &[sent(&format!("m{number}"))]);
    }
    store.wait_durable(head).expect("durable");
    path
}

fn tool(world: &World, words: &str) -> Outcome {
    let args: Vec<&str> = words.split(' ').chain(["relay.db"]).collect();
    run(world.log_tool(&args))
}

fn change(world: &World, sql: &str) {
    let connection = Connection::open(world.path().join("relay.db")).expect("opened");
    connection.execute_batch(sql).expect("changed");
}

fn every_reading_command_reads_a_sqlite_file_and_changes_nothing() {
    let world = World::new();
    let path = relay(&world);
    let before = fs::read(&path).expect("a file");
    let shown = tool(&world, "inspect -o json").ok().out;
    assert_eq!(shown.lines().count(), 7);
    assert_eq!(tool(&world, "inspect -n 2 --kind message").ok().out.lines().count(), 2);
    let verified = tool(&world, "verify --json").ok().json();
    assert_eq!((&verified["events"], &verified["frames"]), (&7.into(), &6.into()));
    assert_eq!(tool(&world, "stats --json").ok().json()["events"], 7);
    let state = tool(&world, "state --json").ok().json();
    assert_eq!(state["mailboxes"][1]["pending"], serde_json::json!([3, 4, 5, 6, 7]));
    assert!(tool(&world, "trace m3").ok().out.contains("accepted"));
    assert!(tool(&world, "trace nobody").ok().out.contains("no record"));
    assert_eq!(fs::read(&path).expect("a file"), before);
    assert_eq!(tool(&world, "archive --before 3").status, 3);
    assert!(tool(&world, "repair").ok().out.contains("nothing to repair"));
    assert_eq!(fs::read(&path).expect("a file"), before);
}

fn an_export_can_be_imported_into_a_directory() {
    let world = World::new();
    relay(&world);
    let lines = tool(&world, "export").ok().out;
    fs::write(world.path().join("lines"), &lines).expect("written");
    let root = world.root();
    run(world.log_tool(&["import", "lines", "--to", root.to_str().expect("UTF-8")])).ok();
    let again = run(world.log_tool(&["export", "--broker-root", root.to_str().unwrap()])).ok().out;
    let bare = |text: &str| {
        let rows = text.lines().map(|line| serde_json::from_str(line).expect("a line"));
        let strip = |mut row: serde_json::Value| {
            let row = row.as_object_mut().expect("an object");
            row.retain(|key, _| !matches!(&**key, "segment" | "offset"));
            row.clone()
        };
        rows.map(strip).collect::<Vec<_>>()
    };
    assert_eq!(bare(&again), bare(&lines));
}

fn verify_detects_changes_in_the_file() {
    for (statement, what) in [
        ("UPDATE frames SET frame = x'00' WHERE first = 4", "sequence 4"),
        ("DELETE FROM frames WHERE first = 1", "sequence 1"),
        ("DELETE FROM frames WHERE first = 5", "sequence 5"),
        ("DELETE FROM frames WHERE first = 7", "acknowledged events are missing"),
        ("UPDATE log SET header = zeroblob(4096)", "segment header"),
        (
            "UPDATE frames SET frame = (SELECT frame FROM frames WHERE first = 3) WHERE first = 4",
            "4",
        ),
    ] {
        let world = World::new();
        relay(&world);
        change(&world, statement);
        let verified = tool(&world, "verify");
        assert_eq!(verified.status, 2, "{statement}: {}{}", verified.out, verified.err);
        assert!(verified.out.contains(what), "{statement}: {}", verified.out);
        assert_eq!(tool(&world, "repair --accept").status, 3, "{statement}");
    }
}

fn damage_around_the_frames_is_reported() {
    let world = World::new();
    let path = relay(&world);
    let whole = fs::read(&path).expect("a file");
    let mut unreported = Vec::new();
    for at in (0..whole.len()).step_by(97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(&path, &bytes).expect("written");
        let verified = tool(&world, "verify");
        assert!(verified.status <= 3, "byte {at}: {}", verified.err);
        let rows = tool(&world, "export");
        if verified.status == 0 && rows.out.lines().count() != 7 {
            unreported.push(at);
        }
    }
    assert_eq!(unreported, [0; 0], "damage that loses events and is not reported");
}

fn a_database_of_another_program_is_rejected() {
    let world = World::new();
    change(&world, "CREATE TABLE theirs (a)");
    for what in ["inspect", "verify", "stats", "state", "export", "trace m"] {
        let refused = tool(&world, what);
        assert_eq!(refused.status, 3, "{what}: {}", refused.out);
        assert!(refused.err.contains("another program"), "{what}: {}", refused.err);
    }
}

fn a_broker_on_a_sqlite_file_loses_and_repeats_nothing_over_many_openings() {
    let world = World::new();
    let open = || {
        Broker::with_store(
            &world.root(),
            Box::new(SqliteStore::open(&world.path().join("relay.db"))),
        )
    };
    let [alice, bob] = ["alice", "bob"].map(|name| -> Actor {
        let session = format!("s-{name}");
        let mut actor = c2c::env::actor::resolve(Some(&session), Some(world.path()));
        actor.alias = Some(name.into());
        let command = command::Register { alias: Some(name.into()) };
        open().execute(&command, &actor).expect("registered");
        actor
    });
    let mut read = Vec::new();
    for number in 0..400 {
        let mut broker = open();
        let (to, body) = ("bob".into(), format!("number {number}"));
        let send =
            Send { to, body, message_id: Some(format!("id-{number}").into()), ..Send::default() };
        let first = broker.execute(&send.clone(), &alice).expect("sent");
        let again = open().execute(&send, &alice).expect("a duplicate");
        assert!(first.last > 0 && again.last == 0, "message {number} was taken twice");
        if number % 37 == 0 || number == 399 {
            let shown = &mut |_: &c2c::broker::Delivery| Ok(());
            let taken =
                open().deliver(&bob, &DeliveryOptions::all("test"), shown).expect("delivered");
            read.extend(taken.messages.into_iter().map(|message| message.sent.body.into_string()));
        }
    }
    let expected: Vec<String> = (0..400).map(|number| format!("number {number}")).collect();
    assert_eq!(read, expected);
    let connection = Connection::open(world.path().join("relay.db")).expect("opened");
    let query = "SELECT count(*) FROM checkpoints";
    let kept: i64 = connection.query_row(query, [], |row| row.get(0)).expect("counted");
    assert_eq!(kept, 2, "a broker opens at a checkpoint");
    drop(connection);
    tool(&world, "verify").ok();
    assert!(tool(&world, "trace id-7").ok().out.contains("written"));
}

crate::harness::tests! {
    fast:
        every_reading_command_reads_a_sqlite_file_and_changes_nothing,
        an_export_can_be_imported_into_a_directory,
        verify_detects_changes_in_the_file,
        a_database_of_another_program_is_rejected;
    slow:
        damage_around_the_frames_is_reported,
        a_broker_on_a_sqlite_file_loses_and_repeats_nothing_over_many_openings;
}
