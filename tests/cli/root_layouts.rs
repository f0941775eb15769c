//! Layouts of repositories, and whether two directories in them share a broker root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::roots::root_of;
use crate::support::World;

/// The remote of a repository, in its usual spelling.
pub const REMOTE: &str = "git@github.com:owner/repo.git";

pub fn write(path: PathBuf, text: &str) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
    fs::write(path, text).expect("file");
}

/// Creates a repository with a configuration file.
pub fn repository(top: &Path, config: &str) {
    git_directory(&top.join(".git"), config);
}

pub fn git_directory(path: &Path, config: &str) {
    fs::create_dir_all(path.join("objects")).expect("objects");
    fs::create_dir_all(path.join("refs")).expect("refs");
    write(path.join("HEAD"), "ref: refs/heads/main\n");
    write(path.join("config"), config);
}

pub fn origin(url: &str) -> String {
    format!("[core]\n\tbare = false\n[remote \"origin\"]\n\turl = {url}\n\tfetch = +refs/*\n")
}

/// A linked worktree of the repository with this git directory.
pub fn worktree(top: &Path, git: &Path, name: &str) {
    let own = git.join("worktrees").join(name);
    write(own.join("HEAD"), "ref: refs/heads/side\n");
    write(own.join("commondir"), "../..\n");
    write(top.join(".git"), &format!("gitdir: {}\n", own.display()));
}

/// A directory in which a layout is built, and the directories whose roots are compared.
type Build = fn(&Path) -> (PathBuf, PathBuf);

/// Two clones whose configuration files have these texts.
fn two(dir: &Path, first: &str, second: &str) -> (PathBuf, PathBuf) {
    repository(&dir.join("a"), first);
    repository(&dir.join("b"), second);
    (dir.join("a"), dir.join("b"))
}

/// A clone with the usual spelling of its remote, and one with another spelling.
fn spelt(dir: &Path, url: &str) -> (PathBuf, PathBuf) {
    two(dir, &origin(REMOTE), &origin(url))
}

/// Layouts whose two directories share a root.
const SAME: &[(&str, Build)] = &[
    ("two clones", |d| spelt(d, REMOTE)),
    ("https", |d| spelt(d, "https://github.com/owner/repo.git")),
    ("https without .git", |d| spelt(d, "https://github.com/owner/repo")),
    ("slash at the end", |d| spelt(d, "https://github.com/owner/repo/")),
    ("user in the URL", |d| spelt(d, "https://ann@github.com/owner/repo")),
    ("token in the URL", |d| spelt(d, "https://x-access-token:ghs_1@github.com/owner/repo.git")),
    ("case of the host", |d| spelt(d, "https://GitHub.com/owner/repo")),
    ("default port", |d| spelt(d, "ssh://git@github.com:22/owner/repo.git")),
    ("ssh scheme", |d| spelt(d, "ssh://git@github.com/owner/repo.git")),
    ("git scheme", |d| spelt(d, "git://github.com/owner/repo")),
    ("scp form without a user", |d| spelt(d, "github.com:owner/repo")),
    ("scp form with a slash", |d| spelt(d, "git@github.com:/owner/repo.git")),
    ("double slashes", |d| spelt(d, "https://github.com//owner//repo.git")),
    ("quoted value", |d| spelt(d, "\"https://github.com/owner/repo\"")),
    ("comment behind the value", |d| spelt(d, "https://github.com/owner/repo ; main")),
    ("hash behind the value", |d| spelt(d, "https://github.com/owner/repo # main")),
    ("continued line", |d| spelt(d, "https://github.com/\\\nowner/repo")),
    ("comment behind the header", |d| {
        two(d, &origin(REMOTE), &format!("[remote \"origin\"] # x\n\turl = {REMOTE}\n"))
    }),
    ("header and variable on one line", |d| {
        two(d, &origin(REMOTE), &format!("[remote \"origin\"] url = {REMOTE}\n"))
    }),
    ("case of section and key", |d| {
        two(d, &origin(REMOTE), &format!("[Remote \"origin\"]\n\tURL={REMOTE}\n"))
    }),
    ("dotted section", |d| two(d, &origin(REMOTE), &format!("[remote.origin]\nurl={REMOTE}\n"))),
    ("Windows line ends", |d| two(d, &origin(REMOTE), &origin(REMOTE).replace('\n', "\r\n"))),
    ("byte order mark", |d| two(d, &origin(REMOTE), &format!("\u{feff}{}", origin(REMOTE)))),
    ("commented-out remote before", |d| {
        two(d, &origin(REMOTE), &format!("#[remote \"origin\"]\n#url=x\n{}", origin(REMOTE)))
    }),
    ("remote of another name before", |d| {
        two(d, &origin(REMOTE), &format!("[remote \"fork\"]\nurl = x\n{}", origin(REMOTE)))
    }),
    ("origin in another case beside", |d| {
        two(d, &origin(REMOTE), &format!("[remote \"Origin\"]\nurl = x:y\n{}", origin(REMOTE)))
    }),
    ("only remote of another name", |d| {
        two(d, &origin(REMOTE), &format!("[remote \"upstream\"]\nurl = {REMOTE}\n"))
    }),
    ("remote in an included file", |d| {
        write(d.join("b/.git/remotes.inc"), &origin(REMOTE));
        two(d, &origin(REMOTE), "[include]\n\tpath = remotes.inc\n")
    }),
    ("remote in a file included for this directory", |d| {
        write(d.join("inc"), &origin(REMOTE));
        two(d, &origin(REMOTE), "[includeIf \"gitdir:**/b/\"]\n\tpath = ../../inc\n")
    }),
    ("subdirectory", |d| {
        repository(&d.join("a"), &origin(REMOTE));
        fs::create_dir_all(d.join("a/src/deep")).expect("directory");
        (d.join("a"), d.join("a/src/deep"))
    }),
    ("subdirectory through a link", |d| {
        repository(&d.join("a"), "");
        fs::create_dir_all(d.join("a/src")).expect("directory");
        symlink(d.join("a/src"), d.join("link")).expect("link");
        (d.join("a"), d.join("link"))
    }),
    ("inside of .git", |d| {
        repository(&d.join("a"), "");
        (d.join("a"), d.join("a/.git/objects"))
    }),
    ("worktree", |d| {
        repository(&d.join("a"), "");
        worktree(&d.join("w"), &d.join("a/.git"), "w");
        (d.join("a"), d.join("w"))
    }),
    ("worktree of a bare repository", |d| {
        git_directory(&d.join("a.git"), "[core]\nbare = true\n");
        worktree(&d.join("w"), &d.join("a.git"), "w");
        (d.join("a.git"), d.join("w"))
    }),
    ("inside of a bare repository", |d| {
        git_directory(&d.join("a.git"), "[core]\nbare = true\n");
        (d.join("a.git"), d.join("a.git/refs"))
    }),
    ("bare directory beside a .git file", |d| {
        git_directory(&d.join("a/.bare"), "");
        write(d.join("a/.git"), "gitdir: ./.bare\n");
        (d.join("a"), d.join("a/.bare"))
    }),
    ("git directory behind a link", |d| {
        git_directory(&d.join("git"), "");
        fs::create_dir_all(d.join("a")).expect("directory");
        symlink(d.join("git"), d.join("a/.git")).expect("link");
        (d.join("a"), d.join("git"))
    }),
    ("two clones of one directory", |d| {
        git_directory(&d.join("hub.git"), "");
        let hub = d.join("hub.git").display().to_string();
        two(d, &origin(&hub), &origin(&format!("file://{hub}/")))
    }),
    ("clone of a directory by a relative path", |d| {
        git_directory(&d.join("hub.git"), "");
        let hub = d.join("hub.git").display().to_string();
        two(d, &origin(&hub), &origin("../hub"))
    }),
    ("clone and the directory that it was cloned from", |d| {
        let top = d.join("a").display().to_string();
        two(d, "", &origin(&top))
    }),
    ("clone of a clone", |d| {
        let top = d.join("a").display().to_string();
        two(d, &origin("https://github.com/owner/repo"), &origin(&top))
    }),
    ("outside of repositories", |d| {
        fs::create_dir_all(d.join("x")).expect("directory");
        (d.to_owned(), d.join("x"))
    }),
];

