//! SPEC.md and the documents against the code.

use std::fs;

use c2c::env;
use c2c_core::limits::table::{self, Limit};

use super::source::{code_without_tests, files, rust, workspace};

fn page(name: &str) -> String {
    fs::read_to_string(workspace().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn no_source_has_unfinished_marks_or_ignored_tests() {
    for source in rust(&["src", "core", "log-format", "tools", "tests"]) {
        for mark in [
            concat!("to", "do!"),
            concat!("unimpl", "emented!"),
            concat!("FIX", "ME"),
            concat!("#[ign", "ore"),
        ] {
            assert!(!source.text.contains(mark), "{} has {mark}", source.path);
        }
    }
}

/// The harness does not see the attribute: it runs what a module registers with `tests!`.
fn no_integration_test_is_left_unregistered() {
    let attribute = concat!("#[te", "st]");
    for source in rust(&["tests"]) {
        let has = source.text.lines().any(|line| line.trim() == attribute);
        assert!(!has, "{} has {attribute}: register the function with tests!", source.path);
    }
}

fn the_spec_lists_exactly_the_codes_of_the_code() {
    let spec = page("SPEC.md");
    for row in c2c_core::code::TABLE {
        let retry = if row.retryable { "yes" } else { "no" };
        let line = format!("| `{}` | {} | {retry} | {} |", row.name, row.exit, row.meaning);
        assert!(spec.contains(&line), "SPEC.md lacks: {line}");
    }
    let known = |name: &str| c2c_core::code::Code::from_name(name).is_some();
    let section = spec.split("Error codes").nth(1).expect("a section on error codes");
    let rows = section.lines().skip_while(|line| !line.starts_with("| `"));
    for line in rows.take_while(|line| line.starts_with('|')) {
        let name = line.split('`').nth(1).unwrap_or_default();
        assert!(known(name), "SPEC.md lists an unknown code: {name}");
    }
}

fn the_spec_lists_every_kind_of_event() {
    let spec = page("SPEC.md");
    for (number, name) in c2c_log_format::Payload::KINDS {
        let is_row =
            |line: &str| line.contains(&number.to_string()) && line.contains(&format!("`{name}`"));
        assert!(spec.lines().any(is_row), "SPEC.md lacks kind {number} {name}");
    }
}

#[cfg(feature = "relay")]
fn the_spec_lists_exactly_the_routes_of_the_relay() {
    use c2c::relay::protocol::{Access, route};
    let spec = page("SPEC.md");
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
    assert_eq!(listed.len(), route::TABLE.len(), "SPEC.md lists a route that does not exist");
}

/// The rows of the first table after a heading, without its head.
fn table_after<'p>(page: &'p str, heading: &str) -> Vec<&'p str> {
    let section = page.split(heading).nth(1).expect("a section with this heading");
    let rows = section.lines().skip_while(|line| !line.starts_with('|')).skip(2);
    rows.take_while(|line| line.starts_with('|')).collect()
}

fn rows_of(limits: Vec<Limit>) -> Vec<String> {
    limits.iter().map(|limit| format!("| {} | {} |", limit.name, limit.value)).collect()
}

fn the_spec_lists_exactly_the_limits_of_the_code() {
    assert_eq!(table_after(&page("SPEC.md"), "\n## 13. Limits"), rows_of(table::all()));
}

fn the_relay_page_lists_exactly_the_limits_of_a_relay() {
    let page = page("docs/operating/relay.md");
    let mut rows = rows_of(table::of_relay());
    rows.iter_mut().for_each(|row| *row = row.replacen("| relay: ", "| ", 1));
    assert_eq!(table_after(&page, "\n### Limits"), rows);
}

/// Names that start with `C2C_` in a text. A name that ends in `_` is a prefix of several.
fn variables_in(text: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c| !is_part(c));
    words.filter(|word| word.starts_with("C2C_") && !word.ends_with('_')).collect()
}

