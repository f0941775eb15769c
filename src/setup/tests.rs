//! Set-up and undo over generated and recorded shapes of the clients' files.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quickcheck::{Arbitrary, Gen};
use tempfile::TempDir;

use super::disk::{Disk, RealDisk};
use super::{CLIENTS, FileChange, SetupOptions, SupportedClient, apply};
use crate::platform::fs::{MetadataExt, set_mode, symlink};
use crate::platform::test_seed;

/// The files of every client, below the home directory.
const FILES: &[(&str, &[&str])] = &[
    ("claude-code", &[".claude.json", ".claude/settings.json"]),
    ("codex", &[".codex/config.toml", ".codex/hooks.json"]),
    ("opencode", &[".config/opencode/opencode.json", ".config/opencode/opencode.jsonc"]),
    ("kimi", &[".kimi-code/mcp.json", ".kimi/mcp.json", ".kimi-code/config.toml"]),
    ("crush", &[".config/crush/crush.json"]),
    ("gemini", &[".gemini/settings.json"]),
];

/// Contents that people have, with `\n` as line end and two blanks as indentation.
const JSON: &[&str] = &[
    "",
    "\n",
    "{}",
    "{ }\n",
    "{\n}\n",
    "{\"a\":1}",
    "{\n  // mine\n  \"title\": \"x y\", /* keep */\n  \"n\": 1.50\n}\n",
    "{\n  \"mcpServers\": null,\n  \"mcp\": null,\n  \"hooks\": null,\n  \"permissions\": null\n}\n",
    "{\n  \"mcpServers\": {},\n  \"mcp\": {},\n  \"hooks\": {},\n  \"permissions\": {}\n}\n",
    "{\"hooks\": {\"Stop\": null, \"PostToolUse\": [], \"PreToolUse\": []}, \"permissions\": {\"allow\": []}}",
    "{\"permissions\": {\"allow\": null, \"deny\": [\"Bash\"]}}\n",
    "{\n  \"mcpServers\": {\n    \"files\": {\"command\": \"f\"}\n  },\n  \"mcp\": {\n    \"files\": \
     {\"command\": \"f\"}\n  },\n  \"last\": true,\n}\n",
    "{\"mcpServers\": {\"a\": {}}, \"mcpServers\": {\"b\": {}}, \"mcp\": {\"a\": {}}, \"mcp\": {}, \
     \"hooks\": {}, \"hooks\": {\"Stop\": []}}\n",
    "{\n  \"mcpServers\": {\"c2c\": {}},\n  \"mcp\": {\"c2c\": null}\n}\n",
    "{\n  \"hooks\": {\n    \"Stop\": [\n      {\n        \"hooks\": [\n          {\"type\": \"command\", \
     \"command\": \"bell\"}\n        ]\n      }\n    ]\n  }\n}\n",
    "{\n  \"mcpServers\": {\n    \"c2c\": {\"command\": \"/old/c2c\", \"args\": [\"mcp\"]},\n    \"f\": {}\n  },\n  \
     \"mcp\": {\n    \"c2c\": {\"command\": [\"/old/c2c\", \"mcp\"], \"enabled\": false},\n    \"f\": {}\n  }\n}\n",
    "{\"s\": \"\\u00e9\\ud83d\\ude00 //no\", \"u\": \"\u{e9}\u{1f600}\u{2028}\"}\n",
    "  {\n    \"x\": [1, 2,\n 3]\n\n\n  }  \n\n",
];

const TOML: &[&str] = &[
    "",
    "\n",
    "# mine\n",
    "model = \"o9\"",
    "model = \"o9\"   # keep\n\n[mcp_servers.files]\ncommand = \"f\"\nargs = [ ]\n\n[tui]\ntheme = 'dark'\n",
    "mcp_servers = { x = { command = \"y\" } }\n",
    "mcp_servers = {}\nhooks = []\n",
    "[mcp_servers]\n",
    "[mcp_servers]\nc2c = { command = \"/x/c2c\", args = [\"mcp\"] }\nz = { command = \"z\" }\n",
    "mcp_servers.x.command = \"y\"\n[a]\nb = 1\n",
    "[a]\nb = \"\"\"\nline\n\n  line\"\"\"\n[[list]]\nn = 1\n[[list]]\nn = 2\n",
    "model = \"o9\"\n[mcp_servers.c2c]\ncommand = \"opam\"\nargs = [\"exec\", \"--\", \"/x/c2c_mcp_server.exe\"]\n\n\
     [mcp_servers.c2c.env]\nA = \"/x\"\n\n[mcp_servers.c2c.tools.send]\napproval_mode = \"auto\"\n",
    "a = 1\n\n[[hooks]]\nevent = \"Stop\"\ncommand = \"bell\" # keep\n",
];

/// How a path leads to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Plain,
    Symbolic,
    /// To a file in a directory that exists, or not.
    Dangling,
    Hard,
}