/// Layouts whose two directories have different roots.
const DIFFERENT: &[(&str, Build)] = &[
    ("another path", |d| spelt(d, "git@github.com:owner/other.git")),
    ("another host", |d| spelt(d, "git@gitlab.com:owner/repo.git")),
    ("another port", |d| spelt(d, "ssh://git@github.com:2222/owner/repo.git")),
    ("a path in another case", |d| spelt(d, "git@github.com:Owner/repo.git")),
    ("two repositories without a remote", |d| two(d, "", "")),
    ("several remotes and no origin", |d| {
        two(d, &origin(REMOTE), &format!("[remote \"a\"]\nurl={REMOTE}\n[remote \"b\"]\nurl=x:y\n"))
    }),
    ("only a remote in another case", |d| {
        two(d, &origin("x:y"), "[remote \"ORIGIN\"]\nfetch = x:y\n")
    }),
    ("submodule", |d| {
        repository(&d.join("a"), "");
        git_directory(&d.join("a/.git/modules/sub"), &origin("x:sub"));
        write(d.join("a/sub/.git"), "gitdir: ../.git/modules/sub\n");
        (d.join("a"), d.join("a/sub"))
    }),
    ("nested repository", |d| {
        repository(&d.join("a"), "");
        repository(&d.join("a/sub"), "");
        (d.join("a"), d.join("a/sub"))
    }),
    ("included for another directory", |d| {
        write(d.join("inc"), &origin(REMOTE));
        two(d, &origin(REMOTE), "[includeIf \"gitdir:/elsewhere/\"]\n\tpath = ../../inc\n")
    }),
];

fn each_layout_of_a_repository_has_one_root() {
    assert!(SAME.len() + DIFFERENT.len() > 50);
    for (layouts, expected) in [(SAME, true), (DIFFERENT, false)] {
        for (name, build) in layouts {
            let world = World::new();
            let (first, second) = build(&world.path().join("home"));
            let (first, second) = (root_of(&world, &first), root_of(&world, &second));
            assert_eq!(first == second, expected, "{name}: {first} {second}");
            assert!(!world.path().join("home/.c2c").exists(), "{name}: a query wrote a file");
        }
    }
}

crate::harness::tests! {
    fast:
        each_layout_of_a_repository_has_one_root;
}