fn every_environment_variable_is_in_the_table() {
    let names = env::VARIABLES.iter().map(|variable| variable.name);
    let names: Vec<&str> =
        names.chain(env::PROVIDED.iter().map(|variable| variable.name)).collect();
    for name in &names {
        assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
    }
    let sources = rust(&["src", "core/src"]).into_iter().chain(files(&["src/setup"], "js"));
    for source in sources {
        for name in variables_in(&source.text) {
            let is_known = names.contains(&name) || name.starts_with(TEST_PREFIX);
            assert!(is_known, "{} names {name}", source.path);
        }
    }
}

fn a_variable_in_a_text_is_found() {
    let text = "set C2C_A_1, or \"C2C_B\"; C2C_* and XC2C_D are others";
    assert_eq!(variables_in(text), ["C2C_A_1", "C2C_B"]);
}

fn the_environment_page_lists_exactly_the_variables_of_the_code() {
    let page = page("docs/operating/environment.md");
    let rows = |heading: &str| -> Vec<String> {
        let section = page.split(heading).nth(1).expect("a section");
        let section = section.split("\n## ").next().unwrap_or_default();
        section.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect()
    };
    let read = env::VARIABLES.iter().map(|variable| {
        let form = variable.form.description();
        format!("| `{}` | {form} | {} | {} |", variable.name, variable.meaning, variable.default)
    });
    assert_eq!(rows("## Variables that c2c reads"), read.collect::<Vec<_>>());
    let provided = env::PROVIDED.iter();
    let provided =
        provided.map(|variable| format!("| `{}` | {} |", variable.name, variable.meaning));
    let heading = "## Variables that c2c sets for other programs";
    assert_eq!(rows(heading), provided.collect::<Vec<_>>());
}

/// The files and functions that a walk of the architecture page names: `path` and `path::name`.
fn named_in_walks(page: &str) -> Vec<(String, Option<String>)> {
    let section = page.split("## Walks").nth(1).expect("a section on walks");
    let section = section.split("\n## ").next().unwrap_or_default();
    let quoted = section.split('`').skip(1).step_by(2);
    let mut named = Vec::new();
    for text in quoted.filter(|text| text.contains(".rs")) {
        match text.split_once(".rs::") {
            Some((path, name)) => named.push((format!("{path}.rs"), Some(name.to_owned()))),
            None => named.push((text.to_owned(), None)),
        }
    }
    named
}

/// Whether a file defines a function, type or method of that name.
fn defines(code: &str, name: &str) -> bool {
    let name = name.rsplit("::").next().unwrap_or(name).trim_end_matches("()");
    ["fn ", "struct ", "enum ", "trait "].iter().any(|kind| {
        code.match_indices(&format!("{kind}{name}")).any(|(at, found)| {
            let next = code[at + found.len()..].chars().next();
            next.is_none_or(|c| !c.is_alphanumeric() && c != '_')
        })
    })
}

fn the_walks_of_the_architecture_page_name_files_and_functions_that_exist() {
    let named = named_in_walks(&page("docs/architecture.md"));
    assert!(named.len() >= 20, "three walks name {} places only", named.len());
    for (path, name) in named {
        let text = page(&path);
        if let Some(name) = name {
            assert!(defines(&code_without_tests(&text), &name), "{path} does not define {name}");
        }
    }
}

fn a_walk_that_names_a_missing_function_is_reported() {
    let named = named_in_walks("## Walks\nFrom `a/b.rs::go` to `c.rs`; not `go`.\n## Next\n`d.rs`");
    assert_eq!(named, [("a/b.rs".into(), Some("go".into())), ("c.rs".into(), None)]);
    assert!(defines("pub fn go(self) {}", "go") && !defines("fn going() {}", "go"));
}

/// Names of the crates in a table of the dependencies page.
fn crates_in(section: &str) -> Vec<String> {
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| {
        let cell = row.trim_start_matches("| ").split(" |").next().unwrap_or_default();
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    })
    .collect()
}

