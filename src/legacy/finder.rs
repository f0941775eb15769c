//! Search for legacy files in the root in use, which every command does.

use std::fs;
use std::path::Path;

use super::files::{LegacyFile, changed, list};
use crate::error::Failure;
use crate::platform::clock;
use c2c_core::state::State;

/// Once a directory is unchanged for this long, its next change is certain to set another time.
const SETTLED_US: u64 = 1_000_000;

/// Finds legacy files in a root, and skips the search while the root is unchanged.
#[derive(Default)]
pub struct LegacyFileFinder {
    /// Time of the root's last change, if it contained no legacy file then.
    empty_since_us: Option<u64>,
}

impl LegacyFileFinder {
    /// The legacy files in a root that changed since their last import.
    pub fn changed_files(
        &mut self,
        root: &Path,
        state: &State,
    ) -> Result<Vec<LegacyFile>, Failure> {
        let changed_us = fs::metadata(root).and_then(|metadata| metadata.modified()).ok();
        let changed_us = changed_us.and_then(clock::us_of);
        if changed_us.is_some() && changed_us == self.empty_since_us {
            return Ok(Vec::new());
        }
        let found = list(root)?;
        let settled = changed_us.filter(|us| us + SETTLED_US < clock::now_us());
        self.empty_since_us = settled.filter(|_| found.is_none());
        Ok(changed(root, "", state, found.unwrap_or_default()))
    }
}

/// The name by which the log knows another root. It becomes a part of the keys of the root's rows, so
/// that they differ from the rows of files with the same name.
pub fn origin_of(root: &Path) -> String {
    let absolute = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    format!("{}/", absolute.display())
}
