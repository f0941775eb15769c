//! Locks between processes, held on open files.
//!
//! Whole-file locks belong to an open file and are released when it is closed. Record locks belong to
//! a process; the older c2c uses them.

use std::fs::File;
use std::io;

use fs2::FileExt;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Takes the exclusive lock of a file; false if another open file holds it.
#[inline]
pub fn try_lock(file: &File) -> io::Result<bool> {
    match FileExt::try_lock_exclusive(file) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(e) => Err(e),
    }
}

/// Waits for the exclusive lock of a file, and takes it.
#[inline]
pub fn lock(file: &File) -> io::Result<()> {
    FileExt::lock_exclusive(file)
}

/// Releases the lock of a file.
#[inline]
pub fn unlock(file: &File) {
    // Unlocking an open file cannot fail.
    let _ = FileExt::unlock(file);
}

/// Takes the exclusive record lock of a whole file, which must be open for writing; false if another
/// process holds it. Closing any of this process's descriptors of the file releases it.
pub fn try_record_lock(file: &File) -> io::Result<bool> {
    set_record_lock(file, libc::F_WRLCK as libc::c_short)
}

/// Takes a shared record lock of a whole file, which excludes the exclusive one; false if another
/// process holds that.
pub fn try_shared_record_lock(file: &File) -> io::Result<bool> {
    set_record_lock(file, libc::F_RDLCK as libc::c_short)
}

fn set_record_lock(file: &File, kind: libc::c_short) -> io::Result<bool> {
    let whole = libc::flock {
        l_type: kind,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_SETLK(&whole)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_excludes_other_open_files_until_it_is_released() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let second = File::open(file.path()).unwrap();
        assert!(try_lock(file.as_file()).unwrap());
        assert!(!try_lock(&second).unwrap());
        unlock(file.as_file());
        lock(&second).unwrap();
        assert!(!try_lock(file.as_file()).unwrap());
        drop(second);
        assert!(try_lock(file.as_file()).unwrap());
    }

    #[test]
    fn a_record_lock_is_taken_again_by_its_own_process() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(try_record_lock(file.as_file()).unwrap());
        assert!(try_record_lock(file.as_file()).unwrap());
        let read_only = File::open(file.path()).unwrap();
        try_record_lock(&read_only).unwrap_err();
        assert!(try_shared_record_lock(&read_only).unwrap());
    }
}
