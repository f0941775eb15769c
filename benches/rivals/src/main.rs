//! Durable appends of 1 KB per second with SQLite. Started by `benches/append.rs`:
//! `rivals child sqlite DIR NUMBER START_MS MILLIS` prints the appends and the longest wait.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn main() -> rusqlite::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize| -> u64 { args[at].parse().expect("a number") };
    let (start_ms, millis) = (number(5), number(6));
    let db = rusqlite::Connection::open(format!("{}/db", args[3]))?;
    db.busy_timeout(Duration::from_secs(30))?;
    let _: String = db.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
    db.execute_batch(
        "PRAGMA synchronous=FULL; CREATE TABLE IF NOT EXISTS event (sequence INTEGER PRIMARY KEY, body BLOB)",
    )?;
    let body = [b'x'; 1024];
    let mut insert = db.prepare("INSERT INTO event (body) VALUES (?1)")?;
    while now_ms() < start_ms {
        std::thread::sleep(Duration::from_micros(200));
    }
    let end = Instant::now() + Duration::from_millis(millis);
    let (mut count, mut longest) = (0_u64, Duration::ZERO);
    loop {
        let before = Instant::now();
        insert.execute([&body[..]])?;
        longest = longest.max(before.elapsed());
        if Instant::now() > end {
            break;
        }
        count += 1;
    }
    println!("{count} {}", longest.as_micros());
    Ok(())
}
