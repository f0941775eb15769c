//! Checksums, digests and name hashes.

use sha2::{Digest, Sha256};

/// Returns the CRC-32 (IEEE) of `bytes`.
///
/// Zero-filled space never passes for a checksummed structure, because every such structure starts
/// with a non-zero magic.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Returns the SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The digest of a segment, computed frame by frame.
///
/// It covers the segment header, then the header of each frame and the SHA-256 of its body, so a
/// body can later be redacted without breaking the chain of segments.
#[derive(Clone)]
pub struct SegmentDigest(Sha256);

impl SegmentDigest {
    /// Starts a digest with the encoded header of the segment.
    pub fn new(segment_header: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(segment_header);
        Self(hasher)
    }

    /// Adds one frame.
    pub fn frame(&mut self, frame_header: &[u8], body: &[u8]) {
        self.0.update(frame_header);
        self.0.update(sha256(body));
    }

    /// Returns the digest of everything added so far.
    pub fn finish(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }
}

/// Returns the 64-bit FNV-1a hash of a mailbox name, room id or message id in an event head.
///
/// The hash only narrows a search: a match must be confirmed with the full text in the payload.
pub fn name_hash(name: &str) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in name.as_bytes() {
        hash ^= u64::from(*byte);
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}
