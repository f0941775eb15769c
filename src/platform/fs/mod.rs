//! Files: private by default, replaced atomically, and identified beyond their name.

mod access;
mod atomic;
mod attributes;
mod identity;
mod owner;
mod positional;
mod replace;

pub use access::{
    forbids_writing, private_options, private_options_without_links, read_own_file, read_regular,
    read_regular_text, sync_directory,
};
pub use atomic::{
    PreparedFile, WriteOptions, is_disk_full, link_target, write_atomic, write_private,
};
pub use attributes::{mode_of, modified_parts, owner_of, set_file_mode, set_mode};
pub use identity::FileIdentity;
pub use owner::{
    OtherUsersFile, create_owned_directory, create_private_directory, give_to_owner_of, may_write,
    with_owner,
};
pub use positional::{preallocate, read_at, write_at};
pub use replace::{create_like, has_other_names, is_not_replaceable, overwrite};

#[cfg(test)]
pub use std::os::unix::fs::{MetadataExt, symlink};
