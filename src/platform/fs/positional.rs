//! Reading, writing and reserving space at offsets, independent of a file's cursor.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Reads at an offset; returns fewer bytes than the buffer holds only at the end of the file.
pub fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Writes all bytes at an offset.
#[inline]
pub fn write_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Reserves space up to a length in bytes, and extends the file to it. The new space reads as zeros.
#[cfg(target_os = "linux")]
pub fn preallocate(file: &File, len: u64) -> io::Result<()> {
    // `fs2::FileExt::allocate` reports an unrelated error when the disk is full.
    let len = nix::libc::off_t::try_from(len).map_err(io::Error::other)?;
    Ok(nix::fcntl::posix_fallocate(file, 0, len)?)
}

/// Extends the file to a length in bytes; the new space reads as zeros. Reserves the space only where
/// the system can.
#[cfg(not(target_os = "linux"))]
pub fn preallocate(file: &File, len: u64) -> io::Result<()> {
    fs2::FileExt::allocate(file, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_past_the_end_returns_the_bytes_before_it() {
        let file = tempfile::tempfile().unwrap();
        write_at(&file, 3, b"text").unwrap();
        let mut buffer = [1; 8];
        assert_eq!(read_at(&file, 0, &mut buffer).unwrap(), 7);
        assert_eq!(&buffer, b"\0\0\0text\x01");
        assert_eq!(read_at(&file, 7, &mut buffer).unwrap(), 0);
    }

    #[test]
    fn reserved_space_reads_as_zeros_and_keeps_what_was_written() {
        let file = tempfile::tempfile().unwrap();
        write_at(&file, 0, b"text").unwrap();
        preallocate(&file, 4096).unwrap();
        preallocate(&file, 16).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 4096);
        let mut buffer = [1; 6];
        assert_eq!(read_at(&file, 0, &mut buffer).unwrap(), 6);
        assert_eq!(&buffer, b"text\0\0");
    }
}
