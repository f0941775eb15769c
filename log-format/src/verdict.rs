//! Classification of an invalid or missing frame: normal end, torn last write or damage.
//!
//! | case | unused | followed | sealed | proven | verdict |
//! |---|---|---|---|---|---|
//! | the frames end; only zeros or nothing follows | yes | – | – | no | clean |
//! | the frames end before an event known to have been acknowledged | yes | – | – | yes | corrupt |
//! | invalid bytes followed by valid frames | no | yes | – | – | corrupt |
//! | invalid bytes at the end of a sealed segment | no | no | yes | – | corrupt |
//! | invalid bytes at the end, below the durable sequence | no | no | no | yes | corrupt |
//! | invalid bytes at the end, not proven to have been acknowledged | no | no | no | no | torn |

/// Observations at the position where reading stopped or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Only zeros or nothing follows.
    pub unused: bool,
    /// A valid frame of the same segment follows.
    pub followed: bool,
    /// The segment was closed properly: a seal follows, or a segment that continues it.
    pub sealed: bool,
    /// The durable sequence is at or above the first missing sequence.
    pub proven: bool,
}

/// The classification of a position in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The normal end of the log.
    Clean,
    /// The last write is incomplete, and nothing proves that it was ever acknowledged.
    Torn,
    /// Data that had been written, and may have been acknowledged, is lost.
    Corrupt,
}

/// Applies the decision table in the module documentation.
pub const fn judge(facts: Evidence) -> Verdict {
    match facts {
        Evidence { unused: true, proven: false, .. } => Verdict::Clean,
        Evidence { unused: true, proven: true, .. } => Verdict::Corrupt,
        Evidence { followed: true, .. } => Verdict::Corrupt,
        Evidence { sealed: true, .. } => Verdict::Corrupt,
        Evidence { proven: true, .. } => Verdict::Corrupt,
        Evidence { unused: false, followed: false, sealed: false, proven: false } => Verdict::Torn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_facts_has_the_verdict_of_the_table() {
        for bits in 0..16u8 {
            let facts = Evidence {
                unused: bits & 1 != 0,
                followed: bits & 2 != 0,
                sealed: bits & 4 != 0,
                proven: bits & 8 != 0,
            };
            let expected = if facts.unused {
                if facts.proven { Verdict::Corrupt } else { Verdict::Clean }
            } else if facts.followed || facts.sealed || facts.proven {
                Verdict::Corrupt
            } else {
                Verdict::Torn
            };
            assert_eq!(judge(facts), expected, "{facts:?}");
        }
    }
}
