//! How do people compare keys?

use c2c_log_format::checksum::sha256;

use crate::wire::sign::{PublicKey, encode};

/// `SHA256:` and 43 characters.
pub fn fingerprint(key: &PublicKey) -> String {
    format!("SHA256:{}", encode(&sha256(key.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vector_comes_out() {
        let key = PublicKey::parse("A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg").expect("a key");
        assert_eq!(fingerprint(&key), "SHA256:Vkdap1RjR0wChd9dvyvKtz2mUTWIOem3dIGy6rEHcIw");
    }
}
