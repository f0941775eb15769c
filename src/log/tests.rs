//! Crash, fault and concurrency tests of the log on a simulated disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use c2c_log_format::payload::RootMoved;
use c2c_log_format::{Payload, Sequence};

use super::sim::{FaultPlan, Random, SimDisk};
use super::{Durability, Log, LogError, Options, ReadPosition};
use crate::platform::test_seed;

const STEPS: u64 = 200;

fn options() -> Options {
    Options { segment_bytes: 16 * 1024, lock_wait: Duration::from_millis(50) }
}

fn event(text: &str) -> Payload {
    Payload::RootMoved(RootMoved { to: text.to_owned() })
}

/// Appends one durable event and waits for the disk.
fn step(log: &mut Log, number: u64) -> Result<Sequence, LogError> {
    log.lock()?;
    let text = format!("{number} {}", "x".repeat((number % 97) as usize * 9));
    let appended = log.append(&[event(&text)], 1, Durability::Promised);
    log.unlock();
    let last = appended?.last;
    log.wait_durable(last)?;
    Ok(last)
}

/// Runs all steps; returns the number of each acknowledged step by sequence.
fn run(disk: &SimDisk) -> BTreeMap<Sequence, u64> {
    let mut acknowledged = BTreeMap::new();
    let mut log = Log::open(Arc::new(disk.clone()), options());
    for number in 0..STEPS {
        if let Ok(sequence) = step(&mut log, number) {
            acknowledged.insert(sequence, number);
        }
    }
    acknowledged
}

/// Reads all events; returns the number of each step by sequence.
fn read_all(log: &mut Log) -> BTreeMap<Sequence, u64> {
    let mut found = BTreeMap::new();
    let mut position = ReadPosition::START;
    let mut last = 0;
    log.read(&mut position, &mut |frame| {
        let events =
            c2c_log_format::event::events(frame.body, frame.header.sequence, frame.header.count);
        for event in events {
            let event = event.expect("a checked body decodes");
            assert!(event.head.sequence > last, "sequences only grow");
            last = event.head.sequence;
            let payload = Payload::decode(event.head.kind, event.payload);
            let Some(Ok(Payload::RootMoved(event))) = payload else { panic!("another kind") };
            let number = event.to.split(' ').next().and_then(|n| n.parse().ok());
            found.insert(last, number.expect("a step number"));
        }
    })
    .expect("the log can be read");
    found
}

fn assert_kept(
    acknowledged: &BTreeMap<Sequence, u64>,
    found: &BTreeMap<Sequence, u64>,
    what: &str,
) {
    for (sequence, number) in acknowledged {
        assert_eq!(found.get(sequence), Some(number), "{what}: event {sequence} is lost");
    }
}

