//! Conformance tests that every store must pass.

use std::sync::Arc;

use c2c_log_format::Payload;
use c2c_log_format::checksum::name_hash;
use c2c_log_format::payload::{MessageSent, Target};

use super::{EventStore, MemoryStore, SegmentedStore, Store, StoreError};
use crate::log::{Durability, Options};

fn message(id: &str) -> Payload {
    Payload::MessageSent(MessageSent {
        from_mailbox: "alice".into(),
        sent_us: 1,
        ..MessageSent::new(
            id,
            "alice",
            "bob",
            Target::Mailbox("bob".into()),
            format!("text of {id}"),
        )
    })
}

fn on_every_store(check: fn(&str, &mut dyn Store)) {
    check("memory", &mut MemoryStore::default());
    let directory = tempfile::tempdir().expect("temporary directory");
    check("segmented", &mut SegmentedStore::open(&directory.path().join("log")));
    #[cfg(feature = "sqlite")]
    check("sqlite", &mut super::SqliteStore::open(&directory.path().join("new/relay.db")));
    let disk = crate::log::sim_disk();
    check("simulated", &mut SegmentedStore::on(Arc::new(disk), Options::default()));
}

fn read(store: &mut dyn EventStore, after: u64) -> Vec<(u64, u16)> {
    let mut found = Vec::new();
    store
        .read_after(after, &mut |stored| {
            found.push((stored.event.head.sequence, stored.event.head.kind));
        })
        .expect("read");
    found
}

fn append(store: &mut dyn EventStore, ids: &[&str]) -> Result<u64, StoreError> {
    let head = read_head(store);
    store.lock()?;
    let batch: Vec<Payload> = ids.iter().map(|id| message(id)).collect();
    let appended = store.append(head, &batch, 5, Durability::Promised);
    store.unlock();
    Ok(appended?.last)
}

fn read_head(store: &mut dyn EventStore) -> u64 {
    let all = read(store, 0);
    all.last().map_or(0, |(sequence, _)| *sequence)
}

#[test]
fn batches_are_read_in_order_with_sequences_from_one() {
    on_every_store(|name, store| {
        store.lock().expect("lock");
        store.unlock();
        assert_eq!(append(store, &["a", "b"]).expect("append"), 2, "{name}");
        assert_eq!(append(store, &["c"]).expect("append"), 3, "{name}");
        store.wait_durable(3).expect("durable");
        assert!(store.durable() >= 3, "{name}");
        assert_eq!(read(store, 0), [(1, 200), (2, 200), (3, 200)], "{name}");
        assert_eq!(read(store, 3), [], "{name}");
    });
}

#[test]
fn an_append_with_another_expected_head_conflicts_and_writes_nothing() {
    on_every_store(|name, store| {
        store.lock().expect("lock");
        store.unlock();
        append(store, &["a"]).expect("append");
        // This store has not read its own append, so its reader is behind the head.
        store.lock().expect("lock");
        let rejected = store.append(0, &[message("b")], 5, Durability::Promised);
        store.unlock();
        assert!(matches!(rejected, Err(StoreError::Conflict { head: 1 })), "{name}: {rejected:?}");
        assert_eq!(read(store, 0).len(), 1, "{name}");
    });
}

#[test]
fn events_are_found_by_sequence_and_by_hash() {
    on_every_store(|name, store| {
        store.lock().expect("lock");
        store.unlock();
        append(store, &["a", "b", "c"]).expect("append");
        let mut fetched = Vec::new();
        let sequences = [3, 1, 99, 1, 2, 3, 2];
        store.fetch(&sequences, &mut |s| fetched.push(s.event.head.sequence)).expect("fetch");
        assert_eq!(fetched, [3, 1, 1, 2, 3, 2], "{name}");
        let hash = name_hash("b");
        let mut found = Vec::new();
        let by_id = |head: &c2c_log_format::EventHead| head.message == hash;
        store
            .search(&by_id, &mut |s| found.push(s.event.head.sequence), &|| false)
            .expect("search");
        assert_eq!(found, [2], "{name}");
    });
}

#[test]
fn events_of_a_message_are_found_by_its_id() {
    on_every_store(|name, store| {
        let find_all = |store: &mut dyn EventStore, ids: &[&str]| {
            let mut found = Vec::new();
            let visit = &mut |s: super::EventRef<'_>| found.push(s.event.head.sequence);
            let hashes: Vec<u64> = ids.iter().map(|id| name_hash(id)).collect();
            store.find(&hashes, visit).expect("find");
            found.sort_unstable();
            found
        };
        let find = |store: &mut dyn EventStore, id: &str| find_all(store, &[id]);
        assert_eq!(find(store, "a"), [0; 0], "{name}");
        store.lock().expect("lock");
        store.unlock();
        append(store, &["a", "b", "a"]).expect("append");
        append(store, &["a"]).expect("append");
        assert_eq!(find(store, "a"), [1, 3, 4], "{name}");
        assert_eq!(find(store, "b"), [2], "{name}");
        assert_eq!(find(store, "c"), [0; 0], "{name}");
        assert_eq!(find_all(store, &["c", "b", "a", "b"]), [1, 2, 3, 4], "{name}");
    });
}

#[test]
fn an_empty_store_answers_every_query() {
    on_every_store(|name, store| {
        assert_eq!(read(store, 0), [], "{name}");
        store.wait_durable(0).expect("durable");
        assert_eq!(store.durable(), 0, "{name}");
        let never = &mut |_: super::EventRef<'_>| panic!("{name}: the store is empty");
        store.fetch(&[0, 1], never).expect("fetch");
        store.search(&|_| true, never, &|| false).expect("search");
        assert!(store.newest(1).expect("checkpoint").is_none(), "{name}");
        assert_eq!(store.damage(), [], "{name}");
    });
}

#[test]
fn a_search_visits_the_newest_events_first_and_stops_on_request() {
    on_every_store(|name, store| {
        store.lock().expect("lock");
        store.unlock();
        for number in 0..600 {
            append(store, &[&format!("m{number}")]).expect("append");
        }
        let seen = std::cell::RefCell::new(Vec::new());
        let visit = &mut |s: super::EventRef<'_>| seen.borrow_mut().push(s.event.head.sequence);
        store
            .search(&|head| head.sequence % 2 == 0, visit, &|| !seen.borrow().is_empty())
            .expect("search");
        let mut found = seen.into_inner();
        assert_eq!(found.iter().max(), Some(&600), "{name}");
        found.dedup();
        assert!(found.iter().all(|sequence| sequence % 2 == 0), "{name}");
        let all = std::cell::Cell::new(0);
        let count = &mut |_: super::EventRef<'_>| all.set(all.get() + 1);
        store.search(&|_| true, count, &|| false).expect("search");
        assert_eq!(all.get(), 600, "{name}");
    });
}
