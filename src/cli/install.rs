//! `c2c install`: the programs on the PATH with their completions and manual, or a client set up.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use serde_json::json;

use super::setup::Setup;
use super::{Context, Run, output};
use crate::code::Code;
use crate::decide::Refusal;
use crate::failure::Failure;
use crate::log::LogError;

/// What stands for this program instead of a client.
const ITSELF: &str = "self";
/// Where each shell looks for completions, below a directory for data.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions/c2c"),
    (Shell::Fish, "fish/vendor_completions.d/c2c.fish"),
    (Shell::Zsh, "zsh/site-functions/_c2c"),
];

#[derive(Args)]
#[command(
    after_help = "`install self` puts this program on the PATH; `install CLIENT` is `setup CLIENT`."
)]
pub struct Install {
    #[command(flatten)]
    setup: Setup,
    /// Directory for the programs, of `install self` [default: ~/.local/bin]
    #[arg(long, value_name = "DIR")]
    dest: Option<PathBuf>,
}

impl Run for Install {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        if self.setup.client.as_deref() == Some(ITSELF) {
            return itself(context, self.dest);
        }
        if self.dest.is_some() {
            return Err(
                Refusal::new(Code::InvalidArgument, "dest", "--dest is for install self").into()
            );
        }
        self.setup.run(context)
    }
}

fn itself(context: &Context, dest: Option<PathBuf>) -> Result<(), Failure> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home =
        home.ok_or_else(|| Refusal::new(Code::InvalidArgument, "HOME", "HOME is not set"))?;
    let base = |name: &str, default: &str| {
        let set = std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        set.unwrap_or_else(|| home.join(default))
    };
    let data = base("XDG_DATA_HOME", ".local/share");
    // Beside a `bin` of the caller's own choice, completions and manual go to its `share`.
    let own = dest.as_ref().filter(|dest| dest.ends_with("bin")).and_then(|dest| dest.parent());
    let share = own.map_or_else(|| data.clone(), |above| above.join("share"));
    let bin = dest.unwrap_or_else(|| home.join(".local/bin"));
    for dir in [base("XDG_CONFIG_HOME", ".config").join("c2c"), data.join("c2c")] {
        at(&dir, DirBuilder::new().recursive(true).mode(0o700).create(&dir))?;
        at(&dir, fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)))?;
    }
    at(&bin, fs::create_dir_all(&bin))?;
    let me = at(Path::new("c2c"), std::env::current_exe())?;
    let mut installed = Vec::new();
    for name in ["c2c", "c2c-log"] {
        let source = me.with_file_name(name);
        if source.exists() {
            let target = bin.join(name);
            copy(&source, &target)?;
            installed.push(target);
        }
    }
    for (shell, place) in COMPLETIONS {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut super::whole(), "c2c", &mut script);
        installed.push(write(&share.join(place), &script)?);
    }
    manual(&super::whole(), &share.join("man/man1"), &mut installed)?;
    let on_path = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir == bin));
    if context.common.json {
        return output::say_json(
            &json!({ "ok": true, "installed": installed, "on_path": on_path }),
        );
    }
    let mut text: String =
        installed.iter().map(|path| format!("installed {}\n", path.display())).collect();
    if !on_path {
        text.push_str(&format!("add it to your PATH: export PATH=\"{}:$PATH\"\n", bin.display()));
    }
    output::say(&text)
}

/// A page for the program, and one for each of its commands.
fn manual(whole: &Command, directory: &Path, done: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let mut pages = vec![(whole.clone(), "c2c".to_owned())];
    let inner = whole.get_subcommands().filter(|command| command.get_name() != "help");
    pages.extend(inner.map(|command| (command.clone(), format!("c2c-{}", command.get_name()))));
    for (command, name) in pages {
        let mut page = Vec::new();
        let man = clap_mangen::Man::new(command.display_name(name.clone())).title(&name);
        at(directory, man.render(&mut page))?;
        done.push(write(&directory.join(format!("{name}.1")), &page)?);
    }
    Ok(())
}

/// Copies beside and renames: a running program keeps its old file.
fn copy(source: &Path, target: &Path) -> Result<(), Failure> {
    if fs::canonicalize(source).ok() == fs::canonicalize(target).ok() && target.exists() {
        return Ok(());
    }
    let aside = target.with_extension("new");
    at(&aside, fs::copy(source, &aside))?;
    at(&aside, fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)))?;
    at(target, fs::rename(&aside, target))
}

/// Others read what is here, so it has the modes of any program's data.
fn write(path: &Path, bytes: &[u8]) -> Result<PathBuf, Failure> {
    at(path, fs::create_dir_all(path.parent().unwrap_or(path)))?;
    at(path, File::create(path).and_then(|mut file| file.write_all(bytes)))?;
    Ok(path.to_owned())
}

fn at<T>(path: &Path, result: std::io::Result<T>) -> Result<T, Failure> {
    result.map_err(|e| LogError::io("install", &path.display().to_string(), e).into())
}