#[test]
fn a_crash_at_any_call_of_200_steps_loses_no_acknowledged_event() {
    let whole = SimDisk::new(FaultPlan::default());
    assert_eq!(run(&whole).len() as u64, STEPS);
    let calls = whole.calls();
    assert!(calls > 2 * STEPS, "each step writes and syncs: {calls}");
    for crash_at in 1..=calls {
        let disk = SimDisk::new(FaultPlan { crash_at: Some(crash_at), ..FaultPlan::default() });
        let acknowledged = run(&disk);
        for seed in test_seed::several(3) {
            let what = format!("crash at call {crash_at}, seed {seed}");
            let mut random = Random((crash_at * 7919).wrapping_add(seed));
            let survived = disk.after_power_loss(&mut random);
            let mut log = Log::open(Arc::new(survived.clone()), options());
            assert_kept(&acknowledged, &read_all(&mut log), &what);
            // A new event can be appended, and all earlier ones can still be read.
            let sequence = step(&mut log, 7).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(acknowledged.keys().all(|old| *old < sequence), "{what}: sequence reused");
            let mut again = Log::open(Arc::new(survived), options());
            let found = read_all(&mut again);
            assert_kept(&acknowledged, &found, &what);
            assert_eq!(found.get(&sequence), Some(&7), "{what}");
        }
    }
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_writing_continues() {
    let mut failures = 0;
    for fail_sync in 1..60 {
        let disk = SimDisk::new(FaultPlan { fail_sync: Some(fail_sync), ..FaultPlan::default() });
        let acknowledged = run(&disk);
        failures += STEPS - acknowledged.len() as u64;
        let mut log = Log::open(Arc::new(disk.clone()), options());
        assert_kept(&acknowledged, &read_all(&mut log), "same boot");
        let survived = disk.after_power_loss(&mut Random(fail_sync));
        let mut log = Log::open(Arc::new(survived), options());
        assert_kept(&acknowledged, &read_all(&mut log), "after power loss");
    }
    assert!(failures > 0, "no sync failed, so nothing was tested");
}

#[test]
fn a_full_disk_fails_one_append_and_no_other() {
    let mut failures = 0;
    for full_at in 2..120 {
        let disk = SimDisk::new(FaultPlan { full_at: Some(full_at), ..FaultPlan::default() });
        let acknowledged = run(&disk);
        failures += STEPS - acknowledged.len() as u64;
        let mut log = Log::open(Arc::new(disk.clone()), options());
        let found = read_all(&mut log);
        assert_kept(&acknowledged, &found, "same boot");
        assert_eq!(found.len(), acknowledged.len(), "a failed append is not visible");
    }
    // A disk that is full while zeros are written ahead of the tail fails no append.
    assert!((100..118).contains(&failures), "each run finds the disk full once: {failures}");
}

#[test]
fn a_control_page_of_an_earlier_boot_is_ignored() {
    let disk = SimDisk::new(FaultPlan::default());
    let acknowledged = run(&disk);
    let survived = disk.after_power_loss(&mut Random(5));
    let mut log = Log::open(Arc::new(survived), options());
    assert_kept(&acknowledged, &read_all(&mut log), "new page");
}

#[test]
fn without_a_boot_id_the_events_of_another_handle_are_synced_before_they_count_as_durable() {
    for seed in 1..20 {
        let disk = SimDisk::without_boot_id();
        let mut first = Log::open(Arc::new(disk.clone()), options());
        let mut second = Log::open(Arc::new(disk.clone()), options());
        // Appended but not yet awaited.
        first.lock().expect("locked");
        first.append(&[event("1 a"), event("2 b")], 1, Durability::Promised).expect("appended");
        first.unlock();
        second.wait_durable(2).expect("durable");
        let survived = disk.after_power_loss(&mut Random(seed));
        let mut log = Log::open(Arc::new(survived), options());
        assert_eq!(read_all(&mut log).len(), 2, "seed {seed}");
        assert_eq!(step(&mut second, 3).expect("append"), 3);
        assert_eq!(step(&mut first, 4).expect("append"), 4);
        assert_eq!(read_all(&mut second), BTreeMap::from([(1, 1), (2, 2), (3, 3), (4, 4)]));
    }
}

#[test]
fn two_handles_see_each_others_appends_immediately() {
    let disk = SimDisk::new(FaultPlan::default());
    let mut first = Log::open(Arc::new(disk.clone()), options());
    let mut second = Log::open(Arc::new(disk.clone()), options());
    for number in 0..50 {
        let log = if number % 2 == 0 { &mut first } else { &mut second };
        assert_eq!(step(log, number).expect("append"), number + 1);
    }
    assert_eq!(read_all(&mut first).len(), 50);
    assert_eq!(read_all(&mut second).len(), 50);
}

#[test]
fn a_later_sync_does_not_acknowledge_an_event_of_a_poisoned_segment() {
    // The first sync creates the segment, the second records its identity, the third belongs to the
    // first event, and the fourth fails.
    let disk = SimDisk::new(FaultPlan { fail_sync: Some(4), ..FaultPlan::default() });
    let mut first = Log::open(Arc::new(disk.clone()), options());
    assert_eq!(step(&mut first, 1).expect("append"), 1);
    // Appended but not yet awaited.
    first.lock().expect("lock");
    let waiting = first.append(&[event("2")], 1, Durability::Promised).expect("append").last;
    first.unlock();
    let mut second = Log::open(Arc::new(disk.clone()), options());
    assert!(step(&mut second, 3).is_err(), "the sync fails");
    let later = step(&mut second, 4).expect("a new segment");
    assert!(later > waiting, "sequences are not reused");
    assert!(matches!(first.wait_durable(waiting), Err(LogError::Reload)));
    let found = read_all(&mut Log::open(Arc::new(disk), options()));
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1, later]);
}

#[test]
fn a_directory_removed_while_open_is_no_longer_written_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    let open = || Log::open(Arc::new(super::Directory::new(&path)), options());
    let mut server = open();
    assert_eq!(step(&mut server, 1).expect("append"), 1);
    let mut position = ReadPosition::START;
    server.read(&mut position, &mut |_| {}).expect("read");

    std::fs::remove_dir_all(&path).expect("removed");
    assert!(matches!(server.read(&mut position, &mut |_| {}), Err(LogError::Reload)));
    assert_eq!(step(&mut open(), 7).expect("a new log"), 1);

    assert_eq!(step(&mut server, 8).expect("append"), 2);
    assert_eq!(read_all(&mut open()).len(), 2, "both are in the new log");
}

#[test]
fn a_lock_held_too_long_is_reported_as_busy_and_can_be_taken_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Log::open(Arc::new(super::Directory::new(dir.path())), options());
    let (mut holder, mut waiter) = (open(), open());
    step(&mut holder, 1).expect("append");
    step(&mut waiter, 2).expect("append");
    holder.lock().expect("lock");
    assert!(matches!(waiter.lock(), Err(LogError::Busy { waited_ms: 50 })));
    holder.unlock();
    assert_eq!(step(&mut waiter, 3).expect("append"), 3);
}

