//! Layers: which modules may import which, no circles, and one place for each outside thing.

use super::imports::Graph;
use super::source::{Source, code, code_without_tests, rust};

/// Top-level modules of the package `c2c`, lowest first, and the ones that each may import. The
/// package `c2c-core` below them is kept apart by the compiler.
const LAYERS: &[(&str, &[&str])] = &[
    ("platform", &[]),
    ("log", &["platform"]),
    ("store", &["log", "platform"]),
    ("error", &["platform", "store"]),
    ("env", &["error", "platform"]),
    ("present", &["error", "platform"]),
    ("legacy", &["error", "platform", "store"]),
    ("broker", &["env", "error", "legacy", "log", "platform", "store"]),
    ("mailbox", &["broker", "error", "platform"]),
    ("wake", &["broker", "env", "error", "platform"]),
    ("setup", &["env", "error", "platform", "present"]),
    ("relay", &["broker", "env", "error", "log", "platform", "present", "store"]),
    ("mcp", &["broker", "env", "error", "platform", "present", "wake"]),
    ("log_tool", &["broker", "env", "error", "log", "platform", "present", "store"]),
    (
        "cli",
        &[
            "broker", "env", "error", "legacy", "log", "log_tool", "mcp", "platform", "present",
            "relay", "setup", "store", "wake",
        ],
    ),
    ("", &["cli", "log_tool", "platform"]),
];

/// The same within `relay`.
const RELAY_LAYERS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("keys", &["protocol"]),
    ("convert", &["protocol"]),
    ("server", &["convert", "protocol"]),
    ("client", &["convert", "keys", "protocol"]),
    ("", &[]),
];

/// A thing outside of the process, what names it in code, and the only places that may.
struct Owner {
    what: &'static str,
    names: &'static [&'static str],
    /// Directories or files below a package.
    places: &'static [&'static str],
}

const OWNERS: &[Owner] = &[
    Owner {
        what: "environment variables",
        names: &[
            "env::var(",
            "env::var_os(",
            "env::vars(",
            "env::vars_os(",
            "env::set_var",
            "env::remove_var",
        ],
        places: &["src/env/"],
    },
    Owner {
        what: "the time",
        names: &["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now", "Utc::now"],
        places: &["src/platform/clock.rs"],
    },
    Owner {
        what: "the operating system's interfaces",
        names: &["nix::", "rustix::", "fs2::", "libc::", "target_os", "std::os::"],
        places: &["src/platform/"],
    },
];

/// Paths of the operating system stand in strings.
const SYSTEM_PATHS: &[&str] = &["\"/proc/", "\"/sys/", "\"/dev/"];

/// The separator of an address, as a character or at the edge of a string.
const AT_SIGNS: &[&str] = &["'@'", "\"@\"", "\"@{"];

/// The address parser, and the readers of URLs, where the sign means credentials.
const AT_SIGN_READERS: &[&str] =
    &["core/src/address.rs", "src/relay/client/config.rs", "src/env/root/remote.rs"];

/// Modules of the standard library that the core may not name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::io",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Imports that a table of layers does not allow, as `a imports b`.
pub fn upward(graph: &Graph, layers: &[(&str, &[&str])], below: &str) -> Vec<String> {
    let top = |module: &str| -> Option<String> {
        let inner = if below.is_empty() {
            module
        } else if module == below {
            ""
        } else {
            module.strip_prefix(below)?.strip_prefix("::")?
        };
        Some(inner.split("::").next().unwrap_or_default().to_owned())
    };
    let mut wrong = Vec::new();
    for (module, path) in graph.modules() {
        let Some(from) = top(module) else { continue };
        let Some((_, allowed)) = layers.iter().find(|(name, _)| *name == from) else {
            wrong.push(format!("{path} is in no layer"));
            continue;
        };
        for import in graph.imports_of(module) {
            let Some(to) = top(import) else { continue };
            if to != from && !allowed.contains(&to.as_str()) {
                wrong.push(format!("{path} imports {import}"));
            }
        }
    }
    wrong
}

/// Uses of an outside thing away from its owner.
fn misplaced(owner: &Owner, source: &Source) -> Vec<String> {
    if owner.places.iter().any(|place| source.path.starts_with(place)) {
        return Vec::new();
    }
    let code = code_without_tests(&source.text);
    let names = owner.names.iter().filter(|name| code.contains(**name));
    names.map(|name| format!("{} names {name} ({})", source.path, owner.what)).collect()
}

