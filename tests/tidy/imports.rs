//! The import graph of a package, file by file, and its circles.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, code_without_tests};

/// Files of one package and what each imports from it.
pub struct Graph {
    /// Module path, as `broker::execute`, to the file that holds it.
    modules: BTreeMap<String, String>,
    /// Names that a module re-exports, and the module that holds them: `broker::EventRef`.
    reexports: BTreeMap<String, String>,
    /// Module to the modules that it imports.
    edges: BTreeMap<String, BTreeSet<String>>,
}

/// The module path of a file below `root`, as `src/broker/mod.rs`; empty for the package itself.
fn module_of(path: &str, root: &str) -> Option<String> {
    let inner = path.strip_prefix(root)?.strip_prefix('/')?.strip_suffix(".rs")?;
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    let is_root = matches!(inner, "lib" | "mod");
    Some(if is_root { String::new() } else { inner.replace('/', "::") })
}

impl Graph {
    /// Reads the imports of all files below `root`, which holds `lib.rs`.
    pub fn of(sources: &[Source], root: &str) -> Self {
        let mut graph =
            Self { modules: BTreeMap::new(), reexports: BTreeMap::new(), edges: BTreeMap::new() };
        let mut codes = Vec::new();
        for source in sources {
            let Some(module) = module_of(&source.path, root) else { continue };
            let is_test = module.rsplit("::").next().is_some_and(|name| name.ends_with("tests"));
            if is_test || module == "main" {
                continue;
            }
            graph.modules.insert(module.clone(), source.path.clone());
            codes.push((module, code_without_tests(&source.text)));
        }
        for (module, code) in &codes {
            for import in uses(code).into_iter().filter(|import| import.is_reexport) {
                let Some(target) = graph.absolute(module, &import.path) else { continue };
                graph.reexports.insert(join(module, &import.name), target);
            }
        }
        for (module, code) in &codes {
            let targets = graph.imports(module, code);
            graph.edges.insert(module.clone(), targets);
        }
        graph
    }

    /// A path as it is written in a module, from the root of the package; `None` for other packages.
    fn absolute(&self, module: &str, path: &str) -> Option<String> {
        let mut parts: Vec<&str> = path.split("::").collect();
        let mut base: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
        match *parts.first()? {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                while parts.first() == Some(&"super") {
                    base.pop();
                    parts.remove(0);
                }
                parts.insert(0, "");
            }
            first if self.modules.contains_key(&join(module, first)) => parts.insert(0, ""),
            _ => return None,
        }
        base.extend(&parts[1..]);
        Some(base.join("::"))
    }

    /// The module that holds an absolute path: re-exports are followed to where the item is.
    fn holder(&self, path: &str) -> Option<String> {
        let mut path = path.to_owned();
        for _ in 0..8 {
            let Some((name, target)) = self.longest_reexport(&path) else { break };
            path = format!("{target}{}", &path[name.len()..]);
        }
        let mut parts: Vec<&str> = path.split("::").collect();
        loop {
            let candidate = parts.join("::");
            if self.modules.contains_key(&candidate) {
                return Some(candidate);
            }
            parts.pop()?;
        }
    }

    fn longest_reexport(&self, path: &str) -> Option<(&str, &str)> {
        let covers = |name: &str| {
            path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let rows = self.reexports.iter().filter(|(name, target)| covers(name) && *name != *target);
        rows.max_by_key(|(name, _)| name.len())
            .map(|(name, target)| (name.as_str(), target.as_str()))
    }

    fn imports(&self, module: &str, code: &str) -> BTreeSet<String> {
        let mut paths: Vec<String> = Vec::new();
        paths.extend(uses(code).into_iter().filter(|import| !import.is_reexport).map(|i| i.path));
        let without_uses = without_use_items(code);
        paths.extend(inline_paths(&without_uses));
        let targets = paths.iter().filter_map(|path| {
            // A child module that is named in its parent.
            self.absolute(module, path).and_then(|path| self.holder(&path))
        });
        targets.filter(|target| target != module).collect()
    }

    /// Modules that a module imports, with their files.
    pub fn imports_of(&self, module: &str) -> impl Iterator<Item = &String> {
        self.edges.get(module).into_iter().flatten()
    }

    pub fn modules(&self) -> impl Iterator<Item = (&String, &String)> {
        self.modules.iter()
    }

    /// Groups of two or more modules that reach each other, each sorted.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let reach: BTreeMap<&String, BTreeSet<&String>> =
            self.modules.keys().map(|module| (module, self.reachable(module))).collect();
        let mut circles: BTreeSet<Vec<String>> = BTreeSet::new();
        for module in self.modules.keys() {
            let mut group: Vec<String> = reach[module]
                .iter()
                .filter(|other| **other != module && reach[**other].contains(module))
                .map(|other| (*other).clone())
                .collect();
            if !group.is_empty() {
                group.push(module.clone());
                group.sort();
                circles.insert(group);
            }
        }
        circles.into_iter().collect()
    }

    fn reachable<'a>(&'a self, module: &'a str) -> BTreeSet<&'a String> {
        let mut seen = BTreeSet::new();
        let mut left: Vec<&String> = self.imports_of(module).collect();
        while let Some(next) = left.pop() {
            if seen.insert(next) {
                left.extend(self.imports_of(next));
            }
        }
        seen
    }
}

