//! Size of all mirrors, counted once and then kept up to date.

use std::io;

/// Bytes of all mirrors together. The files are counted when the size is first needed, and again
/// before an upload is rejected, because an operator may have removed some.
#[derive(Debug, Default)]
pub struct MirrorUsage {
    /// `None` before the first count, and after a write that may have been partial.
    bytes: Option<u64>,
}

impl MirrorUsage {
    /// Whether `added` more bytes stay within a limit. `count` measures the files.
    pub fn has_room(
        &mut self,
        added: u64,
        limit: u64,
        count: &dyn Fn() -> io::Result<u64>,
    ) -> io::Result<bool> {
        let fits = |bytes: u64| bytes.saturating_add(added) <= limit;
        if self.bytes.is_some_and(fits) {
            return Ok(true);
        }
        let bytes = count()?;
        self.bytes = Some(bytes);
        Ok(fits(bytes))
    }

    /// Adds bytes that were written.
    pub fn add(&mut self, written: u64) {
        if let Some(bytes) = &mut self.bytes {
            *bytes += written;
        }
    }

    /// Forgets the size: it is counted again.
    pub fn forget(&mut self) {
        self.bytes = None;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn files_are_counted_once_and_before_an_upload_is_rejected() {
        let (stored, counts) = (Cell::new(10), Cell::new(0));
        let count = || {
            counts.set(counts.get() + 1);
            Ok(stored.get())
        };
        let mut usage = MirrorUsage::default();
        for _ in 0..9 {
            assert!(usage.has_room(10, 100, &count).expect("a count"));
            usage.add(10);
        }
        assert_eq!(counts.get(), 1);
        stored.set(100);
        assert!(!usage.has_room(10, 100, &count).expect("a count"));
        assert_eq!(counts.get(), 2);
        // The operator removes a mirror.
        stored.set(90);
        assert!(usage.has_room(10, 100, &count).expect("a count"));
        usage.forget();
        assert!(usage.has_room(10, 100, &count).expect("a count"));
        assert_eq!(counts.get(), 4);
    }
}
