//! The path under which other programs start this one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::env::directories;
use crate::error::Failure;

/// A path of this program that stays when a new version is installed: an entry of the `PATH` that leads
/// to this file, preferably through a link; else the path that was used to start it; else the file.
pub fn stable_path() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|e| Failure::io("find", "this program", e))?;
    let file = fs::canonicalize(&own).unwrap_or_else(|_| own.clone());
    let leads_here = |path: &Path| {
        path.is_absolute() && fs::canonicalize(path).is_ok_and(|target| target == file)
    };
    let name = file.file_name().unwrap_or_default();
    let on_path: Vec<PathBuf> = directories::program_directories()
        .into_iter()
        .map(|directory| directory.join(name))
        .filter(|path| leads_here(path))
        .collect();
    let called = std::env::args_os().next().map(PathBuf::from);
    let called = called.filter(|called| called.components().count() > 1);
    let called = called.and_then(|called| std::path::absolute(called).ok());
    let through_link = on_path.iter().find(|path| **path != file).cloned();
    let found = through_link.or_else(|| on_path.into_iter().next());
    Ok(found.or_else(|| called.filter(|called| leads_here(called))).unwrap_or(own))
}