fn join(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

/// One name that a `use` item brings in.
struct Import {
    path: String,
    /// The name under which it is known.
    name: String,
    is_reexport: bool,
}

/// All names that the `use` items of a file bring in, groups expanded.
fn uses(code: &str) -> Vec<Import> {
    let mut imports = Vec::new();
    for (start, end) in use_items(code) {
        let item = &code[start..end];
        let (visibility, tree) = item.split_once("use ").unwrap_or(("", item));
        let mut paths = Vec::new();
        expand("", tree.trim(), &mut paths);
        for (path, name) in paths {
            imports.push(Import {
                path,
                name,
                is_reexport: visibility.trim_start().starts_with("pub"),
            });
        }
    }
    imports
}

/// Byte ranges of the `use` items, visibility included, without the semicolon.
fn use_items(code: &str) -> Vec<(usize, usize)> {
    let mut items = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let line_start = code[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let before = code[line_start..at].trim();
        let is_item = before.is_empty()
            || before == "pub"
            || (before.starts_with("pub(") && before.ends_with(')'));
        if let (true, Some(length)) = (is_item, code[at..].find(';')) {
            items.push((line_start, at + length));
        }
    }
    items
}

fn without_use_items(code: &str) -> String {
    let mut kept = String::new();
    let mut from = 0;
    for (start, end) in use_items(code) {
        kept.push_str(&code[from..start]);
        from = end;
    }
    kept.push_str(&code[from..]);
    kept
}

/// Expands `a::{b, c as d}` to paths and the names under which they are known.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<(String, String)>) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let head = format!("{prefix}{}", tree[..open].trim());
        let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
        for part in top_level_parts(inner) {
            expand(&head, part, paths);
        }
        return;
    }
    if tree.is_empty() {
        return;
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(p, a)| (p, Some(a.trim())));
    let full = format!("{prefix}{}", path.trim());
    let full = full.strip_suffix("::self").map_or(full.clone(), str::to_owned);
    let full = full.strip_suffix("::*").map_or(full.clone(), str::to_owned);
    let name = alias.unwrap_or_else(|| full.rsplit("::").next().unwrap_or_default()).to_owned();
    paths.push((full, name));
}

/// Parts between commas that are not inside braces.
fn top_level_parts(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

/// Paths with at least two parts that stand in the code outside of `use` items.
fn inline_paths(code: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut paths = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("::") {
        let start = rest[..at].rfind(|c: char| !is_name(c)).map_or(0, |before| before + 1);
        let is_continued = rest[..start].ends_with("::");
        let mut end = at;
        while let Some(tail) = rest[end..].strip_prefix("::") {
            let length = tail.find(|c: char| !is_name(c)).unwrap_or(tail.len());
            if length == 0 {
                break;
            }
            end += 2 + length;
        }
        // The path of a visibility, `pub(in crate::decide)`, imports nothing.
        let is_visibility = rest[..start].ends_with("(in ");
        if start < at && !is_continued && !is_visibility && end > at {
            paths.push(rest[start..end].to_owned());
        }
        rest = &rest[end.max(at + 2)..];
    }
    paths
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

fn two_files_that_import_each_other_are_a_circle() {
    let sources = [
        source("src/lib.rs", "mod a;\nmod b;"),
        source("src/a.rs", "use crate::b::B;"),
        source("src/b.rs", "fn f() { crate::a::g() }"),
    ];
    assert_eq!(Graph::of(&sources, "src").circles(), [["a", "b"]]);
}

fn a_circle_through_a_directory_and_groups_is_found() {
    let sources = [
        source("src/a/mod.rs", "mod b;\nmod c;\npub use c::{Name, Other as Alias};"),
        source("src/a/b.rs", "use crate::a::{Alias, x::{self}};"),
        source("src/a/c.rs", "use super::b::{self, f};"),
    ];
    assert_eq!(Graph::of(&sources, "src").circles(), [["a::b", "a::c"]]);
}

fn a_reexport_is_not_an_import_and_a_parent_that_uses_its_child_is_one() {
    let reexport = [
        source("src/a/mod.rs", "mod b;\npub use b::B;\npub struct A;"),
        source("src/a/b.rs", "use super::A;"),
    ];
    assert!(Graph::of(&reexport, "src").circles().is_empty());
    let parent = [
        source("src/a/mod.rs", "mod b;\npub struct A;\nfn f() { b::g(); }"),
        source("src/a/b.rs", "use super::A;"),
    ];
    assert_eq!(Graph::of(&parent, "src").circles(), [["a", "a::b"]]);
}

fn the_path_of_a_visibility_is_not_an_import() {
    let sources = [
        source("src/a/mod.rs", "mod b;\nfn f() { b::g(); }"),
        source("src/a/b.rs", "pub(in crate::a) fn g() {}"),
    ];
    assert!(Graph::of(&sources, "src").circles().is_empty());
}

fn imports_of_unit_tests_do_not_count() {
    let sources = [
        source("src/a.rs", "use crate::b::B;"),
        source("src/b.rs", "#[cfg(test)]\nmod tests { use crate::a::A; }"),
    ];
    assert!(Graph::of(&sources, "src").circles().is_empty());
}

crate::harness::tests! {
    fast:
        two_files_that_import_each_other_are_a_circle,
        a_circle_through_a_directory_and_groups_is_found,
        a_reexport_is_not_an_import_and_a_parent_that_uses_its_child_is_one,
        the_path_of_a_visibility_is_not_an_import,
        imports_of_unit_tests_do_not_count;
}
