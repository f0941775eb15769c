//! Whether the program that reads a terminal is the agent, and not a shell or another program.

use c2c_log_format::payload::Process;

use super::attempt::Reason;
use crate::platform::process::{self, Foreground};
use c2c_core::decide::Liveness;

/// Shells that people type into.
const SHELLS: [&str; 16] = [
    "sh", "bash", "dash", "ash", "busybox", "zsh", "ksh", "mksh", "fish", "csh", "tcsh", "nu",
    "pwsh", "elvish", "xonsh", "rbash",
];

/// What is known of the agent's program.
#[derive(Debug, Clone, Default)]
pub struct Agent {
    /// The process that registered the alias.
    pub registered: Option<Process>,
    /// The program that had the terminal when it was first typed into.
    pub first_seen: Option<Foreground>,
}

/// Why the program in the foreground must not be typed into; `None` if it is the agent, or if nothing
/// speaks against it. `root` is the pid of the first process of the terminal.
pub fn stranger(agent: &Agent, root: u32, foreground: &Foreground) -> Option<Reason> {
    let name = &foreground.name;
    if is_interactive_shell(name, &foreground.arguments) {
        return Some(Reason::Shell(name.clone()));
    }
    let other = || Some(Reason::OtherProgram(name.clone()));
    if let Some(registered) = &agent.registered {
        match process::liveness_of(Some(registered)) {
            Liveness::Dead => return Some(Reason::Ended),
            // An agent in this terminal is the foreground program, or was started by it.
            Liveness::Alive if process::is_below(registered.pid, root) => {
                let is_agent = process::group(registered.pid) == Some(foreground.group)
                    || process::is_below(registered.pid, foreground.group);
                return if is_agent { None } else { other() };
            }
            Liveness::Alive | Liveness::Unknown => {}
        }
    }
    // Without evidence of the agent, the program must stay the same; it may have been restarted.
    let is_same = |first: &Foreground| {
        (&first.name, &first.arguments) == (&foreground.name, &foreground.arguments)
    };
    if agent.first_seen.as_ref().is_none_or(is_same) { None } else { other() }
}

/// Whether a program with these arguments is a shell that executes the lines it reads. A shell that
/// runs a command or a script is not.
pub fn is_interactive_shell(name: &str, arguments: &[String]) -> bool {
    let base =
        |path: &str| path.rsplit('/').next().unwrap_or_default().trim_start_matches('-').to_owned();
    let mut arguments = arguments.iter().map(String::as_str).peekable();
    let mut program = arguments.next().map_or_else(|| base(name), base);
    if program == "busybox" {
        program = arguments.next().map_or(program, base);
    }
    if !SHELLS.contains(&program.as_str()) {
        return false;
    }
    while let Some(argument) = arguments.next() {
        let is_cluster = argument.starts_with('-') && !argument.starts_with("--");
        match argument {
            "--rcfile" | "--init-file" | "-o" | "+o" | "-O" | "+O" => drop(arguments.next()),
            "--command" => return false,
            _ if is_cluster && argument.contains('c') => return false,
            // The shell reads commands from its input, whatever follows.
            _ if is_cluster && argument.contains('s') => return true,
            _ if argument.starts_with(['-', '+']) => {}
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_that_runs_a_command_or_a_script_is_not_interactive() {
        let check = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(Into::into).collect();
            is_interactive_shell("", &words)
        };
        for line in [
            "sh",
            "-bash",
            "/bin/bash -i",
            "bash --norc",
            "zsh -l",
            "bash --rcfile x",
            "busybox sh",
            "bash -o vi",
            "bash -s word",
            "/usr/bin/fish",
        ] {
            assert!(check(line), "{line}");
        }
        for line in [
            "sh -c read",
            "bash -ec x",
            "sh script",
            "bash -o vi script",
            "node x",
            "busybox vi",
            "python3 agent.py",
            "bash -lc gemini",
        ] {
            assert!(!check(line), "{line}");
        }
        assert!(is_interactive_shell("bash", &[]));
    }
}
