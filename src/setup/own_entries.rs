//! Detection of the entries in a client's files that c2c wrote, in this version or an older one.

use crate::env::{C2C_MCP_AUTO_JOIN_ROOMS, C2C_MCP_AUTO_REGISTER_ALIAS, C2C_MCP_CLIENT_TYPE};
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// Environment variables that setup writes.
pub const OUR_VARIABLES: [&str; 3] =
    [C2C_MCP_AUTO_REGISTER_ALIAS.name, C2C_MCP_AUTO_JOIN_ROOMS.name, C2C_MCP_CLIENT_TYPE.name];

/// The last component of a path.
fn file_name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// Whether the command of a hook runs c2c.
pub fn is_our_hook(command: &str) -> bool {
    const OLDER: [&str; 3] = ["c2c-inbox-hook", "c2c-inbox-hook-ocaml", "c2c-inbox-check.sh"];
    let words = command.split_whitespace();
    let names: Vec<&str> =
        words.map(|word| file_name(word.trim_matches(|c| c == '\'' || c == '"'))).collect();
    names.iter().any(|name| OLDER.contains(name))
        || names.windows(2).any(|pair| pair[0] == "c2c" && pair[1] == "hook")
}

/// Whether the command line of an MCP server runs c2c, as the program or as the script of an
/// interpreter.
pub fn is_our_server<'a>(command_line: impl Iterator<Item = &'a str>) -> bool {
    const INTERPRETERS: [&str; 6] = ["python", "python3", "opam", "env", "sh", "bash"];
    let words: Vec<&str> = command_line.collect();
    let Some((program, arguments)) = words.split_first() else { return false };
    let is_ours = |word: &str| file_name(word).starts_with("c2c");
    let is_interpreter = INTERPRETERS.contains(&file_name(program));
    is_ours(program) || is_interpreter && arguments.iter().any(|word| is_ours(word))
}

/// The rejection of a setup that would replace an entry of another program.
pub fn foreign_entry(kind: &str, entry: &str) -> Rejection {
    let entry = entry.escape_default();
    let message = format!("an unrelated {kind} named 'c2c' already exists: {entry}");
    Rejection::new(Code::InvalidArgument, "file", message).hint("to replace it, pass --force")
}

/// The value of a variable in the text of a JSON or TOML file.
pub fn variable_in(text: &str, name: &str) -> Option<String> {
    let rest = text.split_once(name)?.1.trim_start_matches(['"', '\'']).trim_start();
    let value = rest.strip_prefix([':', '='])?.trim_start().strip_prefix(['"', '\''])?;
    value.split(['"', '\'']).next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_hooks_are_recognised_by_their_program_not_by_a_directory() {
        for ours in
            ["c2c hook", "/opt/c2c hook", "'/a b/c2c' hook --event Stop", "~/c2c-inbox-check.sh"]
        {
            assert!(is_our_hook(ours), "{ours}");
        }
        for foreign in
            ["/work/c2c/hook", "my-c2c hook", "c2c-hooks", "echo c2c", "c2c monitor hook"]
        {
            assert!(!is_our_hook(foreign), "{foreign}");
        }
    }
}