/// A file of a client, or the lack of one.
#[derive(Debug, Clone)]
struct Shape {
    /// Index in the list of contents; beyond its end, the file does not exist.
    content: usize,
    has_mark: bool,
    line_end: u8,
    indent: u8,
    link: Link,
    mode: u32,
}

impl Arbitrary for Shape {
    fn arbitrary(g: &mut Gen) -> Self {
        let links = [Link::Plain, Link::Plain, Link::Symbolic, Link::Dangling, Link::Hard];
        Self {
            content: usize::arbitrary(g) % 20,
            has_mark: u8::arbitrary(g).is_multiple_of(4),
            line_end: u8::arbitrary(g) % 3,
            indent: u8::arbitrary(g) % 3,
            link: *g.choose(&links).unwrap(),
            mode: *g.choose(&[0o600, 0o644, 0o640]).unwrap(),
        }
    }
}

impl Shape {
    fn text(&self, is_toml: bool) -> Option<String> {
        let contents = if is_toml { TOML } else { JSON };
        let mut text = (*contents.get(self.content)?).to_owned();
        text = match self.indent {
            0 => text,
            1 => text.replace("  ", "\t"),
            _ => text.replace("  ", "    "),
        };
        let mut lines = 0;
        let ends: String = text
            .chars()
            .map(|c| match c {
                '\n' => {
                    lines += 1;
                    let is_crlf = self.line_end == 1 || self.line_end == 2 && lines % 2 == 1;
                    if is_crlf { "\r\n".to_owned() } else { "\n".to_owned() }
                }
                other => other.to_string(),
            })
            .collect();
        Some(if self.has_mark { format!("\u{feff}{ends}") } else { ends })
    }

    /// Puts the file at a path below a home directory.
    fn put(&self, home: &Path, name: &str) {
        let path = home.join(name);
        let elsewhere = home.join("dotfiles").join(name.replace('/', "_"));
        fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
        let is_toml = Path::new(name).extension().is_some_and(|end| end == "toml");
        let text = self.text(is_toml).filter(|_| self.link != Link::Dangling);
        let write = |path: &Path, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            set_mode(path, self.mode).unwrap();
        };
        match (self.link, text) {
            (Link::Dangling, _) => {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                symlink(&elsewhere, &path).unwrap();
            }
            (_, None) => {}
            (Link::Plain, Some(text)) => write(&path, &text),
            (Link::Symbolic, Some(text)) => {
                write(&elsewhere, &text);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                symlink(&elsewhere, &path).unwrap();
            }
            (Link::Hard, Some(text)) => {
                write(&path, &text);
                fs::hard_link(&path, &elsewhere).unwrap();
            }
        }
    }
}

/// A home directory in which nothing else happens.
struct Home {
    _temporary: TempDir,
    path: PathBuf,
}

impl Home {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("home");
        fs::create_dir(&path).unwrap();
        Self { _temporary: temporary, path }
    }

    fn options(&self, undo: bool) -> SetupOptions {
        SetupOptions {
            home: self.path.clone(),
            state: self.path.join(".c2c/setup"),
            config_directory: None,
            directory: self.path.join("work"),
            global: true,
            program: "/opt/c2c".into(),
            alias: Some("ann".to_owned()).filter(|_| !undo),
            rooms: None,
            undo,
            force: false,
            record: Arc::default(),
        }
    }

    /// Every path with its kind, content, mode and number of names.
    fn tree(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        collect(&self.path, &self.path, &mut found);
        found
    }

    fn in_force(&self, client: &SupportedClient) -> Vec<String> {
        client.gaps(&self.options(false)).into_iter().map(|gap| gap.what).collect()
    }
}

fn collect(top: &Path, directory: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let what = if metadata.is_symlink() {
            format!("link to {}", fs::read_link(&path).unwrap().display())
        } else if metadata.is_dir() {
            collect(top, &path, found);
            "directory".to_owned()
        } else {
            let text = fs::read(&path).unwrap().escape_ascii().to_string();
            format!("{:o} {} {text}", metadata.mode() & 0o7777, metadata.nlink())
        };
        found.insert(path.strip_prefix(top).unwrap().to_owned(), what);
    }
}

fn files_of(client: &SupportedClient) -> &'static [&'static str] {
    FILES.iter().find(|(name, _)| *name == client.name).unwrap().1
}

/// Sets up and undoes, and checks each time what must hold.
fn check_identity(client: &SupportedClient, home: &Home) {
    let before = home.tree();
    apply(&RealDisk, client, &home.options(false)).unwrap();
    assert_eq!(home.in_force(client), Vec::<String>::new(), "{} {before:#?}", client.name);
    let set_up = home.tree();
    let again = apply(&RealDisk, client, &home.options(false)).unwrap();
    assert!(again.changes.iter().all(FileChange::is_unchanged), "{again:#?}");
    assert_eq!(home.tree(), set_up, "a second setup changes nothing");
    apply(&RealDisk, client, &home.options(true)).unwrap();
    assert_eq!(home.tree(), before, "{}", client.name);
}