#[test]
fn vanished_acknowledged_events_are_recorded_and_their_sequences_not_reused() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Log::open(Arc::new(super::Directory::new(dir.path())), options());
    let mut log = open();
    for number in 1..=3 {
        step(&mut log, number).expect("append");
    }
    let page = super::Control::map(
        &std::fs::File::options()
            .read(true)
            .write(true)
            .open(dir.path().join("control"))
            .expect("a page"),
    )
    .expect("mapped");
    // The state after a boot if the disk lost data that it had reported as durable.
    page.raise_durable(9);
    let tail = page.tail().expect("a tail");
    page.set_tail(&super::Tail { boot_id: [9; 16], ..tail });
    assert_eq!(step(&mut open(), 4).expect("append"), 10);
    let found = read_all(&mut open());
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 10]);
    let recorded = open().quarantined().expect("listed");
    assert!(recorded.len() == 1 && recorded[0].ends_with("-lost-4-9"), "{recorded:?}");
}

#[test]
fn a_first_batch_larger_than_a_segment_extends_the_segment() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Log::open(Arc::new(super::Directory::new(dir.path())), options());
    let mut log = open();
    log.lock().expect("lock");
    let last = log.append(&[event(&format!("1 {}", "x".repeat(40_000)))], 1, Durability::Promised);
    log.unlock();
    assert_eq!(last.expect("append").last, 1);
    assert_eq!(step(&mut log, 2).expect("append"), 2);
    assert_eq!(read_all(&mut open()).into_iter().collect::<Vec<_>>(), [(1, 1), (2, 2)]);
    let bases = open().bases().expect("listed");
    for base in bases {
        let header = open().segment(base).expect("a segment").header;
        assert!(header.previous_base < base, "segment {base} follows itself");
    }
}

/// Writes a base and archives all but the last segment.
fn archive(disk: &SimDisk) -> Result<(), LogError> {
    let mut log = Log::open(Arc::new(disk.clone()), options());
    let bases = log.bases()?;
    log.write_base(&BASE, STEPS)?;
    let name = |base: &Sequence| c2c_log_format::segment::file_name(*base);
    let mut old = bases[..bases.len() - 1].iter().filter(|base| !disk.is_archived(&name(base)));
    old.try_for_each(|base| log.archive_segment(*base))
}

/// Placeholder content of a base; nothing decodes it.
const BASE: [u8; 3000] = [7; 3000];

#[test]
fn a_crash_at_any_call_of_archiving_loses_no_event_and_moves_none_before_the_base() {
    let whole = SimDisk::new(FaultPlan::default());
    run(&whole);
    let before = whole.calls();
    archive(&whole).expect("archived");
    assert!(whole.calls() > before + 6, "archiving moves a base and several segments");
    let mut moved = 0;
    for crash_at in before + 1..=whole.calls() {
        let disk = SimDisk::new(FaultPlan { crash_at: Some(crash_at), ..FaultPlan::default() });
        let acknowledged = run(&disk);
        assert!(archive(&disk).is_err());
        for seed in test_seed::several(3) {
            let what = format!("crash at call {crash_at}, seed {seed}");
            let survived = disk.after_power_loss(&mut Random((crash_at * 7919).wrapping_add(seed)));
            let mut log = Log::open(Arc::new(survived.clone()), options());
            assert_kept(&acknowledged, &read_all(&mut log), &what);
            if survived.is_archived(&c2c_log_format::segment::file_name(1)) {
                moved += 1;
                let base = log.storage.open(&format!("base-{STEPS:020}"), false).expect("a base");
                assert_eq!(&*base.content().expect("read"), &BASE, "{what}");
            }
            archive(&survived).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_kept(&acknowledged, &read_all(&mut log), &what);
            assert!(step(&mut log, 7).expect("append") > STEPS);
        }
    }
    assert!(moved > 0, "no segment had moved, so nothing was tested");
}

#[test]
fn a_copy_never_writes_under_the_old_id_wherever_its_first_writer_is_killed() {
    let original = SimDisk::new(FaultPlan::default());
    let acknowledged = run(&original);
    let id = |disk: &SimDisk| {
        let mut log = Log::open(Arc::new(disk.clone()), options());
        log.log_id().expect("read").expect("an id")
    };
    let old = id(&original);
    let whole = original.copied(FaultPlan::default());
    step(&mut Log::open(Arc::new(whole.clone()), options()), 1).expect("append");
    assert!(whole.calls() > 5);
    for crash_at in 1..=whole.calls() {
        let copy = original.copied(FaultPlan { crash_at: Some(crash_at), ..FaultPlan::default() });
        let _ = step(&mut Log::open(Arc::new(copy.clone()), options()), 1);
        let copy = copy.after_kill();
        let mut log = Log::open(Arc::new(copy.clone()), options());
        step(&mut log, 2).expect("append");
        assert_ne!(id(&copy), old, "killed at call {crash_at}");
        assert_kept(&acknowledged, &read_all(&mut log), "the copy");
    }
    assert_eq!(id(&original), old);
}
