//! Tests of the SQLite store: concurrency, permissions, damage and checkpoints.

use std::collections::BTreeSet;

use c2c_log_format::payload::SessionHeartbeat;

use super::*;
use crate::platform::fs::{mode_of, set_mode};
use crate::store::Checkpoints;
use c2c_log_format::checkpoint::CheckpointHeader;

fn heartbeat(session: &str) -> Payload {
    Payload::SessionHeartbeat(SessionHeartbeat {
        session_id: session.to_owned(),
        mailbox: "m".into(),
    })
}

fn path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("relay.db")
}

/// Creates a file with this many events, each in its own frame.
fn filled(folder: &tempfile::TempDir, events: u64) -> SqliteStore {
    let mut store = SqliteStore::open(&path(folder));
    for head in 0..events {
        store
            .append(head, &[heartbeat(&format!("s{head}"))], 7, Durability::Promised)
            .expect("appended");
    }
    store
}

fn sequences(store: &mut SqliteStore, after: Sequence) -> Vec<Sequence> {
    let mut sequences = Vec::new();
    store
        .read_after(after, &mut |stored| sequences.push(stored.event.head.sequence))
        .expect("read");
    sequences
}

fn tamper(folder: &tempfile::TempDir, sql: &str) {
    let connection = Connection::open(path(folder)).expect("opened");
    connection.execute_batch(sql).expect("changed");
}

#[test]
fn concurrent_writers_lose_and_duplicate_no_event() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = path(&folder);
    let write = |writer: u32| {
        let mut store = SqliteStore::open(&path);
        let mut head = 0;
        for number in 0..50 {
            let batch = [heartbeat(&format!("{writer}-{number}")), heartbeat("second")];
            head = loop {
                match store.append(head, &batch, 7, Durability::Promised) {
                    Ok(appended) => break appended.last,
                    Err(StoreError::Conflict { head: at }) => head = at,
                    Err(other) => panic!("{other}"),
                }
            };
            store.wait_durable(head).expect("durable");
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|writer| drop(scope.spawn(move || write(writer)))));
    let mut seen = BTreeSet::new();
    let mut expected = 1;
    SqliteStore::open(&path)
        .read_after(0, &mut |stored| {
            assert_eq!(stored.event.head.sequence, expected);
            expected += 1;
            seen.insert(String::from_utf8_lossy(stored.event.payload).into_owned());
        })
        .expect("read");
    assert_eq!((expected, seen.len()), (401, 201));
}

#[test]
fn all_files_are_accessible_to_the_owner_only() {
    let folder = tempfile::tempdir().expect("a directory");
    fs::write(path(&folder), "").expect("an empty file");
    set_mode(&path(&folder), 0o666).expect("chmod");
    let mut store = filled(&folder, 1);
    store.wait_durable(1).expect("durable");
    let files: Vec<_> = fs::read_dir(folder.path()).expect("listed").flatten().collect();
    assert_eq!(files.len(), 3, "the file, its WAL and its index");
    for file in files {
        let mode = mode_of(&file.metadata().expect("metadata"));
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
    }
}

#[test]
fn a_database_of_another_program_is_not_changed() {
    let folder = tempfile::tempdir().expect("a directory");
    tamper(&folder, "CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)");
    let before = fs::read(path(&folder)).expect("a file");
    set_mode(&path(&folder), 0o644).expect("chmod");
    let mut store = SqliteStore::open(&path(&folder));
    assert!(store.append(0, &[heartbeat("s")], 7, Durability::Promised).is_err());
    assert!(store.log_id().is_err());
    assert_eq!(fs::read(path(&folder)).expect("a file"), before);
    let mode = mode_of(&fs::metadata(path(&folder)).expect("metadata"));
    assert_eq!(mode, 0o644);
    fs::write(path(&folder), "not a database, but long enough to be examined").expect("written");
    assert!(store.append(0, &[heartbeat("s")], 7, Durability::Promised).is_err());
}

#[test]
fn a_newer_schema_is_rejected() {
    let folder = tempfile::tempdir().expect("a directory");
    drop(filled(&folder, 1));
    tamper(&folder, "PRAGMA user_version = 2");
    let rejected =
        SqliteStore::open(&path(&folder)).append(1, &[heartbeat("s")], 7, Durability::Promised);
    assert!(matches!(rejected, Err(StoreError::UpgradeNeeded { .. })), "{rejected:?}");
}

#[test]
fn the_durable_sequence_rises_only_by_waiting_and_never_above_the_head() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut store = filled(&folder, 3);
    assert_eq!((store.durable(), store.recorded_durable().expect("a sequence")), (0, 0));
    store.wait_durable(2).expect("durable");
    // One commit covers all earlier events.
    assert_eq!((store.durable(), store.recorded_durable().expect("a sequence")), (3, 3));
    let mut other = SqliteStore::open(&path(&folder));
    other.wait_durable(3).expect("durable");
    assert_eq!(other.durable(), 3);
}

