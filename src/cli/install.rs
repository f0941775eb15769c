//! The `c2c install` command, which installs this program or sets up a client.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use serde_json::json;

use super::context::{Context, Run};
use super::output;
use super::setup::Setup;
use crate::env::directories;
use crate::error::Failure;
use crate::platform::fs::{
    PreparedFile, WriteOptions, create_private_directory, set_mode, write_atomic,
};
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// Argument that selects this program instead of a client.
const THIS_PROGRAM: &str = "self";
/// Names of the programs.
const PROGRAMS: [&str; 2] = ["c2c", "c2c-log"];
/// A text that every version of the programs contains, and hardly another program.
const OWN_MARK: &str = "C2C_MCP_BROKER_ROOT";
/// Shell completion files, relative to a data directory.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions/c2c"),
    (Shell::Fish, "fish/vendor_completions.d/c2c.fish"),
    (Shell::Zsh, "zsh/site-functions/_c2c"),
];

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c install self                       install c2c and c2c-log in ~/.local/bin\n  \
    c2c install self --dest /usr/local/bin\n  \
    c2c install self --undo                remove what install self has installed\n  \
    c2c install claude-code --alias ann    same as `c2c setup claude-code --alias ann`")]
pub struct Install {
    #[command(flatten)]
    setup: Setup,
    /// Directory for the programs, with `install self` [default: ~/.local/bin]
    #[arg(long, value_name = "DIR")]
    dest: Option<PathBuf>,
}

impl Run for Install {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        if self.setup.client.as_deref() == Some(THIS_PROGRAM) {
            return match self.setup.undo {
                true => remove_self(context, self.dest, self.setup.dry_run),
                false => install_self(context, self.dest, self.setup.dry_run),
            };
        }
        if self.dest.is_some() {
            let message = "--dest applies only to `c2c install self`";
            return Err(Rejection::new(Code::InvalidArgument, "dest", message).into());
        }
        self.setup.run(context)
    }
}

/// Directories that `c2c install self` writes to.
struct Destination {
    bin: PathBuf,
    /// Data directory for completions and manual pages.
    share: PathBuf,
    /// Directories for the user's configuration and data.
    private: [PathBuf; 2],
}

impl Destination {
    fn new(dest: Option<PathBuf>) -> Result<Self, Rejection> {
        let not_set =
            || Rejection::new(Code::InvalidArgument, "HOME", "HOME is not set").hint("set HOME");
        let home = directories::home().ok_or_else(not_set)?;
        let config = directories::config_home().ok_or_else(not_set)?;
        let data = directories::data_home().ok_or_else(not_set)?;
        // With --dest PREFIX/bin, completions and manual pages belong in PREFIX/share.
        let prefix =
            dest.as_ref().filter(|dest| dest.ends_with("bin")).and_then(|bin| bin.parent());
        let share = prefix.map_or_else(|| data.clone(), |prefix| prefix.join("share"));
        let private = [config.join("c2c"), data.join("c2c")];
        Ok(Self { bin: dest.unwrap_or_else(|| home.join(".local/bin")), share, private })
    }
}

fn install_self(context: &Context, dest: Option<PathBuf>, dry_run: bool) -> Result<(), Failure> {
    let installation = Installation::plan(context, dest)?;
    if !dry_run {
        installation.install()?;
    }
    let on_path = directories::program_directories().contains(&installation.bin);
    let shadow = installation.shadow();
    if context.common.json {
        return output::print_json(&json!({
            "ok": true,
            "dry_run": dry_run,
            "installed": installation.paths(),
            "on_path": on_path,
            "shadowed_by": shadow,
        }));
    }
    let verb = if dry_run { "would install" } else { "installed" };
    let mut text: String =
        installation.paths().iter().map(|path| format!("{verb} {}\n", path.display())).collect();
    let bin = installation.bin.display();
    if !on_path {
        text.push_str(&format!("{bin} is not on the PATH: export PATH=\"{bin}:$PATH\"\n"));
    }
    if let Some(other) = shadow {
        text.push_str(&format!(
            "`c2c` still runs {}, which comes first in the PATH: remove it, or put {bin} first\n",
            other.display()
        ));
    }
    output::print(&text)
}

fn remove_self(context: &Context, dest: Option<PathBuf>, dry_run: bool) -> Result<(), Failure> {
    let removal = Installation::plan(context, dest)?.remove(dry_run)?;
    if context.common.json {
        return output::print_json(&json!({
            "ok": true, "dry_run": dry_run, "removed": removal.removed, "left": removal.left,
        }));
    }
    output::print(&removal.text(dry_run))
}

