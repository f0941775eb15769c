//! Small files of this user that name a broker root.

use std::io;
use std::path::{Path, PathBuf};

use c2c_log_format::checksum::sha256;
use c2c_log_format::id::hex;

use crate::env::{HOME, XDG_STATE_HOME};
use crate::platform::fs::{PreparedFile, WriteOptions, create_private_directory, read_own_file};

/// Larger than any record: it holds two paths.
const BYTES_MAX: usize = 16 * 1024;

/// The first directory that holds roots and records of this user, and the variable that determines
/// it.
pub fn base() -> Option<(PathBuf, &'static str)> {
    bases().next()
}

/// The directories that hold roots of this user, in order of precedence, each with the variable that
/// determines it.
pub fn bases() -> impl Iterator<Item = (PathBuf, &'static str)> {
    let state = XDG_STATE_HOME.path().map(|state| (state.join("c2c"), XDG_STATE_HOME.name));
    let home = HOME.path().map(|home| (home.join(".c2c"), HOME.name));
    state.into_iter().chain(home)
}

/// The file name of a key.
pub fn file_name(kind: &str, key: &[u8]) -> String {
    hex(&sha256(&[kind.as_bytes(), b"\0", key].concat())[..16])
}

/// Reads the lines behind the header line. A file of another user, a link, or anything but a whole
/// record counts as missing.
pub fn read(path: &Path, header: &str) -> Option<Vec<String>> {
    let text = String::from_utf8(read_own_file(path, BYTES_MAX)?).ok()?;
    let lines = text.strip_prefix(header)?.strip_prefix('\n')?.strip_suffix('\n')?;
    Some(lines.split('\n').map(str::to_owned).collect())
}

/// The record's bytes; `None` if a line cannot be written.
fn content(header: &str, lines: &[&str]) -> Option<String> {
    let text = format!("{header}\n{}\n", lines.join("\n"));
    let is_plain = lines.iter().all(|line| !line.contains('\n')) && text.len() <= BYTES_MAX;
    is_plain.then_some(text)
}

/// Writes a record if none exists. A reader finds nothing or the whole record.
pub fn create(path: &Path, header: &str, lines: &[&str]) -> io::Result<()> {
    let text = content(header, lines).ok_or(io::ErrorKind::InvalidInput)?;
    match prepared(path, &text)?.commit_new() {
        // A file that counts as missing is in the way.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && read(path, header).is_none() => {
            prepared(path, &text)?.commit()
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Writes a record or replaces it. A reader finds the old record or the new one.
pub fn replace(path: &Path, header: &str, lines: &[&str]) -> io::Result<()> {
    let text = content(header, lines).ok_or(io::ErrorKind::InvalidInput)?;
    prepared(path, &text)?.commit()
}

fn prepared(path: &Path, text: &str) -> io::Result<PreparedFile> {
    create_private_directory(path.parent().unwrap_or(Path::new("/")))?;
    PreparedFile::create(path, text.as_bytes(), WriteOptions::PRIVATE)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::platform::fs::{mode_of, set_mode};

    const HEADER: &str = "c2c test 1";

    #[test]
    fn a_record_is_created_once_and_replaced_on_demand() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records/one");
        create(&path, HEADER, &["/a", ""]).unwrap();
        create(&path, HEADER, &["/b", ""]).unwrap();
        assert_eq!(read(&path, HEADER), Some(vec!["/a".into(), String::new()]));
        replace(&path, HEADER, &["/b"]).unwrap();
        assert_eq!(read(&path, HEADER), Some(vec!["/b".into()]));
        assert_eq!(mode_of(&fs::metadata(&path).unwrap()), 0o600);
        create(&path, HEADER, &["a\nb"]).unwrap_err();
    }

    #[test]
    fn anything_but_a_whole_record_counts_as_missing_and_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("one");
        for text in ["", "c2c test 1", "c2c test 1\n/a", "c2c test 10\n/a\n", "other\n/a\n"] {
            fs::write(&path, text).unwrap();
            set_mode(&path, 0o600).unwrap();
            assert_eq!(read(&path, HEADER), None, "{text:?}");
            create(&path, HEADER, &["/b"]).unwrap();
            assert_eq!(read(&path, HEADER), Some(vec!["/b".into()]), "{text:?}");
            fs::remove_file(&path).unwrap();
        }
    }
}
