//! Normalised arguments of this process: the command first, then the global options.

use std::ffi::OsString;

/// Reads the arguments of this process and moves the command to the front.
///
/// Global options may stand before the command. `-s` before or directly after the command becomes
/// `--session-id`, because some subcommands define their own `-s`.
pub fn read() -> Vec<OsString> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let (mut at, mut command) = (1, None);
    while let Some(argument) = arguments.get(at).and_then(|argument| argument.to_str()) {
        at += match argument {
            "-s" => {
                arguments[at] = "--session-id".into();
                2
            }
            "--broker-root" | "--root" | "--session-id" => 2,
            "--json" | "-j" | "--utc" => 1,
            option if option.starts_with("--") && option.contains('=') => 1,
            option if option.starts_with('-') || command.is_some() => break,
            _ => {
                command = Some(at);
                1
            }
        };
    }
    if let Some(at) = command {
        arguments[1..=at].rotate_right(1);
    }
    arguments
}
