//! The node id: the name of a broker root among machines.

use crate::platform::user::host_name;
use std::path::Path;

use super::C2C_RELAY_NODE_ID;
use super::repository::fingerprint;

/// The node id: `C2C_RELAY_NODE_ID` if set, else derived from host name and repository.
pub fn node_id(working_directory: &Path) -> String {
    C2C_RELAY_NODE_ID.text().unwrap_or_else(|| node_id_of(&fingerprint(working_directory)))
}

/// The node id `<hostname>-<first 8 hex digits of the fingerprint>`, or `<hostname>-local` outside a
/// repository. Two roots on one host are two nodes.
pub fn node_id_of(fingerprint: &str) -> String {
    let host = host_name();
    match fingerprint.get(..8) {
        Some(start) if start.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{host}-{start}")
        }
        _ => format!("{host}-local"),
    }
}
