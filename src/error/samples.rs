//! Failures for the tests of hints: each code with each hint of the shared layers.

use std::io;
use std::path::{Path, PathBuf};

use super::Failure;
use crate::store::StoreError;
use c2c_core::code::TABLE;
use c2c_core::decide::Rejection;

/// Places whose rejections reach every front end.
const SHARED: [&str; 5] =
    ["core/src/decide", "src/broker", "src/legacy", "src/store", "core/src/rejection.rs"];

/// The hints that the shared layers give as plain text.
pub fn shared_hints() -> Vec<String> {
    let mut hints = Vec::new();
    for place in SHARED {
        for text in texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join(place)) {
            hints.extend(literals_after(&text, ".hint(\""));
            // The hint of a room that exists depends on its visibility.
            hints.extend(literals_after(&text, "let hint = if is_visible { \""));
        }
    }
    hints.sort();
    hints.dedup();
    assert!(hints.len() > 15, "few hints found: {hints:?}");
    hints
}

/// Each code with each hint of the shared layers, and each other kind of failure.
pub fn failures() -> Vec<Failure> {
    let mut failures = Vec::new();
    for row in TABLE {
        let rejection = || Rejection::new(row.code, "", row.meaning);
        failures.push(rejection().into());
        failures.extend(shared_hints().into_iter().map(|hint| rejection().hint(hint).into()));
    }
    let file = || String::from("a.seg");
    let error = |kind| io::Error::from(kind);
    failures.extend(
        [
            StoreError::Conflict { head: 1 },
            StoreError::Busy { waited_ms: 1 },
            StoreError::Reload,
            StoreError::Unknown { file: file(), sequence: 1 },
            StoreError::Full { file: file() },
            StoreError::TooLarge { events: 1, bytes: 1 },
            StoreError::Corrupt { file: file(), source: Box::new(error(io::ErrorKind::Other)) },
            StoreError::ArchiveNeeded { file: file(), archive: None },
            StoreError::UpgradeNeeded { file: file() },
            StoreError::io("open", "a.seg", error(io::ErrorKind::PermissionDenied)),
            StoreError::io("open", "a.seg", error(io::ErrorKind::ReadOnlyFilesystem)),
            StoreError::io("open", "a.seg", error(io::ErrorKind::Other)),
        ]
        .map(Failure::Store),
    );
    let source = error(io::ErrorKind::PermissionDenied);
    failures.push(Failure::Io { operation: "open", path: PathBuf::from("file"), source });
    failures.push(Failure::working_directory(error(io::ErrorKind::NotFound)));
    failures.push(Failure::Output(error(io::ErrorKind::BrokenPipe)));
    failures
}

/// The texts of a file, or of all files below a directory.
fn texts(path: &Path) -> Vec<String> {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().flat_map(|entry| texts(&entry.path())).collect(),
        Err(_) => std::fs::read_to_string(path).into_iter().collect(),
    }
}

/// The string literals that follow a text in a source file.
fn literals_after(source: &str, start: &str) -> Vec<String> {
    let rest = source.split(start).skip(1);
    rest.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}
