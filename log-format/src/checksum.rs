//! What does a checksum cover, and how is a name hashed?

use sha2::{Digest, Sha256};

/// CRC-32 (IEEE) of some bytes. Zero bytes never have the checksum zero-filled space would show,
/// because every checksummed structure starts with a non-zero magic.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The digest of a segment, fed piece by piece.
///
/// It covers the segment header, then each frame's header and the SHA-256 of each frame's body, so
/// a body can later be redacted without breaking the chain of segments.
#[derive(Clone)]
pub struct SegmentDigest(Sha256);

impl SegmentDigest {
    /// Starts with the encoded header of the segment.
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

    /// The digest so far.
    pub fn finish(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }
}

/// FNV-1a, 64 bit: the hash of mailbox names, room ids and message ids in event heads.
///
/// It only narrows a search; whoever finds a match compares the full text in the payload.
pub fn name_hash(name: &str) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in name.as_bytes() {
        hash ^= u64::from(*byte);
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}
