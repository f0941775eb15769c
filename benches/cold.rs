//! Time of one command from start to exit (L1, L2, L3, A1).
//!
//! `C2C_BENCH_ROUNDS` sets the rounds, `C2C_BENCH_HUGE=1` adds a log of 10^7 events.

mod support;

use support::{Samples, Sync};

struct Case {
    events: u64,
    root: std::path::PathBuf,
    poll: Samples,
    send: Samples,
    /// Without mail, and with the message that was just sent.
    hook: Samples,
    hook_mail: Samples,
}

/// The hook of a client after a tool call.
fn hook(case: &Case, input: &std::path::Path) -> std::process::Command {
    let mut command = support::c2c(&case.root, "", &["hook"]);
    command.env_remove("C2C_MCP_SESSION_ID").stdin(std::fs::File::open(input).expect("a file"));
    command
}

fn main() {
    if support::filled() {
        return;
    }
    let rounds = support::setting("C2C_BENCH_ROUNDS", 201);
    let dir = support::scratch();
    let floor_binary = support::build_floor(dir.path());
    support::enter_repository(dir.path());
    let mut sizes = vec![1_000, 100_000, 1_000_000];
    if support::setting("C2C_BENCH_HUGE", 0) > 0 {
        sizes.push(10_000_000);
    }
    let mut cases = Vec::new();
    for events in sizes {
        let root = dir.path().join(format!("root-{events}"));
        // The smallest log cannot hold as many sessions and messages.
        let (sessions, pending) = (1_000.min(events / 10), 10_000.min(events / 10));
        support::fill_apart(&root, events, sessions, pending);
        // Registered with a process, as agents are: here the process of the bench.
        for who in ["0", "2"] {
            let (session, alias) = (format!("s-{who}"), format!("a-{who}"));
            support::timed(support::c2c(&root, &session, &["register", "--alias", &alias]));
        }
        println!(
            "log of {events} events: {sessions} sessions, {pending} messages pending elsewhere"
        );
        let (poll, send) = (Samples::default(), Samples::default());
        let (hook, hook_mail) = (Samples::default(), Samples::default());
        cases.push(Case { events, root, poll, send, hook, hook_mail });
    }
    let (mut floor, mut synced) = (Samples::default(), Samples::default());
    let mut sync = Sync::new(dir.path());
    let text = "x".repeat(1024);
    // The input that a client passes after a tool call.
    let input = |session: &str| {
        let path = dir.path().join(format!("input-{session}"));
        let text = format!(
            "{{\"session_id\":\"{session}\",\"hook_event_name\":\"PostToolUse\",\"cwd\":\"/\",\
             \"tool_name\":\"Bash\",\"tool_response\":{{\"stdout\":\"{}\"}}}}",
            "x".repeat(2_000)
        );
        std::fs::write(&path, text).expect("written");
        path
    };
    let (idle, reader) = (input("s-0"), input("s-1"));
    for round in 0..rounds + 5 {
        let warm = round >= 5;
        let took = support::timed_floor(&floor_binary);
        if warm {
            floor.add(took);
        }
        for case in &mut cases {
            let took = support::timed(support::c2c(&case.root, "s-0", &["poll-inbox"]));
            if warm {
                case.poll.add(took);
            }
        }
        let took = sync.timed();
        if warm {
            synced.add(took);
        }
        for case in &mut cases {
            let took = support::timed(support::c2c(&case.root, "s-2", &["send", "a-1", &text]));
            let with_mail = support::timed(hook(case, &reader));
            let without_mail = support::timed(hook(case, &idle));
            if warm {
                case.send.add(took);
                case.hook_mail.add(with_mail);
                case.hook.add(without_mail);
            }
        }
    }
    let unit = floor.median();
    println!();
    floor.print("floor", unit);
    synced.print("sync: 1 KB append + fdatasync", unit);
    let send_limit = unit * 1.6 + 2.0 * synced.median();
    for case in &cases {
        println!();
        case.poll.print(&format!("poll-inbox, {} events", case.events), unit);
        case.hook.print(&format!("hook, {} events", case.events), unit);
        case.send.print(&format!("send, {} events", case.events), unit);
        case.hook_mail.print(&format!("hook with that message, {} events", case.events), unit);
        println!(
            "  send / (1.6 floor + 2 sync) = {:.2}; against the middle log: poll {:+.0} %, send {:+.0} %",
            case.send.median() / send_limit,
            (case.poll.median() / cases[1].poll.median() - 1.0) * 100.0,
            (case.send.median() / cases[1].send.median() - 1.0) * 100.0,
        );
    }
}
