//! Import and export of the JSON files of the older c2c.
//!
//! Import reads what scripts or the older program wrote: the registry, inboxes, the outbox, dead
//! letters, delivered messages and rooms. Export writes the same files as views of the log, on
//! request.

mod export;
mod files;
mod finder;
mod json;
mod lines;
mod lock;
mod reader;
mod rows;

use std::fs;
use std::io;
use std::path::Path;

use crate::error::Failure;
use crate::platform::fs::{create_private_directory, owner_of};
use crate::platform::user;
use crate::store::StoreError;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

pub use export::{LegacyMessage, LegacyViews, write_views};
pub use files::{Kind, LegacyFile, ROOMS, changed_files};
pub use finder::{LegacyFileFinder, origin_of};
pub use lock::LegacyLocks;
pub use reader::{ImportTarget, LegacyReader, SkippedRows, history_hash};

/// Key of the rows that c2c wrote itself; they are never imported.
pub const EXPORTED_KEY: &str = "c2c_log";

/// Creates the broker root if it does not exist. Fails with `bad_root` if it is not a directory or
/// belongs to another user.
pub fn create_or_check_root(root: &Path) -> Result<(), Failure> {
    let shown = root.display();
    let failed =
        |source: io::Error| Failure::from(StoreError::io("create", &shown.to_string(), source));
    let metadata = match fs::metadata(root) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return create_private_directory(root).map_err(failed);
        }
        Err(e) => return Err(failed(e)),
    };
    let reject = |message: String, hint: &str| {
        Err(Rejection::new(Code::BadRoot, "broker_root", message).hint(hint).into())
    };
    if !metadata.is_dir() {
        return reject(format!("{shown} is not a directory"), "choose a directory as broker root");
    }
    if !user::acts_for(owner_of(&metadata)) {
        let message = format!("{shown} belongs to another user");
        return reject(message, "use your own broker root, or run as the owner of this one");
    }
    Ok(())
}