fn the_dependencies_of_the_core_are_those_that_the_page_lists() {
    let page = page("docs/dependencies.md");
    let section = page.split("## The rules (`c2c-core`)").nth(1).expect("a section on the core");
    let mut listed = crates_in(section.split("\n## ").next().unwrap_or_default());
    let mut tree = std::process::Command::new(env!("CARGO"));
    tree.args(["tree", "-p", "c2c-core", "-e", "normal", "--depth", "1", "--prefix", "none"]);
    let output = tree.args(["--offline", "--locked"]).current_dir(workspace()).output();
    let output = output.expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let mut actual: Vec<String> =
        text.lines().skip(1).filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    listed.sort();
    actual.sort();
    assert_eq!(actual, listed);
}

/// Test variables belong to the tests; `docs/testing.md` lists them.
const TEST_PREFIX: &str = "C2C_TEST_";

fn the_testing_page_lists_every_test_variable() {
    let listed = page("docs/testing.md");
    let ci = page(".ci/run");
    let sources = rust(&["src", "core", "log-format", "tests"]);
    for text in sources.iter().map(|source| &source.text).chain([&ci]) {
        for name in variables_in(text).iter().filter(|name| name.starts_with(TEST_PREFIX)) {
            assert!(listed.contains(&format!("`{name}`")), "docs/testing.md lacks {name}");
        }
    }
}

/// Files that may define a test, from its target and its module path.
fn files_of_test(target: &str, modules: &[&str]) -> Option<Vec<String>> {
    let directory = match target {
        "c2c lib" => "src".to_owned(),
        "c2c main" => "tests".to_owned(),
        "c2c-core lib" => "core/src".to_owned(),
        "c2c-core rules" => "core/tests".to_owned(),
        "c2c-log-format lib" => "log-format/src".to_owned(),
        _ => {
            let file = target.strip_prefix("c2c-log-format ")?;
            return Some(vec![format!("log-format/tests/{file}.rs")]);
        }
    };
    let path = [&[directory.as_str()], modules].concat().join("/");
    // Unit tests stand in a module `tests` inside of their file, or in a file of that name.
    let parent = path.strip_suffix("/tests").unwrap_or(&path);
    Some([&path, parent].iter().flat_map(|p| [format!("{p}.rs"), format!("{p}/mod.rs")]).collect())
}

fn every_new_name_in_the_table_of_test_names_exists() {
    let sources = rust(&["src", "core", "log-format", "tests"]);
    let page = page("docs/test-names.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(rows.len(), 470, "the table has a row for each earlier test");
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let &[old, new, target] = &cells[..] else { panic!("three cells: {row}") };
        let Some(new) = new.strip_prefix('`').and_then(|new| new.strip_suffix('`')) else {
            assert!(new.starts_with("none: "), "{old} is dropped without a reason");
            continue;
        };
        let mut modules: Vec<&str> = new.split("::").collect();
        let name = modules.pop().unwrap_or_default();
        let files = files_of_test(target, &modules).unwrap_or_else(|| panic!("target {target}"));
        let mut candidates = sources.iter().filter(|source| files.contains(&source.path));
        assert!(candidates.any(|source| defines(&source.text, name)), "no test {new} in {files:?}");
    }
}

crate::harness::tests! {
    fast:
        no_source_has_unfinished_marks_or_ignored_tests,
        the_spec_lists_exactly_the_codes_of_the_code,
        the_spec_lists_every_kind_of_event,
        #[cfg(feature = "relay")] the_spec_lists_exactly_the_routes_of_the_relay,
        the_spec_lists_exactly_the_limits_of_the_code,
        the_relay_page_lists_exactly_the_limits_of_a_relay,
        every_environment_variable_is_in_the_table,
        a_variable_in_a_text_is_found,
        the_environment_page_lists_exactly_the_variables_of_the_code,
        no_integration_test_is_left_unregistered,
        the_walks_of_the_architecture_page_name_files_and_functions_that_exist,
        a_walk_that_names_a_missing_function_is_reported,
        the_dependencies_of_the_core_are_those_that_the_page_lists,
        the_testing_page_lists_every_test_variable,
        every_new_name_in_the_table_of_test_names_exists;
}
