//! Is the house in order? Layers, first lines, sizes, and SPEC against the code.

use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms a room may name, besides the basement.
const LAYERS: &[(&str, &[&str])] = &[
    ("log", &[]),
    ("state", &[]),
    ("decide", &["state"]),
    ("store", &["log"]),
    ("wire", &[]),
    ("identity", &["wire"]),
    ("mirror", &["state", "decide", "log"]),
    ("broker", &["store", "decide", "state", "log", "mirror"]),
    ("mcp", &["broker", "decide", "state", "wake"]),
    ("setup", &["decide", "log"]),
    ("wake", &["decide"]),
    ("relay", &["broker", "store", "decide", "state", "log", "wire", "replication"]),
    ("connector", &["broker", "decide", "state", "log", "wire", "identity", "replication"]),
    ("log_tool", &["log", "state", "store", "broker"]),
    (
        "cli",
        &[
            "broker",
            "decide",
            "state",
            "store",
            "log",
            "mirror",
            "mcp",
            "log_tool",
            "wire",
            "identity",
            "relay",
            "connector",
            "setup",
            "wake",
        ],
    ),
];

/// Single files that any room may name.
const BASEMENT: &[&str] = &[
    "clock",
    "code",
    "diagnosis",
    "files",
    "limits",
    "root",
    "actor",
    "envelope",
    "failure",
    "shape",
    "time",
];

/// Rooms that know no clock, no file, no process, no terminal.
const PURE: &[&str] = &["state", "decide", "wire"];
const IMPURE: &[&str] =
    &["std::fs", "std::io", "std::net", "std::env", "std::process", "std::thread", "crate::clock"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).expect("a source folder");
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

fn all(folders: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in folders {
        sources(&root().join(folder), &mut found);
    }
    assert!(!found.is_empty());
    let name = |path: &PathBuf| path.strip_prefix(root()).expect("below").display().to_string();
    found.iter().map(|path| (name(path), fs::read_to_string(path).expect("source"))).collect()
}

/// Names of our rooms that a source uses: what stands behind `crate::`.
fn named(source: &str) -> Vec<String> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut names = Vec::new();
    for line in code {
        for part in line.split("crate::").skip(1) {
            let end = part.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(part.len());
            assert!(end > 0, "name rooms one by one: {line}");
            names.push(part[..end].to_owned());
        }
    }
    names
}

#[test]
fn rooms_name_only_the_rooms_below_them() {
    let mut wrong = Vec::new();
    for (path, source) in all(&["src"]) {
        let Some(room) = path.split('/').nth(1).filter(|_| path.matches('/').count() > 1) else {
            continue;
        };
        let layer = LAYERS.iter().find(|(name, _)| *name == room);
        let (_, allowed) = layer.unwrap_or_else(|| panic!("room {room} is in no layer"));
        for name in named(&source) {
            let fine = name == room
                || allowed.contains(&name.as_str())
                || BASEMENT.contains(&name.as_str());
            if !fine {
                wrong.push(format!("{path} names {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pure_rooms_touch_nothing_outside() {
    let mut wrong = Vec::new();
    for (path, source) in all(&["src"]) {
        if !PURE.iter().any(|room| path.starts_with(&format!("src/{room}/"))) {
            continue;
        }
        for word in IMPURE.iter().filter(|word| source.contains(**word)) {
            wrong.push(format!("{path} names {word}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_begins_with_its_question() {
    for (path, source) in all(&["src", "log-format", "tools", "tests", "benches"]) {
        assert!(source.starts_with("//!"), "{path} does not say what it is for");
    }
}

#[test]
fn no_printing_macro_ends_a_process_whose_output_is_closed_or_full() {
    for (path, source) in all(&["src"]) {
        for word in ["println!(", "print!("] {
            assert!(!source.contains(word), "{path} prints with a macro that may panic");
        }
    }
}

#[test]
fn time_and_environment_are_read_in_one_place() {
    for (path, source) in all(&["src"]) {
        let clock = source.contains("SystemTime::now");
        assert!(!clock || path == "src/clock.rs", "{path} reads the clock");
    }
}

#[test]
fn no_file_grows_out_of_sight() {
    for (path, source) in all(&["src", "log-format/src", "tools"]) {
        let lines = source.lines().count();
        assert!(lines <= 600, "{path} has {lines} lines");
    }
}

#[test]
fn nothing_is_left_half_done() {
    for (path, source) in all(&["src", "log-format", "tools", "tests"]) {
        for word in [
            concat!("to", "do!"),
            concat!("unimpl", "emented!"),
            concat!("FIX", "ME"),
            concat!("#[ign", "ore"),
        ] {
            assert!(!source.contains(word), "{path} has {word}");
        }
    }
}

#[test]
fn the_spec_lists_exactly_the_codes_of_the_code() {
    let spec = fs::read_to_string(root().join("SPEC.md")).expect("SPEC.md");
    for row in c2c::code::TABLE {
        let retry = if row.retryable { "yes" } else { "no" };
        let line = format!("| `{}` | {} | {retry} | {} |", row.name, row.exit, row.meaning);
        assert!(spec.contains(&line), "SPEC.md lacks: {line}");
    }
    let known = |name: &str| c2c::code::TABLE.iter().any(|row| row.name == name);
    let section = spec.split("Error codes").nth(1).expect("a section on error codes");
    let rows = section.lines().skip_while(|line| !line.starts_with("| `"));
    for line in rows.take_while(|line| line.starts_with('|')) {
        let name = line.split('`').nth(1).unwrap_or_default();
        assert!(known(name), "SPEC.md lists an unknown code: {name}");
    }
}

#[test]
fn the_spec_lists_every_kind_of_event() {
    let spec = fs::read_to_string(root().join("SPEC.md")).expect("SPEC.md");
    for (number, name) in c2c_log_format::Payload::KINDS {
        let row = spec
            .lines()
            .any(|line| line.contains(&number.to_string()) && line.contains(&format!("`{name}`")));
        assert!(row, "SPEC.md lacks kind {number} {name}");
    }
}

#[cfg(feature = "relay")]
#[test]
fn the_spec_lists_exactly_the_routes_of_the_relay() {
    use c2c::wire::{Access, route};
    let spec = fs::read_to_string(root().join("SPEC.md")).expect("SPEC.md");
    let section = spec.split("### 17.1 Routes").nth(1).expect("a section on routes");
    let rows = section.lines().skip_while(|line| !line.starts_with('|')).skip(2);
    let listed: Vec<_> = rows.take_while(|line| line.starts_with('|')).collect();
    for row in route::TABLE {
        let access = match row.access {
            Access::Public => "public",
            Access::BodyProof => "body proof",
            Access::Peer => "peer",
            Access::PeerOrProof => "peer or proof",
            Access::Admin => "admin",
        };
        let start = format!("| {} | `{}` | {access} |", row.methods.join(", "), row.path);
        assert!(listed.iter().any(|line| line.starts_with(&start)), "SPEC.md lacks: {start}");
    }
    assert_eq!(listed.len(), route::TABLE.len(), "SPEC.md lists a route that is not there");
}
