//! The user of this process, and the name of the host.

use nix::unistd::{geteuid, gethostname, getuid};

/// Id of the user who started this process.
pub fn real_id() -> u32 {
    getuid().as_raw()
}

/// Id of the user whose rights this process has.
pub fn effective_id() -> u32 {
    geteuid().as_raw()
}

/// Whether this process has the rights of a user: it runs as that user or as root.
pub fn acts_for(id: u32) -> bool {
    let effective = geteuid();
    effective.is_root() || effective.as_raw() == id
}

/// Name of this host; empty if it is unknown.
pub fn host_name() -> String {
    gethostname().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_acts_for_its_own_user_and_for_others_only_as_root() {
        let id = effective_id();
        assert!(acts_for(id));
        assert_eq!(acts_for(id + 1), id == 0);
    }
}