#[test]
fn setup_and_undo_are_the_identity_on_every_shape_of_the_files() {
    fn property(client: usize, shapes: Vec<Shape>) {
        let client = &CLIENTS[client % CLIENTS.len()];
        let home = Home::new();
        for (name, shape) in files_of(client).iter().zip(&shapes) {
            shape.put(&home.path, name);
        }
        check_identity(client, &home);
    }
    test_seed::check(property as fn(usize, Vec<Shape>));
}

#[test]
fn setup_and_undo_are_the_identity_on_every_content() {
    for client in CLIENTS {
        for content in 0..JSON.len().max(TOML.len()) {
            let home = Home::new();
            let line_end = (content % 3) as u8;
            let shape = Shape {
                content,
                has_mark: content % 2 == 0,
                line_end,
                indent: 0,
                link: Link::Plain,
                mode: 0o600,
            };
            files_of(client).iter().for_each(|name| shape.put(&home.path, name));
            check_identity(client, &home);
        }
    }
}

/// A disk whose process is killed at an operation; a write in place is torn.
struct DyingDisk {
    left: Cell<usize>,
}

impl DyingDisk {
    fn step(&self) -> io::Result<()> {
        match self.left.get() {
            0 => Err(io::Error::other("the process was killed")),
            left => {
                self.left.set(left - 1);
                Ok(())
            }
        }
    }
}

impl Disk for DyingDisk {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealDisk.make_directory(path)
    }

    fn create(&self, like: Option<&Path>, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // A part of a new file may be there.
        if self.left.get() == 1 {
            RealDisk.create(like, path, &bytes[..bytes.len() / 2])?;
            self.step()?;
            return self.step();
        }
        self.step()?;
        RealDisk.create(like, path, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        RealDisk.rename(from, to)
    }

    fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.left.get() == 1 {
            let old = fs::read(path)?;
            let half = bytes.len() / 2;
            let mut torn = bytes[..half].to_vec();
            torn.extend_from_slice(old.get(half..).unwrap_or_default());
            fs::write(path, torn)?;
            self.step()?;
            return self.step();
        }
        self.step()?;
        RealDisk.overwrite(path, bytes)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealDisk.remove(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealDisk.remove_directory(path)
    }
}

/// The content of the client's files alone.
fn contents(client: &SupportedClient, home: &Home) -> Vec<Option<Vec<u8>>> {
    files_of(client).iter().map(|name| fs::read(home.path.join(name)).ok()).collect()
}

#[test]
fn a_process_that_is_killed_leaves_whole_files_and_the_next_run_finishes() {
    // Two files that are written in place, two that are created, and three that are replaced.
    for (name, link) in
        [("claude-code", Link::Hard), ("codex", Link::Dangling), ("kimi", Link::Plain)]
    {
        let client = SupportedClient::named(name).unwrap();
        for undo in [false, true] {
            kill_at_each_operation(client, link, undo);
        }
    }
}

fn kill_at_each_operation(client: &SupportedClient, link: Link, undo: bool) {
    for killed_at in 0.. {
        let home = Home::new();
        let shape = Shape { content: 4, has_mark: true, line_end: 1, indent: 0, link, mode: 0o640 };
        files_of(client).iter().for_each(|name| shape.put(&home.path, name));
        let untouched = home.tree();
        let old = contents(client, &home);
        if undo {
            apply(&RealDisk, client, &home.options(false)).unwrap();
        }
        let (tree_before, before) = (home.tree(), contents(client, &home));
        let disk = DyingDisk { left: Cell::new(killed_at) };
        let ended = apply(&disk, client, &home.options(undo)).is_ok() && disk.left.get() > 0;
        let left = contents(client, &home);
        // What the next run does, whichever it is.
        apply(&RealDisk, client, &home.options(undo)).unwrap();
        let (tree_after, after) = (home.tree(), contents(client, &home));
        let what = format!("{} {link:?} undo={undo} killed at {killed_at}", client.name);
        for ((left, before), after) in left.iter().zip(&before).zip(&after) {
            // A file with two names is written in place; the next run repairs it.
            assert!(link == Link::Hard || left == before || left == after, "{what}");
        }
        if undo {
            assert_eq!(tree_after, untouched, "{what}");
        } else {
            assert_eq!(home.in_force(client), Vec::<String>::new(), "{what}");
            apply(&RealDisk, client, &home.options(true)).unwrap();
            assert_eq!(contents(client, &home), old, "{what}");
            assert_eq!(home.tree(), tree_before, "{what}");
        }
        if ended {
            break;
        }
    }
}