/// Paths of the operating system in the strings of a file.
fn system_paths(source: &Source) -> Vec<String> {
    if source.path.starts_with("src/platform/") {
        return Vec::new();
    }
    let lines = source.text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let text: String = lines.collect::<Vec<_>>().join("\n");
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let names = SYSTEM_PATHS.iter().filter(|name| text.contains(**name));
    names.map(|name| format!("{} names {name}", source.path)).collect()
}

/// Lines that look for the separator of an address away from its parser.
fn at_signs(source: &Source) -> Vec<String> {
    if AT_SIGN_READERS.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let text = source.text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let wrong = lines.filter(|line| AT_SIGNS.iter().any(|sign| line.contains(sign)));
    wrong.map(|line| format!("{}: {line}", source.path)).collect()
}

fn modules_import_only_the_layers_below_them() {
    let graph = Graph::of(&rust(&["src"]), "src");
    let mut wrong = upward(&graph, LAYERS, "");
    wrong.extend(upward(&graph, RELAY_LAYERS, "relay"));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn an_import_of_a_higher_layer_is_reported() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let sources = [
        source("src/log/mod.rs", "use crate::cli::Context;"),
        source("src/cli/mod.rs", "use crate::log::Log;"),
        source("src/loose.rs", ""),
    ];
    let wrong = upward(&Graph::of(&sources, "src"), LAYERS, "");
    assert_eq!(wrong, ["src/log/mod.rs imports cli", "src/loose.rs is in no layer"]);
}

fn no_files_import_each_other_in_a_circle() {
    for (root, directory) in
        [("src", "src"), ("core/src", "core/src"), ("log-format/src", "log-format/src")]
    {
        let circles = Graph::of(&rust(&[directory]), root).circles();
        assert!(circles.is_empty(), "{root}: {circles:#?}");
    }
}

fn environment_clock_and_operating_system_each_have_one_place() {
    let mut wrong = Vec::new();
    for source in rust(&["src", "core/src", "log-format/src", "tools"]) {
        OWNERS.iter().for_each(|owner| wrong.extend(misplaced(owner, &source)));
        wrong.extend(system_paths(&source));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn a_second_reader_of_environment_clock_or_system_is_reported() {
    let text = "fn f() { std::env::var(\"A\"); SystemTime::now(); nix::unistd::getuid(); }";
    let source = Source { path: "src/cli/send.rs".into(), text: text.into() };
    let wrong: Vec<String> = OWNERS.iter().flat_map(|owner| misplaced(owner, &source)).collect();
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    let source = Source { path: "src/cli/send.rs".into(), text: "open(\"/proc/1/stat\")".into() };
    assert_eq!(system_paths(&source).len(), 1);
    for path in ["src/env/root.rs", "src/platform/clock.rs"] {
        let source = Source { path: path.into(), text: text.into() };
        let wrong = OWNERS.iter().flat_map(|owner| misplaced(owner, &source)).count();
        assert!(wrong < 3, "{path}");
    }
}

fn the_core_names_nothing_outside_of_it() {
    let mut wrong = Vec::new();
    for source in rust(&["core/src", "log-format/src"]) {
        let code = code(&source.text);
        for name in IMPURE.iter().filter(|name| code.contains(**name)) {
            wrong.push(format!("{} names {name}", source.path));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn only_the_address_parser_looks_for_the_at_sign() {
    let sources = rust(&["src", "core/src", "log-format/src"]);
    let wrong: Vec<String> = sources.iter().flat_map(at_signs).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn a_search_for_the_at_sign_elsewhere_is_reported() {
    let text = "// splits at '@'\nlet is_remote = to.contains('@');\n#[cfg(test)]\nto.split('@');";
    let source = |path: &str| Source { path: path.into(), text: text.into() };
    let wrong = at_signs(&source("src/cli/send.rs"));
    assert_eq!(wrong, ["src/cli/send.rs: let is_remote = to.contains('@');"]);
    assert!(at_signs(&source("core/src/address.rs")).is_empty());
}

fn no_printing_macro_ends_a_process_whose_output_is_closed_or_full() {
    for source in rust(&["src", "core/src"]) {
        let code = code_without_tests(&source.text);
        for name in ["println!(", "print!("] {
            assert!(!code.contains(name), "{} prints with a macro that may panic", source.path);
        }
    }
}

crate::harness::tests! {
    fast:
        modules_import_only_the_layers_below_them,
        an_import_of_a_higher_layer_is_reported,
        no_files_import_each_other_in_a_circle,
        environment_clock_and_operating_system_each_have_one_place,
        a_second_reader_of_environment_clock_or_system_is_reported,
        the_core_names_nothing_outside_of_it,
        only_the_address_parser_looks_for_the_at_sign,
        a_search_for_the_at_sign_elsewhere_is_reported,
        no_printing_macro_ends_a_process_whose_output_is_closed_or_full;
}
