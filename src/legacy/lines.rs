//! Reading of a file of JSON lines from where its last import ended.
//!
//! Older programs only add lines to such a file. The log records how far it was imported, with a hash
//! of the bytes before that point: if they differ, the file was replaced and is read from its start.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use c2c_log_format::checksum::sha256;
use c2c_log_format::id::hex;
use serde_json::Value;

/// Number of bytes before the end of the imported part that are hashed.
const HASHED_BYTES: u64 = 4096;
/// Bytes of the hash that are recorded.
const HASH_BYTES: usize = 8;
/// Longest line that is read, bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Number of starts of an object at which a damaged line is tried.
const SALVAGE_ATTEMPTS: usize = 16;
/// The stamp of a file of which only a part was imported; no file has it.
const PART: &str = "0 0 -";

/// A file of lines, open at the first line that is not imported.
pub struct LineFile {
    reader: BufReader<File>,
    /// Stamp of the file when it was opened.
    stamp: String,
    offset: u64,
    /// Whether reading starts at the beginning of a file that was imported before.
    pub is_replaced: bool,
}

/// One line: its row, or `None` if it is not JSON.
pub type Line = Option<Value>;

impl LineFile {
    /// Opens a file. `recorded` is what the log records about it.
    pub fn open(path: &Path, stamp: &str, recorded: &str) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let place = recorded.rsplit_once(' ').and_then(|(rest, hash)| {
            let offset = rest.rsplit(' ').next()?.parse().ok()?;
            Some((offset, hash))
        });
        let offset = match place {
            Some((offset, hash)) if hash_before(&mut file, offset)?.as_deref() == Some(hash) => {
                offset
            }
            _ => 0,
        };
        file.seek(SeekFrom::Start(offset))?;
        let is_replaced = place.is_some() && offset == 0;
        Ok(Self { reader: BufReader::new(file), stamp: stamp.to_owned(), offset, is_replaced })
    }

    /// Reads the next line that is not empty. Returns `None` at the end of the file, and before an
    /// incomplete line there: a program may still be writing it.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? as u64;
            if read == 0 {
                return Ok(None);
            }
            let is_whole = line.ends_with(b"\n");
            let row = parse(line.trim_ascii());
            if !is_whole && row.is_none() && read < LINE_BYTES_MAX {
                self.reader.seek(SeekFrom::Start(self.offset))?;
                return Ok(None);
            }
            self.offset += read;
            if !line.trim_ascii().is_empty() {
                return Ok(Some(row));
            }
        }
    }

    /// What the log records once everything up to here is imported: of the whole file, or of a part.
    pub fn record(&mut self, is_end: bool) -> io::Result<String> {
        let hash = hash_before(self.reader.get_mut(), self.offset)?.unwrap_or_default();
        self.reader.seek(SeekFrom::Start(self.offset))?;
        let stamp = if is_end { &self.stamp } else { PART };
        Ok(format!("{stamp} {} {hash}", self.offset))
    }
}

/// A hash of the bytes before an offset; `None` if the file is shorter.
fn hash_before(file: &mut File, offset: u64) -> io::Result<Option<String>> {
    let start = offset.saturating_sub(HASHED_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(offset - start).read_to_end(&mut bytes)?;
    let is_long_enough = bytes.len() as u64 == offset - start;
    Ok(is_long_enough.then(|| hex(&sha256(&bytes)[..HASH_BYTES])))
}

/// The object in a line. If a program was killed while it wrote, the next program continued the
/// line: the last object in it is whole.
fn parse(line: &[u8]) -> Option<Value> {
    let object = |bytes: &[u8]| super::json::parse(bytes).filter(Value::is_object);
    if line.is_empty() {
        return None;
    }
    let starts = line.windows(2).enumerate().filter(|(_, pair)| pair == b"{\"").map(|(at, _)| at);
    object(line).or_else(|| {
        starts.filter(|at| *at > 0).take(SALVAGE_ATTEMPTS).find_map(|at| object(&line[at..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: &mut LineFile) -> Vec<Line> {
        std::iter::from_fn(|| file.next_line().unwrap()).collect()
    }

    #[test]
    fn reading_continues_after_the_recorded_line_and_before_an_incomplete_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        std::fs::write(&path, "{\"n\":1}\n\nnoise\n{\"n\":2}\n{\"n\":").unwrap();
        let mut file = LineFile::open(&path, "s", "").unwrap();
        let row = |n: u64| Some(serde_json::json!({ "n": n }));
        assert_eq!(lines(&mut file), [row(1), None, row(2)]);
        let recorded = file.record(true).unwrap();
        std::fs::write(&path, "{\"n\":1}\n\nnoise\n{\"n\":2}\n{\"n\":3}\n{\"n\":{\"n\":4}\n")
            .unwrap();
        let mut file = LineFile::open(&path, "s", &recorded).unwrap();
        assert!(!file.is_replaced);
        assert_eq!(lines(&mut file), [row(3), row(4)]);
        let recorded = file.record(true).unwrap();
        std::fs::write(&path, "{\"n\":5}\n").unwrap();
        let mut file = LineFile::open(&path, "s", &recorded).unwrap();
        assert!(file.is_replaced);
        assert_eq!(lines(&mut file), [row(5)]);
    }
}
