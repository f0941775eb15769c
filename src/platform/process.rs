//! Evidence of running processes, read from `/proc`.
//!
//! A process is identified by its pid together with its start time, the boot and the pid namespace:
//! a pid alone is reused. Liveness is computed at each call and never stored.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use c2c_log_format::payload::Process;

use super::boot::boot_id_text;
use c2c_core::decide::Liveness;

/// Whether this system describes processes in `/proc`, as Linux does. Without it, no process has
/// evidence, and the liveness of every process is unknown.
const HAS_PROC: bool = cfg!(target_os = "linux");

/// Longer than any line of `/proc/PID/stat`, bytes.
const STAT_BYTES_MAX: usize = 2048;

/// Longest chain of parents that is followed: guards against a tree that changes meanwhile.
const ANCESTORS_MAX: usize = 64;

/// Shells that clients put between themselves and the programs they run.
const SHELLS: [&str; 8] = ["sh", "bash", "dash", "ash", "busybox", "zsh", "ksh", "fish"];

/// Inode of this process's pid namespace; 0 if unknown.
fn pid_namespace() -> u64 {
    static NAMESPACE: OnceLock<u64> = OnceLock::new();
    *NAMESPACE.get_or_init(|| {
        let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let digits = link.to_string_lossy();
        digits.trim_start_matches("pid:[").trim_end_matches(']').parse().unwrap_or(0)
    })
}

/// What `/proc/PID/stat` says of a process.
struct Stat {
    state: char,
    parent: u32,
    /// The process group.
    group: u32,
    /// The foreground process group of its terminal; -1 without a terminal.
    foreground: i32,
    start: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    // One read: the line is short, and every system call counts in a hook.
    let mut line = [0; STAT_BYTES_MAX];
    let len = fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut line).ok()?;
    let text = std::str::from_utf8(&line[..len]).ok()?;
    // The command name may contain any character, brackets included; the fields after its last
    // bracket do not.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let foreground = fields.nth(2)?.parse().ok()?;
    let start = fields.nth(13)?.parse().ok()?;
    Some(Stat { state, parent, group, foreground, start })
}

/// Pid of the parent of this process.
pub fn parent_pid() -> u32 {
    std::os::unix::process::parent_id()
}

/// Evidence of a running process; `None` if no process has this pid.
pub fn evidence(pid: u32) -> Option<Process> {
    let start = stat(pid)?.start;
    Some(Process { pid, start, boot: boot_id_text().to_owned(), ns: pid_namespace() })
}

/// Evidence of this process itself.
pub fn this_process() -> Option<Process> {
    static SELF: OnceLock<Option<Process>> = OnceLock::new();
    SELF.get_or_init(|| evidence(std::process::id())).clone()
}

/// Whether a recorded process still runs. `Unknown` without evidence, or if the process belongs to
/// another pid namespace.
///
/// Every front end and command uses this predicate, so that all of them agree.
pub fn liveness_of(process: Option<&Process>) -> Liveness {
    let Some(process) = process.filter(|_| HAS_PROC) else { return Liveness::Unknown };
    if process.ns != 0 && process.ns != pid_namespace() {
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

/// Whether a process is alive and is this process or one of its ancestors.
pub fn is_ancestor(process: &Process) -> bool {
    liveness_of(Some(process)) == Liveness::Alive && descends_from(process.pid)
}

/// Whether the process with this pid is this process or one of its ancestors.
pub fn descends_from(ancestor: u32) -> bool {
    // The parent is known without reading /proc, and is the common case.
    ancestor == std::process::id() || is_below(parent_pid(), ancestor)
}

/// Whether a process is `ancestor` or was started below it.
pub fn is_below(pid: u32, ancestor: u32) -> bool {
    let mut pid = pid;
    for _ in 0..ANCESTORS_MAX {
        if pid == ancestor {
            return true;
        }
        match stat(pid) {
            Some(stat) if stat.parent > 0 => pid = stat.parent,
            _ => return false,
        }
    }
    false
}

/// The process group of a process; `None` if no process has this pid.
pub fn group(pid: u32) -> Option<u32> {
    Some(stat(pid)?.group)
}

/// The program that reads a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreground {
    /// The process group.
    pub group: u32,
    /// Name of the program.
    pub name: String,
    /// Its command line, the program included; empty if it cannot be read.
    pub arguments: Vec<String>,
}

impl Foreground {
    /// The program whose first process has this process group. Its name is empty if it has ended.
    pub fn of_group(group: u32) -> Self {
        // The first process of a group has the group's number as its pid.
        let name = fs::read_to_string(format!("/proc/{group}/comm")).unwrap_or_default();
        let line = fs::read(format!("/proc/{group}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let arguments = line.split_terminator('\0').map(str::to_owned).collect();
        Self { group, name: name.trim().to_owned(), arguments }
    }
}

/// The program in the foreground of the terminal that a process belongs to; `None` if there is none.
pub fn foreground(pid: u32) -> Option<Foreground> {
    u32::try_from(stat(pid)?.foreground).ok().map(Foreground::of_group)
}

/// Pids of the processes that may have started this one: its parent and, if the parent is a shell,
/// the shell's parent.
///
/// Ancestors further up are left out: they may be clients that merely run the client that did.
pub fn starters() -> Vec<u32> {
    let parent = parent_pid();
    let name = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
    let above = Some(parent).filter(|_| SHELLS.contains(&name.trim())).and_then(stat);
    std::iter::once(parent).chain(above.map(|stat| stat.parent)).collect()
}

/// Whether a process started this one, directly or through a shell.
pub fn started_this(process: &Process) -> bool {
    starters().contains(&process.pid)
}

/// The executable file of a process; `None` if it cannot be read or no longer exists, for example
/// after an update of the program.
pub fn executable(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok().filter(|path| path.is_file())
}

/// The named environment variables of a process, as set when it started. Unset ones are left out.
pub fn environment(pid: u32, names: &[&str]) -> Vec<(String, OsString)> {
    let block = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let variable = |name: &&str| {
        let mut entries = block.split(|byte| *byte == 0);
        let value =
            entries.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        Some(((*name).to_owned(), OsString::from_vec(value.to_vec())))
    };
    names.iter().filter_map(variable).collect()
}
