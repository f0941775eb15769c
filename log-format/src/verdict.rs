//! What does a bad or missing frame mean: the normal end, a torn last write, or damage?
//!
//! | case | unused | followed | sealed | proven | verdict |
//! |---|---|---|---|---|---|
//! | the frames end, only zeros or nothing come after | yes | – | – | no | clean |
//! | the frames end before something that is known to have been acknowledged | yes | – | – | yes | corrupt |
//! | bad bytes, good frames after them | no | yes | – | – | corrupt |
//! | bad bytes at the end of a sealed segment | no | no | yes | – | corrupt |
//! | bad bytes at the end, below the durable mark | no | no | no | yes | corrupt |
//! | bad bytes at the end, nothing proves that they were acknowledged | no | no | no | no | torn |

/// What is known about the place where reading stopped or stumbled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Only zeros, or nothing at all, from here on.
    pub unused: bool,
    /// A good frame of the same segment comes later.
    pub followed: bool,
    /// The segment was closed properly: a seal comes later, or a segment that continues it.
    pub sealed: bool,
    /// A durable mark is at or above the first missing sequence.
    pub proven: bool,
}

/// What a place in a segment means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The normal end.
    Clean,
    /// The last write was not finished; nothing proves that anybody was told it had been.
    Torn,
    /// Something that had been written, and maybe acknowledged, is gone.
    Corrupt,
}

/// The decision table above.
pub const fn judge(facts: Facts) -> Verdict {
    match facts {
        Facts { unused: true, proven: false, .. } => Verdict::Clean,
        Facts { unused: true, proven: true, .. } => Verdict::Corrupt,
        Facts { followed: true, .. } => Verdict::Corrupt,
        Facts { sealed: true, .. } => Verdict::Corrupt,
        Facts { proven: true, .. } => Verdict::Corrupt,
        Facts { unused: false, followed: false, sealed: false, proven: false } => Verdict::Torn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_has_the_verdict_of_the_table() {
        for bits in 0..16u8 {
            let facts = Facts {
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
