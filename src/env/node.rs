//! The node id: the name of a broker root among machines.

use std::path::Path;

use c2c_log_format::checksum::sha256;
use c2c_log_format::id::hex;

use super::C2C_RELAY_NODE_ID;
use super::root::fingerprint;
use crate::platform::user::host_name;

/// The node id of a root: `C2C_RELAY_NODE_ID` if set, else derived from host name and root.
pub fn node_id(root: &Path) -> String {
    C2C_RELAY_NODE_ID.text().unwrap_or_else(|| node_id_of(root))
}

/// The node id `<hostname>-<first 8 hex digits of the fingerprint>`, or `<hostname>-local` outside
/// of repositories. Two roots on one host are two nodes.
///
/// The root decides, and not the repository: the id stays when the remote changes.
pub fn node_id_of(root: &Path) -> String {
    let host = host_name();
    let Some(fingerprint) = fingerprint(root) else {
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        return format!("{host}-{}", hex(&sha256(root.as_os_str().as_encoded_bytes())[..4]));
    };
    match fingerprint.get(..8) {
        Some(start) if start.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{host}-{start}")
        }
        _ => format!("{host}-local"),
    }
}
