//! Durable appends of 1 KB per second by 1, 4, 16 and 32 processes (L4).
//!
//! The bench starts itself once per process. `engine` appends to the log alone, `broker` sends
//! messages through the whole broker. `C2C_BENCH_RIVAL` names the binary of `benches/rivals`.

mod support;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use c2c::broker::Broker;
use c2c::log::{Directory, Durability, Log, Options};
use c2c_core::decide;

const PROCESSES: [usize; 4] = [1, 4, 16, 32];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if support::filled() {
        return;
    }
    if args.get(1).map(String::as_str) == Some("child") {
        let number = |at: usize| args[at].parse().expect("a number");
        return child(&args[2], Path::new(&args[3]), number(4), number(5), number(6));
    }
    let runs = support::setting("C2C_BENCH_RUNS", 5);
    let millis = support::setting("C2C_BENCH_MS", 1_000);
    let dir = support::scratch();
    support::enter_repository(dir.path());
    lone_send(dir.path());
    let rival = std::env::var_os("C2C_BENCH_RIVAL").map(PathBuf::from);
    let mut kinds = vec!["raw", "engine", "broker"];
    if rival.is_some() {
        kinds.push("sqlite");
    }
    // Rates and longest waits, by kind and number of processes.
    let mut rates: Vec<Vec<support::Samples>> = Vec::new();
    let mut waits = vec![[0.0_f64; PROCESSES.len()]; kinds.len()];
    for _ in &kinds {
        rates.push(PROCESSES.iter().map(|_| support::Samples::default()).collect());
    }
    for run in 0..runs {
        for (at, processes) in PROCESSES.into_iter().enumerate() {
            for (kind_at, kind) in kinds.iter().enumerate() {
                if *kind == "raw" && processes > 1 {
                    continue;
                }
                let place = dir.path().join(format!("{kind}-{processes}-{run}"));
                let (rate, wait_ms) = measure(kind, &place, processes, millis, rival.as_deref());
                rates[kind_at][at].add_us(rate);
                waits[kind_at][at] = waits[kind_at][at].max(wait_ms);
                let _ = std::fs::remove_dir_all(&place);
            }
        }
    }
    let raw = rates[0][0].median();
    for (kind_at, kind) in kinds.iter().enumerate() {
        for (at, processes) in PROCESSES.into_iter().enumerate() {
            let rate = &rates[kind_at][at];
            if rate.median().is_nan() {
                continue;
            }
            println!(
                "{kind:<8} {processes:>3} processes  median {:>7.0}/s  min {:>7.0}  max {:>7.0}   {:>5.2} x raw at 1   longest wait {:>6.1} ms",
                rate.median(),
                rate.at(0.0),
                rate.at(1.0),
                rate.median() / raw,
                waits[kind_at][at],
            );
        }
    }
}

/// Counts the sync calls of a single durable send.
fn lone_send(dir: &Path) {
    let root = dir.join("lone");
    support::fill_apart(&root, 1_000, 100, 100);
    let trace = dir.join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-e", "trace=fsync,fdatasync,sync_file_range,msync", "-o"]).arg(&trace);
    let send = support::c2c(&root, "s-2", &["send", "a-1", "hello"]);
    command.arg(send.get_program()).args(send.get_args()).env_clear().stdout(Stdio::null());
    for (name, value) in send.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    match command.status() {
        Ok(status) if status.success() => {
            let text = std::fs::read_to_string(&trace).unwrap_or_default();
            let count = |name: &str| text.lines().filter(|line| line.contains(name)).count();
            println!(
                "lone durable send: {} fdatasync, {} fsync, {} msync\n",
                count("fdatasync("),
                count(" fsync("),
                count("msync("),
            );
        }
        _ => println!("lone durable send: not counted, strace does not run here\n"),
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Appends per second of all processes, and the longest wait of any in milliseconds.
fn measure(
    kind: &str,
    place: &Path,
    processes: usize,
    millis: u64,
    rival: Option<&Path>,
) -> (f64, f64) {
    std::fs::create_dir_all(place).expect("made");
    if kind == "broker" {
        support::fill(place, 1_000, 100, 100);
    }
    if let (Some(rival), "sqlite") = (rival, kind) {
        // One process first: if many switch a database to WAL at once, some of them fail.
        let mut prepare = Command::new(rival);
        prepare.args(["child", kind]).arg(place).args(["0", "0", "0"]).stdout(Stdio::null());
        assert!(prepare.status().expect("starts").success(), "the rival cannot prepare");
    }
    let start = now_ms() + 200 + 5 * processes as u64;
    let this = std::env::current_exe().expect("known");
    let program = if kind == "sqlite" { rival.expect("named") } else { &this };
    let spawn = |number: usize| -> Child {
        let numbers = [number as u64, start, millis].map(|number| number.to_string());
        let mut command = Command::new(program);
        command.args(["child", kind]).arg(place).args(numbers).stdout(Stdio::piped());
        command.spawn().expect("starts")
    };
    let children: Vec<Child> = (0..processes).map(spawn).collect();
    let (mut total, mut longest) = (0.0, 0.0_f64);
    for child in children {
        let output = child.wait_with_output().expect("ends");
        assert!(output.status.success(), "a {kind} process failed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut numbers =
            text.split_whitespace().map(|word| word.parse::<f64>().expect("a number"));
        total += numbers.next().unwrap_or(0.0);
        longest = longest.max(numbers.next().unwrap_or(0.0));
    }
    (total * 1e3 / millis as f64, longest / 1e3)
}

/// Appends until the time ends; prints the number of appends and the longest wait in microseconds.
fn child(kind: &str, place: &Path, number: u64, start_ms: u64, millis: u64) {
    let mut append = appender(kind, place, number);
    while now_ms() < start_ms {
        std::thread::sleep(Duration::from_micros(200));
    }
    let end = Instant::now() + Duration::from_millis(millis);
    let (mut count, mut longest) = (0_u64, Duration::ZERO);
    loop {
        let before = Instant::now();
        append(count);
        longest = longest.max(before.elapsed());
        if Instant::now() > end {
            break;
        }
        count += 1;
    }
    println!("{count} {}", longest.as_micros());
}

fn appender(kind: &str, place: &Path, number: u64) -> Box<dyn FnMut(u64)> {
    match kind {
        "raw" => {
            let path = place.join("raw");
            let mut file: File =
                OpenOptions::new().append(true).create(true).open(path).expect("opened");
            Box::new(move |_| {
                file.write_all(&[b'x'; 1024]).expect("written");
                file.sync_data().expect("synced");
            })
        }
        "engine" => {
            let mut log = Log::open(Arc::new(Directory::new(place)), Options::default());
            Box::new(move |count| {
                let batch = [support::message(2, 1, number << 32 | count, 700)];
                log.lock().expect("locked");
                let done = log
                    .append(&batch, c2c::platform::clock::now_us(), Durability::Promised)
                    .expect("appended");
                log.unlock();
                log.wait_durable(done.last).expect("synced");
            })
        }
        _ => {
            let mut broker = Broker::open(place);
            let actor = support::acting(&format!("s-{}", 10 + number));
            let body = "x".repeat(700);
            Box::new(move |_| {
                let send = decide::Send {
                    to: "a-1".into(),
                    body: body.clone(),
                    from: None,
                    message_id: None,
                    tag: None,
                    reply_to: None,
                    ttl_s: None,
                    deferrable: false,
                };
                broker.execute(&send, &actor).expect("sent");
            })
        }
    }
}