#[test]
fn a_flipped_bit_loses_its_frame_and_is_reported() {
    let folder = tempfile::tempdir().expect("a directory");
    drop(filled(&folder, 5));
    for byte in [3, 20, 50, 60, 100] {
        let old: Vec<u8> = {
            let connection = Connection::open(path(&folder)).expect("opened");
            let query = "SELECT frame FROM frames WHERE first = 3";
            connection.query_row(query, [], |row| row.get(0)).expect("a frame")
        };
        let mut bad = old.clone();
        bad[byte] ^= 4;
        let put = |frame: &[u8]| {
            let connection = Connection::open(path(&folder)).expect("opened");
            connection
                .execute("UPDATE frames SET frame = ?1 WHERE first = 3", [frame])
                .expect("updated");
        };
        put(&bad);
        let mut store = SqliteStore::open(&path(&folder));
        assert_eq!(sequences(&mut store, 0), [1, 2, 4, 5], "byte {byte}");
        let damage = store.damage();
        assert_eq!(damage.iter().map(|damage| damage.first).min(), Some(3), "{damage:?}");
        put(&old);
    }
    tamper(&folder, "DELETE FROM frames WHERE first = 2");
    let mut store = SqliteStore::open(&path(&folder));
    assert_eq!(sequences(&mut store, 0), [1, 3, 4, 5]);
    assert_eq!((store.damage()[0].first, store.damage()[0].last), (2, Some(2)));
}

/// A checkpoint without rows and without the fields that the store fills in.
fn encoded(sequence: Sequence) -> Vec<u8> {
    let header = CheckpointHeader {
        projection: PROJECTION,
        log_id: [0; 16],
        sequence,
        segment: 0,
        position: FramePosition { offset: 0, sequence: sequence + 1, previous_frame: 0 },
        rows_len: 0,
        index_len: 0,
        index_crc: 0,
        digest: [0; 32],
        time_us: 9,
    };
    header.encode().to_vec()
}

const PROJECTION: u16 = 9;

#[test]
fn reading_resumes_after_a_checkpoint() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut store = filled(&folder, 3);
    assert_eq!(sequences(&mut store, 0), [1, 2, 3]);
    store.keep(3, &|| encoded(3)).expect("skipped");
    assert!(store.newest(PROJECTION).expect("read").is_none(), "head is not durable yet");
    store.wait_durable(3).expect("durable");
    store.keep(2, &|| encoded(2)).expect("skipped");
    assert!(store.newest(PROJECTION).expect("read").is_none(), "not the position of the reader");
    store.keep(3, &|| encoded(3)).expect("kept");
    store.append(3, &[heartbeat("later")], 7, Durability::Promised).expect("appended");
    let mut other = SqliteStore::open(&path(&folder));
    assert!(other.newest(PROJECTION + 1).expect("read").is_none());
    let checkpoint = other.newest(PROJECTION).expect("read").expect("a checkpoint");
    assert_eq!(checkpoint.header.sequence, 3);
    other.resume(&checkpoint);
    assert_eq!(sequences(&mut other, 3), [4]);
    assert_eq!((other.damage(), other.tail_size().0), (Vec::new(), 1));
}

#[test]
fn a_reader_creates_and_changes_no_file() {
    let folder = tempfile::tempdir().expect("a directory");
    let list = || {
        let files = fs::read_dir(folder.path()).expect("listed").flatten();
        files
            .map(|file| (file.file_name(), fs::read(file.path()).unwrap()))
            .collect::<BTreeSet<_>>()
    };
    let mut reader = SqliteStore::open_read_only(&path(&folder));
    assert_eq!(sequences(&mut reader, 0), [0; 0]);
    assert_eq!(list().len(), 0);
    drop(filled(&folder, 3));
    let before = list();
    assert_eq!(before.len(), 1, "a database that was closed properly is one file");
    let mut reader = SqliteStore::open_read_only(&path(&folder));
    assert_eq!(sequences(&mut reader, 0), [1, 2, 3]);
    reader.wait_durable(3).expect("nothing to wait for");
    assert_eq!(list(), before);
    // A reader sees committed events while another process writes.
    let mut writer = SqliteStore::open(&path(&folder));
    writer.append(3, &[heartbeat("s")], 7, Durability::Promised).expect("appended");
    assert_eq!(sequences(&mut SqliteStore::open_read_only(&path(&folder)), 0), [1, 2, 3, 4]);
}
