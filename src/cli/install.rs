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
            return install_self(context, self.dest);
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

fn install_self(context: &Context, dest: Option<PathBuf>) -> Result<(), Failure> {
    let Destination { bin, share, private } = Destination::new(dest)?;
    for directory in &private {
        create_private_directory(directory).map_err(|e| Failure::io("create", directory, e))?;
        set_mode(directory, 0o700).map_err(|e| Failure::io("set the mode of", directory, e))?;
    }
    fs::create_dir_all(&bin).map_err(|e| Failure::io("create", &bin, e))?;
    let program = std::env::current_exe().map_err(|e| Failure::io("find", "this program", e))?;
    let mut installed = Vec::new();
    for name in ["c2c", "c2c-log"] {
        let source = program.with_file_name(name);
        if source.exists() {
            let target = bin.join(name);
            install_program(&source, &target)?;
            installed.push(target);
        }
    }
    for (shell, file) in COMPLETIONS {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut context.command_line(), "c2c", &mut script);
        installed.push(install_data(share.join(file), &script)?);
    }
    install_manual(&context.command_line(), &share.join("man/man1"), &mut installed)?;
    let on_path = directories::program_directories().contains(&bin);
    if context.common.json {
        return output::print_json(
            &json!({ "ok": true, "installed": installed, "on_path": on_path }),
        );
    }
    let mut text: String =
        installed.iter().map(|path| format!("installed {}\n", path.display())).collect();
    if !on_path {
        let bin = bin.display();
        text.push_str(&format!("{bin} is not on the PATH: export PATH=\"{bin}:$PATH\"\n"));
    }
    output::print(&text)
}

/// Installs a manual page for the program and one for each command.
fn install_manual(
    program: &Command,
    directory: &Path,
    installed: &mut Vec<PathBuf>,
) -> Result<(), Failure> {
    let mut pages = vec![(program.clone(), "c2c".to_owned())];
    let commands = program.get_subcommands().filter(|command| command.get_name() != "help");
    pages.extend(commands.map(|command| (command.clone(), format!("c2c-{}", command.get_name()))));
    for (command, name) in pages {
        let path = directory.join(format!("{name}.1"));
        let mut page = Vec::new();
        let man = clap_mangen::Man::new(command.display_name(name.clone())).title(&name);
        man.render(&mut page).map_err(|e| Failure::io("write", &path, e))?;
        installed.push(install_data(path, &page)?);
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
fn install_data(path: PathBuf, bytes: &[u8]) -> Result<PathBuf, Failure> {
    // Not durable: running the command again writes the file again.
    let options = WriteOptions { mode: 0o644, durable: false, ..WriteOptions::default() };
    let directory = path.parent().unwrap_or(&path);
    fs::create_dir_all(directory).map_err(|e| Failure::io("create", directory, e))?;
    write_atomic(&path, bytes, options).map_err(|e| Failure::io("write", &path, e))?;
    Ok(path)
}
