//! Replacement of a file in two steps, and in place where it cannot be replaced.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::libc;

use super::access::private_options;
use super::atomic::{directory_of, keep_owner};
use super::attributes::set_file_mode;
use super::owner::give_to_owner_of;

/// Whether a file has other names, which replacing it would separate from it.
pub fn has_other_names(metadata: &Metadata) -> bool {
    metadata.nlink() > 1
}

/// Whether an error means that no file can be created beside this one, or renamed over it, although
/// it may be writable: it is a mount point, or its directory cannot be written.
pub fn is_not_replaceable(error: &io::Error) -> bool {
    use libc::{EACCES, EBUSY, EPERM, EROFS, EXDEV};
    matches!(error.raw_os_error(), Some(EACCES | EBUSY | EPERM | EROFS | EXDEV))
}

/// Creates a private file, to be renamed over another one. It has the attributes of the file `like`,
/// or, without such a file, mode 0600 and the owner of its directory. Fails if `path` exists.
pub fn create_like(like: Option<&Path>, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = private_options().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    let existing = like.and_then(|like| Some((like, fs::symlink_metadata(like).ok()?)));
    match existing.filter(|(_, existing)| existing.is_file()) {
        Some((like, existing)) => {
            let mode = keep_owner(&file, &existing);
            set_file_mode(&file, mode)?;
            copy_extended_attributes(like, &file);
        }
        None => give_to_owner_of(directory_of(path), &file)?,
    }
    file.sync_all()
}

/// Writes an existing file in place, so that its inode, links, owner and mode stay. A reader may see
/// a part, and so may the next process after a crash.
pub fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

/// Copies the extended attributes that this process may set, such as access control lists.
#[cfg(target_os = "linux")]
fn copy_extended_attributes(from: &Path, to: &File) {
    let mut names = vec![0; 64 * 1024];
    let Ok(length) = rustix::fs::listxattr(from, &mut names) else { return };
    let mut value = vec![0; 64 * 1024];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if let Ok(length) = rustix::fs::getxattr(from, name, &mut value) {
            // The file works without an attribute that only another user may set.
            let _ =
                rustix::fs::fsetxattr(to, name, &value[..length], rustix::fs::XattrFlags::empty());
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn copy_extended_attributes(_from: &Path, _to: &File) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_overwritten_keeps_its_names_and_loses_its_old_content() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("first"), "a longer text").unwrap();
        fs::hard_link(at("first"), at("second")).unwrap();
        assert!(has_other_names(&fs::metadata(at("first")).unwrap()));
        overwrite(&at("first"), b"short").unwrap();
        assert_eq!(fs::read(at("second")).unwrap(), b"short");
        overwrite(&at("third"), b"").unwrap_err();
    }
}
