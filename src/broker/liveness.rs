//! Is the process behind a session still running?
//!
//! Alive, dead, or unknown; computed each time, never stored. Evidence is the pid together with
//! its start time, the boot and the pid namespace.

use std::fs;
use std::io::Read;
use std::sync::OnceLock;

use c2c_log_format::payload::Process;

use crate::decide::{Actor, Liveness, session_liveness};
use crate::log::boot_id_text;
use crate::state::{Session, State};

/// Inode of this process's pid namespace, 0 if not known.
fn namespace() -> u64 {
    static NAMESPACE: OnceLock<u64> = OnceLock::new();
    *NAMESPACE.get_or_init(|| {
        let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let digits = link.to_string_lossy();
        digits.trim_start_matches("pid:[").trim_end_matches(']').parse().unwrap_or(0)
    })
}

/// Longer than any line of `/proc/PID/stat`.
const STAT_BYTES_MAX: usize = 2048;

/// State, parent and start time of a process, from `/proc/PID/stat`.
struct Stat {
    state: char,
    parent: u32,
    start: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    // One read: the line is short, and every system call counts in a hook.
    let mut line = [0; STAT_BYTES_MAX];
    let len = fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut line).ok()?;
    let text = std::str::from_utf8(&line[..len]).ok()?;
    // The command name may hold anything; what follows its last bracket is plain.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some(Stat { state, parent, start })
}

/// Evidence of a process that runs now; `None` if there is none.
pub fn evidence(pid: u32) -> Option<Process> {
    let start = stat(pid)?.start;
    Some(Process { pid, start, boot: boot_id_text().to_owned(), ns: namespace() })
}

/// Evidence of this very process.
pub fn this_process() -> Option<Process> {
    static SELF: OnceLock<Option<Process>> = OnceLock::new();
    SELF.get_or_init(|| evidence(std::process::id())).clone()
}

/// The one predicate: the same answer for send, rooms, broadcast, list and sweep.
pub fn of(process: Option<&Process>) -> Liveness {
    let Some(process) = process else { return Liveness::Unknown };
    if process.ns != 0 && process.ns != namespace() {
        return Liveness::Unknown;
    }
    if !process.boot.is_empty() && process.boot != boot_id_text() {
        return Liveness::Dead;
    }
    match stat(process.pid) {
        None => Liveness::Dead,
        Some(stat) if matches!(stat.state, 'Z' | 'X') => Liveness::Dead,
        Some(_) if process.start == 0 => Liveness::Unknown,
        Some(stat) if stat.start == process.start => Liveness::Alive,
        Some(_) => Liveness::Dead,
    }
}

/// Liveness of a session now.
pub fn of_session(session: &Session) -> Liveness {
    session_liveness(session, crate::clock::now_us(), &of)
}

/// Whether a process is this one or one that it descends from.
pub fn is_ancestor(process: &Process) -> bool {
    of(Some(process)) == Liveness::Alive && descends_from(process.pid)
}

/// Programs that clients put between themselves and what they run.
const SHELLS: [&str; 8] = ["sh", "bash", "dash", "ash", "busybox", "zsh", "ksh", "fish"];

/// The processes that may have started this one: its parent, and if that is a shell the one above.
/// Others above may be clients that only happen to run the one that did.
pub fn starters() -> Vec<u32> {
    let parent = nix::unistd::getppid().as_raw().unsigned_abs();
    let name = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
    let above = Some(parent).filter(|_| SHELLS.contains(&name.trim())).and_then(stat);
    std::iter::once(parent).chain(above.map(|stat| stat.parent)).collect()
}

/// Whether a process started this one, itself or by a shell.
pub fn started_this(process: &Process) -> bool {
    starters().contains(&process.pid)
}

/// Whether this process is the one with that number, or below it.
fn descends_from(wanted: u32) -> bool {
    if wanted == std::process::id() {
        return true;
    }
    // The parent is known without a look at /proc, and is the common case.
    let mut pid = nix::unistd::getppid().as_raw().unsigned_abs();
    // A chain of parents is short; the bound guards against a changing tree.
    for _ in 0..64 {
        if pid == wanted {
            return true;
        }
        match stat(pid) {
            Some(stat) if stat.parent > 0 => pid = stat.parent,
            _ => return false,
        }
    }
    false
}

/// Refuses an identity that was inherited by accident: a session from the environment whose own
/// process is alive and is neither the caller's agent nor an ancestor of the caller.
pub fn adopt(state: &State, actor: &Actor) -> Actor {
    let mut adopted = actor.clone();
    if !actor.inherited {
        return adopted;
    }
    let session = actor.session_id.as_ref().and_then(|id| state.sessions.get(id));
    let Some(process) = session.and_then(|session| session.process) else { return adopted };
    if of(Some(&process)) != Liveness::Alive {
        return adopted;
    }
    let mine = match &actor.process {
        // A server speaks for exactly the client that started it.
        Some(client) if actor.exact => *client == process,
        _ => actor.process.as_ref() == Some(&process) || descends_from(process.pid),
    };
    if !mine {
        adopted.session_id = None;
    }
    adopted
}