/// What taking c2c away removes and leaves.
#[derive(Default)]
pub(super) struct Removal {
    pub removed: Vec<PathBuf>,
    /// Paths that stay, each with the reason.
    pub left: Vec<(PathBuf, &'static str)>,
}

impl Removal {
    pub(super) fn text(&self, dry_run: bool) -> String {
        let verb = if dry_run { "would remove" } else { "removed" };
        let removed = self.removed.iter().map(|path| format!("{verb} {}\n", path.display()));
        let left = self.left.iter().map(|(path, why)| format!("left {}: {why}\n", path.display()));
        let text: String = removed.chain(left).collect();
        if text.is_empty() { "nothing to remove\n".into() } else { text }
    }
}

/// The files of an installation.
pub(super) struct Installation {
    bin: PathBuf,
    /// Programs, each with the file that it is a copy of.
    programs: Vec<(PathBuf, PathBuf)>,
    /// Completions and manual pages, with their contents.
    data: Vec<(PathBuf, Vec<u8>)>,
    /// Directories for the user's configuration and data.
    private: [PathBuf; 2],
}

impl Installation {
    /// The files that this program installs, by default below the home directory.
    pub(super) fn plan(context: &Context, dest: Option<PathBuf>) -> Result<Self, Failure> {
        let Destination { bin, share, private } = Destination::new(dest)?;
        let program =
            std::env::current_exe().map_err(|e| Failure::io("find", "this program", e))?;
        let sources = PROGRAMS.map(|name| (bin.join(name), program.with_file_name(name)));
        let mut data = Vec::new();
        for (shell, file) in COMPLETIONS {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut context.command_line(), "c2c", &mut script);
            data.push((share.join(file), script));
        }
        plan_manual(&context.command_line(), &share.join("man/man1"), &mut data)?;
        let programs = sources.into_iter().filter(|(_, source)| source.exists()).collect();
        Ok(Self { bin, programs, data, private })
    }

    fn install(&self) -> Result<(), Failure> {
        for directory in &self.private {
            create_private_directory(directory).map_err(|e| Failure::io("create", directory, e))?;
            set_mode(directory, 0o700).map_err(|e| Failure::io("set the mode of", directory, e))?;
        }
        fs::create_dir_all(&self.bin).map_err(|e| Failure::io("create", &self.bin, e))?;
        for (target, source) in &self.programs {
            install_program(source, target)?;
        }
        self.data.iter().try_for_each(|(path, bytes)| install_data(path, bytes))
    }

    fn paths(&self) -> Vec<&PathBuf> {
        let programs = self.programs.iter().map(|(target, _)| target);
        programs.chain(self.data.iter().map(|(path, _)| path)).collect()
    }

    /// Another program of our name that a shell finds before the installed one.
    fn shadow(&self) -> Option<PathBuf> {
        let directories = directories::program_directories().into_iter();
        let before = directories.take_while(|directory| *directory != self.bin);
        let installed = fs::canonicalize(self.bin.join(PROGRAMS[0])).ok();
        let mut others = before.map(|directory| directory.join(PROGRAMS[0]));
        others.find(|path| path.is_file() && fs::canonicalize(path).ok() != installed)
    }

    /// Removes the installed files. A program that is not c2c stays, and so does a directory with
    /// other files.
    pub(super) fn remove(&self, dry_run: bool) -> Result<Removal, Failure> {
        let mut removal = Removal::default();
        for name in PROGRAMS {
            let target = self.bin.join(name);
            if target.symlink_metadata().is_err() {
                continue;
            }
            match is_c2c(&target) {
                true => removal.removed.push(target),
                false => removal.left.push((target, "it is another program")),
            }
        }
        let data = self.data.iter().map(|(path, _)| path);
        removal.removed.extend(data.filter(|path| path.exists()).cloned());
        if dry_run {
            return Ok(removal);
        }
        for path in &removal.removed {
            fs::remove_file(path).map_err(|e| Failure::io("remove", path, e))?;
        }
        for directory in &self.private {
            // They hold settings and keys unless they are empty.
            let _ = fs::remove_dir(directory);
        }
        Ok(removal)
    }
}

/// Whether a file is this program in some version: its name alone does not show that.
fn is_c2c(path: &Path) -> bool {
    let is_program = |bytes: &[u8]| {
        bytes.starts_with(b"\x7fELF") || bytes.starts_with(&[0xcf, 0xfa, 0xed, 0xfe])
    };
    let bytes = fs::read(path).unwrap_or_default();
    let mark = OWN_MARK.as_bytes();
    is_program(&bytes) && bytes.windows(mark.len()).any(|window| window == mark)
}

/// Adds a manual page for the program and one for each command.
fn plan_manual(
    program: &Command,
    directory: &Path,
    data: &mut Vec<(PathBuf, Vec<u8>)>,
) -> Result<(), Failure> {
    let mut pages = vec![(program.clone(), "c2c".to_owned())];
    let commands = program.get_subcommands().filter(|command| command.get_name() != "help");
    pages.extend(commands.map(|command| (command.clone(), format!("c2c-{}", command.get_name()))));
    for (command, name) in pages {
        let path = directory.join(format!("{name}.1"));
        let mut page = Vec::new();
        let man = clap_mangen::Man::new(command.display_name(name.clone())).title(&name);
        man.render(&mut page).map_err(|e| Failure::io("write", &path, e))?;
        data.push((path, page));
    }
    Ok(())
}

/// Replaces a program. Processes that are running the old one continue to use it.
fn install_program(source: &Path, target: &Path) -> Result<(), Failure> {
    if fs::canonicalize(source).ok() == fs::canonicalize(target).ok() && target.exists() {
        return Ok(());
    }
    let options = WriteOptions {
        mode: 0o755,
        keep_attributes: false,
        follow_links: false,
        ..WriteOptions::default()
    };
    let mut program = fs::File::open(source).map_err(|e| Failure::io("read", source, e))?;
    PreparedFile::create_with(target, options, |file| io::copy(&mut program, file).map(|_| ()))
        .and_then(PreparedFile::commit)
        .map_err(|e| Failure::io("write", target, e))
}

/// Installs a file that every user may read.
fn install_data(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    // Not durable: running the command again writes the file again.
    let options = WriteOptions { mode: 0o644, durable: false, ..WriteOptions::default() };
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).map_err(|e| Failure::io("create", directory, e))?;
    write_atomic(path, bytes, options).map_err(|e| Failure::io("write", path, e))
}
