//! Fingerprints, by which users compare keys.

use c2c_log_format::checksum::sha256;

use crate::relay::protocol::sign::{PublicKey, encode};

/// The fingerprint of a key: `SHA256:` followed by 43 characters of unpadded base64url.
pub fn fingerprint(key: &PublicKey) -> String {
    format!("SHA256:{}", encode(&sha256(key.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_fingerprint_vector_is_reproduced() {
        let key = PublicKey::parse("A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg").expect("a key");
        assert_eq!(fingerprint(&key), "SHA256:Vkdap1RjR0wChd9dvyvKtz2mUTWIOem3dIGy6rEHcIw");
    }
}
