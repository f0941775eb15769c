//! Tests of a broker whose checkpoint is damaged and cannot be rebuilt from the log.

use std::fs;
use std::path::Path;

use c2c_log_format::Payload;
use c2c_log_format::limits::{CHECKPOINT_HEADER_BYTES, FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use c2c_log_format::payload::{MessageSent, SessionRegistered, Target};

use super::{Broker, Delivery, DeliveryOptions, LOG_DIRECTORY};
use crate::error::Failure;
use crate::log::Durability;
use c2c_core::code::Code;
use c2c_core::command;
use c2c_core::decide::Actor;

const SEGMENT: &str = "00000000000000000001.seg";
const CHECKPOINT: &str = "checkpoint-00000000000000000002";

/// Writes a log with one session and one message for it, and a checkpoint of both.
fn write_log(root: &Path) {
    let registered = SessionRegistered::new("s-bob", "bob", "bob", "node");
    let target = Target::Mailbox("bob".into());
    let sent = MessageSent::new("m-1", "ann", "bob", target, "hello");
    let mut broker = Broker::open(root);
    for (head, event) in
        [Payload::SessionRegistered(registered), Payload::MessageSent(sent)].into_iter().enumerate()
    {
        broker.store.lock().expect("the writer lock");
        broker.catch_up().expect("a readable log");
        broker.store.append(head as u64, &[event], 1, Durability::Promised).expect("an append");
        broker.store.unlock();
    }
    broker.catch_up().expect("a readable log");
    broker.store.wait_durable(2).expect("a sync");
    broker.checkpoint();
}

fn flip_bit(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).expect("a file of the log");
    bytes[offset] ^= 1;
    // A new file: the old one may be mapped.
    fs::remove_file(path).expect("a removable file");
    fs::write(path, bytes).expect("a writable directory");
}

fn damage_checkpoint(root: &Path) {
    flip_bit(&root.join(LOG_DIRECTORY).join(CHECKPOINT), CHECKPOINT_HEADER_BYTES + 40);
}

fn damage_first_event(root: &Path) {
    let offset = SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES + 10;
    flip_bit(&root.join(LOG_DIRECTORY).join(SEGMENT), offset);
}

fn bob() -> Actor {
    Actor { session_id: Some("s-bob".into()), exact: true, ..Actor::default() }
}

fn poll(broker: &mut Broker) -> Result<Delivery, Failure> {
    broker.claim(&bob(), &DeliveryOptions::all("test"))
}

#[track_caller]
fn assert_corrupt<T: std::fmt::Debug>(result: Result<T, Failure>) {
    let failure = result.expect_err("a command on a damaged checkpoint");
    assert_eq!((failure.code(), failure.code().exit()), (Code::Corrupt, 1));
    let place = format!("checkpoint at event 2, which the log cannot rebuild: offset {}", 256);
    assert!(failure.message().starts_with(&place), "{}", failure.message());
}

#[test]
fn a_damaged_checkpoint_is_rebuilt_from_the_log() {
    let root = tempfile::tempdir().expect("a directory");
    write_log(root.path());
    damage_checkpoint(root.path());
    let delivery = poll(&mut Broker::open(root.path())).expect("mail");
    assert_eq!(delivery.messages.len(), 1);
}

#[test]
fn a_checkpoint_that_the_log_cannot_rebuild_is_an_error_of_every_command() {
    let root = tempfile::tempdir().expect("a directory");
    write_log(root.path());
    damage_checkpoint(root.path());
    damage_first_event(root.path());
    assert_corrupt(poll(&mut Broker::open(root.path())));
    assert_corrupt(Broker::open(root.path()).execute(&command::Heartbeat, &bob()));
    assert_corrupt(Broker::open(root.path()).execute(&command::Sweep, &bob()));
    assert_corrupt(Broker::open(root.path()).plan_sweep(&bob()));
    // The same broker reports the damage again.
    let mut broker = Broker::open(root.path());
    assert_corrupt(poll(&mut broker));
    assert_corrupt(poll(&mut broker));
}

/// Runs a query after a refresh, and expects that the damage is reported before it.
#[track_caller]
fn assert_not_answered<T: std::fmt::Debug>(query: impl Fn(&mut Broker) -> Result<T, Failure>) {
    let root = tempfile::tempdir().expect("a directory");
    write_log(root.path());
    damage_checkpoint(root.path());
    damage_first_event(root.path());
    let mut broker = Broker::open(root.path());
    for _ in 0..2 {
        assert_corrupt(broker.refresh(&bob()).and_then(|()| query(&mut broker)));
    }
}

#[test]
fn no_query_answers_from_a_checkpoint_that_the_log_cannot_rebuild() {
    assert_not_answered(|broker| Ok(broker.agents().len()));
    assert_not_answered(|broker| Ok(broker.rooms(None).len()));
    assert_not_answered(|broker| broker.held_mailbox(&bob()));
    assert_not_answered(|broker| Ok(broker.session_of_client()));
    assert_not_answered(|broker| Ok(broker.state().head));
    assert_not_answered(|broker| broker.room_history("lobby", 0, 0));
    assert_not_answered(|broker| broker.trace("m-1"));
    assert_not_answered(Broker::dead_letters);
    assert_not_answered(Broker::health);
    assert_not_answered(Broker::legacy_views);
}

#[test]
fn a_checkpoint_is_verified_again_when_it_is_loaded_again() {
    let root = tempfile::tempdir().expect("a directory");
    write_log(root.path());
    let mut broker = Broker::open(root.path());
    broker.refresh(&bob()).expect("an intact checkpoint");
    damage_checkpoint(root.path());
    damage_first_event(root.path());
    broker.loaded = false;
    assert_corrupt(broker.catch_up());
}

#[test]
fn no_checkpoint_is_written_from_incomplete_rows() {
    let root = tempfile::tempdir().expect("a directory");
    write_log(root.path());
    damage_checkpoint(root.path());
    damage_first_event(root.path());
    let path = root.path().join(LOG_DIRECTORY).join(CHECKPOINT);
    let before = fs::read(&path).expect("the checkpoint");
    let mut broker = Broker::open(root.path());
    broker.catch_up().expect("nothing reads the damaged rows");
    broker.checkpoint();
    assert!(fs::read(&path).expect("the checkpoint") == before);
    assert_corrupt(poll(&mut broker));
}

#[test]
fn a_broker_recovers_when_the_damaged_checkpoint_is_removed() {
    let root = tempfile::tempdir().expect("a directory");
    write_log(root.path());
    damage_checkpoint(root.path());
    damage_first_event(root.path());
    let mut broker = Broker::open(root.path());
    assert_corrupt(poll(&mut broker));
    fs::remove_file(root.path().join(LOG_DIRECTORY).join(CHECKPOINT)).expect("a removable file");
    // The registration was lost with the first event, so the session is unknown.
    assert_eq!(
        poll(&mut broker).map_err(|failure| failure.code()).err(),
        Some(Code::NotRegistered)
    );
}
